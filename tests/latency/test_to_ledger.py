"""Specification of a probe of variants, from plan to ledger. The processes are real."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import variant_stubs

from harness.delays import resolve_sources
from harness.errors import HarnessError, UsageError
from harness.latency import Labels, child, synthetic_observations
from harness.latency.reading import Reading
from harness.latency.to_ledger import ProbeSession, probe_to_ledger
from harness.ledger import read
from harness.policies.registry import make_policy
from harness.spec import parse_policy
from harness.spec.budget import Budget
from harness.spec.policy import PolicySpec
from harness.spec.resolve import parse
from harness.spec.suite import Suite
from harness.spec.timing import Latency
from harness.time_source import WallTime

STUB = "python:variant_stubs:Rounding"


def probed(out: Path, said: list[str] | None = None, **plan: Any) -> ProbeSession:
    """Probe the stub into a ledger; every message lands in `said`."""
    budget = {"min_seconds": 0.02, "min_samples": 3, "max_seconds": 1.0}
    fields = {"policies": [STUB], "nfe": [1, 2], "budget": budget, "launches": 1, **plan}
    suite = {"name": "probe", "description": "variants", "protocol": "lerobot", "probe": fields}
    messages = [] if said is None else said
    return probe_to_ledger(
        parse(Suite, suite, "probe"),
        str(out),
        clock=WallTime(),
        hardware=None,
        on_message=messages.append,
    )


def test_each_variant_is_compared_with_the_reference_and_a_wrong_one_is_marked_loudly(tmp_path: Path) -> None:
    said: list[str] = []
    probed(tmp_path, said, axes={"dtype": [None, "float16"], "quantize": [None, "int8"]}, process_per="variant")
    ledger = read(tmp_path)
    found = ledger.differences.set_index(["variant", "nfe"])
    assert sorted(set(found.index)) == [
        (variant, nfe)
        for variant in ("dtype=float16", "dtype=float16,quantize=int8", "quantize=int8")
        for nfe in (1, 2)
    ]
    assert (found.loc["dtype=float16", "cosine"] > 0.99999).all()
    assert (found.loc["dtype=float16", "max_abs"] > 0).all()
    assert (found.loc["quantize=int8", "cosine"] < 0).all()
    assert set(ledger.differences["reference"]) == {STUB}
    assert sum("DIFFERS FROM ITS REFERENCE" in line for line in said) == 4
    assert set(ledger.latency["variant"].dropna()) == set(ledger.differences["variant"])
    # What takes time after the last sample is said while it is done.
    assert any(line.startswith("  counting operators at NFE 1") for line in said)
    assert any("matrix products" in line for line in said)
    # Whoever groups by policy keeps variants apart.
    assert ledger.latency["policy_id"].nunique() == 4
    assert set(ledger.latency["compile"]) == {"eager"}


def test_a_reference_that_is_not_probed_is_asked_all_the_same(tmp_path: Path) -> None:
    said: list[str] = []
    probed(tmp_path, said, policies=[f"{STUB}?dtype=float16"], nfe=[2])
    ledger = read(tmp_path)
    assert ledger.latency["policy_id"].unique().tolist() == [f"{STUB}?dtype=float16"]
    assert ledger.differences["reference"].tolist() == [STUB]
    assert f"  asking {STUB}, with which it is compared" in said


def test_each_configuration_is_launched_several_times_in_turn_and_asked_once_for_what_does_not_change(
    tmp_path: Path,
) -> None:
    said: list[str] = []
    log = tmp_path / "builds"
    options = {"log": str(log), "dtype": "float16"}
    spec = PolicySpec(kind="python", path="variant_stubs:Rounding", label="fresh", options=options)
    session = probed(tmp_path / "ledger", said, policies=[spec.model_dump()], launches=2)
    # Two configurations, twice, each in a process of its own, and one that answers for the reference of both.
    assert len(set(log.read_text().split())) == 5
    ledger = read(tmp_path / "ledger")
    e2e = ledger.latency[ledger.latency["component"] == "e2e"].sort_values("started_at")
    assert e2e[["launch", "nfe"]].drop_duplicates().to_numpy().tolist() == [[0, 1], [0, 2], [1, 1], [1, 2]]
    assert not e2e.duplicated(["nfe", "sample"]).any()
    assert len(ledger.counts) == len(ledger.counts.drop_duplicates(["nfe", "component"]))
    assert sorted(ledger.differences["nfe"]) == [1, 2]
    assert [len(result.configurations) for result in session.results] == [4]
    # The price in time, before it is paid and while it is.
    assert said[0].startswith("2 configurations, 2 launches each: at least 0 s of measuring")
    assert [line for line in said if line.startswith("launch 2 of 2; about ")]


def test_a_configuration_that_failed_is_not_launched_again(tmp_path: Path) -> None:
    spec = PolicySpec(kind="python", path="variant_stubs:Rounding", label="dying", options={"dies_at": 2})
    session = probed(tmp_path, policies=[spec.model_dump()], nfe=[1, 2], launches=2)
    assert [(c.nfe, c.launch) for c in session.results[0].configurations] == [(1, 0), (2, 0), (1, 1)]


def test_a_plan_may_do_without_comparing(tmp_path: Path) -> None:
    probed(tmp_path, policies=[f"{STUB}?dtype=float16"], nfe=[2], compare=False)
    assert not len(read(tmp_path).differences)


def test_one_process_per_variant_builds_it_once_and_goes_on_after_a_death(tmp_path: Path) -> None:
    log = tmp_path / "builds"
    spec = PolicySpec(
        kind="python", path="variant_stubs:Rounding", label="dying", options={"log": str(log), "dies_at": 2}
    )
    session = probed(tmp_path / "ledger", policies=[spec.model_dump()], nfe=[1, 2, 3], process_per="variant")
    failures = session.results[0].failures
    assert [failure.nfe for failure in failures] == [2]
    assert "SIGSEGV" in str(failures[0].failure)
    # One process until it died, one for what was left.
    assert len(log.read_text().split()) == 2
    assert sorted(read(tmp_path / "ledger").latency["nfe"].unique()) == [1, 3]


def test_a_variant_that_cannot_be_built_is_a_failure_beside_the_others(tmp_path: Path) -> None:
    session = probed(tmp_path, axes={"dtype": [None, "float7"]}, nfe=[1])
    assert [bool(result.failures) for result in session.results] == [False, True]
    assert any("dtype is 'float7'" in warning for result in session.results for warning in result.warnings)
    assert len(read(tmp_path).latency)


def test_a_single_policy_that_cannot_be_built_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="dtype is 'float7'"):
        probed(tmp_path, policies=[f"{STUB}?dtype=float7"], nfe=[1])


def test_the_length_of_the_instruction_is_an_axis_with_a_name_of_its_own(tmp_path: Path) -> None:
    probed(tmp_path, nfe=[1], prompt_words=[2, 40])
    latency = read(tmp_path).latency
    assert latency["policy_id"].unique().tolist() == [f"{STUB} [words=2]", f"{STUB} [words=40]"]
    assert latency["variant"].unique().tolist() == ["words=2", "words=40"]
    (short,) = synthetic_observations(1, words=2)
    (long,) = synthetic_observations(1, words=40)
    assert [len(o.instruction.split()) for o in (short, long)] == [2, 40]


def test_compile_time_stands_in_the_rows_of_a_compiled_policy_alone(tmp_path: Path) -> None:
    probed(tmp_path, nfe=[1], axes={"compile": [None, "default"]})
    latency = read(tmp_path).latency
    assert latency[latency["compile"] == "eager"]["compile_s"].isna().all()
    assert latency[latency["compile"] == "default"]["compile_s"].notna().all()


class Pipe:
    """The parent's end, as far as a child uses it."""

    def __init__(self) -> None:  # noqa: D107
        self.sent: list[tuple[str, Any]] = []

    def send(self, message: tuple[str, Any]) -> None:
        self.sent.append(message)


