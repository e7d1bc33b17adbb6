"""Episode keys and keyed noise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.schedule.keys import decision_noise, episode_key

FIELDS = st.tuples(
    st.text(alphabet="0123456789abcdef", min_size=64, max_size=64),
    st.text(min_size=1, max_size=20),
    st.integers(0, 200),
    st.integers(0, 200),
    st.integers(0, 200),
)
KEYS = FIELDS.map(lambda fields: episode_key(*fields))


@given(FIELDS, FIELDS)
def test_keys_are_equal_exactly_when_every_field_is(one, other):
    assert (episode_key(*one) == episode_key(*other)) == (one == other)


@given(FIELDS, st.integers(0, 4))
def test_changing_any_one_field_changes_the_key(fields, index):
    changed = list(fields)
    changed[index] = changed[index] + 1 if isinstance(changed[index], int) else changed[index] + "x"
    assert episode_key(*changed) != episode_key(*fields)


def test_fields_cannot_run_into_each_other():
    assert episode_key("p", "suite_1", 1, 0, 0) != episode_key("p", "suite_", 11, 0, 0)
    assert episode_key("p", "s", 1, 11, 0) != episode_key("p", "s", 11, 1, 0)


def test_keys_and_noise_never_change_between_versions():
    assert episode_key("ab" * 32, "libero_spatial", 3, 17, 0) == (
        "3907f5dfcf0a87a279b82caac04b5d56ca7ed8070b9d09acf1a52142067a7050"
    )
    np.testing.assert_allclose(
        decision_noise("ab" * 32, 2, (4,)),
        [-0.7579960227012634, -1.4480863809585571, 0.08078600466251373, -0.5049669742584229],
        rtol=1e-6,
    )


@given(KEYS, st.integers(0, 10_000), st.lists(st.integers(0, 50), max_size=5))
def test_noise_of_a_decision_does_not_know_what_was_drawn_before(key, decision, earlier):
    alone = decision_noise(key, decision, (10, 7))
    for other in earlier:
        decision_noise(key, other, (3,))
    np.testing.assert_array_equal(decision_noise(key, decision, (10, 7)), alone)


@given(st.lists(st.tuples(KEYS, st.integers(0, 60)), min_size=1, max_size=12, unique=True), st.randoms())
def test_noise_is_the_same_in_every_batch_order_and_split(requests, random):
    reference = {request: decision_noise(*request, (4, 7)) for request in requests}
    shuffled = requests[:]
    random.shuffle(shuffled)
    split = random.randint(0, len(shuffled))
    for batch in (shuffled[:split], shuffled[split:]):
        stacked = [decision_noise(*request, (4, 7)) for request in batch]
        for request, noise in zip(batch, stacked, strict=True):
            np.testing.assert_array_equal(noise, reference[request])


@given(KEYS, st.integers(0, 1000), st.integers(0, 1000))
def test_two_decisions_of_an_episode_have_different_noise(key, one, other):
    same = np.array_equal(decision_noise(key, one, (10, 7)), decision_noise(key, other, (10, 7)))
    assert same == (one == other)


def test_noise_is_standard_normal_float32():
    noise = np.concatenate([decision_noise("cd" * 32, k, (100, 7)).ravel() for k in range(100)])
    assert noise.dtype == np.float32
    assert abs(float(noise.mean())) < 4 / np.sqrt(noise.size)
    assert abs(float(noise.std()) - 1) < 0.02


def test_decisions_count_from_zero():
    with pytest.raises(ValueError, match="decision is -1"):
        decision_noise("ab" * 32, -1, (1,))
