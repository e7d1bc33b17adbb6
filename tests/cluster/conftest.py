"""One real Ray cluster for the tests of a file: starting one takes seconds, and one left running outlives its use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness.cluster.ray_session import open_session


@pytest.fixture(scope="module")
def cluster():
    """A private cluster of four CPUs, whose processes find the policies of `stub_runs`."""
    with pytest.MonkeyPatch.context() as patch:
        paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
        with open_session(None, n_cpus=4) as session:
            yield session
