"""One policy under one name: in a ledger, and in every process of a run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from harness.errors import PolicyChanged
from harness.ledger.identities import differing_parts, stated_identities
from harness.ledger.parts import read_rows
from harness.ledger.storage import Location
from harness.spec.identity import PolicyIdentity
from harness.spec.observation import PolicyInfo


def require_same_policies(out: str, infos: Mapping[str, PolicyInfo]) -> None:
    """Refuse to continue a ledger with other policies than its rows are from.

    Args:
        out: Path or URI of the ledger that is continued.
        infos: Policy label → what is about to act under it.

    Raises:
        PolicyChanged: Names the policy and what of it differs.
    """
    location = Location.of(out)
    stated = stated_identities(row["policies"] for row in read_rows(location, "runs", ["policies"]))
    held: defaultdict[str, list[str]] = defaultdict(list)
    for row in read_rows(location, "episodes", ["policy_id", "checkpoint_sha256"]):
        held[row["policy_id"]].append(row["checkpoint_sha256"])
    for label, info in infos.items():
        now = info.stated_identity
        known = {**stated, **({now.sha256: now} if now.sha256 else {})}
        differ = differing_parts([*held[label], now.sha256], known)
        if differ:
            raise PolicyChanged(
                f"{out!r} holds {len(held[label])} episodes of policy {label!r}, whose {' and '.join(differ)} have "
                "changed since: one rate would be of two policies. Put the checkpoint back as it was, or evaluate the "
                "changed one in another --out."
            )


def require_same_policy(label: str, expected: PolicyIdentity, found: PolicyIdentity) -> None:
    """Refuse to go on with a policy that was built again and is another one now.

    Raises:
        PolicyChanged: Names what differs.
    """
    differ = expected.compare(found).differ
    if differ:
        raise PolicyChanged(
            f"Policy {label!r} was loaded again during the run, and its {' and '.join(differ)} had changed: its "
            "episodes would be of two policies. Put the checkpoint back as it was, then continue with --resume."
        )
