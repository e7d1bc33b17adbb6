"""Mistakes of a first hour: one code for one mistake in every verb, all of them at once, and nothing left behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.cells import cell_len

from harness.cli.app import invoke
from harness.cluster.claim import build_manifests
from harness.errors import SpecError, UsageError
from harness.ledger import LedgerWriter
from harness.spec.manifest import require_equal_manifests
from harness.spec.policy import PolicySpec
from harness.spec.protocol import Protocol
from harness.spec.resolve import parse

DEMO = Path(__file__).parents[2] / "reports" / "examples" / "demo"
STUB = (
    "name: mine\ndescription: none\nworld: stub\nprotocol: stub\n"
    "tasks: [{suite: stub, tasks: [0], init_states: 1}]\npolicies: [random]\n"
)
AT_ONCE = """
import sys
from harness.cli.app import invoke
for line in sys.argv[1].split(";"):
    code = invoke(line.split())
    print(code, *[name for name in ("pandas", "scipy", "pyarrow", "ray", "torch") if name in sys.modules])
"""


def test_a_mistake_in_a_file_or_name_is_told_before_anything_heavy_loads(tmp_path: Path) -> None:
    """pandas, scipy, pyarrow and Ray are seconds on a cold disk; nobody waits for them to hear of a typing mistake."""
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("name: a\n  b: [\n")
    lines = [
        *(f"{verb} {wrong}" for verb in ("validate", "run")),
        "run smoke --policy scriptd",
        "run smoke --policy flow?dtyp=x",
        "probe --policy scriptd",
        "probe --policy flow --cameras 3",
        "serve --policy scriptd",
        f"nightly --policy random --suite {wrong}",
        f"watch {tmp_path} --suite {wrong}",
        f"watch {wrong} --suite smoke",
    ]
    done = subprocess.run(
        [sys.executable, "-c", AT_ONCE, ";".join(lines)], capture_output=True, text=True, check=True, timeout=120
    )
    assert dict(zip(lines, done.stdout.splitlines(), strict=True)) == dict.fromkeys(lines, "64")


@pytest.mark.parametrize("policy", ["flow:/nonexistent", "lerobot:./nonexistent", "python:no_such_module:make", "x"])
@pytest.mark.parametrize("verb", ["run", "probe", "serve", "doctor", "nightly"])
def test_a_policy_that_is_not_there_is_usage_in_every_verb(
    verb: str, policy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.yaml").write_text(STUB)
    place = {"run": "--out", "probe": "--out", "nightly": "--root"}.get(verb)
    argv = [verb, *([str(tmp_path / "mine.yaml")] if verb == "run" else []), "--policy", policy]
    argv += [place, str(tmp_path / "new" / "out")] if place else []
    assert invoke(argv) == 64
    assert policy.rpartition("/")[2].split(":")[-2:][0] in capsys.readouterr().err
    assert not (tmp_path / "new" / "out").exists() or verb == "nightly"


def test_a_cluster_that_does_not_answer_leaves_no_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    suite = tmp_path / "mine.yaml"
    suite.write_text(STUB)
    (tmp_path / "held").mkdir()
    for out in ("new/deep", "held"):
        assert invoke(["run", str(suite), "--out", str(tmp_path / out), "--address", "127.0.0.1:9"]) == 3
    assert "No Ray cluster answers" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["held", "mine.yaml"]


def test_a_folder_that_cannot_be_made_is_still_told_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    suite = tmp_path / "mine.yaml"
    suite.write_text(STUB)
    assert invoke(["run", str(suite), "--out", str(suite / "out"), "--address", "127.0.0.1:9"]) == 3
    assert "A file stands where a directory has to be" in capsys.readouterr().err


def test_every_problem_of_every_suite_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second, good = (tmp_path / f"{name}.yaml" for name in ("first", "second", "good"))
    first.write_text(
        "name: first\ndescription: many faults\nprotocol: lerobot\npolicies: [scriptd, 'flow?dtyp=x', scripted]\n"
        "tasks: [{suite: libero_spatial, tasks: [99]}, {suite: libero_goal, init_states: 60}]\n"
    )
    second.write_text("name: second\nname: again\n")
    good.write_text(STUB)
    assert invoke(["validate", *map(str, (first, second, good))]) == 64
    said = capsys.readouterr()
    assert "good.yaml: valid" in said.out
    assert "6 problems" in said.err
    for fault in ("99", "init state 59", "scriptd", "dtyp", "cannot do suite 'libero_goal'", "the key 'name'"):
        assert fault in said.err, fault


@pytest.mark.parametrize("inside", ["episodes", "episodes/", "PART"])
def test_a_part_of_a_ledger_points_at_the_ledger(inside: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = next((DEMO / "episodes").iterdir()) if inside == "PART" else f"{DEMO}/{inside}"
    assert invoke(["report", str(path)]) == 64
    assert f"is only a part of the ledger '{DEMO}'" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["a\nb", "a\x1b[31m", "a\u2028b", "a\x00"])
def test_a_policy_is_named_by_no_control_character(name: str) -> None:
    for given in ({"kind": "noop", "label": name}, f"lerobot:{name}", f"flow?device={name}"):
        with pytest.raises(SpecError, match="control character"):
            parse(PolicySpec, given, "policy")  # type: ignore[arg-type]
    assert parse(PolicySpec, {"kind": "noop", "label": "ä 字 é"}, "policy").label == "ä 字 é"


@pytest.mark.parametrize("columns", [60, 80, None])
def test_a_pipe_is_as_wide_as_columns_says_and_else_as_wide_as_needed(
    columns: int | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    if columns is not None:
        monkeypatch.setenv("COLUMNS", str(columns))
    for argv in (["report", str(DEMO)], ["list", "policies"]):
        assert invoke(argv) == 0
        widest = max(map(cell_len, capsys.readouterr().out.splitlines()))
        assert widest > 100 if columns is None else widest <= columns


@pytest.mark.parametrize("verb", ["run", "watch", "list", "predict", "ledger copy", "baseline show"])
def test_help_names_no_type_of_a_flag(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke([*verb.split(), "--help"]) == 0
    assert "bool" not in capsys.readouterr().out


def test_nothing_is_predicted_for_a_profile_without_figures(capsys: pytest.CaptureFixture[str]) -> None:
    source = DEMO.parent / "h100-latency" / "pi05"
    assert invoke(["predict", "--from", str(source), "--to", "cpu"]) == 64
    assert "states neither bandwidth nor matmul rates" in capsys.readouterr().err


def manifests(out: Path, *, cameras: tuple[str, ...], resume: bool) -> set[str]:
    """Renderers of the manifests of a run with one policy."""
    prepared = SimpleNamespace(
        request=SimpleNamespace(resume=resume),
        out=str(out),
        suite=SimpleNamespace(protocol=parse(Protocol, {"preset": "lerobot"}, "protocol")),
        descriptions={"libero_spatial": SimpleNamespace(init_states_sha256="0" * 64, versions={})},
    )
    servers = SimpleNamespace(infos={"p": SimpleNamespace(cameras=cameras)})
    reports = {"n": SimpleNamespace(backend=SimpleNamespace(renderer="osmesa"))} if cameras else {}
    made = build_manifests(prepared, servers, reports)  # type: ignore[arg-type]
    return {manifest["renderer"] for manifest in made.values()}


def test_a_policy_that_looks_at_no_frame_joins_the_episodes_of_one_that_looks(tmp_path: Path) -> None:
    protocol = '{"libero_spatial": {"renderer": "egl-gpu"}}'
    LedgerWriter(tmp_path).append("runs", [{"run_id": "r", "suite": "", "protocol": protocol}])
    assert manifests(tmp_path, cameras=(), resume=True) == {"egl-gpu"}
    assert manifests(tmp_path, cameras=("agentview",), resume=True) == {"osmesa"}, "what looks has its own"
    assert manifests(tmp_path / "new", cameras=(), resume=True) == {"none"}
    assert manifests(tmp_path / "new", cameras=(), resume=False) == {"none"}
    with pytest.raises(UsageError, match="add it to that one's ledger"):
        require_equal_manifests({"renderer": "none", "x": 1}, {"renderer": "egl-gpu", "x": 1})
    with pytest.raises(UsageError) as other:
        require_equal_manifests({"renderer": "none", "x": 1}, {"renderer": "egl-gpu", "x": 2})
    assert "ledger" not in str(other.value)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("--latency 50ms --latency-as pi05", "--latency-as pi05 names a policy that was timed, but constant:50ms"),
        ("--latency published:h200 --latency-as pi05 --device-from probe", "no device is named"),
    ],
)
def test_what_no_source_of_delays_can_use_is_not_dropped_in_silence(
    options: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert invoke(["run", "seed", "--policy", "scripted", "--clock", "asynchronous", *options.split()]) == 64
    assert told in " ".join(capsys.readouterr().err.split())
