import math

import numpy as np
import pytest
from scipy import stats

from uptake.core.errors import InputError, UsageError
from uptake.evaluation.statistics import bootstrap_mean, compare_paired, summarise


def rows(values, **columns):
    return [{"dice": v, **{k: c[n] for k, c in columns.items()}} for n, v in enumerate(values)]


def test_mean_median_and_count_leave_out_and_count_the_undefined():
    (summary,) = summarise(rows([0.2, 0.4, math.nan, 0.9])).values()
    assert summary.mean == pytest.approx(0.5) and summary.median == pytest.approx(0.4)
    assert (summary.n, summary.undefined, summary.patients) == (3, 1, 3)
    assert 0.2 <= summary.low < 0.5 < summary.high <= 0.9


def test_nothing_defined_gives_nan_not_a_crash():
    (summary,) = summarise(rows([math.nan, math.nan])).values()
    assert math.isnan(summary.mean) and math.isnan(summary.low) and (summary.n, summary.undefined) == (0, 2)
    assert summarise([]) == {}


def test_one_patient_has_no_interval():
    (summary,) = summarise(rows([0.3, 0.5], who=["a", "a"]), patient="who").values()
    assert summary.mean == pytest.approx(0.4) and summary.patients == 1
    assert math.isnan(summary.low) and math.isnan(summary.high)


def test_constant_scores_have_an_interval_of_no_width():
    assert bootstrap_mean(np.full(9, 0.7), np.arange(9)) == (pytest.approx(0.7), pytest.approx(0.7))


def test_same_seed_same_interval_and_chunks_do_not_show(monkeypatch):
    values = np.random.default_rng(0).random(50)
    whole = bootstrap_mean(values, np.arange(50), seed=3)
    assert whole == bootstrap_mean(values, np.arange(50), seed=3)
    assert whole != bootstrap_mean(values, np.arange(50), seed=4)
    monkeypatch.setattr("uptake.evaluation.statistics.DRAWN_AT_ONCE", 700)
    assert whole == bootstrap_mean(values, np.arange(50), seed=3)


def test_interval_approaches_the_normal_one():
    values = np.random.default_rng(1).normal(5, 2, 400)
    low, high = bootstrap_mean(values, np.arange(400))
    half = 1.96 * values.std() / 20
    assert (low, high) == (pytest.approx(values.mean() - half, abs=0.03), pytest.approx(values.mean() + half, abs=0.03))


def test_ninety_five_percent_of_intervals_cover_the_truth():
    rng = np.random.default_rng(2)
    hits = 0
    for n in range(400):
        low, high = bootstrap_mean(rng.normal(0.6, 0.2, 60), np.arange(60), draws=1000, seed=n)
        hits += low <= 0.6 <= high
    assert 0.92 <= hits / 400 <= 0.975


def test_scans_of_one_patient_are_drawn_together():
    rng = np.random.default_rng(3)
    level = rng.normal(0, 1, 30)
    values, who = np.repeat(level, 10), np.repeat(np.arange(30), 10)
    grouped, alone = bootstrap_mean(values, who), bootstrap_mean(values, np.arange(300))
    assert (grouped[1] - grouped[0]) / (alone[1] - alone[0]) == pytest.approx(math.sqrt(10), rel=0.1)


def test_paired_comparison_by_hand():
    a, b = [0.5, 0.7, 0.9, 0.4], [0.4, 0.6, 0.7, math.nan]
    found = compare_paired(a, b)
    assert found.difference == pytest.approx(0.4 / 3)
    assert (found.mean_a, found.mean_b) == (pytest.approx(0.7), pytest.approx(1.7 / 3))
    assert (found.n, found.undefined, found.patients) == (3, 1, 3)
    # Three differences of one sign: two of the eight sign patterns are as extreme.
    assert found.p == pytest.approx(0.25)
    assert (found.low, found.high) == (pytest.approx(0.1), pytest.approx(0.2))


def test_swapping_the_methods_swaps_the_sign():
    rng = np.random.default_rng(4)
    a, b = rng.random(40), rng.random(40)
    one, other = compare_paired(a, b), compare_paired(b, a)
    assert one.difference == pytest.approx(-other.difference) and one.p == pytest.approx(other.p)
    assert one.low == pytest.approx(-other.high)
    assert one.p == pytest.approx(stats.wilcoxon(a, b).pvalue)


def test_equal_methods_are_not_different():
    found = compare_paired([0.1, 0.5, 0.5], [0.1, 0.5, 0.5])
    assert (found.difference, found.low, found.high, found.p) == (0, 0, 0, 1)
    assert compare_paired([0.1, 0.5, 0.6], [0.1, 0.5, 0.5]).p == 1


def test_differences_of_one_patient_are_averaged_first():
    found = compare_paired([1, 1, 1, 0], [0, 0, 0, 1], patients=["a", "a", "a", "b"])
    assert found.difference == 0 and found.patients == 2 and found.n == 4


def test_guards():
    with pytest.raises(UsageError, match="one length"):
        compare_paired([1.0], [1.0, 2.0])
    with pytest.raises(UsageError, match="no scan"):
        compare_paired([math.nan], [1.0])
    with pytest.raises(UsageError, match="patients were named"):
        compare_paired([1.0, 2.0], [1.0, 2.0], patients=["a"])
    with pytest.raises(InputError, match="'iou'"):
        summarise(rows([0.1]), metrics=["iou"])
    with pytest.raises(InputError, match="patient"):
        summarise(rows([0.1, 0.2]), patient="who")
    with pytest.raises(UsageError, match="confidence"):
        bootstrap_mean(np.ones(3), np.arange(3), confidence=95)
