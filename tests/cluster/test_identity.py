"""One policy under one name, in a ledger and in every process of a run; and runs whose controller is lost."""

from __future__ import annotations

import psutil
import pytest
from stub_runs import python_policy, stub_suite

import harness
from harness.cluster.identity import require_same_policies, require_same_policy
from harness.errors import ControllerLost, PolicyChanged
from harness.ledger import LedgerWriter
from harness.spec.identity import PolicyIdentity
from harness.spec.manifest import canonical_json
from harness.spec.observation import PolicyInfo

WHOLE = PolicyIdentity("a" * 64, "b" * 64, "c" * 64, "d" * 64)


class Enough(Exception):
    """Ends a run from outside."""


def stop_after(n_done: int):
    def stop(progress):
        if progress.done >= n_done:
            raise Enough

    return stop


def ledger_of(path, identity: PolicyIdentity, *, stated: bool = True) -> str:
    writer = LedgerWriter(path)
    record = {"act": {"identity": identity.record()} if stated else {}}
    writer.append("runs", [{"run_id": "r", "policies": canonical_json(record)}])
    rows = [
        {"run_id": "r", "policy_id": "act", "episode_key": str(i), "outcome": "success", "success": True}
        for i in range(3)
    ]
    writer.append("episodes", [{**row, "checkpoint_sha256": identity.sha256} for row in rows])
    return str(path)


@pytest.mark.parametrize("part", ["weights", "configuration", "processors", "statistics"])
def test_resuming_with_another_policy_is_refused_and_says_what_differs(tmp_path, part):
    out = ledger_of(tmp_path, WHOLE)
    changed = PolicyIdentity(**{**WHOLE.record(), part: "e" * 64})
    with pytest.raises(PolicyChanged, match=rf"holds 3 episodes of policy 'act', whose {part} have changed"):
        require_same_policies(out, {"act": PolicyInfo("act", identity=changed)})
    require_same_policies(out, {"act": PolicyInfo("act", identity=WHOLE), "other": PolicyInfo("other")})


def test_rows_from_before_identities_were_kept_are_held_to_their_weights(tmp_path):
    out = ledger_of(tmp_path, PolicyIdentity(weights="a" * 64), stated=False)
    require_same_policies(out, {"act": PolicyInfo("act", identity=WHOLE)})
    with pytest.raises(PolicyChanged, match="whose weights have changed"):
        require_same_policies(out, {"act": PolicyInfo("act", identity=PolicyIdentity(weights="f" * 64))})


def test_a_policy_that_states_nothing_is_not_suspected():
    require_same_policy("p", PolicyIdentity(), PolicyIdentity())
    require_same_policy("p", PolicyIdentity(), WHOLE)


@pytest.mark.usefixtures("cluster")
def test_a_stopped_run_goes_on_with_its_own_policy_only(tmp_path):
    (tmp_path / "statistics").write_text("0" * 64)
    suite = stub_suite(
        "stub_slow",
        tasks=[{"suite": "stub_slow", "tasks": [0], "init_states": 4}],
        policies=[python_policy("Checkpointed", "act", marks=str(tmp_path))],
    )
    with pytest.raises(Enough):
        harness.run(suite, out=tmp_path / "out", workers=1, on_progress=stop_after(1))
    before = len(harness.read(tmp_path / "out").episodes)
    assert 0 < before < 4
    (tmp_path / "statistics").write_text("5" * 64)
    with pytest.raises(PolicyChanged, match="whose statistics have changed"):
        harness.run(suite, out=tmp_path / "out", workers=1, resume=True)
    assert len(harness.read(tmp_path / "out").episodes) == before
    (tmp_path / "statistics").write_text("0" * 64)
    assert harness.run(suite, out=tmp_path / "out", workers=1, resume=True).done == 4 - before


@pytest.mark.usefixtures("cluster")
def test_a_server_that_comes_back_as_another_policy_ends_the_run(tmp_path):
    (tmp_path / "statistics").write_text("0" * 64)
    policy = python_policy("ChangesWhenItDies", "act", marks=str(tmp_path))
    with pytest.raises(PolicyChanged, match="'act' was loaded again during the run, and its statistics had changed"):
        harness.run(stub_suite(policies=[policy], nfe=[4]), out=tmp_path / "out", workers=1)
    assert harness.read(tmp_path / "out").runs["status"].tolist() == ["failed"]


@pytest.mark.usefixtures("cluster")
def test_a_run_whose_controller_is_killed_ends_in_one_typed_message(tmp_path):
    def kill_controller(progress):
        if progress.done:
            for process in psutil.Process().children(recursive=True):
                if any(word.startswith("ray::Controller") for word in process.cmdline()):
                    process.kill()

    suite = stub_suite("stub_slow", policies=["noop"])
    with pytest.raises(ControllerLost, match=r"its controller\) was lost") as caught:
        harness.run(suite, out=tmp_path / "out", workers=1, on_progress=kill_controller)
    assert caught.value.resumable
    assert caught.value.__cause__ is None
    ledger = harness.read(tmp_path / "out")
    assert ledger.runs["status"].tolist() == ["failed"]
    assert len(ledger.episodes) >= 1
