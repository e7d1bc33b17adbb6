"""The real thing: LIBERO episodes on Ray workers."""

from __future__ import annotations

import pytest

import harness
from harness.spec import Suite
from harness.spec.resolve import parse

pytest.importorskip("libero", reason="the extra `sim` is not installed")

RESULT = ["policy_id", "episode_key", "outcome", "steps", "decisions", "clipped", "trajectory_sha256"]


def spatial(**changes) -> Suite:
    data = {
        "name": "spatial",
        "description": "two tasks of libero_spatial",
        "tasks": [{"suite": "libero_spatial", "tasks": [0, 1], "init_states": 2}],
        "protocol": {"preset": "lerobot", "max_steps": {"libero_spatial": 150}},
        "policies": ["scripted", "random"],
        **changes,
    }
    return parse(Suite, data, "test")


@pytest.mark.usefixtures("cluster")
def test_one_and_two_workers_give_identical_episodes_without_torch_and_without_a_frame(tmp_path):
    found = {}
    for workers in (1, 2):
        result = harness.run(spatial(), out=tmp_path / str(workers), workers=workers)
        assert (result.done, result.errors, result.warnings) == (8, (), ())
        found[workers] = harness.read(tmp_path / str(workers))
    one, two = (found[n].episodes[RESULT].sort_values(RESULT[:2]).to_dict("records") for n in (1, 2))
    assert one == two
    outcomes = found[2].episodes.groupby("policy_id")["outcome"].agg(set).to_dict()
    assert outcomes == {"scripted": {"success"}, "random": {"timeout"}}
    assert found[2].episodes["render_s"].max() < 0.05
    assert found[2].motion.empty, "kept by runs with videos alone"
    manifest = found[2].manifest("libero_spatial")
    assert (manifest["renderer"], manifest["max_steps"]) == ("none", 150)
    assert manifest["version.mujoco"]
