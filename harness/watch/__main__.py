"""`python -m harness.watch REQUEST.json`: one evaluation, as the watcher starts it."""

import sys

from harness.watch.evaluate import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
