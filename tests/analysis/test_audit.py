"""An audit of claimed gains: provable here, elsewhere, and without words; what is missing is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.analysis.audit import Audit, ClaimChoice, audit, condition_of
from harness.analysis.paired.pairing import read_sides
from harness.cli.app import invoke
from harness.errors import UsageError
from harness.ledger import LedgerWriter
from harness.report.gate.audit import audit_findings
from harness.spec.policy import PolicyAtNfe
from harness.spec.protocol import SAMPLED, Protocol
from harness.worlds.base import SimConfig, told_instruction
from harness.worlds.stub import StubSim

OWN = {"suite": "libero_spatial", "max_steps": 280, "init_states": "a" * 64}
ELSEWHERE = OWN | {"init_states": SAMPLED}
BLANK, SHUFFLED = OWN | {"instruction": "blank"}, OWN | {"instruction": "shuffled"}
GOOD, BAD = "+" * 90 + "-" * 10, "+" * 60 + "-" * 40
LEARNED = Path(__file__).parents[2] / "reports" / "examples" / "learned" / "ledger"


def audited(paths: list[Path], **choice: Any) -> Audit:
    sides = [side for path in paths for side in read_sides(path)]
    return audit(sides, ClaimChoice(**choice) if choice else None)


@pytest.fixture
def good(make_ledger: Any) -> Path:
    return make_ledger("good", [GOOD], policy="good", manifest=OWN)


@pytest.fixture
def bad(make_ledger: Any) -> Path:
    return make_ledger("bad", [BAD], policy="bad", manifest=OWN)


def test_a_gain_is_provable_or_says_how_many_pairs_it_takes(make_ledger: Any, good: Path, bad: Path) -> None:
    (claim,) = audited([bad, good]).claims
    assert (claim.comparison.candidate.label, claim.provable) == ("good", True), "whichever comes first"
    slightly = make_ledger("slightly", ["+" * 62 + "-" * 38], policy="slightly", manifest=OWN)
    (claim,) = audited([slightly, bad]).claims
    assert not claim.provable
    assert claim.needed is not None
    assert claim.needed > 100


def test_claims_share_alpha_by_holm(make_ledger: Any, good: Path, bad: Path) -> None:
    more = [make_ledger(f"p{n}", [BAD], policy=f"p{n}", manifest=OWN) for n in range(3)]
    found = audited([good, bad, *more])
    assert len(found.claims) == 10
    assert sum(claim.provable for claim in found.claims) == 4
    worst = min(claim.comparison.overall.p for claim in found.claims)
    assert min(claim.p_adjusted for claim in found.claims) == pytest.approx(10 * worst)


def test_each_trial_survives_or_does_not_or_is_missing(make_ledger: Any, good: Path, bad: Path) -> None:
    ledgers = [good, bad]
    for name, policy, outcomes, manifest in (
        ("good-sampled", "good", GOOD, ELSEWHERE),
        ("bad-sampled", "bad", BAD, ELSEWHERE),
        ("good-blank", "good", BAD, BLANK),
        ("bad-blank", "bad", BAD, BLANK),
        ("good-shuffled", "good", BAD, SHUFFLED),
    ):
        ledgers.append(make_ledger(name, [outcomes], policy=policy, manifest=manifest))
    found = audited(ledgers)
    (claim,) = found.claims
    assert {trial.condition: trial.outcome for trial in claim.trials} == {
        "sampled placements": "survives",
        "blank instruction": "not shown",
        "shuffled instruction": "missing",
    }
    needs = {(check.side.label, check.condition): check.needs_words(0.05) for check in found.language}
    assert needs == {
        ("good", "blank instruction"): True,
        ("bad", "blank instruction"): False,
        ("good", "shuffled instruction"): True,
    }
    said = " ".join(audit_findings(found))
    assert "good over bad: under blank instruction the gain is not shown" in said
    assert "bad (blank instruction) solves as much without its words, within 10 points" in said


@pytest.mark.parametrize(
    ("own", "blank", "answer", "said"),
    [
        ("+" * 95 + "-" * 5, "+" * 95 + "-" * 5, "no", "says nothing about language"),
        ("+" * 95 + "-" * 5, "+" * 40 + "-" * 60, "yes", ""),
        ("++", "--", "undecided", "undecided over 2 pairs; a drop of 10 points takes about"),
        ("-" * 100, "-" * 100, "undecided", "solves 0 of 100 with its own words: too little to lose"),
    ],
)
def test_of_language_nothing_is_said_without_the_power_to(
    make_ledger: Any, bad: Path, own: str, blank: str, answer: str, said: str
) -> None:
    ledgers = [
        bad,
        make_ledger("own", [own], policy="mine", manifest=OWN),
        make_ledger("mine-blank", [blank], policy="mine", manifest=BLANK),
    ]
    found = audited(ledgers)
    (check,) = found.language
    assert check.answer(0.05) == answer
    sentences = [sentence for sentence in audit_findings(found) if sentence.startswith("mine (")]
    assert [said in sentence for sentence in sentences] == ([True] if said else [])


def test_without_the_benchmark_itself_there_is_no_claim_to_audit(make_ledger: Any) -> None:
    paths = [make_ledger(name, [GOOD], policy=name, manifest=ELSEWHERE) for name in ("a", "b")]
    with pytest.raises(UsageError, match=r"None of these ledgers was run as the benchmark is \(.*: sampled placements"):
        audited(paths)
    with pytest.raises(UsageError, match="None of these ledgers was run as the benchmark is"):
        audited(paths, base=PolicyAtNfe("a", None), candidate=PolicyAtNfe("b", None))


def test_a_suite_that_was_a_file_is_named_as_one(good: Path, bad: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path, name in ((good, "mine-own"), (bad, "mine-own")):
        LedgerWriter(path).append("runs", [{"run_id": f"run-{path.name}", "suite": f"name: {name}"}])
    assert invoke(["audit", str(good), str(bad)]) == 0
    printed = capsys.readouterr().out
    assert "harness run PATH/TO/mine-own.yaml -p" in printed
    assert "whose path no ledger keeps" in printed


def test_a_stated_claim_is_audited_as_it_was_stated(good: Path, bad: Path) -> None:
    found = audited([good, bad], base=PolicyAtNfe("good", None), candidate=PolicyAtNfe("bad", None))
    (claim,) = found.claims
    assert (claim.comparison.candidate.label, claim.provable, claim.needed) == ("bad", False, None)
    with pytest.raises(UsageError, match="0 checkpoints can be the base"):
        audited([good, bad], base=PolicyAtNfe("nobody", None), candidate=PolicyAtNfe("bad", None))


def test_conditions_are_not_mixed(make_ledger: Any, good: Path) -> None:
    (side,) = read_sides(make_ledger("both", [GOOD], manifest=ELSEWHERE | {"instruction": "blank"}))
    with pytest.raises(UsageError, match="Change one at a time"):
        condition_of(side)
    with pytest.raises(UsageError, match="a claim needs two"):
        audited([good])


def test_other_words_under_another_protocol_are_refused(make_ledger: Any, good: Path, bad: Path) -> None:
    other = make_ledger("other", [GOOD], policy="good", manifest=BLANK | {"max_steps": 300})
    with pytest.raises(UsageError, match="max_steps: 280 against 300"):
        audited([good, bad, other])


def test_the_shipped_ledger_shows_what_is_proven_and_the_commands_for_what_is_missing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    argv = ["audit", str(LEARNED), "--base-policy", "flow", "--policy", "flow:student"]
    assert invoke([*argv, "--base-nfe", "10", "--nfe", "1"]) == 2, "provable, and nobody ran it elsewhere"
    printed = " ".join(capsys.readouterr().out.split())
    assert "1 of 1 claims are provable" in printed
    assert "Claim Under Pairs" in printed
    assert "harness run learned -p flow:student --nfe 1 --placements sampled --episodes 50" in printed
    assert "harness run learned -p flow --nfe 10 --instruction blank" in printed
    assert invoke([*argv, "--base-nfe", "1", "--nfe", "1"]) == 1, "16 lost, 17 gained prove nothing"


def test_every_pair_is_a_claim_without_a_choice(tmp_path: Path) -> None:
    assert invoke(["audit", str(LEARNED), "--markdown", str(tmp_path / "audit.md")]) == 0
    assert "of 28 claims are provable" in (tmp_path / "audit.md").read_text()


def test_the_words_of_the_next_task_are_told_or_none() -> None:
    words = ["a", "b", "b"]
    assert [told_instruction(words, task, "own") for task in range(3)] == words
    assert [told_instruction(words, task, "shuffled") for task in range(3)] == ["b", "a", "a"]
    assert told_instruction(words, 0, "blank") == ""
    seen = StubSim("stub", 3, SimConfig(resolution=16, instruction="shuffled")).reset(0)
    assert seen is not None
    assert seen.instruction == "count to the target of task 4"


def test_own_words_are_no_key_of_the_manifest_so_that_older_episodes_still_pair() -> None:
    facts = {"init_states_sha256": "0" * 64, "versions": {}, "renderer": "none"}
    rules = {"max_steps": {"stub": 30}}
    assert "instruction" not in Protocol(**rules).manifest("stub", **facts)
    assert Protocol(**rules, instruction="blank").manifest("stub", **facts)["instruction"] == "blank"
