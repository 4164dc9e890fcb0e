from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uptake.core.errors import UnitError
from uptake.physics.decay import decay_factor, mean_count_rate_time_s


def test_half_is_left_after_one_half_life():
    assert decay_factor(6586.2, 6586.2) == 0.5
    assert decay_factor(2 * 6586.2, 6586.2) == 0.25
    assert decay_factor(0.0, 6586.2) == 1.0


@pytest.mark.parametrize(("half_life_s", "left"), [(6586.2, 0.68463), (4062.6, 0.54106)])
def test_an_hour_of_f18_and_ga68(half_life_s, left):
    assert decay_factor(3600.0, half_life_s) == pytest.approx(left, abs=1e-5)


@given(st.floats(-1e5, 1e5), st.floats(-1e5, 1e5))
def test_two_steps_are_one(first, second):
    joint = decay_factor(first + second, 6586.2)
    assert decay_factor(first, 6586.2) * decay_factor(second, 6586.2) == pytest.approx(joint, rel=1e-9)


def test_mean_count_rate_time_is_a_little_before_the_middle():
    assert mean_count_rate_time_s(180.0, 6586.2) == pytest.approx(89.858, abs=1e-3)
    assert mean_count_rate_time_s(1200.0, 6586.2) == pytest.approx(593.7, abs=0.1)
    assert mean_count_rate_time_s(1e-5, 6586.2) == pytest.approx(5e-6)
    assert mean_count_rate_time_s(0.0, 6586.2) == 0.0


@pytest.mark.parametrize("half_life_s", [0.0, -1.0, math.nan, math.inf])
def test_a_half_life_has_to_be_positive_and_finite(half_life_s):
    with pytest.raises(UnitError, match="half-life"):
        decay_factor(1.0, half_life_s)
    with pytest.raises(UnitError, match="half-life"):
        mean_count_rate_time_s(1.0, half_life_s)


def test_times_have_to_be_numbers():
    with pytest.raises(UnitError, match="elapsed"):
        decay_factor(math.nan, 6586.2)
    with pytest.raises(UnitError, match="frame duration"):
        mean_count_rate_time_s(-1.0, 6586.2)
