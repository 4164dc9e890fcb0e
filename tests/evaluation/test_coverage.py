"""A 95 % interval covers the truth in 93 to 97 % of cohorts: 1,000 simulated cohorts each, seeds fixed."""

import numpy as np
import pytest

from uptake.evaluation.intervals import mean_interval

COHORTS = 1000
"""The share covered has a standard error of 0.7 percentage points."""


def normal(rng, patients):
    return rng.normal(0.6, 0.2, patients), None, 0.6


def like_dice(rng, patients):
    """Most lesions found well, one patient in seven badly: skewed to the left, in 0..1."""
    good, bad = rng.beta(8, 2, patients), rng.beta(1, 4, patients)
    return np.where(rng.random(patients) < 0.15, bad, good), None, 0.85 * 0.8 + 0.15 * 0.2


def like_volumes(rng, patients):
    """False-positive volumes, mL: none in three of ten patients, a long tail in the others."""
    volumes = rng.lognormal(0, 1, patients)
    return np.where(rng.random(patients) < 0.3, 0.0, volumes), None, 0.7 * np.exp(0.5)


def several_scans(rng, patients):
    """One to three scans of each patient that share most of their score."""
    owners = np.repeat(np.arange(patients), rng.integers(1, 4, patients))
    return 0.7 * rng.beta(6, 2, patients)[owners] + 0.3 * rng.beta(6, 2, len(owners)), owners, 0.75


def coverage(scores, patients, method):
    rng = np.random.default_rng(11)
    covered = 0
    for _ in range(COHORTS):
        values, owners, truth = scores(rng, patients)
        found = mean_interval(values, owners, method=method, draws=2000)
        covered += found.low <= truth <= found.high
    return covered / COHORTS


@pytest.mark.parametrize("patients", [20, 40, 100])
@pytest.mark.parametrize("scores", [normal, like_dice, several_scans])
def test_the_default_interval_covers_from_twenty_patients_on(scores, patients):
    assert 0.93 <= coverage(scores, patients, "studentised") <= 0.97


@pytest.mark.parametrize("method", ["percentile", "bca"])
@pytest.mark.parametrize("scores", [normal, like_dice, several_scans])
def test_percentile_and_bca_cover_from_a_hundred_patients_on(scores, method):
    assert 0.93 <= coverage(scores, 100, method) <= 0.97


def test_what_the_pages_say_about_few_patients_and_long_tails_is_so():
    """No interval of these is honest with ten patients; the studentised one comes nearest."""
    assert coverage(like_dice, 10, "percentile") < 0.87
    assert coverage(like_dice, 10, "bca") < 0.88
    assert 0.90 < coverage(like_dice, 10, "studentised") < 0.93
    assert coverage(like_volumes, 50, "bca") < 0.92
    assert 0.92 < coverage(like_volumes, 50, "studentised") < 0.95
