"""The first night, a new protocol, and room on the disk."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.cli.app import invoke
from harness.errors import NodeError, UsageError
from harness.gate.baseline import current_baselines, read_baselines
from harness.nightly import upkeep
from harness.nightly.night import NightlyRequest, admit_night, conclude_night, conclude_rebase
from harness.nightly.upkeep import plan_pruning, prune, require_room
from harness.schedule.units import EpisodeUnit

NOW = datetime(2026, 3, 2, 2, 17, tzinfo=UTC)
RULES = "name: strict\nsuccess: {margin: 0.05}\nerrors: {max_rate: 0.02}\nfloor: {min_rate: 0.5}\n"
MANIFEST = {
    "suite": "libero_spatial",
    "max_steps": 280,
    "settle_steps": 10,
    "resolution": 256,
    "version.mujoco": "3.3.2",
}
OTHER = {**MANIFEST, "version.mujoco": "3.4.0"}


@pytest.fixture
def night(tmp_path: Path) -> NightlyRequest:
    (tmp_path / "rules.yaml").write_text(RULES)
    return NightlyRequest(str(tmp_path), "nightly", str(tmp_path / "rules.yaml"), "main", accept=False)


@pytest.mark.parametrize(
    ("outcomes", "policy", "code"),
    [
        ("-" * 100, "pi", 2),
        ("+" * 49 + "-" * 51, "pi", 2),
        ("+" * 90 + "!" * 10, "pi", 2),
        ("+" * 10, "pi", 2),
        ("+" * 94 + "-" * 6, "scripted", 2),
        ("+" * 94 + "-" * 6, "pi", 0),
        ("+" * 52 + "-" * 48, "pi", 2),  # 50 % is the floor: 52 of 100 do not show it
        ("+" * 59 + "-" * 41, "pi", 0),
        ("+" * 58 + "-" * 40 + "!!", "pi", 2),  # 58 of 98 do, but not 58 of 100, had the errors failed
        ("+" * 95 + "-" * 5, "scripted", 2),
        ("+" * 99 + "-" * 1, "scripted", 0),
    ],
)
def test_a_first_night_is_accepted_only_by_absolute_rules(
    make_ledger: Any, night: NightlyRequest, outcomes: str, policy: str, code: int
) -> None:
    end = conclude_night(night, str(make_ledger("20260301-021700", [outcomes], policy=policy)), NOW, None)
    assert end.exit_code == code
    assert len(read_baselines(night.root)) == (code == 0)
    assert "first night" in end.lines[0]


@pytest.mark.parametrize(("columns", "code"), [({"init_state_id": 0}, 2), ({}, 0)])
def test_a_first_night_shows_a_floor_over_init_states_where_these_are_sampled(
    make_ledger: Any, night: NightlyRequest, columns: dict[str, int], code: int
) -> None:
    Path(night.rules).write_text("floor: {min_rate: 0.9}\ncluster: init_state\n")
    out = make_ledger("20260301-021700", ["+" * 10] * 10, **columns)  # ten init states, or a hundred
    assert conclude_night(night, str(out), NOW, None).exit_code == code


def test_a_new_protocol_is_named_and_a_rebase_offered_never_compared_across(
    make_ledger: Any, night: NightlyRequest
) -> None:
    conclude_night(night, str(make_ledger("20260301-021700", ["+" * 100])), NOW, None)
    out = make_ledger("20260302-021700", ["+" * 100], manifest=OTHER)
    with pytest.raises(UsageError, match=r"version\.mujoco: '3\.3\.2' against '3\.4\.0'.*--rebase") as refused:
        conclude_night(night, str(out), NOW, None)
    assert "baseline set" not in str(refused.value), "what was not judged is not to be accepted"


def unit(**columns: Any) -> EpisodeUnit:
    return EpisodeUnit("pi", columns.get("nfe"), "libero_spatial", 0, 0, 0, "key", "sha")


def test_a_new_protocol_ends_the_night_before_its_first_episode(
    make_ledger: Any,
    night: NightlyRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    conclude_night(night, str(make_ledger("20260301-021700", ["+" * 100])), NOW, None)
    make_ledger("20260302-021700", ["+" * 100])
    make_ledger("20260303-021700", ["+" * 100])
    ran = []

    def begin(*_: Any, admission: Any, out: str, **__: Any) -> Any:
        admission([unit()], {"libero_spatial": OTHER})
        ran.append(out)

    monkeypatch.setattr("harness.evaluation.run", begin)
    told = f"{sys.executable} -c \"import sys; open(sys.argv[1], 'w').write(sys.argv[2])\" {tmp_path}/told {{verdict}}"
    argv = ["nightly", "-p", "noop", "--rules", night.rules, "--root", night.root, "--keep", "1", "--notify", told]
    assert invoke(argv) == 64
    assert not ran
    said = capsys.readouterr()
    assert "version.mujoco: '3.3.2' against '3.4.0'" in said.err
    assert "--rebase" in said.err
    assert (tmp_path / "told").read_text() == "ERROR"
    assert not Path(night.root, "20260302-021700").exists(), "--keep holds however the night ended"
    assert Path(night.root, "20260301-021700").exists(), "a baseline stays"


def test_a_known_protocol_another_nfe_and_a_first_night_are_admitted(make_ledger: Any, night: NightlyRequest) -> None:
    admit_night(night, [unit()], {"libero_spatial": OTHER})
    conclude_night(night, str(make_ledger("20260301-021700", ["+" * 100])), NOW, None)
    admit_night(night, [unit()], {"libero_spatial": MANIFEST})
    admit_night(night, [unit(nfe=10)], {"libero_spatial": OTHER})
    with pytest.raises(UsageError, match="The protocol changed"):
        admit_night(night, [unit()], {"libero_spatial": OTHER})


def test_a_rebase_accepts_the_same_checkpoint_under_the_new_protocol_and_no_other(
    make_ledger: Any, night: NightlyRequest
) -> None:
    conclude_night(night, str(make_ledger("20260301-021700", ["+" * 100])), NOW, None)
    (record,) = read_baselines(night.root)
    other = make_ledger("20260302-021700", ["+" * 100], manifest=OTHER)
    with pytest.raises(UsageError, match="The accepted checkpoint is '20260301-021700@1'"):
        conclude_rebase(night, record, str(other), NOW, None)
    same = make_ledger("20260303-021700", ["+" * 100], manifest=OTHER, checkpoint=record.checkpoint)
    assert conclude_rebase(night, record, str(same), NOW, None).exit_code == 0
    assert {one.note for one in current_baselines(read_baselines(night.root))} == {
        "first night",
        "rebased from 20260301-021700",
    }


def test_a_rebase_runs_no_other_policy_where_no_checkpoint_tells(
    make_ledger: Any, night: NightlyRequest, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first = make_ledger("20260301-021700", ["+" * 100], policy="mine", checkpoint=None)
    conclude_night(night, str(first), NOW, None)
    (record,) = read_baselines(night.root)
    other = make_ledger("20260302-021700", ["+" * 100], manifest=OTHER, policy="other", checkpoint=None)
    with pytest.raises(UsageError, match="The accepted policy is 'mine', not 'other'"):
        conclude_rebase(night, record, str(other), NOW, None)
    recipe = SimpleNamespace(spec=SimpleNamespace(label="mine"), nfe=None)
    monkeypatch.setattr("harness.nightly.night.accepted_recipe", lambda _: (record, recipe))
    assert invoke(["nightly", "--rebase", "-p", "noop", "--rules", night.rules, "--root", night.root]) == 64
    assert "Leave --policy out" in capsys.readouterr().err


def test_old_nights_go_and_baselines_and_other_folders_stay(make_ledger: Any, night: NightlyRequest) -> None:
    names = [f"2026030{day}-021700" for day in range(1, 7)]
    for name in names:
        make_ledger(name, ["+" * 100])
    make_ledger("controls", ["+"])
    conclude_night(night, f"{night.root}/{names[1]}", NOW, None)
    planned = plan_pruning(night.root, 2)
    assert [Path(path).name for path in planned.nights] == [names[0], names[2], names[3]]
    assert planned.n_bytes > 0
    assert "Would remove 3 nights" in planned.lines(dry_run=True)[0]
    assert all(Path(path).exists() for path in planned.nights)
    prune(planned)
    left = {path.name for path in Path(night.root).iterdir() if path.is_dir()}
    assert left == {names[1], names[4], names[5], "controls", "baselines"}
    assert plan_pruning(night.root, 2).lines(dry_run=False) == ["No night is old enough to be removed."]


def test_a_dry_run_runs_and_removes_nothing(
    make_ledger: Any, night: NightlyRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    for day in (1, 2):
        make_ledger(f"2026030{day}-021700", ["+"])
    assert invoke(["nightly", "--root", night.root, "--keep", "1", "--dry-run"]) == 0
    assert "Would remove 1 nights" in capsys.readouterr().out
    assert Path(night.root, "20260301-021700").exists()


def test_a_night_that_would_fill_the_disk_is_refused_before_it_begins(
    make_ledger: Any, night: NightlyRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_ledger("20260301-021700", ["+"])
    require_room(night.root)
    monkeypatch.setattr(upkeep.shutil, "disk_usage", lambda _: SimpleNamespace(free=100))
    with pytest.raises(NodeError, match="a night needs up to"):
        require_room(night.root)


def test_a_night_needs_a_policy(night: NightlyRequest, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["nightly", "--root", night.root]) == 64
    assert "--policy" in capsys.readouterr().err
