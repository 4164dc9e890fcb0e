import math

import numpy as np
import pytest
from scipy import stats

from uptake.core.errors import UsageError
from uptake.evaluation.ranking import rank_methods


def test_ranks_by_hand_ties_shared():
    scores = np.array([[0.9, 0.8, 0.7], [0.9, 0.9, 0.1]])
    assert rank_methods(scores, "abc").mean_ranks == (1.25, 1.75, 3.0)
    assert rank_methods(scores, "abc", higher_is_better=False).mean_ranks == (2.75, 2.25, 1.0)


@pytest.mark.parametrize("ties", [False, True])
def test_friedman_is_scipys(ties):
    scores = np.random.default_rng(0).normal([0, 0.3, 0.6, 0.6], 1, (30, 4))
    scores = np.round(scores) if ties else scores
    found = rank_methods(scores, "abcd")
    expected = stats.friedmanchisquare(*scores.T)
    assert found.chi_squared == pytest.approx(expected.statistic)
    f = 29 * expected.statistic / (30 * 3 - expected.statistic)
    assert found.f == pytest.approx(f) and found.p == pytest.approx(stats.f.sf(f, 3, 87))


def test_critical_differences_of_the_published_table():
    # Demšar 2006, table 5a: q = 1.960, 2.343, 2.569, 2.728, 3.164 for 2, 3, 4, 5, 10 methods.
    for methods, q in {2: 1.960, 3: 2.343, 4: 2.569, 5: 2.728, 10: 3.164}.items():
        found = rank_methods(np.random.default_rng(1).random((14, methods)), [str(n) for n in range(methods)])
        assert found.critical_difference == pytest.approx(q * math.sqrt(methods * (methods + 1) / (6 * 14)), rel=1e-3)


def test_the_published_example():
    # Demšar 2006, table 6: mean ranks 3.143, 2.000, 2.893, 1.964 on 14 data sets.
    auc = np.array(
        [
            [0.763, 0.768, 0.771, 0.798], [0.599, 0.591, 0.590, 0.569], [0.954, 0.971, 0.968, 0.967],
            [0.628, 0.661, 0.654, 0.657], [0.882, 0.888, 0.886, 0.898], [0.936, 0.931, 0.916, 0.931],
            [0.661, 0.668, 0.609, 0.685], [0.583, 0.583, 0.563, 0.625], [0.775, 0.838, 0.866, 0.875],
            [1.000, 1.000, 1.000, 1.000], [0.940, 0.962, 0.965, 0.962], [0.619, 0.666, 0.614, 0.669],
            [0.972, 0.981, 0.9751, 0.975], [0.957, 0.978, 0.946, 0.970],
        ]
    )  # fmt: skip
    found = rank_methods(auc, ["C4.5", "C4.5+m", "C4.5+cf", "C4.5+m+cf"])
    np.testing.assert_allclose(found.mean_ranks, [3.143, 2.000, 2.893, 1.964], atol=5e-4)
    # The paper's statistic is not corrected for ties; ours is that of scipy, which is.
    uncorrected = 12 * 14 / (4 * 5) * (np.square(found.mean_ranks).sum() - 4 * 5**2 / 4)
    assert uncorrected == pytest.approx(9.28, abs=0.005)
    assert found.chi_squared == pytest.approx(stats.friedmanchisquare(*auc.T).statistic)
    assert found.critical_difference == pytest.approx(1.25, abs=0.005)


def test_groups_are_the_largest_sets_within_the_critical_difference():
    rng = np.random.default_rng(2)
    scores = rng.normal([0, 0.1, 3, 3.1, 9], 0.5, (40, 5))
    assert [set(group) for group in rank_methods(scores, "abcde").groups] == [{2, 3}, {0, 1}]
    alike = rank_methods(rng.random((10, 3)), "abc")
    assert len(alike.groups) == 1 and set(alike.groups[0]) == {0, 1, 2}


def test_perfect_agreement_has_an_exact_p():
    found = rank_methods(np.tile([1.0, 2.0, 3.0], (4, 1)), "abc")
    assert found.p == pytest.approx(1 / 6**3) and found.f == math.inf
    assert rank_methods(np.array([[1.0, 2.0]]), "ab").p == 1.0
    assert rank_methods(np.ones((5, 3)), "abc").p == 1.0


def test_a_patient_without_a_score_is_left_out_and_counted_and_infinite_is_last():
    scores = np.array([[1.0, 2.0], [math.nan, 1.0], [math.inf, 4.0]])
    found = rank_methods(scores, "ab", higher_is_better=False)
    assert (found.patients, found.undefined) == (2, 1)
    assert found.mean_ranks == (1.5, 1.5)


def test_guards():
    with pytest.raises(UsageError, match="column of scores"):
        rank_methods(np.ones((4, 2)), "abc")
    with pytest.raises(UsageError, match="column of scores"):
        rank_methods(np.ones((4, 1)), "a")
    with pytest.raises(UsageError, match="no patient"):
        rank_methods(np.full((2, 2), math.nan), "ab")
    with pytest.raises(UsageError, match="alpha"):
        rank_methods(np.ones((4, 2)), "ab", alpha=5)
