import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from uptake.core.errors import InputError, UsageError
from uptake.evaluation.detection import LesionOverlap, detection, false_volumes, lesion_overlap, matched_pairs


def line(*runs, length=40):
    """Return a mask of one row with the given runs (start, stop) on it."""
    mask = np.zeros((1, 1, length), bool)
    for start, stop in runs:
        mask[0, 0, start:stop] = True
    return mask


REFERENCE = line((0, 10), (12, 14), (20, 30), (33, 35))
PREDICTION = line((0, 4), (5, 9), (13, 23), (37, 39))
"""Lesion 1 found in two pieces (IoU 4/10 each); lesion 2 (1/11) and lesion 3 (3/17) under one predicted run; lesion 4
missed; one run invented."""


def table(prediction=PREDICTION, reference=REFERENCE, connectivity=18):
    return lesion_overlap(prediction, reference, connectivity=connectivity)


def test_the_table_by_hand():
    found = table()
    assert found.prediction_voxels.tolist() == [4, 4, 10, 2] and found.reference_voxels.tolist() == [10, 2, 10, 2]
    assert found.pairs.tolist() == [[0, 0], [1, 0], [2, 1], [2, 2]] and found.shared.tolist() == [4, 4, 1, 3]
    np.testing.assert_allclose(found.iou, [0.4, 0.4, 1 / 11, 3 / 17])


@pytest.mark.parametrize(
    ("min_iou", "matching", "counts"),
    [
        # IoU >= 0.1: lesions 1 and 3 are found, by three runs.
        (0.1, "many_to_one", (2, 1, 2)),
        (0.1, "one_to_one", (2, 2, 2)),
        (0.1, "one_to_one_greedy", (2, 2, 2)),
        (0.3, "many_to_one", (1, 2, 3)),
        (0.4, "one_to_one", (1, 3, 3)),
        (0.41, "many_to_one", (0, 4, 4)),
        # Any shared voxel: lesions 1, 2 and 3.
        (None, "many_to_one", (3, 1, 1)),
        (None, "one_to_one", (2, 2, 2)),
    ],
)
def test_counts_by_hand(min_iou, matching, counts):
    found = detection(table(), min_iou=min_iou, matching=matching)
    assert (found.true_positives, found.false_positives, found.false_negatives) == counts
    tp, fp, fn = counts
    assert found.f1 == pytest.approx(2 * tp / (2 * tp + fp + fn))
    assert found.sensitivity == tp / 4 and found.precision == (4 - fp) / 4


def test_greedy_takes_the_best_pair_and_hungarian_the_best_sum():
    found = LesionOverlap(np.full(2, 10), np.full(2, 10), np.array([[0, 0], [0, 1], [1, 0]]), np.array([7, 6, 6]), 18)
    np.testing.assert_allclose(found.iou, [7 / 13, 6 / 14, 6 / 14])
    assert matched_pairs(found, matching="one_to_one_greedy").tolist() == [[0, 0]]
    assert matched_pairs(found, matching="one_to_one").tolist() == [[0, 1], [1, 0]]


@given(st.integers(0, 5_000))
def test_hungarian_is_the_best_of_all_matchings(seed):
    rng = np.random.default_rng(seed)
    rows, columns = rng.integers(1, 5, 2)
    cells = np.argwhere(rng.random((rows, columns)) < 0.6)
    shared = rng.integers(1, 9, len(cells))
    found = LesionOverlap(np.full(rows, 10), np.full(columns, 10), cells.reshape(-1, 2), shared, 18)
    chosen = matched_pairs(found, min_iou=None, matching="one_to_one")
    iou = dict(zip(map(tuple, cells.tolist()), found.iou.tolist()))
    best = 0.0
    for size in range(1, min(rows, columns) + 1):
        for pick in combinations(iou, size):
            if len({p for p, _ in pick}) == len({r for _, r in pick}) == size:
                best = max(best, sum(iou[pair] for pair in pick))
    assert len(np.unique(chosen[:, 0])) == len(np.unique(chosen[:, 1])) == len(chosen)
    assert sum(iou[tuple(pair)] for pair in chosen.tolist()) == pytest.approx(best)


