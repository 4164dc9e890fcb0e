from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uptake.core.errors import UnitError
from uptake.physics.decay import (
    decay_factor,
    decay_within_frame,
    elapsed_of_decay_factor,
    mean_count_rate_time_s,
)


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


@given(st.floats(1e-3, 7200.0))
def test_mean_count_rate_time_is_half_the_frame_less_a_24th_of_its_square(duration_s):
    # T/2 - λT²/24 up to the fourth order in T.
    constant = math.log(2) / 6586.2
    found = mean_count_rate_time_s(duration_s, 6586.2)
    assert found == pytest.approx(duration_s / 2 - constant * duration_s**2 / 24, rel=1e-3, abs=1e-6)
    assert found <= duration_s / 2


def test_decay_within_a_frame():
    exponent = math.log(2) * 1200.0 / 6586.2
    assert decay_within_frame(1200.0, 6586.2) == pytest.approx(exponent / (1 - math.exp(-exponent)))
    assert decay_within_frame(0.0, 6586.2) == 1.0
    # The public GE series prints 1.01268 for its first bed of 240 s.
    assert decay_within_frame(240.0, 6588.0) == pytest.approx(1.01268, abs=5e-6)


def test_decay_factor_tells_how_long_ago_the_reference_was():
    # A public Siemens header: acquisition at 17:10:15, reference (series) at 16:20:16.
    elapsed_s = elapsed_of_decay_factor(1.45951, 1200.0, 6586.2)
    assert 17 * 3600 + 10 * 60 + 15 - elapsed_s == pytest.approx(16 * 3600 + 20 * 60 + 16, abs=0.1)


@given(st.floats(0.0, 7200.0), st.floats(0.0, 1800.0))
def test_decay_factor_is_inverted(elapsed_s, duration_s):
    applied = decay_within_frame(duration_s, 6586.2) / decay_factor(elapsed_s, 6586.2)
    assert elapsed_of_decay_factor(applied, duration_s, 6586.2) == pytest.approx(elapsed_s, abs=1e-6)


@pytest.mark.parametrize("applied", [0.0, -1.0, math.nan])
def test_a_decay_factor_has_to_be_positive(applied):
    with pytest.raises(UnitError, match=r"\(0054,1321\)"):
        elapsed_of_decay_factor(applied, 60.0, 6586.2)
