"""A policy's identity: what differs is named, and what is not known is never taken for a difference."""

from __future__ import annotations

from dataclasses import replace

from harness.spec.identity import NOTHING, PolicyIdentity, digest_of, read_identity
from harness.spec.observation import PolicyInfo

WHOLE = PolicyIdentity("w", "c", "p", "s")


def test_the_digest_of_a_whole_identity_changes_with_every_part() -> None:
    changed = [replace(WHOLE, **{part: "other"}) for part in WHOLE.record()]
    assert len({WHOLE.sha256, *(one.sha256 for one in changed)}) == 5
    assert [WHOLE.compare(one).differ for one in changed] == [
        ("weights",), ("configuration",), ("processors",), ("statistics",)
    ]  # fmt: skip


def test_a_row_of_before_is_compared_by_its_weights_alone() -> None:
    old = read_identity(None, "w")
    assert (old.sha256, old.whole) == ("w", False)
    assert old.compare(WHOLE) == ((), ("configuration", "processors", "statistics"))
    assert read_identity({"provenance": {}}, "other").compare(WHOLE).differ == ("weights",)


def test_a_part_that_is_missing_is_known_to_be_missing() -> None:
    assert WHOLE.compare(replace(WHOLE, statistics=NOTHING)).differ == ("statistics",)


def test_a_record_reads_back() -> None:
    assert read_identity({"identity": WHOLE.record()}, WHOLE.sha256) == WHOLE
    assert read_identity({"identity": {"weights": None, "unknown": "x"}}).sha256 is None


def test_the_digest_of_plain_data_ignores_the_order_of_keys_and_takes_nan() -> None:
    assert digest_of({"a": 1, "b": float("nan")}) == digest_of({"b": float("nan"), "a": 1}) != digest_of({"a": 1})


def test_the_digest_in_ledgers_follows_the_identity_and_stays_what_a_policy_states_without_one() -> None:
    assert PolicyInfo("p", identity=WHOLE, checkpoint_sha256="old").checkpoint_sha256 == WHOLE.sha256
    stated = PolicyInfo("p", checkpoint_sha256="w")
    assert (stated.checkpoint_sha256, stated.stated_identity) == ("w", PolicyIdentity(weights="w"))
    assert PolicyInfo("p").stated_identity.sha256 is None
