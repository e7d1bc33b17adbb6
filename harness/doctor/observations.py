"""The observations that a policy is shown before any rollout: few, fixed, and shipped with the package.

    python -m harness.doctor.observations harness/doctor/observations.parquet

made them: a scripted expert on sampled placements of two tasks, looked at now and then.
"""

from __future__ import annotations

import hashlib
import io
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from harness.errors import HarnessError
from harness.schedule.keys import decision_noise
from harness.spec.observation import CAMERAS, Observation, PolicyInfo

SHIPPED = Path(__file__).with_name("observations.parquet")
SCENES = (("libero_spatial", 0), ("libero_object", 3))
"""(suite, task id) of the shipped observations."""
PLACEMENT = 10_000
"""Their placement, far from those that demonstrations are likely to take."""
STRIDE, PER_SCENE = 25, 3
_KEY = hashlib.sha256(b"doctor").hexdigest()


@cache
def load_observations() -> tuple[Observation, ...]:
    """The shipped observations, each of an episode of its own.

    Raises:
        HarnessError: The file is missing from the installation.
    """
    if not SHIPPED.is_file():
        raise HarnessError(f"{SHIPPED} is missing; install the package again.")
    return tuple(
        Observation(
            instruction=row["instruction"],
            state=np.array(row["state"], dtype=np.float32),
            images={camera: _decode(row[camera]) for camera in CAMERAS},
            episode_key=f"doctor-{number}",
        )
        for number, row in enumerate(pq.read_table(SHIPPED).to_pylist())
    )


def observations_sha256() -> str:
    """Digest of the shipped observations: expectations hold for these and no others."""
    digest = hashlib.sha256()
    for seen in load_observations():
        digest.update(seen.instruction.encode() + seen.state.tobytes())
        for camera in CAMERAS:
            digest.update(seen.images[camera].tobytes())
    return digest.hexdigest()


def probe_noise(info: PolicyInfo, count: int) -> NDArray[np.float32] | None:
    """Noise for `count` observations, the same at every call; None for a policy that draws none."""
    if info.noise_shape is None:
        return None
    return np.stack([decision_noise(_KEY, number, info.noise_shape) for number in range(count)])


def record(path: Path) -> None:
    """Make the shipped file again; renders, so that another GL stack gives other pixels."""
    from harness.policies.scripted import ScriptedPolicy
    from harness.rollout.episode_parts import png
    from harness.rollout.record import RecordPlan, record_task
    from harness.spec.protocol import Protocol

    protocol = Protocol.model_validate({"preset": "lerobot", "placements": "sampled"})
    rows = []
    for suite, task_id in SCENES:
        plan = RecordPlan(stride=STRIDE)
        (found,) = record_task(suite, task_id, [PLACEMENT], policy=ScriptedPolicy(), protocol=protocol, plan=plan)
        for i in range(PER_SCENE):
            pictures = {camera: png(found.frames[camera][i]) for camera in CAMERAS}
            rows.append({"instruction": found.instruction, "state": found.state[i].tolist(), **pictures})
    pq.write_table(pa.Table.from_pylist(rows), path)


def _decode(data: bytes) -> NDArray[np.uint8]:
    from PIL import Image

    return np.array(Image.open(io.BytesIO(data)))


def main(argv: Sequence[str]) -> None:
    """Write the observations to the path that is given."""
    record(Path(argv[0]))


if __name__ == "__main__":
    main(sys.argv[1:])
