import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from uptake.core.errors import UsageError
from uptake.evaluation.equivalence import equivalence


def test_paired_t_is_two_one_sided_t_tests():
    differences = np.random.default_rng(0).normal(0.004, 0.03, 30)
    found = equivalence(differences, 0.02)
    above = stats.ttest_1samp(differences, -0.02, alternative="greater").pvalue
    below = stats.ttest_1samp(differences, 0.02, alternative="less").pvalue
    assert found.p == pytest.approx(max(above, below))
    interval = stats.ttest_1samp(differences, 0).confidence_interval(0.90)
    assert (found.low, found.high) == (pytest.approx(interval.low), pytest.approx(interval.high))
    assert found.method == "t" and found.margin == 0.02 and found.patients == 30


def test_wilcoxon_is_two_one_sided_rank_tests():
    differences = np.random.default_rng(1).normal(0.0, 0.03, 25)
    found = equivalence(differences, 0.02, method="wilcoxon")
    above = stats.wilcoxon(differences + 0.02, alternative="greater").pvalue
    below = stats.wilcoxon(differences - 0.02, alternative="less").pvalue
    assert found.p == pytest.approx(max(above, below)) and math.isnan(found.low)


@pytest.mark.parametrize("method", ["t", "wilcoxon", "bootstrap"])
def test_no_difference_shown_is_not_equivalence(method):
    rng = np.random.default_rng(2)
    few = rng.normal(0, 0.1, 10)
    assert stats.ttest_1samp(few, 0).pvalue > 0.05
    assert not equivalence(few, 0.02, method=method).equivalent
    assert equivalence(rng.normal(0, 0.1, 1000), 0.02, method=method).equivalent
    assert not equivalence(rng.normal(0.03, 0.01, 1000), 0.02, method=method).equivalent
    assert not equivalence(rng.normal(-0.03, 0.01, 1000), 0.02, method=method).equivalent


@given(st.integers(0, 200), st.floats(0.005, 0.08))
def test_equivalent_exactly_where_the_interval_lies_inside_the_margin(seed, margin):
    differences = np.random.default_rng(seed).normal(0.01, 0.05, 20)
    found = equivalence(differences, margin)
    assert found.equivalent == (-margin < found.low and found.high < margin)


def test_bootstrap_agrees_with_its_interval():
    differences = np.random.default_rng(3).normal(0.01, 0.05, 60)
    found = equivalence(differences, 0.03, method="bootstrap")
    assert (found.low, found.high) == (pytest.approx(-0.0005, abs=0.02), pytest.approx(0.02, abs=0.02))
    assert found.equivalent == (found.low > -0.03 and found.high < 0.03)
    assert 1 / 10_001 <= found.p <= 1


def test_the_level_is_kept_at_the_margin():
    rng = np.random.default_rng(4)
    wrong = [equivalence(rng.normal(0.02, 0.05, 40), 0.02).equivalent for _ in range(1000)]
    assert np.mean(wrong) == pytest.approx(0.05, abs=0.02)


def test_equal_scores_are_equivalent_and_one_patient_shows_nothing():
    found = equivalence(np.zeros(5), 0.02)
    assert found.equivalent and found.p == 0.0
    assert not equivalence(np.full(5, 0.02), 0.02).equivalent
    alone = equivalence(np.zeros(1), 0.02)
    assert math.isnan(alone.p) and not alone.equivalent


def test_guards():
    for margin in (0, -1, math.nan, math.inf):
        with pytest.raises(UsageError, match="margin"):
            equivalence(np.zeros(5), margin)
    with pytest.raises(UsageError, match="alpha"):
        equivalence(np.zeros(5), 0.1, alpha=0.5)
    with pytest.raises(UsageError, match="'z' is no equivalence test"):
        equivalence(np.zeros(5), 0.1, method="z")
