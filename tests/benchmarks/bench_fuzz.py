"""How long readers of foreign bytes hold: `python tests/benchmarks/bench_fuzz.py --seconds 60`.

Every reader (`tests/fuzzing.py`) is given damaged records for so long, with fresh random seeds. Each reads in a process
of its own: a hang (10 s for one record), a crash, an error that is not typed, and more memory than 4 × the input
+ 64 MB are findings. A finding is printed with its bytes, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import faulthandler
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fuzzing import TARGETS, check, damaged
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

HANG_S = 10


def search(name: str, seconds: float, first_seed: int) -> None:
    """Read damaged records until the time is up; an error ends it, shrunk by hypothesis."""
    told: Counter[str] = Counter()
    until = time.monotonic() + seconds
    number = first_seed
    while time.monotonic() < until:

        @seed(number)
        @settings(
            max_examples=200,
            deadline=None,
            database=None,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
        )
        @given(raw=damaged(TARGETS[name].sound), _=st.none())
        def attempt(raw: bytes, _: None) -> None:
            if time.monotonic() > until:
                return
            faulthandler.dump_traceback_later(HANG_S, exit=True)
            with tempfile.TemporaryDirectory() as folder:
                told[check(name, raw, Path(folder)) or "read"] += 1
            faulthandler.cancel_dump_traceback_later()

        attempt()
        number += 1
    print(f"{name:22} {sum(told.values()):7,} records: " + ", ".join(f"{n:,} {kind}" for kind, n in told.most_common()))


def main() -> int:
    """Search with every reader, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=20.0, help="for each reader (default 20)")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="first seed (default: the time)")
    parser.add_argument("--only", choices=TARGETS, help="one reader")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        search(options.only, options.seconds, options.seed)
        return 0
    print(f"seed {options.seed}", flush=True)
    failed = 0
    for name in [options.only] if options.only else TARGETS:
        command = [sys.executable, __file__, "--child", "--only", name]
        command += ["--seconds", str(options.seconds), "--seed", str(options.seed)]
        failed += bool(subprocess.run(command, check=False).returncode)
    print(f"{failed} readers with findings" if failed else "no finding")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
