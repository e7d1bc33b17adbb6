"""MuJoCo, imported without a GL library.

`import mujoco` picks a GL binding by MUJOCO_GL and loads its library, in processes too that never render, and fails
where that library is missing. Simulators render through `harness.sim.cameras`, which loads one when the first frame is
asked for.
"""

from __future__ import annotations

import os

_wanted = os.environ.get("MUJOCO_GL")
os.environ["MUJOCO_GL"] = "disable"
try:
    import mujoco
finally:
    del os.environ["MUJOCO_GL"]
    if _wanted is not None:
        os.environ["MUJOCO_GL"] = _wanted

__all__ = ["mujoco"]
