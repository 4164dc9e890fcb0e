import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from uptake.evaluation.effects import cliffs_delta, cohens_dz, rank_biserial

scores = st.lists(st.integers(-5, 5).map(float), min_size=1, max_size=9).map(np.array)


def test_paired_standardised_mean_by_hand():
    # Mean 2, deviations -1, 0, 1: standard deviation 1.
    assert cohens_dz(np.array([1.0, 2.0, 3.0])) == pytest.approx(2.0)
    assert cohens_dz(np.zeros(4)) == 0.0
    assert cohens_dz(np.full(4, -0.1)) == -math.inf
    assert math.isnan(cohens_dz(np.ones(1)))


def test_rank_biserial_by_hand():
    # |d| ranks 1, 2, 3; the smallest is negative: (2 + 3 - 1) / 6.
    assert rank_biserial(np.array([-0.1, 0.2, 0.3])) == pytest.approx(4 / 6)
    assert rank_biserial(np.array([0.0, 0.2, 0.3])) == 1.0
    # Ties share their rank: 1.5 - 1.5.
    assert rank_biserial(np.array([-0.2, 0.2])) == 0.0
    assert rank_biserial(np.zeros(3)) == 0.0
    assert math.isnan(rank_biserial(np.zeros(0)))


def test_cliffs_delta_by_hand():
    # Pairs of (1, 3) and (2, 3): below, below, above, equal.
    assert cliffs_delta(np.array([1.0, 3.0]), np.array([2.0, 3.0])) == -0.25
    assert cliffs_delta(np.array([5.0, 6.0]), np.array([1.0])) == 1.0
    assert math.isnan(cliffs_delta(np.zeros(0), np.zeros(2)))


@given(scores, scores)
def test_cliffs_delta_counts_every_pair(a, b):
    pairs = a[:, None] - b[None, :]
    assert cliffs_delta(a, b) == pytest.approx(np.sign(pairs).mean())
    assert cliffs_delta(a, b) == pytest.approx(-cliffs_delta(b, a))


@given(scores)
def test_effects_change_sign_with_the_difference(d):
    assert rank_biserial(-d) == pytest.approx(-rank_biserial(d))
    assert -1 <= rank_biserial(d) <= 1
    if len(d) > 1:
        assert cohens_dz(-d) == pytest.approx(-cohens_dz(d))
