import math

import numpy as np
import pytest
from scipy import ndimage

from uptake.core.errors import GeometryError, InputError, UsageError
from uptake.evaluation.overlap import dice, evaluate_pair, false_volumes, iou, precision, sensitivity
from uptake.geometry import Volume, reorient

GRID = np.array([[2.0, 0, 0, 0], [0, 2, 0, 0], [0, 0, 5, 0], [0, 0, 0, 1]])
"""Voxels of 0.02 mL."""


def mask(*on, shape=(8, 8, 8)):
    array = np.zeros(shape, bool)
    for where in on:
        array[where] = True
    return array


REFERENCE = mask((1, 1, slice(0, 4)), (5, 5, 5))
PREDICTION = mask((1, 1, slice(2, 5)), (7, 0, 0), (7, 1, 1))
"""Two of four voxels hit and one beside; two more, joined over an edge, that touch nothing; one lesion missed."""


def test_counted_by_hand():
    (scores,) = evaluate_pair(Volume(PREDICTION, GRID), Volume(REFERENCE, GRID))
    assert scores.label == "lesion"
    assert scores.dice == pytest.approx(2 * 2 / (5 + 5))
    assert scores.iou == pytest.approx(2 / 8)
    assert scores.sensitivity == scores.precision == pytest.approx(2 / 5)
    assert scores.reference_ml == scores.prediction_ml == pytest.approx(0.1)
    assert scores.volume_error_ml == 0 and scores.volume_error_fraction == 0
    assert scores.fp_volume_ml == pytest.approx(0.04) and scores.fp_components == 1
    assert scores.fn_volume_ml == pytest.approx(0.02) and scores.fn_components == 1
    assert (scores.prediction_components, scores.reference_components) == (2, 2)
    assert (scores.connectivity, scores.empty) == (18, "nan")


def test_connectivity_changes_what_is_one_component():
    assert false_volumes(PREDICTION, REFERENCE, voxel_ml=1, connectivity=6)["fp_components"] == 2
    assert false_volumes(PREDICTION, REFERENCE, voxel_ml=1, connectivity=18)["fp_components"] == 1


NOTHING = mask()
SOME = mask((1, 1, 1))


@pytest.mark.parametrize(
    ("prediction", "reference", "rule", "expected"),
    [
        (NOTHING, NOTHING, "nan", (math.nan, math.nan, math.nan, math.nan, 0, math.nan)),
        (NOTHING, NOTHING, "one", (1, 1, 1, 1, 0, 0)),
        (SOME, NOTHING, "nan", (math.nan, math.nan, math.nan, 0, 1, math.nan)),
        (SOME, NOTHING, "one", (0, 0, math.nan, 0, 1, 0)),
        (NOTHING, SOME, "nan", (0, 0, 0, math.nan, 0, 1)),
        (NOTHING, SOME, "one", (0, 0, 0, math.nan, 0, 1)),
        (SOME, SOME, "nan", (1, 1, 1, 1, 0, 0)),
    ],
)
def test_rules_for_the_empty(prediction, reference, rule, expected):
    volumes = false_volumes(prediction, reference, voxel_ml=1.0, empty=rule)
    found = [score(prediction, reference, empty=rule) for score in (dice, iou, sensitivity, precision)]
    found += [volumes["fp_volume_ml"], volumes["fn_volume_ml"]]
    np.testing.assert_equal(found, [float(e) for e in expected])


def test_empty_volumes_are_scored_without_a_crash():
    nothing = Volume(NOTHING.astype(np.uint8), GRID)
    (scores,) = evaluate_pair(nothing, nothing)
    assert math.isnan(scores.dice) and scores.fp_volume_ml == 0 and math.isnan(scores.volume_error_fraction)
    (scores,) = evaluate_pair(nothing, nothing, empty="one")
    assert scores.dice == 1 and scores.empty == "one"


def one_test_per_component(prediction, reference, voxel_ml):
    """Return the false-positive volume the slow way, as the definition says it."""
    labels, count = ndimage.label(prediction, ndimage.generate_binary_structure(3, 2))
    return sum((labels == n).sum() for n in range(1, count + 1) if not reference[labels == n].any()) * voxel_ml


