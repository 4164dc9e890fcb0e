import math

import numpy as np
import pytest
from scipy import optimize

from uptake.core.errors import InputError, UsageError
from uptake.evaluation.association import association
from uptake.evaluation.site_classifier import classify, logistic_regression


def scans(shift, *, patients=60, features=12, sites=3, seed=0):
    rng = np.random.default_rng(seed)
    classes = np.arange(patients) % sites
    values = rng.normal(size=(patients, features))
    values[:, 0] += shift * classes
    return values, [f"s{c}" for c in classes], list(range(patients))


def test_a_shifted_site_is_found():
    found = classify(*scans(3.0), permutations=100)
    assert found.balanced_accuracy > 0.7 and found.p == 1 / 101
    assert found.low > found.chance == pytest.approx(1 / 3) and found.folds == 5
    assert found.classes == ("s0", "s1", "s2") and found.patients == (20, 20, 20)
    assert found.confusion.sum() == 60 and np.trace(found.confusion) / 60 == pytest.approx(found.balanced_accuracy)


def test_permuted_labels_are_at_chance():
    values, classes, patients = scans(3.0)
    rng = np.random.default_rng(3)
    inside, ps = [], []
    for seed in range(40):
        # A p-value takes many fits: only for some.
        some = 19 if seed < 10 else 0
        found = classify(values, list(rng.permutation(classes)), patients, permutations=some, draws=500, seed=seed)
        inside.append(found.low <= found.chance <= found.high)
        ps.append(found.p)
    assert np.mean(inside) >= 0.85
    assert np.nanmin(ps) > 0.05 - 1e-9 and np.nanmedian(ps) > 0.2


def test_scans_of_a_patient_are_never_on_both_sides():
    # Every patient has a mark of their own; with scans on both sides it would give the site away.
    rng = np.random.default_rng(5)
    marks = rng.normal(size=(24, 30)) * 5
    values = np.repeat(marks, 4, axis=0) + rng.normal(size=(96, 30)) * 0.01
    site = [f"s{(n // 4) % 2}" for n in range(96)]
    grouped = classify(values, site, [n // 4 for n in range(96)], permutations=0)
    leaking = classify(values, site, list(range(96)), permutations=0)
    assert leaking.balanced_accuracy > 0.9 and grouped.balanced_accuracy < 0.75
    assert grouped.patients == (12, 12) and leaking.patients == (48, 48)


def test_small_sites_weigh_as_much_as_large_ones():
    rng = np.random.default_rng(6)
    classes = ["large"] * 80 + ["small"] * 10
    found = classify(rng.normal(size=(90, 5)), classes, range(90), permutations=0)
    # Guessing "large" always would give 0.5 as well, but with no scan called small.
    assert found.confusion[:, 1].sum() > 15
    assert abs(found.balanced_accuracy - 0.5) < 0.25


def test_a_patient_scanned_at_two_sites():
    rng = np.random.default_rng(7)
    values = rng.normal(size=(40, 4))
    site = ["a", "b"] * 20
    values[1::2, 0] += 4
    found = classify(values, site, [n // 2 for n in range(40)], permutations=60)
    assert found.balanced_accuracy > 0.9 and found.p < 0.03 and found.patients == (20, 20)


def test_missing_features_take_the_mean_and_absent_ones_are_left_out():
    values, classes, patients = scans(3.0)
    values[::7, 3] = math.nan
    values = np.hstack([values, np.full((60, 1), math.nan), np.ones((60, 1))])
    assert classify(values, classes, patients, permutations=0).balanced_accuracy > 0.7


def test_the_regression_is_at_its_minimum():
    values, classes, _ = scans(1.0)
    numbers = np.array([int(c[1]) for c in classes])
    w = logistic_regression(values, numbers, 3, penalty=0.1)

    def cost(flat):
        v = flat.reshape(w.shape)
        scores = values @ v[:-1] + v[-1]
        logs = scores[np.arange(60), numbers] - np.log(np.exp(scores).sum(axis=1))
        balanced = np.mean([-logs[numbers == k].mean() for k in range(3)])
        return balanced + 0.05 * (v[:-1] ** 2).sum()

    found = optimize.minimize(cost, np.zeros(w.size), method="BFGS")
    assert cost(w.ravel()) == pytest.approx(found.fun, abs=1e-5)


def test_guards():
    values, classes, patients = scans(1.0)
    with pytest.raises(InputError, match=r"two classes with two patients.*one: 60"):
        classify(values, ["one"] * 60, patients)
    with pytest.raises(InputError, match="rare: 1"):
        classify(values, ["rare", *classes[1:]], patients)
    with pytest.raises(UsageError, match="do not fit"):
        classify(values, classes[1:], patients)


def test_association_by_hand():
    site = ["a"] * 20 + ["b"] * 20
    same = association(site, ["FDG"] * 20 + ["PSMA"] * 20)
    assert (same.kind, same.value, same.patients) == ("Cramér's V", pytest.approx(1.0), 40) and same.p < 0.01
    none = association(site, ["m", "f"] * 20)
    assert none.value == 0 and none.p == 1.0
    # 15 of 20 against 5 of 20: χ² = 10 (each cell 5 off an expected 10), V = sqrt(10 / 40).
    some = association(site, ["m"] * 15 + ["f"] * 5 + ["m"] * 5 + ["f"] * 15)
    assert some.value == pytest.approx(0.5)
    weight = association(site, [str(70 + n % 3) for n in range(20)] + [str(90 + n % 3) for n in range(20)])
    assert weight.kind == "η²" and weight.value > 0.98 and weight.p < 0.01
    alone = association(site, ["x"] * 39 + [""])
    assert math.isnan(alone.value) and alone.patients == 39
    with pytest.raises(UsageError, match="do not fit"):
        association(site, ["x"])
