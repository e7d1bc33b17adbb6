"""A result card: Markdown with the metadata that the Hugging Face hub reads (`model-index`), and the same as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

from harness.analysis.success.rates import success_by_suite
from harness.archive.contents import fixtures_of, suite_of
from harness.errors import PolicyError, UsageError
from harness.ledger.reader import Ledger
from harness.spec.policy import PolicyAtNfe

TASK = "robotics"
SOURCE = "vla-harness"


class Card(NamedTuple):
    """One policy's results."""

    markdown: str
    metadata: dict[str, Any]
    """What the hub reads: `model-index` and tags."""

    @property
    def json(self) -> str:
        """The metadata as JSON."""
        return json.dumps(self.metadata, indent=2, ensure_ascii=False) + "\n"


def result_card(ledger: Ledger, *, policy: str | None, nfe: int | None, model_name: str | None = None) -> Card:
    """Make the card of one policy at one NFE under the synchronous clock.

    Args:
        ledger: The ledger.
        policy: Which policy, if the ledger has several.
        nfe: Which NFE, if the policy ran at several.
        model_name: What the hub calls the model; None for the policy's label.

    Raises:
        UsageError: The ledger has no such episodes, or those of several policies or NFE.
        PolicyError: huggingface_hub is not installed.
    """
    try:
        from huggingface_hub import EvalResult, ModelCard, ModelCardData
    except ModuleNotFoundError as error:
        raise PolicyError(
            "A card needs the module 'huggingface_hub', which is not installed here (pip install "
            "'vla-harness[policies]' brings it)."
        ) from error
    episodes = ledger.episodes[ledger.episodes["clock"] == "synchronous"]
    episodes = episodes if policy is None else episodes[episodes["policy_id"] == policy]
    episodes = episodes if nfe is None else episodes[episodes["nfe"] == nfe]
    variants = episodes[["policy_id", "nfe"]].drop_duplicates().astype(object)
    pairs = [PolicyAtNfe(name, None if value != value or value is None else int(value)) for name, value in (
        (row["policy_id"], row["nfe"] if row["nfe"] is not None and row["nfe"] == row["nfe"] else None)
        for row in variants.where(variants.notna(), None).to_dict("records")
    )]  # fmt: skip
    if len(pairs) != 1:
        found = ", ".join(pair.label for pair in pairs) or "none"
        raise UsageError(f"A card is of one policy at one NFE; {ledger.path!r} has {found}. Choose: --policy, --nfe.")
    (variant,) = pairs
    suite = suite_of(ledger)
    fixtures, rates = fixtures_of(suite), success_by_suite(episodes).to_dict("records")
    protocol = suite.protocol.model_dump(mode="json")
    results = [
        EvalResult(
            task_type=TASK,
            task_name=f"{row['suite']} ({row['n']} episodes)",
            dataset_type=suite.world,
            dataset_name=str(row["suite"]),
            dataset_args={"fixture_sha256": fixtures.get(str(row["suite"])), "protocol": protocol},
            metric_type="success_rate",
            metric_name="success rate, %",
            metric_value=round(100 * float(row["rate"]), 2),
            metric_args={
                "successes": int(row["successes"]), "episodes": int(row["n"]), "errors": int(row["errors"]),
                "interval_95": [round(100 * float(row["low"]), 2), round(100 * float(row["high"]), 2)],
                "interval": "Clopper-Pearson", "nfe": variant.nfe,
            },
        )
        for row in rates
        if row["n"]
    ]  # fmt: skip
    if not results:
        raise UsageError(f"{variant.label} has no episode in {ledger.path!r} that ended otherwise than by an error.")
    data = ModelCardData(
        model_name=model_name or str(variant.policy_id), eval_results=results, tags=[TASK, "libero", SOURCE]
    )
    text = _text(variant, rates, ledger, protocol)
    card = ModelCard(f"---\n{data.to_yaml()}\n---\n\n{text}")
    metadata: dict[str, Any] = cast(Any, card.data).to_dict()
    return Card(str(card), metadata)


def push_card(card: Card, repo: str) -> str:
    """Propose the card's metadata to a model repository on the hub, as a pull request: nothing there is overwritten.

    Returns:
        Address of the pull request.

    Raises:
        PolicyError: Nobody is logged in, or the hub refuses.
    """
    from huggingface_hub import get_token, metadata_update
    from huggingface_hub.errors import HfHubHTTPError

    if get_token() is None:
        raise PolicyError("Nobody is logged in to the Hugging Face hub here; run `hf auth login`, or set HF_TOKEN.")
    try:
        return str(metadata_update(repo, {"model-index": card.metadata["model-index"]}, create_pr=True))
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise PolicyError(
            f"The hub did not take the results for {repo!r}: {str(error).splitlines()[0][:300]}"
        ) from error


def _text(variant: PolicyAtNfe, rates: list[dict[Any, Any]], ledger: Ledger, protocol: Mapping[str, Any]) -> str:
    lines = [f"# {variant.label}", "", "| suite | success | 95 % interval | episodes | errors |",
             "| :--- | ---: | ---: | ---: | ---: |"]  # fmt: skip
    for row in rates:
        if row["n"]:
            low, high = (f"{100 * float(row[name]):.1f}" for name in ("low", "high"))
            lines.append(
                f"| {row['suite']} | {100 * float(row['rate']):.1f} % | {low} – {high} % "
                f"| {row['successes']}/{row['n']} | {row['errors']} |"
            )
    last = ledger.runs.iloc[-1]
    versions = ", ".join(f"{name} {version}" for name, version in sorted(dict(last["versions"] or {}).items()))
    hardware = ", ".join(sorted({str(each) for each in ledger.episodes["hardware"].dropna()})) or "not matched"
    plain = {name: value for name, value in protocol.items() if isinstance(value, str | int | float | bool)}
    kept = ", ".join(f"{name} {value}" for name, value in plain.items())
    lines += ["", f"Intervals: Clopper-Pearson over episodes. Protocol: {kept}.", ""]
    lines += [f"Machines: {hardware}. Versions: {versions}.", ""]
    lines += ["Measured with vla-harness: `harness export` gives the record, `harness reproduce` runs it again.", ""]
    return "\n".join(lines)
