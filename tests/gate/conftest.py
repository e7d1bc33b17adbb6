"""One Ray cluster for the gate's tests, whose processes find `rerun_policies`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.cluster.ray_session import RaySession, open_session


@pytest.fixture(scope="module")
def gate_cluster() -> Iterator[RaySession]:
    """A private cluster of two CPUs."""
    import ray

    # Another folder's cluster may still be up, and its processes do not know this folder's policies.
    ray.shutdown()
    with pytest.MonkeyPatch.context() as patch:
        paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
        with open_session(None, n_cpus=2) as session:
            yield session
