"""What a frame of LIBERO costs in this GL, and what of it could go: `python tests/benchmarks/bench_frame.py`.

Both cameras of libero_spatial, in turns, medians over the states of an episode:

- ours: the frame of `harness run`, with geoms out of view left out;
- all drawn: the same picture with every geom drawn, as robosuite draws it (checked to be equal to the bit);
- and what the picture would cost with less in it, each with other pixels: without reflections (MuJoCo draws the scene
  once more for each mirror), without multisampling, without both, and a 64-pixel picture.

The last four are the floor's parts: what they leave is vertices, which a software renderer pays for at any size.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np

from harness.latency.node import cpu_model

CAMERAS, SIZE, SMALL = ("agentview", "robot0_eye_in_hand"), 256, 64


class Way:
    """One way to draw a frame, with a GL context of its own."""

    def __init__(
        self, model: Any, *, cull: bool = True, mirrors: bool = True, samples: bool = True, size: int = SIZE
    ) -> None:
        """Make the context of a renderer of `model` that lacks what is said."""
        from harness.sim.cameras import Renderer
        from harness.sim.engine import mujoco

        kept = model.vis.quality.offsamples
        model.vis.quality.offsamples = kept if samples else 0
        self.renderer, self.size, self.seconds = Renderer(model), size, {camera: list[float]() for camera in CAMERAS}
        self.renderer._require_context(size)
        model.vis.quality.offsamples = kept
        if not mirrors:
            self.renderer._scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = 0
        if not cull:
            self.renderer._culler._possible = False

    def draw(self, data: Any, camera: str) -> Any:
        """Draw one frame and note what it took."""
        began = time.perf_counter()
        frame = self.renderer.render(data, camera, self.size)
        self.seconds[camera].append(time.perf_counter() - began)
        return frame


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=20, help="states that are drawn (default 20)")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    from harness.sim import LiberoSim, SimConfig

    sim = LiberoSim("libero_spatial", 0, config=SimConfig(cameras=CAMERAS))
    sim.reset(0)
    model, data = sim._env.sim.model._model, sim._env.sim.data._data
    ways = {
        "ours": Way(model),
        "all drawn": Way(model, cull=False),
        "no reflections": Way(model, mirrors=False),
        "no multisampling": Way(model, samples=False),
        "neither": Way(model, mirrors=False, samples=False),
        f"{SMALL} pixels": Way(model, size=SMALL),
    }
    random = np.random.default_rng(0)
    for state in range(options.frames + 1):
        for _ in range(5):
            sim.step(random.uniform(-1, 1, 7).astype(np.float32), observe=False)
        for camera in CAMERAS:
            drawn = {name: way.draw(data, camera) for name, way in ways.items()}
            np.testing.assert_array_equal(drawn["ours"], drawn["all drawn"])
            if state == 0:  # the first frame uploads textures
                for way in ways.values():
                    way.seconds[camera].clear()
    figures: dict[str, Any] = {
        "cpu": cpu_model(),
        "load": os.getloadavg()[0],
        "gl": os.environ.get("MUJOCO_GL"),
        "ms": {},
    }
    print(
        f"{figures['cpu']}, load {figures['load']:.1f}, MUJOCO_GL={figures['gl']}, {SIZE} pixels; ms a frame, medians"
    )
    print(f"{'':<18}" + "".join(f"{camera:>22}{'of ours':>9}" for camera in CAMERAS))
    ours = {camera: statistics.median(ways["ours"].seconds[camera]) for camera in CAMERAS}
    for name, way in ways.items():
        medians = {camera: statistics.median(way.seconds[camera]) for camera in CAMERAS}
        print(f"{name:<18}" + "".join(f"{1e3 * medians[c]:>22.1f}{medians[c] / ours[c]:>9.2f}" for c in CAMERAS))
        figures["ms"][name] = {camera: 1e3 * value for camera, value in medians.items()}
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    for way in ways.values():
        way.renderer.close()
    sim.close()


if __name__ == "__main__":
    main()
