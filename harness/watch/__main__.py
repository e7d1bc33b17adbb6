"""`python -m harness.watch REQUEST.json`: one evaluation, as the watcher starts it."""

import sys

from harness.screen import steady_streams
from harness.watch.evaluation.evaluate import main

if __name__ == "__main__":
    steady_streams()
    sys.exit(main(sys.argv[1:]))
