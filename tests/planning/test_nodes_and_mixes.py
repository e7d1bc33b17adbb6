"""Nodes files, deadlines, and which mix to take."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from harness.cli.app import invoke
from harness.errors import SpecError, UsageError
from harness.planning.mixes import mixes, parse_deadline
from harness.planning.nodes_file import NodeKind, NodesFile, describe_nodes, load_nodes, to_yaml
from harness.planning.suite_plan import plan
from harness.schedule.placement import NodeResources

EXAMPLES = Path(__file__).parents[2] / "reports" / "examples"
NOW = datetime(2026, 12, 1, 19, 0, tzinfo=UTC)


def write(folder: Path, text: str) -> Path:
    (folder / "nodes.yaml").write_text(text, encoding="utf-8")
    return folder / "nodes.yaml"


def test_a_nodes_file_is_a_list_and_comes_back_from_a_cluster(tmp_path: Path) -> None:
    live = [NodeResources(f"n{i}", "h", 16, 1, 64e9, "h100-sxm-80gb") for i in range(2)]
    path = write(tmp_path, to_yaml(describe_nodes(live)))
    assert [(kind.profile, kind.count, kind.cores) for kind in load_nodes(path).nodes] == [("h100-sxm-80gb", 2, 16)]
    assert len(load_nodes(write(tmp_path, "- {profile: cpu, count: 3, cores: 2}\n")).resources()) == 3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- {profile: h100-sxm-80, cores: 4}", "h100-sxm-80gb"),
        ("- {profile: cpu, cores: 4, pricee: 3}", "pricee"),
        ("- {profile: cpu, cores: 0}", "cores"),
        ("[]", "nodes"),
    ],
)
def test_a_nodes_file_that_is_wrong_is_refused_by_name(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        load_nodes(write(tmp_path, text))
    assert issubclass(SpecError, UsageError)


def test_deadlines() -> None:
    assert parse_deadline("07:00", NOW) == 12 * 3600
    assert parse_deadline("90min", NOW) == parse_deadline("1.5h", NOW) == 5400
    assert parse_deadline("2026-12-01T20:00", NOW) == 3600
    for text, said in (("2026-11-30T07:00", "is past"), ("soon", "write 07:00"), ("25:00", "write 07:00")):
        with pytest.raises(UsageError, match=said):
            parse_deadline(text, NOW)


def test_a_catalogue_is_every_mix_of_it_and_a_large_one_is_thinned() -> None:
    small = NodesFile(nodes=(NodeKind(profile="cpu", count=2, cores=1), NodeKind(profile="l4", count=1, cores=1)))
    assert sorted(sum(kind.count for kind in mix.nodes) for mix in mixes(small)) == [1, 1, 2, 2, 3]
    large = NodesFile(nodes=tuple(NodeKind(profile=name, count=50, cores=1) for name in ("cpu", "l4", "b200")))
    assert len(list(mixes(large))) <= 64


@pytest.fixture
def catalogue(tmp_path: Path) -> str:
    text = "- {profile: h100-sxm-80gb, count: 2, cores: 16, gpus: 1, price_per_hour: 3.0}\n"
    return str(write(tmp_path, text))


def test_more_nodes_end_sooner_and_the_cheapest_that_is_in_time_is_chosen(
    catalogue: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source = ["--from", str(EXAMPLES / "h100-run" / "scripted-warm")]
    words = ["plan", "seed", "-p", "scripted", *source, "--choose-from", catalogue, "--deadline"]
    assert invoke([*words, "3h"]) == 0
    assert "← " in (out := capsys.readouterr().out)
    assert "Cheapest" in out
    assert invoke([*words, "0.1min"]) == 1
    assert "No mix ends within 6 s" in capsys.readouterr().out


def test_a_catalogue_without_a_price_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(write(tmp_path, "- {profile: cpu, cores: 16}"))
    source = str(EXAMPLES / "h100-run" / "scripted-warm")
    words = ["plan", "seed", "-p", "scripted", "--from", source, "--choose-from", path, "--deadline", "2h"]
    assert invoke(words) == 64
    assert "no price_per_hour for cpu" in capsys.readouterr().err


def test_a_ledger_of_another_protocol_is_refused(catalogue: str, tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "suites" / "seed.yaml").read_text(encoding="utf-8")
    suite = tmp_path / "short.yaml"
    suite.write_text(text.replace("protocol: lerobot", "protocol: {max_steps: {libero_spatial: 99}}"), encoding="utf-8")
    with pytest.raises(UsageError, match="max_steps is 280 there and 99"):
        plan(str(suite), policies=["scripted"], nodes=catalogue, ledgers=[str(EXAMPLES / "h100-run" / "scripted-warm")])


def test_without_a_ledger_the_calibration_is_offered(
    catalogue: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert invoke(["plan", "seed", "-p", "scripted", "--nodes", catalogue]) == 64
    assert "harness run seed --policy" in capsys.readouterr().err


def test_the_same_request_gives_the_same_plan_and_twice_the_price_twice_the_cost() -> None:
    def made(price: float) -> tuple[float, float | None]:
        kind = NodeKind(profile="h100-sxm-80gb", cores=16, gpus=1, price_per_hour=price)
        ledgers = [str(EXAMPLES / "h100-run" / "scripted-warm")]
        nodes = NodesFile(nodes=(kind,))
        found = plan("seed", policies=["scripted"], nodes=nodes, ledgers=ledgers, budget_s=0)
        return found.forecast.finish_s, found.cost

    (first, cost), (second, double) = made(1.0), made(2.0)
    assert first == second
    assert cost is not None
    assert double == pytest.approx(2 * cost)
