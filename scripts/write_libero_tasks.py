"""Write harness/sim/libero_tasks.json from the installed LIBERO package: what a driver without LIBERO plans with.

Run it after the pinned simulation packages change: `python scripts/write_libero_tasks.py`.
"""

from __future__ import annotations

import json

from harness.sim.shipped import SHIPPED
from harness.sim.world import LiberoWorld


def collect() -> dict[str, object]:
    """Everything that planning and listing need, of every complete suite."""
    world = LiberoWorld()
    described = [world.describe(suite) for suite in world.suites()]
    return {
        "versions": dict(described[0].versions),
        "suites": {
            one.suite: {
                "tasks": one.tasks,
                "instructions": one.instructions,
                "n_init_states": one.n_init_states,
                "init_states_sha256": one.init_states_sha256,
            }
            for one in described
        },
    }


if __name__ == "__main__":
    SHIPPED.write_text(json.dumps(collect(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
