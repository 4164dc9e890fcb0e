import math

import numpy as np
import pytest
from scipy import stats

from uptake.core.errors import UsageError
from uptake.evaluation.comparison import compare_paired, patient_differences, patient_means


def test_paired_comparison_by_hand():
    a, b = [0.5, 0.7, 0.9, 0.4], [0.4, 0.6, 0.7, math.nan]
    found = compare_paired(a, b, interval="percentile")
    assert found.difference == pytest.approx(0.4 / 3)
    assert (found.mean_a, found.mean_b) == (pytest.approx(0.7), pytest.approx(1.7 / 3))
    assert (found.n, found.undefined, found.patients) == (3, 1, 3)
    assert (found.larger, found.equal, found.smaller) == (3, 0, 0)
    # Three differences of one sign: two of the eight sign patterns are as extreme.
    assert found.p_sign_flip == pytest.approx(0.25)
    assert (found.low, found.high) == (pytest.approx(0.1), pytest.approx(0.2))
    assert found.rank_biserial == 1.0
    # Mean 0.1333, standard deviation 0.0577; 0.5, 0.7, 0.9 against 0.4, 0.6, 0.7: 6 above, 2 below, 1 equal.
    assert found.cohens_dz == pytest.approx(0.13333 / 0.057735, rel=1e-3)
    assert found.cliffs_delta == pytest.approx(4 / 9)


def test_swapping_the_methods_swaps_the_sign():
    rng = np.random.default_rng(4)
    a, b = rng.random(40), rng.random(40)
    one, other = compare_paired(a, b, interval="percentile"), compare_paired(b, a, interval="percentile")
    for name in ("difference", "cohens_dz", "rank_biserial", "cliffs_delta"):
        assert getattr(one, name) == pytest.approx(-getattr(other, name))
    assert (one.p, one.p_sign_flip) == (pytest.approx(other.p), pytest.approx(other.p_sign_flip))
    assert one.low == pytest.approx(-other.high)
    assert (one.larger, one.smaller) == (other.smaller, other.larger)
    assert one.p == pytest.approx(stats.wilcoxon(a, b).pvalue)


def test_equal_methods_are_not_different():
    found = compare_paired([0.1, 0.5, 0.5], [0.1, 0.5, 0.5])
    assert (found.difference, found.low, found.high, found.p, found.p_sign_flip) == (0, 0, 0, 1, 1)
    assert compare_paired([0.1, 0.5, 0.6], [0.1, 0.5, 0.5]).p == 1


def test_differences_of_one_patient_are_averaged_first():
    a, b, who = [1, 1, 1, 0], [0, 0, 0, 1], ["a", "a", "a", "b"]
    found = compare_paired(a, b, patients=who)
    assert found.difference == 0 and found.patients == 2 and found.n == 4
    np.testing.assert_array_equal(patient_differences(a, b, patients=who), [1, -1])


def test_patient_means_leave_out_scans_that_a_method_lacks():
    scores = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, math.nan], [7.0, 8.0]])
    found = patient_means(scores, ["a", "a", "b", "c"])
    np.testing.assert_array_equal(found, [[2, 3], [math.nan, math.nan], [7, 8]])
    assert patient_means(np.zeros((0, 2)), []).shape == (0, 2)


def test_guards():
    with pytest.raises(UsageError, match="one length"):
        compare_paired([1.0], [1.0, 2.0])
    with pytest.raises(UsageError, match="no scan"):
        compare_paired([math.nan], [1.0])
    with pytest.raises(UsageError, match="patients were named"):
        compare_paired([1.0, 2.0], [1.0, 2.0], patients=["a"])
