"""The worth of a pretrained point in labels, by hand."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uptake.workflows.labels_saved import labels_like, worth_of

SCANS, CURVE = (4, 16, 64), (0.4, 0.6, 0.7)


@pytest.mark.parametrize(
    ("dice", "like"), [(0.4, 4.0), (0.5, 8.0), (0.6, 16.0), (0.65, 32.0), (0.7, 64.0), (0.3, 4.0), (0.9, 64.0)]
)
def test_a_line_of_dice_against_the_logarithm_of_the_scans(dice, like):
    assert labels_like(dice, SCANS, CURVE) == pytest.approx(like)


def test_where_the_curve_falls_it_is_level():
    assert labels_like(0.58, SCANS, (0.4, 0.6, 0.5)) == pytest.approx(math.exp(math.log(4) + 0.9 * math.log(4)))
    assert labels_like(0.61, SCANS, (0.4, 0.6, 0.5)) == pytest.approx(64.0)


@given(st.floats(0, 1), st.floats(0, 1))
def test_more_dice_is_worth_no_fewer_labels(a, b):
    low, high = sorted((a, b))
    assert labels_like(low, SCANS, CURVE) <= labels_like(high, SCANS, CURVE)


def people(value, spread=0.1):
    return {f"p{number}": value + spread * (number - 2) for number in range(5)}


def test_patients_resampled_together_leave_a_constant_gain_without_interval():
    dice = {("s", 0.1): people(0.4), ("s", 1.0): people(0.6), ("mae", 0.1): people(0.5)}
    (found,) = worth_of(dice, {("s", 0.1): 4, ("s", 1.0): 64, ("mae", 0.1): 4}, scratch="s")
    assert found.like == pytest.approx(16.0)
    assert found.low == pytest.approx(16.0) and found.high == pytest.approx(16.0)
    assert (found.arm, found.fraction, found.scans, found.beyond) == ("mae", 0.1, 4, "")


def test_what_lies_outside_of_the_curve_is_said():
    dice = {("s", 0.1): people(0.4), ("s", 1.0): people(0.6), ("worse", 0.1): people(0.3), ("better", 0.1): people(0.8)}
    counts = {("s", 0.1): 4, ("s", 1.0): 64, ("worse", 0.1): 4, ("better", 0.1): 4}
    better, worse = worth_of(dice, counts, scratch="s")
    assert (better.like, better.beyond) == (pytest.approx(64.0), "above")
    assert (worse.like, worse.beyond) == (pytest.approx(4.0), "below")


def test_no_curve_no_worth():
    one = {("s", 1.0): people(0.6), ("mae", 1.0): people(0.5)}
    assert worth_of(one, {("s", 1.0): 64, ("mae", 1.0): 64}, scratch="s") == ()
    lonely = {("s", 0.1): {"p": 0.1}, ("s", 1.0): {"p": 0.2}, ("mae", 0.1): {"p": 0.2}}
    assert worth_of(lonely, {("s", 0.1): 4, ("s", 1.0): 64, ("mae", 0.1): 4}, scratch="s") == ()
