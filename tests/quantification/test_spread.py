import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from uptake.core.errors import UnitError
from uptake.geometry import Volume
from uptake.quantification.spread import farthest_pair_mm, largest_extent_mm, standardised_spread_per_m

GRID = np.diag([2.0, 3, 5, 1])


def extent(spots, shape=(8, 8, 8), grid=GRID):
    mask = np.zeros(shape, np.uint8)
    if spots:
        mask[tuple(np.array(spots).T)] = 1
    return largest_extent_mm(Volume(mask, grid))


def test_by_hand():
    assert extent([]) == extent([(1, 1, 1)]) == 0
    assert extent([(1, 1, 1), (1, 1, 3)]) == 10
    assert extent([(0, 0, 0), (3, 4, 0), (1, 1, 1)]) == pytest.approx(math.hypot(6, 12))
    assert farthest_pair_mm(np.array([[0.0, 0, 0], [3, 4, 0], [1, 1, 1]])) == 5


@given(arrays(np.bool_, (6, 5, 4)))
def test_equals_all_pairs(mask):
    points = np.argwhere(mask) * (2.0, 3.0, 5.0)
    pairs = max((math.dist(a, b) for a in points for b in points), default=0.0)
    assert largest_extent_mm(Volume(mask.astype(np.uint8), GRID)) == pytest.approx(pairs)


def test_a_large_flat_mask_has_no_hull_and_still_an_extent():
    mask = np.zeros((40, 40, 3), np.uint8)
    mask[:, :, 1] = 1
    assert largest_extent_mm(Volume(mask, GRID)) == pytest.approx(math.hypot(78, 117))


def test_a_solid_body_is_as_long_as_its_diagonal():
    assert largest_extent_mm(Volume(np.ones((30, 20, 10), np.uint8), GRID)) == pytest.approx(math.hypot(58, 57, 45))


def test_by_body_surface():
    assert standardised_spread_per_m(580.0, 1.8) == pytest.approx(0.3222, abs=1e-4)
    for wrong in (0.0, -1.0, math.nan):
        with pytest.raises(UnitError, match="body surface"):
            standardised_spread_per_m(580.0, wrong)


@given(st.lists(st.tuples(*[st.floats(-500, 500)] * 3), min_size=1, max_size=20))
def test_moving_the_patient_changes_nothing(points):
    there = np.array(points)
    assert farthest_pair_mm(there + np.array([10, -20, 30])) == pytest.approx(farthest_pair_mm(there), abs=1e-6)
