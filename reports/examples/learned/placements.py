"""What another placement of fixtures does to one policy: two ledgers of two protocols, paired by init state.

    python reports/examples/learned/placements.py BASE CANDIDATE

`harness compare` refuses this, rightly: episodes of two protocols are not the same episodes. Here the difference is
what is measured, so episodes are paired by (suite, task, init state, trial) instead of by key; anything else that
differs between the manifests is refused.
"""

from __future__ import annotations

import sys
from dataclasses import replace

import pyarrow as pa

from harness.analysis.paired.compare import compare_success
from harness.analysis.paired.pairing import Side, match_variants, read_sides

MEASURED = {"placement_seed", "placement_seeding"}
PLACE = ("suite", "task_id", "init_state_id", "trial")


def by_place(side: Side) -> Side:
    """The side with its keys replaced by where an episode begins."""
    rows = side.details.select(PLACE).to_pylist()
    return replace(side, keys=pa.array([":".join(str(row[name]) for name in PLACE) for row in rows]))


def require_only_placement_differs(base: Side, candidate: Side) -> None:
    """Refuse ledgers that differ in more than where fixtures stand."""
    for suite in base.manifests.keys() & candidate.manifests.keys():
        old, new = base.manifests[suite], candidate.manifests[suite]
        differing = {key for key in old.keys() | new.keys() if old.get(key) != new.get(key)} - MEASURED
        if differing:
            listed = "; ".join(f"{key}: {old.get(key)!r} against {new.get(key)!r}" for key in sorted(differing))
            sys.exit(f"{suite}: more than placement differs: {listed}")


def main(base_path: str, candidate_path: str) -> None:
    """Print one line per policy, NFE and suite."""
    for base, candidate in match_variants(read_sides(base_path), read_sides(candidate_path)):
        require_only_placement_differs(base, candidate)
        result = compare_success(by_place(base), by_place(candidate))
        for row in (*result.suites, result.overall):
            low, high = row.difference.low * 100, row.difference.high * 100
            print(
                f"{base.label}, {row.suite or 'all'}: {row.base_rate:.1%} -> {row.candidate_rate:.1%} "
                f"of {row.counts.n}, "
                f"difference {100 * (row.candidate_rate - row.base_rate):+.1f} points [{low:+.1f} to {high:+.1f}], "
                f"{row.counts.lost} lost, {row.counts.gained} gained, p = {row.p:.2g}"
            )


if __name__ == "__main__":
    main(*sys.argv[1:])
