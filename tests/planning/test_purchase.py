"""Which device to buy: what suits, what may, and why the rest does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.analysis.latency.roofline import work_of
from harness.cli.app import invoke
from harness.errors import HarnessError, UsageError
from harness.ledger import read
from harness.planning.purchase import (
    Estimate,
    Need,
    Success,
    Variant,
    described,
    load_prices,
    paired_success,
    timed,
    weigh,
)
from harness.report.tables.purchase import purchase_sentence

ROOT = Path(__file__).parents[2]
PROBE = ROOT / "reports" / "examples" / "h100-latency" / "pi05"
KEPT = Success(True, "kept")
NANO, ORIN = "jetson-orin-nano-8gb", "jetson-agx-orin-64gb"


def variant(label: str = "p", success: Success = KEPT, **numbers: Any) -> Variant:
    estimate = Estimate(
        **{"low": 8, "likely": 9, "high": 10, "memory_bytes": 1e9, "fits": True, "measured": False} | numbers
    )
    return Variant(label, 1, lambda profile: estimate, success)


def test_the_cheapest_that_suits_stands_first() -> None:
    offers = weigh([variant()], [ORIN, NANO, "l4"], {ORIN: 2000, NANO: 250}, Need(hz=10))
    assert [(offer.profile.name, offer.verdict) for offer in offers] == [(NANO, "suits"), (ORIN, "suits"), ("l4", "no")]
    assert offers[2].reasons == ("has no price in the price list",)
    assert purchase_sentence(offers, Need(hz=10), True).startswith(
        f"Cheapest that suits: {NANO} with p @ NFE 1 (predicted, 250)"
    )


@pytest.mark.parametrize(
    ("given", "need", "verdict", "why"),
    [
        (variant(), Need(hz=100), "suits", ""),
        (variant(), Need(hz=110), "may suit", "takes up to 10 ms, 9.09 are allowed"),
        (variant(), Need(hz=200), "no", "takes at least 8 ms, 5 are allowed"),
        (variant(), Need(hz=1, stands_ms=5), "no", "takes at least 8 ms, 5 are allowed"),
        (variant(fits=False, memory_bytes=9e9), Need(hz=1), "no", "needs 9.0 GB beside the system's, has 8"),
        (variant(fits=None), Need(hz=1), "may suit", "whether it fits in memory is not known"),
        (variant(flag="its back-test fails"), Need(hz=1), "may suit", "its back-test fails"),
        (variant(success=Success(False, "success -9.0 points")), Need(hz=1), "no", "success -9.0 points"),
        (variant(success=Success(None, "not known")), Need(hz=1), "may suit", "not known"),
        (variant(), Need(hz=1, power_w=5), "no", "takes up to 15 W, 5 can be given"),
    ],
)
def test_each_exclusion_and_each_doubt_has_its_reason(given: Variant, need: Need, verdict: str, why: str) -> None:
    (offer,) = weigh([given], [NANO], {}, need)
    assert (offer.verdict, "; ".join(offer.reasons)) == (verdict, why)


def test_an_int8_student_may_suit_an_orin_nano_and_pi05_does_not_fit() -> None:
    offers = weigh([*described("arch:student-650m-int8", (1,)), *described("arch:pi05", (1,))], [NANO], {}, Need(hz=10))
    assert [offer.verdict for offer in offers] == ["may suit", "no"]
    assert "without weights" in offers[0].reasons[0]
    assert offers[1].reasons[0].startswith("needs 9.4 GB")


def test_what_was_measured_on_the_device_is_not_predicted() -> None:
    label = "lerobot:pi05?weights=random&dtype=bfloat16&graphs=true"
    ledger = read(PROBE)
    found = timed(ledger, [label], (10,), lambda name, nfe: KEPT)
    here, there = (weigh(found, [name], {}, Need(hz=10))[0].estimate for name in ("h100-sxm-80gb", "h200"))
    assert here is not None
    assert there is not None
    rows = ledger.latency.query("component == 'e2e' and nfe == 10 and policy_id == @label").latency_ms
    assert (here.measured, there.measured) == (True, False)
    assert (here.likely, here.high) == pytest.approx((rows.median(), rows.quantile(0.99)))
    with pytest.raises(UsageError, match="Unknown timed policy"):
        timed(ledger, ["lerobot:pi0"], (10,), lambda name, nfe: KEPT)


def test_a_variant_keeps_success_only_as_far_as_its_own_pairs_show(make_ledger: Any) -> None:
    runs = [
        make_ledger("base", ["+" * 30] * 10, policy="flow"),
        make_ledger("int8", ["+" * 20 + "-" * 10] * 10, policy="flow?quantize=int8"),
    ]
    told = paired_success([str(run) for run in runs], "flow", None, 0.03)
    assert told("flow?graphs=true", None).kept is True
    assert told("flow?quantize=int8", None).kept is False
    assert told("flow?quantize=int8&graphs=true", None).text.startswith("success -33.3 points [")
    assert told("other", None).kept is None
    assert work_of("p?dtype=bfloat16&graphs=true") == "p?dtype=bfloat16"


@pytest.mark.parametrize(
    ("text", "said"),
    [("jetson-nano: 3", "jetson-orin-nano"), (f"{NANO}: cheap", "cheap"), (f"{NANO}: -1", "-1"), ("[]", "mapping")],
)
def test_a_bad_price_list_is_told_by_name(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "prices.yaml").write_text(text)
    with pytest.raises(HarnessError, match=said):
        load_prices(tmp_path / "prices.yaml")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("-p arch:pi05", "How fast must it be?"),
        ("--hz 10", "What is to run there?"),
        ("-p flow --hz 10", "Where was flow timed?"),
        ("-p arch:pi05 --hz 10 --base flow", "--success and --base go together"),
        ("-p arch:pi05 --hz 10 --among orin-nano", "Did you mean"),
    ],
)
def test_what_is_missing_is_asked_for(line: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["plan", "buy", *line.split()]) == 64
    assert said in capsys.readouterr().err


def test_nothing_that_may_suit_is_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["plan", "buy", "-p", "arch:pi05", "--nfe", "10", "--hz", "50", "--among", NANO]) == 1
    assert "Nothing suits" in capsys.readouterr().out
