import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from uptake.core.errors import InputError, UsageError
from uptake.evaluation.site_distance import cdf_profile, group_distance, profile_distance, value_edges, wasserstein1

SUV = np.random.default_rng(0).gamma(2, 1.5, 20_000)
EDGES = value_edges(0.5, 200.0)


@pytest.mark.parametrize("shift", [-0.4, 0.013, 2.0])
def test_a_shift_is_its_own_distance(shift):
    assert wasserstein1(SUV, SUV + shift) == pytest.approx(abs(shift), rel=1e-12)
    profiles = cdf_profile(SUV, EDGES), cdf_profile(SUV + shift, EDGES)
    assert profile_distance(*profiles, EDGES) == pytest.approx(abs(shift), rel=1e-9)


@pytest.mark.parametrize("factor", [0.8, 1.001, 3.0])
def test_a_factor_is_its_distance_from_one_times_the_mean(factor):
    expected = abs(factor - 1) * SUV.mean()
    assert wasserstein1(SUV, SUV * factor) == pytest.approx(expected, rel=1e-12)
    profiles = cdf_profile(SUV, EDGES), cdf_profile(SUV * factor, EDGES)
    assert profile_distance(*profiles, EDGES) == pytest.approx(expected, rel=1e-9)


def test_by_hand():
    assert wasserstein1(np.array([0.0, 1.0]), np.array([3.0, 2.0])) == 2.0
    # One value against two: half of the mass moves by 1, half by 3.
    assert wasserstein1(np.array([0.0]), np.array([1.0, 3.0])) == 2.0
    # Mean of the distribution function of (1, 3) over bins 0..2 and 2..4: from 1 on a half, from 3 on all.
    np.testing.assert_allclose(cdf_profile(np.array([1.0, 3.0]), np.array([0.0, 2.0, 4.0])), [0.25, 0.75])


@given(st.lists(st.floats(-90, 90), min_size=1, max_size=30), st.lists(st.floats(-90, 90), min_size=1, max_size=30))
def test_binned_distances_are_those_of_scipy_but_for_a_bin(a, b):
    edges = np.linspace(-100, 100, 2001)
    binned = profile_distance(cdf_profile(np.array(a), edges), cdf_profile(np.array(b), edges), edges)
    exact = stats.wasserstein_distance(a, b)
    assert wasserstein1(np.array(a), np.array(b)) == pytest.approx(exact, abs=1e-9)
    # Only where the two functions cross within a bin is area lost, at most a bin's width for each value.
    assert exact - 0.1 - 1e-9 <= binned <= exact + 1e-9


def test_bins_are_fine_near_zero():
    widths = np.diff(EDGES)
    assert len(EDGES) == 2049 and EDGES[0] == pytest.approx(-200) and EDGES[-1] == pytest.approx(200)
    assert widths.min() < 0.004 and widths.max() < 1.5


def test_values_beyond_the_bins_fall_into_the_last():
    assert cdf_profile(np.array([1e6]), EDGES)[-1] == pytest.approx(0.0, abs=1e-9)
    assert cdf_profile(np.array([-1e6]), EDGES).min() == 1.0


def groups(shift, patients=12, seed=1):
    rng = np.random.default_rng(seed)
    first = np.arange(2 * patients) < patients
    values = [rng.gamma(2, 1.5, 400) * rng.uniform(0.9, 1.1) + shift * (not one) for one in first]
    return np.stack([cdf_profile(v, EDGES) for v in values]), first


def test_groups_that_differ_are_told_from_chance():
    far = group_distance(*groups(0.6), EDGES)
    near = group_distance(*groups(0.0), EDGES)
    assert far.w1 == pytest.approx(0.6, abs=0.15) and far.p == 1 / 1000 and far.patients == (12, 12)
    assert near.p > 0.05
    assert far.over_mean == pytest.approx(far.w1 / 3.3, rel=0.1) and far.over_sd == pytest.approx(
        far.w1 / 2.1, rel=0.15
    )
    assert group_distance(*groups(0.6), EDGES) == far


def test_permutation_p_values_are_uniform_where_sites_are_alike():
    found = [group_distance(*groups(0.0, 8, seed), EDGES, permutations=99).p for seed in range(120)]
    assert np.mean(np.array(found) <= 0.1) == pytest.approx(0.1, abs=0.07)


def test_the_observed_grouping_counts_as_a_permutation():
    # Two patients: every permutation is the observed grouping or its mirror image.
    profiles, _ = groups(1.0, 1)
    assert group_distance(profiles, np.array([True, False]), EDGES, permutations=50).p == 1.0
    assert math.isnan(group_distance(profiles, np.array([True, False]), EDGES, permutations=0).p)


def test_guards():
    with pytest.raises(InputError, match="finite values"):
        wasserstein1(np.array([1.0, math.nan]), np.array([1.0, 2.0]))
    with pytest.raises(InputError, match="finite values"):
        wasserstein1(np.zeros(0), np.ones(1))
    with pytest.raises(InputError, match="finite values"):
        cdf_profile(np.zeros(0), EDGES)
    with pytest.raises(UsageError, match="two groups"):
        group_distance(np.zeros((3, 2048)), np.ones(3, bool), EDGES)