def autopet_v(prediction, reference, min_iou):
    """Return TP, FP, FN as autoPET V counts them, component by component."""
    structure = ndimage.generate_binary_structure(3, 2)
    (a, n), (b, m) = (ndimage.label(mask, structure) for mask in (prediction, reference))
    hit = {
        (i, j)
        for i in range(1, n + 1)
        for j in range(1, m + 1)
        if ((a == i) & (b == j)).sum() / ((a == i) | (b == j)).sum() >= min_iou
    }
    found = {j for _, j in hit}
    return len(found), n - len({i for i, _ in hit}), m - len(found)


def one_test_per_component(prediction, reference):
    """Return the voxels of false-positive components the slow way, as the official autoPET code does."""
    labels, count = ndimage.label(prediction, ndimage.generate_binary_structure(3, 2))
    return sum(int((labels == n).sum()) for n in range(1, count + 1) if (reference * (labels == n)).sum() == 0)


@given(st.integers(0, 5_000), st.floats(0.02, 0.6))
def test_random_masks_agree_with_the_definitions(seed, share):
    rng = np.random.default_rng(seed)
    shape = rng.integers(1, 9, 3)
    a, b = (rng.random(shape) < share for _ in range(2))
    found = detection(lesion_overlap(a, b), min_iou=0.1)
    assert (found.true_positives, found.false_positives, found.false_negatives) == autopet_v(a, b, 0.1)
    volumes = false_volumes(a, b, voxel_ml=0.02)
    assert volumes["fp_volume_ml"] == pytest.approx(0.02 * one_test_per_component(a, b))
    missed = 0.02 * one_test_per_component(b, a)
    assert volumes["fn_volume_ml"] == pytest.approx(missed if b.any() else math.nan, nan_ok=True)


@pytest.mark.parametrize("many", [False, True])
def test_thousands_of_components(many, monkeypatch):
    """Both ways to count shared voxels: a dense table, and sorting where that would be too large."""
    monkeypatch.setattr("uptake.evaluation.detection.DENSE_TABLE", 0 if many else 4_000_000)
    prediction, reference = np.zeros((2, 40, 40, 20), bool)
    prediction[::2, ::2, ::2] = True
    reference[::4, ::2, ::2] = reference[::4, 1, ::2] = True  # the latter joins two
    found = lesion_overlap(prediction, reference)
    assert (len(found.prediction_voxels), len(found.reference_voxels)) == (4000, 1900)
    assert len(found.pairs) == 2000
    scores = detection(found, min_iou=None)
    assert (scores.true_positives, scores.false_positives, scores.false_negatives) == (1900, 2000, 0)


@pytest.mark.parametrize(
    ("prediction", "reference", "rule", "expected"),
    [
        (0, 0, "nan", (math.nan, math.nan, math.nan)),
        (0, 0, "one", (1, 1, 1)),
        (0, 0, "zero", (math.nan, math.nan, math.nan)),
        (1, 0, "nan", (math.nan, math.nan, 0)),
        (1, 0, "one", (0, math.nan, 0)),
        (1, 0, "zero", (0, math.nan, 0)),
        (0, 1, "nan", (0, 0, math.nan)),
        (0, 1, "one", (0, 0, math.nan)),
        (1, 1, "zero", (1, 1, 1)),
    ],
)
def test_rules_for_the_empty(prediction, reference, rule, expected):
    overlap = lesion_overlap(*(line((3, 6)) if there else line() for there in (prediction, reference)))
    for matching in ("many_to_one", "one_to_one", "one_to_one_greedy"):
        found = detection(overlap, matching=matching, empty=rule)
        np.testing.assert_equal((found.f1, found.sensitivity, found.precision), tuple(float(e) for e in expected))


def test_guards():
    with pytest.raises(UsageError, match="matching of lesions"):
        detection(table(), matching="best")
    for wrong in (0.0, 1.5):
        with pytest.raises(UsageError, match="an IoU"):
            detection(table(), min_iou=wrong)
    with pytest.raises(InputError, match="cannot be compared"):
        lesion_overlap(PREDICTION, REFERENCE[..., 1:])
    with pytest.raises(InputError, match="boolean"):
        lesion_overlap(PREDICTION.astype(np.uint8), REFERENCE)
    with pytest.raises(UsageError, match="6, 18 or 26"):
        table(connectivity=4)
    with pytest.raises(UsageError, match="empty references"):
        detection(table(), empty="nope")
