"""Where a policy's expectations lie."""

from __future__ import annotations

from pathlib import Path

from harness.doctor.check import Check, CheckStatus
from harness.doctor.expectations import FILE
from harness.policies.base import Policy
from harness.policies.registry import PolicyRequest


def probe_folder(spec: PolicyRequest, policy: Policy) -> Path | None:
    """The folder of a policy's checkpoint; None when it has none on this machine."""
    if spec.kind == "flow" and not (policy.info.checkpoint or "").startswith("random"):
        from harness.policies.flow.shipped import DEFAULT, find_checkpoint

        return find_checkpoint(spec.path or DEFAULT)[0]
    candidates = [Path(text) for text in (spec.path, policy.info.checkpoint) if text]
    return next((path for path in candidates if path.is_dir()), None)


def without_expectations(folder: Path | None) -> Check:
    """Say that only the coarsest faults could be looked for."""
    where = f"no {FILE} in {folder}" if folder is not None else f"no {FILE}: the checkpoint has no folder here"
    remedy = "write one while it is well (--write-probe DIR), and name it (--probe DIR): then faults are named"
    return Check("answers", CheckStatus.WARN, where, remedy)
