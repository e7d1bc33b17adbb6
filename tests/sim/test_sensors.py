"""Sampling follows robosuite's observables; states follow openpi's evaluator."""

from __future__ import annotations

import numpy as np
import pytest

from harness.errors import UsageError
from harness.sim.sensors import TIMESTEP, axis_angle, sample_substep


@pytest.fixture(scope="module", autouse=True)
def _robosuite() -> None:
    from harness.sim.package import prepare

    prepare()


@pytest.mark.parametrize("control_hz", [5, 10, 20, 25, 50])
def test_samples_fall_where_a_real_observable_samples(control_hz: int) -> None:
    from robosuite.utils.observables import Observable, sensor

    now = [0]

    @sensor(modality="test")
    def substep_counter(_: object) -> int:
        return now[0]

    observable = Observable("counter", substep_counter, sampling_rate=control_hz)
    for _ in range(2):  # env.reset() and set_init_state() each force an update
        observable.update(TIMESTEP, {}, force=True)
    substeps = int((1.0 / control_hz) / TIMESTEP)
    for _ in range(300):
        for index in range(substeps):
            now[0] = index + 1
            observable.update(TIMESTEP, {})
        assert int(observable.obs) == sample_substep(control_hz)


def test_liberos_rate_samples_one_substep_before_the_end_of_a_control_step() -> None:
    assert sample_substep(20) == 24


@pytest.mark.parametrize("control_hz", [15, 30, 40])
def test_rates_with_control_steps_that_hold_no_sample_are_refused(control_hz: int) -> None:
    with pytest.raises(UsageError, match=rf"control_hz={control_hz}.*Use 20"):
        sample_substep(control_hz)


@pytest.mark.parametrize("control_hz", [0, -20])
def test_rates_that_are_no_rates_are_refused(control_hz: int) -> None:
    with pytest.raises(UsageError, match=f"control_hz is {control_hz}"):
        sample_substep(control_hz)


def test_axis_angle_equals_robosuites_of_the_same_quaternion() -> None:
    from robosuite.utils.transform_utils import quat2axisangle

    quaternions = np.random.default_rng(0).normal(size=(100, 4))
    quaternions /= np.linalg.norm(quaternions, axis=1, keepdims=True)
    for wxyz in (*quaternions, np.array([1.0, 0, 0, 0]), np.array([-1.0, 0, 0, 0]), np.array([0.0, 1, 0, 0])):
        np.testing.assert_array_equal(axis_angle(wxyz), quat2axisangle(wxyz[[1, 2, 3, 0]]))
