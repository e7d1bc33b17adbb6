"""A ledger leaves as one file and is run again, with real runs of the stub world on real Ray."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterator
from copy import deepcopy
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

import harness
from harness.archive.card import push_card, result_card
from harness.archive.contents import fixtures_of, record_of, suite_of
from harness.archive.file import export_ledger, open_archive
from harness.archive.reproduce import compare_rerun
from harness.cli.app import invoke
from harness.cluster.ray_session import open_session
from harness.errors import LedgerError, PolicyError, UsageError
from harness.ledger import read
from harness.ledger.eval_info import export_eval_info
from harness.ledger.import_eval_info import import_eval_info
from harness.spec import Suite
from harness.spec.resolve import parse

NOW = datetime(2026, 11, 27, tzinfo=UTC)
DATA = {
    "name": "stranger",
    "description": "two policies in the stub world",
    "world": "stub",
    "tasks": [{"suite": "stub", "tasks": [0, 1], "init_states": 2}],
    "protocol": "stub",
    "policies": ["random", "noop"],
}


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A ledger that a run made; its Ray cluster stays for the reruns."""
    out = tmp_path_factory.mktemp("run") / "night"
    with open_session(None, n_cpus=2):
        harness.run(parse(Suite, DATA, "test"), out=out, workers=1)
        yield str(out)


