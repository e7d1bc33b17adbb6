"""A driver in a process of its own, for tests that kill or interrupt it. Prints what the run returned."""

from __future__ import annotations

import json
import sys

from stub_runs import stub_suite

import harness
from harness.schedule.progress import Progress

SLOW = stub_suite("stub_slow", policies=["noop"], tasks=[{"suite": "stub_slow", "tasks": [0, 1], "init_states": 6}])
"""What is run: twelve episodes of a second or so."""


def main() -> None:
    """Run the slow stub suite: `drive_stub.py OUT [address=HOST:PORT]`."""
    address = next((word.partition("=")[2] for word in sys.argv[2:] if word.startswith("address=")), None)
    said: list[str] = []

    def report(progress: Progress) -> None:
        if not said:
            import ray

            said.append(ray.get_runtime_context().gcs_address)
            print("cluster", *said, flush=True)
        print("done", progress.done, flush=True)

    result = harness.run(SLOW, out=sys.argv[1], workers=2, address=address, on_progress=report)
    print(json.dumps({"done": result.done, "skipped": result.skipped, "interrupted": result.interrupted}), flush=True)


if __name__ == "__main__":
    main()