class Busy:
    """An accelerator on which somebody else computes."""

    origin = "busy"

    def read(self) -> Reading:
        return Reading()

    def compute_pids(self) -> tuple[int, ...]:
        return (2**22 + 9,)


@pytest.mark.parametrize(("allowed", "device"), [(False, "cuda:0"), (True, "cuda:0"), (False, "cpu")])
def test_beside_a_foreign_process_a_probe_refuses_or_marks_its_rows(
    monkeypatch: pytest.MonkeyPatch, allowed: bool, device: str
) -> None:
    monkeypatch.setattr(child, "find_source", lambda device=None: Busy())
    monkeypatch.setattr(child, "NEIGHBOUR_WAIT_S", 0.0)
    monkeypatch.setattr(variant_stubs.Rounding, "device", device, raising=False)
    job = child.IsolatedProbe(
        lambda: variant_stubs.Rounding(PolicySpec(kind="python", path="x")),
        tuple(synthetic_observations(2, resolution=8)),
        (1,),
        Budget(min_seconds=0, min_samples=2, warmup_seconds=0),
        Labels(),
        allow_shared=allowed,
    )
    pipe = Pipe()
    stop = type("Stop", (), {"is_set": staticmethod(lambda: False)})
    if device == "cuda:0" and not allowed:
        with pytest.raises(UsageError, match="--allow-shared"):
            child.measure(job, [(1, 1)], pipe, stop)  # type: ignore[arg-type]
        assert not pipe.sent
        return
    child.measure(job, [(1, 1)], pipe, stop)  # type: ignore[arg-type]
    rows = dict(pipe.sent)["result"].rows
    assert {row["shared"] for row in rows} == ({True} if device == "cuda:0" else {None})


def test_a_probe_s_node_says_its_instruction_set_threads_and_hardware(tmp_path: Path) -> None:
    probed(tmp_path, nfe=[1])
    ledger = read(tmp_path)
    (node,) = ledger.nodes.to_dict("records")
    assert node["isa"]
    assert node["threads"] >= 1
    assert node["hardware"] == "cpu"
    assert node["gl"] is None or node["gl"] != node["gl"]


def test_a_replayed_probe_says_how_long_the_chunks_were_that_it_timed(tmp_path: Path) -> None:
    """So that a run whose policy makes chunks of another length can refuse it."""
    probed(tmp_path / "out")
    source = f"ledger:{tmp_path / 'out'}"
    (own,) = resolve_sources([Latency(source=source)], [STUB])
    assert own.facts["chunk_length"] == str(make_policy(parse_policy(STUB)).info.chunk_length)
    (borrowed,) = resolve_sources([Latency(source=source, timing_of=STUB)], ["flow"])
    assert "chunk_length" not in borrowed.facts
