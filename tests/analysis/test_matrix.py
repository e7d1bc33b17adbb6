"""Many checkpoints: letters that say which cannot be told apart."""

from __future__ import annotations

from itertools import combinations
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from harness.analysis.paired.matrix import compact_letters, compare_many
from harness.analysis.paired.pairing import read_sides


@given(
    st.integers(1, 6).flatmap(
        lambda n: st.tuples(st.just(n), st.sets(st.sampled_from(list(combinations(range(n), 2)) or [(0, 0)])))
    )
)
def test_two_share_a_letter_exactly_when_they_are_not_told_apart(case: tuple[int, set[tuple[int, int]]]) -> None:
    n, different = case[0], {pair for pair in case[1] if pair[0] != pair[1]}
    letters = compact_letters(n, different)
    assert all(letters)
    for i, j in combinations(range(n), 2):
        assert bool(set(letters[i]) & set(letters[j])) == ((i, j) not in different)


def test_the_textbook_overlap() -> None:
    # Best and worst differ; the middle one differs from neither.
    assert compact_letters(3, {(0, 2)}) == ["a", "ab", "b"]


def test_checkpoints_are_ranked_and_lettered(make_ledger: Any) -> None:
    outcomes = {"good": "+" * 60, "fair": "+" * 57 + "-" * 3, "poor": "+" * 20 + "-" * 40}
    paths = [make_ledger(name, [text], policy=name) for name, text in outcomes.items()]
    matrix = compare_many([side for path in paths for side in read_sides(path)])
    assert [(entry.side.label, entry.letters) for entry in matrix.entries] == [
        ("good", "a"),
        ("fair", "a"),
        ("poor", "b"),
    ]
    assert len(matrix.comparisons) == 3
    assert [entry.side.label for entry in matrix.best] == ["good", "fair"], "a set, unless one is separated"


def test_checkpoints_without_a_common_episode_are_named(make_ledger: Any) -> None:
    tasks = ({0: "++"}, {0: "+-"}, {1: "++"})
    paths = [make_ledger(name, held, policy=name) for name, held in zip("abc", tasks, strict=True)]
    matrix = compare_many([side for path in paths for side in read_sides(path)])
    assert matrix.no_pairs is not None
    assert "no pairs: " in matrix.no_pairs
    assert f"a ({paths[0]}) and c ({paths[2]})" in matrix.no_pairs
    assert f"a ({paths[0]}) and b" not in matrix.no_pairs
    together = compare_many([side for path in paths[:2] for side in read_sides(path)])
    assert together.no_pairs is None