@pytest.fixture(scope="module")
def archive(ledger: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("archive") / "night.zip"
    written = export_ledger(ledger, target, harness_version="1.2.3", now=NOW)
    assert (written.episodes, written.bytes) == (8, target.stat().st_size)
    return target


def test_an_archive_holds_all_that_a_stranger_needs(ledger, archive):
    with open_archive(archive) as opened:
        record = opened.record
        inside, outside = read(opened.ledger), read(ledger)
        for table in ("episodes", "decisions", "nodes", "runs"):
            assert len(getattr(inside, table)) == len(getattr(outside, table)), table
        assert sorted(inside.episodes["trajectory_sha256"]) == sorted(outside.episodes["trajectory_sha256"])
    assert (record["format"], record["harness"], record["exported_at"][:10]) == (1, "1.2.3", "2026-11-27")
    assert {each["policy_id"] for each in record["episodes"]} == {"random", "noop"}
    assert all(each["trajectory_sha256"] for each in record["episodes"])
    assert record["fixtures"] == fixtures_of(suite_of(read(ledger)))
    assert len(record["fixtures"]["stub"]) == 64
    run = record["runs"][0]
    assert json.loads(run["protocol"])["stub"]["max_steps"]
    assert run["versions"]["python"]
    assert record["nodes"][0]["cores"] >= 1
    assert os.uname().nodename not in json.dumps(record)


def test_a_rerun_of_the_same_says_same_and_one_of_a_part_too(archive, tmp_path, capsys):
    answer = tmp_path / "answer.json"
    for more in ([], ["--episodes", "1"]):
        out = tmp_path / f"again{len(more)}"
        assert (
            invoke(["reproduce", str(archive), "--out", str(out), "--workers", "1", "--json", str(answer), *more]) == 0
        )
        assert "same: " in capsys.readouterr().out
        assert json.loads(answer.read_text())["compared"] == (4 if more else 8)


def test_a_rerun_with_another_policy_says_by_what_it_differs(archive, tmp_path, capsys):
    command = ["reproduce", str(archive), "--out", str(tmp_path / "again"), "--workers", "1", "--policy", "random=noop"]
    assert invoke(command) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "differs by" in said
    assert "trajectories of equal outcome" in said or "outcomes (" in said
    assert "random: stub task 0 init state 0" in said
    assert "noop: stub" not in said


def test_what_differs_is_told_by_kind_and_what_is_around_it_apart(ledger):
    record = record_of(read(ledger), harness_version="1", exported_at=NOW)
    assert compare_rerun(record, record, partial=False).sentence == (
        "same: 8 episodes ended as recorded, along the same trajectories."
    )
    again = deepcopy(record)
    first, second, third = again["episodes"][:3]
    first["outcome"] = "timeout" if first["outcome"] == "success" else "success"
    second["trajectory_sha256"] = "0" * 64
    again["episodes"].remove(third)
    again["fixtures"]["stub"] = "f" * 64
    again["runs"][0]["versions"]["numpy"] = "9.9"
    again["nodes"][0]["cpu"] = "another"
    protocol = json.loads(again["runs"][0]["protocol"])
    protocol["stub"]["max_steps"] = 7
    again["runs"][0]["protocol"] = json.dumps(protocol)
    found = compare_rerun(record, again, partial=False)
    assert not found.same
    assert found.compared == 7
    assert found.differs[0].startswith("1 outcomes (1 ")
    assert found.differs[1].startswith("successes ")
    assert found.differs[2].startswith("1 trajectories of equal outcome (")
    assert found.differs[3] == "1 episodes that the rerun lacks"
    around = " | ".join(found.around)
    for told in ("fixture of stub: ", "protocol stub max_steps: ", "version of numpy: ", "cpu: "):
        assert told in around
    assert "1 episodes that" not in compare_rerun(record, again, partial=True).sentence
    nothing = {**record, "episodes": []}
    assert "no episode stands on both sides" in compare_rerun(record, nothing, partial=True).sentence


def rewritten(archive: Path, target: Path, change) -> Path:
    """A copy of an archive whose members went through `change(name, bytes)`; None leaves one out."""
    with zipfile.ZipFile(archive) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            data = change(name, old.read(name))
            if data is not None:
                new.writestr(name, data)
    return target


def edited(**changes):
    def change(name: str, data: bytes) -> bytes:
        return json.dumps({**json.loads(data), **changes}).encode() if name == "record.json" else data

    return change


@pytest.mark.parametrize(
    ("change", "error", "told"),
    [
        (edited(format=2), UsageError, "of format 2, written by vla-harness '1.2.3'; this installation reads format 1"),
        (edited(episodes=None), UsageError, "has no 'episodes' of the right form"),
        (edited(files={"../../etc/passwd": "0"}), LedgerError, "names a member '../../etc/passwd'"),
        (edited(files={"ledger/runs/part-x.parquet": "0"}), LedgerError, "lacks ledger/runs/part-x.parquet"),
        (lambda name, data: None if name == "record.json" else data, UsageError, "holds no record.json"),
        (lambda name, data: data[:50] if name == "record.json" else data, UsageError, "cannot be read"),
        (lambda name, data: data if name == "record.json" else data + b"x", LedgerError, "is not what its record says"),
    ],
    ids=["another format", "no episodes", "a path", "a missing part", "no record", "half a record", "a changed part"],
)
def test_an_archive_that_was_changed_or_is_none_is_refused(archive, tmp_path, change, error, told):
    path = rewritten(archive, tmp_path / "changed.zip", change)
    with pytest.raises(error, match=told), open_archive(path):
        pass
    assert invoke(["reproduce", str(path)]) in (64, 3)


def test_what_is_no_archive_is_named(tmp_path, archive, ledger):
    (tmp_path / "text.zip").write_text("no zip")
    for name, told in (("text.zip", "is no archive"), ("missing.zip", "There is no file")):
        with pytest.raises(UsageError, match=told), open_archive(tmp_path / name):
            pass
    with pytest.raises(UsageError, match="exists; name another file"):
        export_ledger(ledger, archive, harness_version="1", now=NOW)
    assert invoke(["reproduce", str(archive), "--policy", "flow"]) == 64
    assert invoke(["reproduce", str(archive), "--policy", "randon=noop"]) == 64


def test_code_that_an_archive_names_is_not_run_unless_it_is_asked_for(archive, tmp_path, capsys):
    with zipfile.ZipFile(archive) as opened:
        suite = json.loads(opened.read("record.json"))["suite"]
    data = yaml.safe_load(suite)
    data["policies"][1] = {"kind": "python", "path": "antigravity:Fly", "label": "fly"}
    foreign = yaml.safe_dump(data)
    path = rewritten(archive, tmp_path / "code.zip", edited(suite=foreign))
    assert invoke(["reproduce", str(path), "--out", str(tmp_path / "out")]) == 64
    assert "names the code 'python:antigravity:Fly'" in " ".join(capsys.readouterr().err.split())


def test_a_card_is_read_by_the_hub_as_it_was_meant(ledger, tmp_path, capsys):
    hub = pytest.importorskip("huggingface_hub", reason="the extra `policies` is not installed")
    files = ["--out", str(tmp_path / "a.zip"), "--card", str(tmp_path / "card.md"), "--policy", "random"]
    assert invoke(["export", ledger, *files]) == 0
    assert "sha256" in capsys.readouterr().out
    card = hub.ModelCard.load(tmp_path / "card.md")
    (result,) = card.data.eval_results
    mine = read(ledger).episodes.query("policy_id == 'random'")
    solved = int((mine["outcome"] == "success").sum())
    assert (result.task_type, result.dataset_name, result.metric_type) == ("robotics", "stub", "success_rate")
    assert result.metric_value == round(100 * solved / 4, 2)
    assert (result.metric_args["successes"], result.metric_args["episodes"]) == (solved, 4)
    low, high = result.metric_args["interval_95"]
    assert 0 <= low <= result.metric_value <= high <= 100
    assert result.dataset_args["fixture_sha256"] == fixtures_of(suite_of(read(ledger)))["stub"]
    metadata = json.loads((tmp_path / "card.json").read_text())
    assert metadata["model-index"][0]["name"] == "random"
    assert metadata["model-index"][0]["results"][0]["metrics"][0]["value"] == result.metric_value
    assert f"| stub | {result.metric_value:.1f} % |" in card.text


def test_a_card_is_of_one_policy_and_needs_a_login_to_be_pushed(ledger, monkeypatch, tmp_path):
    hub = pytest.importorskip("huggingface_hub", reason="the extra `policies` is not installed")
    with pytest.raises(UsageError, match=r"has noop, random. Choose: --policy"):
        result_card(read(ledger), policy=None, nfe=None)
    card = result_card(read(ledger), policy="random", nfe=None, model_name="mine")
    monkeypatch.setattr(hub, "get_token", lambda: None)
    with pytest.raises(PolicyError, match="Nobody is logged in"):
        push_card(card, "me/mine")
    asked = []
    monkeypatch.setattr(hub, "get_token", lambda: "a token")
    monkeypatch.setattr(hub, "metadata_update", lambda *args, **options: asked.append((args, options)) or "https://pr")
    assert push_card(card, "me/mine") == "https://pr"
    (((repo, metadata), options),) = asked
    assert (repo, options) == ("me/mine", {"create_pr": True})
    assert hub.repocard_data.model_index_to_eval_results(metadata["model-index"])[0] == "mine"
    assert invoke(["export", ledger, "--push", "me/mine", "--out", str(tmp_path / "b.zip")]) == 64


def test_a_ledger_that_cannot_be_run_again_is_not_exported(ledger, tmp_path):
    (tmp_path / "eval_info.json").write_text(json.dumps(export_eval_info(read(ledger), policy="noop")))
    import_eval_info([tmp_path / "eval_info.json"], str(tmp_path / "imported"))
    with pytest.raises(UsageError, match="no suite that can be run again"):
        export_ledger(str(tmp_path / "imported"), tmp_path / "a.zip", harness_version="1", now=NOW)
    assert not (tmp_path / "a.zip").exists()