def test_false_volumes_equal_the_definition_on_random_masks():
    rng = np.random.default_rng(0)
    for _ in range(15):
        shape = rng.integers(3, 12, 3)
        a, b = (ndimage.gaussian_filter(rng.random(shape), 0.7) > 0.55 for _ in range(2))
        found = false_volumes(a, b, voxel_ml=0.02)
        assert found["fp_volume_ml"] == pytest.approx(one_test_per_component(a, b, 0.02))
        if b.any():
            assert found["fn_volume_ml"] == pytest.approx(one_test_per_component(b, a, 0.02))
        assert dice(a, b, empty="one") == dice(b, a, empty="one")
        if a.any() and b.any():
            assert dice(a, b) == pytest.approx(2 * iou(a, b) / (1 + iou(a, b)))
            assert sensitivity(a, b) == precision(b, a)


def test_an_oblique_grid_gives_the_same_scores_as_its_turned_copy():
    c, s = math.cos(0.5), math.sin(0.5)
    oblique = np.array([[c, -s, 0, 9], [s, c, 0, -4], [0, 0, 1, 2], [0, 0, 0, 1]]) @ GRID
    prediction, reference = Volume(PREDICTION, oblique), Volume(REFERENCE, oblique)
    (here,) = evaluate_pair(prediction, reference)
    (there,) = evaluate_pair(reorient(prediction, "SAL"), reorient(reference, "SAL"))
    assert here.reference_ml == pytest.approx(0.1)
    for key, value in here.row().items():
        assert there.row()[key] == (pytest.approx(value) if isinstance(value, float) else value)


def test_labels_are_scored_by_name():
    a = np.zeros((6, 6, 6), np.uint8)
    a[0:2], a[3:5] = 1, 2
    b = a.copy()
    b[1] = 0
    first, second, absent = evaluate_pair(
        Volume(a, GRID), Volume(b.astype(np.float32), GRID), labels={1: "liver", 2: "spleen", 7: "brain"}
    )
    assert (first.label, second.label) == ("liver", "spleen")
    assert first.dice == pytest.approx(2 / 3) and second.dice == 1
    assert math.isnan(absent.dice)


def test_guards():
    reference = Volume(REFERENCE, GRID)
    moved = GRID.copy()
    moved[0, 3] = 3.5
    with pytest.raises(GeometryError, match=r"3\.50 mm apart"):
        evaluate_pair(Volume(PREDICTION, moved), reference)
    with pytest.raises(GeometryError, match="shape"):
        evaluate_pair(Volume(PREDICTION[1:], GRID), reference)
    with pytest.raises(GeometryError, match="frames of reference"):
        evaluate_pair(
            Volume(PREDICTION, GRID, frame_of_reference="1.2"), Volume(REFERENCE, GRID, frame_of_reference="1.3")
        )
    with pytest.raises(InputError, match="the prediction: holds fractions"):
        evaluate_pair(Volume(PREDICTION * 0.5, GRID), reference)
    with pytest.raises(InputError, match="NaN"):
        evaluate_pair(Volume(np.where(PREDICTION, np.nan, 0), GRID), reference)
    with pytest.raises(InputError, match=r"the prediction holds labels \[3\]"):
        evaluate_pair(Volume(PREDICTION * np.uint8(3), GRID), reference, labels={1: "lesion"})
    with pytest.raises(UsageError, match="background"):
        evaluate_pair(reference, reference, labels={0: "background", 1: "lesion"})
    with pytest.raises(UsageError, match="empty references"):
        evaluate_pair(reference, reference, empty="0")
    with pytest.raises(InputError, match="cannot be compared"):
        dice(PREDICTION[1:], REFERENCE)
    with pytest.raises(InputError, match="boolean"):
        dice(PREDICTION.astype(int), REFERENCE)


@pytest.mark.parametrize(
    ("name", "dice_", "fp_ml", "fp", "fn_ml", "fn"),
    [("prediction_nnunet", 0.6967, 2.754, 8, 25.015, 22), ("prediction_datacentric", 0.6604, 4.976, 16, 18.711, 17)],
)
def test_real_predictions_reach_the_numbers_that_come_with_them(shared_data, name, dice_, fp_ml, fp, fn_ml, fn):
    nibabel = pytest.importorskip("nibabel")
    folder = shared_data / "anatomy" / "psma_95b833d46f153cd2"
    prediction, reference = (nibabel.load(folder / f"{n}.nii.gz") for n in (name, "lesion"))
    (s,) = evaluate_pair(*(Volume(np.asarray(i.dataobj), i.affine) for i in (prediction, reference)))
    assert s.dice == pytest.approx(dice_, abs=5e-5)
    assert s.fp_volume_ml == pytest.approx(fp_ml, abs=5e-4) and s.fn_volume_ml == pytest.approx(fn_ml, abs=5e-4)
    assert (s.fp_components, s.fn_components, s.reference_components) == (fp, fn, 112)
    assert s.reference_ml == pytest.approx(431.15, abs=5e-3)
