import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from uptake.core.errors import UsageError
from uptake.evaluation.significance import holm, sign_flip, wilcoxon


def test_wilcoxon_is_scipys_and_leaves_zeros_out():
    differences = np.random.default_rng(0).normal(0.1, 1, 30)
    assert wilcoxon(differences) == stats.wilcoxon(differences).pvalue
    assert wilcoxon(np.append(differences, [0.0, 0.0])) == wilcoxon(differences)
    assert wilcoxon(np.zeros(5)) == wilcoxon(np.zeros(0)) == 1.0


def test_sign_flips_by_hand():
    # Eight patterns of three differences; |sum| is 6 for two of them, 4 for two, 2 for two and 0 for two.
    assert sign_flip(np.array([1.0, 2.0, 3.0])) == 2 / 8
    assert sign_flip(np.array([-1.0, 2.0, 3.0])) == 4 / 8
    assert sign_flip(np.array([-1.0, -2.0, 3.0])) == 1.0
    assert sign_flip(np.array([0.5])) == 1.0


@pytest.mark.parametrize("patients", [4, 9, 13])
def test_every_pattern_is_tried_for_few_patients(patients):
    differences = np.random.default_rng(patients).normal(0.5, 1, patients)

    def mean(values, axis):
        return values.mean(axis=axis)

    expected = stats.permutation_test(
        (differences,), mean, permutation_type="samples", n_resamples=np.inf, vectorized=True
    )
    assert sign_flip(differences) == pytest.approx(expected.pvalue)


def test_random_patterns_approach_the_t_test():
    differences = np.random.default_rng(2).normal(0.35, 1, 60)
    assert sign_flip(differences) == pytest.approx(stats.ttest_1samp(differences, 0).pvalue, abs=0.01)
    assert sign_flip(differences) == sign_flip(differences) == sign_flip(-differences)
    assert sign_flip(differences, seed=1) != sign_flip(differences)


def test_no_p_is_zero():
    assert sign_flip(np.full(50, 0.1)) == 1 / 10_001
    assert sign_flip(np.full(3, 0.1)) == 0.25
    assert sign_flip(np.zeros(40)) == sign_flip(np.zeros(0)) == 1.0


def test_p_values_are_uniform_where_nothing_differs():
    rng = np.random.default_rng(4)
    found = np.array([sign_flip(rng.standard_t(3, 25), flips=400, seed=n) for n in range(600)])
    assert (found <= 0.05).mean() == pytest.approx(0.05, abs=0.025)
    assert (found <= 0.5).mean() == pytest.approx(0.5, abs=0.06)


def test_holm_by_hand():
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm([0.9, 0.8]), [1.0, 1.0])
    assert holm([]).size == 0


def test_holm_does_not_count_what_was_not_tested():
    found = holm([0.01, math.nan, 0.04])
    assert math.isnan(found[1])
    np.testing.assert_allclose(found[[0, 2]], [0.02, 0.04])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_keeps_the_order_and_lies_between_p_and_bonferroni(p):
    p = np.array(p)
    adjusted = holm(p)
    assert (adjusted >= p).all() and (adjusted <= np.minimum(1, p * len(p)) + 1e-15).all()
    assert (np.diff(adjusted[np.argsort(p, kind="stable")]) >= 0).all()


def test_guards():
    with pytest.raises(UsageError, match="flips=0"):
        sign_flip(np.ones(3), flips=0)
