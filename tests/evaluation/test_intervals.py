import math

import numpy as np
import pytest
from scipy import stats

from uptake.core.errors import UsageError
from uptake.evaluation.intervals import bootstrap_means, mean_interval, median_interval

METHODS = ("percentile", "bca", "studentised")


@pytest.mark.parametrize("method", METHODS)
def test_interval_approaches_the_normal_one(method):
    values = np.random.default_rng(1).normal(5, 2, 400)
    found = mean_interval(values, method=method)
    half = 1.96 * values.std() / 20
    assert found.low == pytest.approx(values.mean() - half, abs=0.03)
    assert found.high == pytest.approx(values.mean() + half, abs=0.03)
    assert (found.method, found.draws, found.confidence, found.patients) == (method, 10_000, 0.95, 400)


@pytest.mark.parametrize(("method", "name"), [("percentile", "percentile"), ("bca", "BCa")])
def test_scipy_gives_the_same_interval_of_skewed_scores(method, name):
    values = np.random.default_rng(5).beta(8, 2, 25) ** 3
    ours = mean_interval(values, method=method, draws=40_000)
    theirs = stats.bootstrap((values,), np.mean, method=name, n_resamples=40_000, rng=1).confidence_interval
    # Other draws: the ends agree within the noise of 40,000.
    assert (ours.low, ours.high) == (pytest.approx(theirs.low, abs=2e-3), pytest.approx(theirs.high, abs=2e-3))


def test_bca_by_hand():
    # Jackknife means of (0, 0, 0, 1): 1/3 three times and 0; departures -1/12 (three times) and 1/4.
    values = np.array([0.0, 0.0, 0.0, 1.0])
    a = (3 * (-1 / 12) ** 3 + (1 / 4) ** 3) / (6 * (3 * (1 / 12) ** 2 + (1 / 4) ** 2) ** 1.5)
    # Means of draws are binomial(4, 1/4) / 4: P(below 1/4) = 0.3164, P(equal) = 0.4219.
    z0 = stats.norm.ppf(0.75**4 + 4 * 0.25 * 0.75**3 / 2)
    level = stats.norm.cdf(z0 + (z0 + 1.959964) / (1 - a * (z0 + 1.959964)))
    expected = stats.binom.ppf(level, 4, 0.25) / 4
    assert mean_interval(values, method="bca").high == expected == 0.75
    assert mean_interval(values, method="bca").low == 0.0


def test_studentised_interval_of_a_normal_sample_is_students():
    values = np.random.default_rng(6).normal(0, 1, 15)
    found = mean_interval(values, method="studentised", draws=40_000)
    half = stats.t.ppf(0.975, 14) * stats.sem(values)
    assert found.high - found.low == pytest.approx(2 * half, rel=0.12)


def test_studentised_interval_leans_to_the_long_tail():
    values = np.random.default_rng(7).lognormal(0, 1, 40)
    found = mean_interval(values, method="studentised")
    assert found.high - values.mean() > 1.3 * (values.mean() - found.low)


def test_three_patients_set_no_limit_and_a_known_range_does():
    values = np.array([0.1, 0.5, 0.7])
    found = mean_interval(values, method="studentised")
    assert (found.low, found.high) == (-math.inf, math.inf)
    found = mean_interval(values, method="studentised", bounds=(0.0, 1.0))
    assert (found.low, found.high) == (0.0, 1.0)


@pytest.mark.parametrize("method", METHODS)
def test_constant_scores_have_an_interval_of_no_width(method):
    found = mean_interval(np.full(9, 0.7), method=method)
    assert found.low == found.high == pytest.approx(0.7)


@pytest.mark.parametrize("method", METHODS)
def test_one_patient_has_no_interval(method):
    for values, groups in ((np.array([0.3]), None), (np.array([0.3, 0.5]), np.array([4, 4])), (np.zeros(0), None)):
        found = mean_interval(values, groups, method=method)
        assert math.isnan(found.low) and math.isnan(found.high)
        assert found.patients == min(1, len(values))


@pytest.mark.parametrize("method", METHODS)
def test_same_seed_same_interval_and_chunks_do_not_show(method, monkeypatch):
    values = np.random.default_rng(0).random(50)
    whole = mean_interval(values, method=method, seed=3)
    assert whole == mean_interval(values, method=method, seed=3)
    assert whole != mean_interval(values, method=method, seed=4)
    monkeypatch.setattr("uptake.evaluation.intervals.DRAWN_AT_ONCE", 700)
    parts = mean_interval(values, method=method, seed=3)
    # The same draws; a matrix product over other rows may differ in the last bit.
    assert (parts.low, parts.high) == (pytest.approx(whole.low, abs=1e-12), pytest.approx(whole.high, abs=1e-12))


@pytest.mark.parametrize("method", METHODS)
def test_scans_of_one_patient_are_drawn_together(method):
    rng = np.random.default_rng(3)
    level = rng.normal(0, 1, 30)
    values, who = np.repeat(level, 10), np.repeat(np.arange(30), 10)
    grouped, alone = mean_interval(values, who, method=method), mean_interval(values, method=method)
    assert (grouped.high - grouped.low) / (alone.high - alone.low) == pytest.approx(math.sqrt(10), rel=0.1)
    # Ten equal scans say what one says.
    once = mean_interval(level, method=method)
    assert (grouped.low, grouped.high) == (pytest.approx(once.low), pytest.approx(once.high))


def test_a_patient_with_many_scans_weighs_as_many():
    # Two patients, one scan of 1 and three of 0: draws are (a, a), (a, b) twice, (b, b), so means 1, 1/4, 0.
    found = mean_interval(np.array([1.0, 0, 0, 0]), np.array([0, 1, 1, 1]), method="percentile", confidence=0.4)
    assert (found.low, found.high) == (0.25, 0.25)


def test_median_interval_by_sorted_draws():
    values = np.sort(np.random.default_rng(8).random(24))
    found = median_interval(values, draws=2000, seed=5)
    rng = np.random.default_rng(5)
    medians = np.median(values[rng.integers(0, 24, (2000, 24))], axis=1)
    low, high = np.quantile(medians, [0.025, 0.975])
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))
    assert math.isnan(median_interval(np.ones(1)).low)


def test_bootstrap_means_scatter_like_the_standard_error():
    values = np.random.default_rng(9).normal(0, 1, 100)
    assert bootstrap_means(values).std() == pytest.approx(values.std() / 10, rel=0.03)


def test_guards():
    for change in ({"confidence": 95}, {"confidence": 0.0}, {"draws": 0}):
        with pytest.raises(UsageError, match="confidence"):
            mean_interval(np.ones(3), **change)
        with pytest.raises(UsageError, match="confidence"):
            median_interval(np.ones(3), **change)
    with pytest.raises(UsageError, match="'normal' is no bootstrap interval"):
        mean_interval(np.ones(3), method="normal")
