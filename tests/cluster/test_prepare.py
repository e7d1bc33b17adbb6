"""What is refused before a cluster is started."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections import namedtuple

import pytest
from stub_runs import stub_suite

from harness.cli.app import invoke
from harness.cluster.prepare import check_infos, plan_variants, prepare
from harness.cluster.request import RunRequest
from harness.errors import LedgerError, UsageError
from harness.ledger import LedgerWriter
from harness.spec import parse_policy
from harness.spec.changes import SuiteChanges
from harness.spec.observation import ANY_NFE, PolicyInfo


def ask(tmp_path, suite=None, *, policies=(), nfe=(), video=None, out=None, **wishes):
    changes = SuiteChanges(tuple(map(parse_policy, policies)), tuple(nfe), video)
    return prepare(RunRequest(suite or stub_suite(), out or str(tmp_path / "out"), changes, **wishes))


def test_a_good_request_is_a_suite_with_the_changes_applied(tmp_path):
    prepared = ask(tmp_path, policies=["random"], video="failures", workers=3)
    assert [spec.label for spec in prepared.suite.policies] == ["random"]
    assert (prepared.suite.video, prepared.request.workers) == ("failures", 3)
    assert prepared.light["random"].info.noise_shape == (10, 7)


def test_checking_starts_no_ray_and_no_torch(tmp_path):
    code = (
        "import sys; sys.path.insert(0, 'tests/cluster'); from stub_runs import stub_suite\n"
        "from harness.cluster.prepare import prepare; from harness.cluster.request import RunRequest\n"
        f"prepare(RunRequest(stub_suite(), {str(tmp_path / 'out')!r}, workers=1))\n"
        "print([name for name in ('ray', 'torch', 'mujoco') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_unknown_policy_is_answered_with_the_nearest(tmp_path):
    with pytest.raises(UsageError, match=r"Unknown policy 'scriptd'. Did you mean 'scripted'\?"):
        ask(tmp_path, policies=["scriptd"])


def test_a_policy_option_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(UsageError, match="option 'speed'"):
        ask(tmp_path, policies=["noop?speed=2"])


def test_a_served_policy_on_several_devices_is_several_policies_and_on_one_keeps_its_name(tmp_path):
    served = {"kind": "python", "path": "stub_runs:Served", "label": "own"}
    suite = stub_suite(policies=[served, "noop"], on=["h200", "dgx-spark-gb10"])
    placed = [(spec.label, spec.on) for spec in ask(tmp_path, suite).suite.policies]
    assert placed == [("own on h200", ("h200",)), ("own on dgx-spark-gb10", ("dgx-spark-gb10",)), ("noop", ())]
    own = stub_suite(policies=[{**served, "on": "h200"}], on=["dgx-spark-gb10", "a100-sxm-80gb"])
    assert [(spec.label, spec.on) for spec in ask(tmp_path, own).suite.policies] == [("own", ("h200",))]


def test_hardware_is_refused_for_policies_inside_the_workers_and_by_an_unknown_name(tmp_path):
    with pytest.raises(UsageError, match="'noop' decides inside the rollout workers"):
        ask(tmp_path, stub_suite(policies=[{"kind": "noop", "on": "h200"}]))
    with pytest.raises(UsageError, match=r"Did you mean '(h100|h200)"):
        ask(tmp_path, stub_suite(policies=[{"kind": "python", "path": "stub_runs:Served", "on": ["h20"]}]))


def test_a_suite_without_policies_says_how_to_name_one(tmp_path):
    with pytest.raises(UsageError, match="give one with --policy"):
        ask(tmp_path, stub_suite(policies=[]))


def test_a_task_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(UsageError, match="stub has no task 99; its tasks are 0 to 9"):
        ask(tmp_path, stub_suite(tasks=[{"suite": "stub", "tasks": [99]}]))


def test_validate_counts_init_states_as_a_run_does(tmp_path, capsys):
    path = tmp_path / "many.yaml"
    path.write_text(stub_suite(tasks=[{"suite": "stub", "init_states": 60}]).to_yaml())
    assert invoke(["validate", str(path)]) == 64
    assert "stub task 0 has no init state 59; it has 50" in capsys.readouterr().err


def test_a_suite_that_does_not_exist_is_answered_with_the_nearest(tmp_path):
    with pytest.raises(UsageError, match="Did you mean 'stub_slow'"):
        ask(tmp_path, stub_suite(tasks=[{"suite": "stub_slo"}]))


def test_nfe_for_a_policy_without_a_denoising_loop_is_refused(tmp_path):
    with pytest.raises(UsageError, match="policy 'noop' has no denoising loop; drop --nfe"):
        ask(tmp_path, policies=["noop"], nfe=[1, 10])


def test_no_workers_are_refused(tmp_path):
    with pytest.raises(UsageError, match="workers is 0"):
        ask(tmp_path, workers=0)


def test_a_ledger_of_the_same_suite_needs_resume(tmp_path):
    writer = LedgerWriter(tmp_path / "out")
    writer.append("runs", [{"run_id": "r", "suite": stub_suite().to_yaml(), "protocol": "{}", "protocol_sha256": "x"}])
    with pytest.raises(UsageError, match="--resume"):
        ask(tmp_path)
    assert ask(tmp_path, resume=True).request.resume


def test_a_ledger_of_another_suite_is_refused_even_with_resume(tmp_path):
    writer = LedgerWriter(tmp_path / "out")
    other = stub_suite(tasks=[{"suite": "stub", "tasks": [5]}]).to_yaml()
    writer.append("runs", [{"run_id": "r", "suite": other, "protocol": "{}", "protocol_sha256": "x"}])
    with pytest.raises(LedgerError, match="they differ in: tasks"):
        ask(tmp_path, resume=True)


def test_a_file_where_the_ledger_should_be_is_refused(tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(LedgerError, match="out"):
        ask(tmp_path)


def test_a_disk_that_is_almost_full_is_refused_with_figures(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**12, 10**12 - 10**8, 10**8))
    with pytest.raises(LedgerError, match=r"Only 0.10 GB are free .* at least 1 GB"):
        ask(tmp_path)


LOOP = PolicyInfo("loop", nfe_options=(1, 10), default_nfe=10)
ANY = PolicyInfo("any", nfe_options=ANY_NFE, default_nfe=5)
PLAIN = PolicyInfo("plain")


@pytest.mark.parametrize(
    ("nfe", "expected"),
    [
        ((), [("plain", None), ("loop", 10), ("any", 5)]),
        ((1, 10), [("plain", None), ("loop", 1), ("loop", 10), ("any", 1), ("any", 10)]),
    ],
)
def test_nfe_is_an_axis_of_policies_that_have_a_loop(nfe, expected):
    infos = {"plain": PLAIN, "loop": LOOP, "any": ANY}
    assert list(plan_variants(infos, nfe, asked=False)) == expected


def test_an_nfe_that_a_policy_does_not_offer_is_refused():
    with pytest.raises(UsageError, match="'loop' does not run at NFE 3; it offers 1, 10"):
        plan_variants({"loop": LOOP}, (3,), asked=False)


def test_nfe_asked_for_when_nobody_has_a_loop_is_refused():
    with pytest.raises(UsageError, match="'plain' has no denoising loop"):
        plan_variants({"plain": PLAIN}, (1,), asked=True)


def test_policy_and_protocol_must_agree_on_the_control_mode():
    with pytest.raises(UsageError, match="control mode 'absolute', but the protocol says 'relative'"):
        check_infos({"p": PolicyInfo("p", control_mode="absolute")}, stub_suite())


def test_a_camera_that_libero_lacks_is_answered_with_the_nearest():
    with pytest.raises(UsageError, match="Did you mean 'agentview'"):
        check_infos({"p": PolicyInfo("p", cameras=("agentviev",))}, stub_suite())
