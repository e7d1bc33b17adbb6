"""What a device that is not at hand is predicted to take: the band of `harness predict` as three sources."""

from __future__ import annotations

from collections.abc import Sequence

from harness.analysis.predict.anchored import Anchored, Score, score
from harness.analysis.predict.prediction import (
    Prediction,
    predict,
    predict_architecture,
    sources,
    target_for,
    target_for_description,
)
from harness.analysis.predict.published import load_published
from harness.clocks import DelaySamples, DelaySource
from harness.delays.naming import digest, on_anothers_actions
from harness.errors import UsageError, unknown_name
from harness.ledger import read
from harness.spec.architecture import load_architecture
from harness.spec.policy import PolicyAtNfe
from harness.spec.profile import HardwareProfile, load_profile

BANDS = {"low": "low", "mid": "likely", "high": "high"}
"""Part of a band → what `Prediction` calls it."""


def predicted_sources(
    profile: str, ledger: str | None, timing_of: str | None, policies: Sequence[str], nfe: Sequence[int]
) -> list[DelaySource]:
    """Predict decisions on a device.

    Args:
        profile: Hardware profile; "PROFILE:mid" (or low, high) for one part of its band.
        ledger: Probe to predict from; None: from the architecture that `timing_of` names.
        timing_of: Policy of the ledger, or architecture; None: each policy's own.
        policies: Labels of the policies that are run.
        nfe: NFE values asked for; empty: those that were timed or described.

    Returns:
        For each policy the low, middle and high of the band, or the part that was asked for.

    Raises:
        UsageError: An unknown part of a band, nothing to predict from, or the ledger holds nothing of the policy that
            can be carried over.
    """
    profile, _, part = profile.partition(":")
    if part and part not in BANDS:
        raise unknown_name("part of a device's band", part, tuple(BANDS))
    device = load_profile(profile)
    found = []
    for policy in policies:
        timed = timing_of or policy
        if ledger is not None:
            predictions, made_of, tested = _from_ledger(ledger, timed, device, nfe)
        elif timing_of is not None:
            (predictions, made_of), tested = _from_architecture(timing_of, device, nfe), None
        else:
            raise UsageError(
                f"What should {profile} be predicted from? Name the ledger of a probe of {policy} with --device-from, "
                "or an architecture with --latency-as, e.g. --latency-as pi05."
            )
        stamp = digest((device.model_dump_json(), *made_of))
        for band, attribute in BANDS.items():
            if part not in ("", band):
                continue
            by_variant = {
                PolicyAtNfe(policy, prediction.nfe): DelaySamples.constant(getattr(prediction, attribute))
                for prediction in predictions
            }
            name = f"predicted:{device.name}:{band}#{stamp}{on_anothers_actions(timed, policy)}"
            facts = {"kind": "predicted", "device": device.name, "band": band, "timing_of": timed}
            if tested is not None:
                # Every table that names the device says so.
                flag = "" if tested.passes else ", back-test fails" if tested.n else ", not back-tested"
                facts |= {"device": f"{device.name}{flag}", "back_test": tested.text}
            found.append(DelaySource(name, by_variant, facts=facts))
    return found


def _from_ledger(
    path: str, timed: str, device: HardwareProfile, nfe: Sequence[int]
) -> tuple[list[Prediction], list[str], Score | None]:
    """Predictions, what they were made of, and how the device did in the back-test; None where none applies."""
    ledger = read(path)
    known = sources(ledger.latency, ledger.counts, ledger.nodes)
    own = [each for each in known if each.configuration["policy_id"] == timed and each.unbatched]
    if len(own) != 1:
        held = ", ".join(sorted({str(each.configuration["policy_id"]) for each in known})) or "none"
        raise UsageError(
            f"{path!r} holds {len(own)} configurations of {timed!r} at batch 1 that were timed and counted on a "
            f"calibrated node, where one is needed. It has: {held}. Choose with --latency-as."
        )
    source = own[0]
    wanted: list[int | None] = [*nfe] or [*source.e2e]
    made_of = [path, *map(str, source.e2e.items())]
    anchored = Anchored(source, known, load_published())
    if anchored.applies:
        made_of += [anchor.name for anchor in anchored.anchors.anchors]
        tested = score(anchored.back_test(device.name))
        return [anchored.predict(device.name, value) for value in wanted], made_of, tested
    hardware = source.configuration["hardware"]
    like = load_profile(hardware) if isinstance(hardware, str) else None
    target = target_for(device, source, like)
    return [predict(source, target, value) for value in wanted], made_of, None


def _from_architecture(name: str, device: HardwareProfile, nfe: Sequence[int]) -> tuple[list[Prediction], list[str]]:
    architecture = load_architecture(name)
    target = target_for_description(device, architecture)
    wanted = list(nfe) or list(architecture.nfe)
    predictions = [predict_architecture(architecture, target, value) for value in wanted]
    return predictions, [architecture.model_dump_json()]
