"""Limits of the device that a candidate is for: its samples there, if they are of the policy that was judged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from harness.analysis.latency.comparison import Samples, read_samples
from harness.analysis.paired.compare import SuccessComparison
from harness.errors import UsageError
from harness.gate.verdict import RuleResult, Verdict
from harness.ledger import Ledger
from harness.ledger.identities import read_policy_records
from harness.spec.identity import PolicyIdentity, read_identity
from harness.spec.policy import PolicyAtNfe

UNQUANTISED = "none"


class OnDevice(NamedTuple):
    """What a device's ledger holds of a candidate."""

    samples: list[Samples]
    told: RuleResult
    """That it is the same policy, and what of it differs all the same."""


class _Measured(NamedTuple):
    """A policy at an NFE, as a ledger holds it."""

    variant: PolicyAtNfe
    identity: PolicyIdentity
    quantize: str

    @property
    def words(self) -> str:
        weights = self.identity.weights[:12] if self.identity.weights else "unknown"
        return f"{self.variant.label} (weights {weights}, quantisation {self.quantize})"

    def differs(self, other: _Measured) -> list[str]:
        """In which of the things that have to be the same it differs, in words."""
        weights = self.identity.weights, other.identity.weights
        return [
            name
            for name, same in (
                ("checkpoint", weights[0] is not None and weights[0] == weights[1]),
                ("NFE", self.variant.nfe == other.variant.nfe),
                ("quantisation", self.quantize == other.quantize),
            )
            if not same
        ]


def samples_on_device(device: Ledger, candidate: Ledger, compared: Sequence[SuccessComparison]) -> OnDevice:
    """Find the candidate's policy in the ledger of a device.

    Args:
        device: Ledger of a probe there.
        candidate: Ledger of the candidate's episodes.
        compared: What is judged of it; exactly one policy at one NFE.

    Raises:
        UsageError: Several policies are judged, or the device's ledger holds no policy with the candidate's checkpoint,
            NFE and quantisation; names which of them differ.
    """
    judged = list(dict.fromkeys(one.candidate.variant for one in compared))
    if len(judged) != 1:
        held = ", ".join(variant.label for variant in judged) or "no episodes on both sides"
        raise UsageError(f"--device-ledger is about one policy at one NFE, and the candidate has {held}; choose one.")
    wanted = _measured(candidate, judged[0])
    samples = read_samples(device)
    known = [_measured(device, variant) for variant in dict.fromkeys(PolicyAtNfe(s.policy_id, s.nfe) for s in samples)]
    alike = [one for one in known if not wanted.differs(one)]
    if not alike:
        # What comes nearest is what was meant.
        nearest = sorted(known, key=lambda one: len(wanted.differs(one)))[:3]
        listed = "; ".join(f"{one.words}: differs in {' and '.join(wanted.differs(one))}" for one in nearest)
        raise UsageError(
            f"{device.path!r} does not hold the policy that is judged, {wanted.words}, so that its limits say nothing "
            f"of it. It holds {listed or 'no probe'}. Probe there what was rolled out: same checkpoint, NFE and "
            "quantisation."
        )
    chosen = {one.variant for one in alike}
    found = [sample for sample in samples if PolicyAtNfe(sample.policy_id, sample.nfe) in chosen]
    return OnDevice(found, RuleResult("same policy on device", Verdict.PASS, _told(wanted, alike, found)))


def _told(wanted: _Measured, alike: Sequence[_Measured], found: Sequence[Samples]) -> str:
    where = ", ".join(dict.fromkeys(sample.machine.name for sample in found))
    parts = {part: None for one in alike for part in wanted.identity.compare(one.identity).differ}
    dtypes = ", ".join(dict.fromkeys(sample.dtype or "unknown" for sample in found))
    differ = (
        f" Its {' and '.join(parts)} differ there ({dtypes}): dtype and the like change answers a little."
        if parts
        else ""
    )
    return f"{where} ran {wanted.words}, as the episodes did.{differ}"


def _measured(ledger: Ledger, variant: PolicyAtNfe) -> _Measured:
    label = variant.policy_id or ""
    records: list[dict[str, Any]] = [
        record
        for text in ledger.runs["policies"]
        for name, record in read_policy_records(text).items()
        if name == label
    ]
    rows = ledger.episodes[ledger.episodes["policy_id"] == variant.policy_id]["checkpoint_sha256"].dropna()
    record = records[-1] if records else None
    digest = str(rows.iloc[-1]) if len(rows) else None
    quantize = ((record or {}).get("provenance") or {}).get("quantize", UNQUANTISED)
    return _Measured(variant, read_identity(record, digest), UNQUANTISED if quantize == "no" else str(quantize))
