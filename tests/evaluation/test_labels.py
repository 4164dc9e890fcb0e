import math
import tracemalloc

import numpy as np
import pytest

from uptake.core.errors import GeometryError, InputError, UsageError
from uptake.evaluation.counts import LabelPair
from uptake.evaluation.detection import detection, lesion_overlap
from uptake.evaluation.labels import GROUPS, Rules, evaluate_labels, evaluate_volumes, metric_names
from uptake.evaluation.overlap import dice, evaluate_pair, iou, precision, sensitivity
from uptake.evaluation.surface import average_distance, hausdorff, surface_dice, surface_distances
from uptake.geometry import Volume

SPACING = (1.5, 2.0, 3.0)


def maps(seed=0, shape=(14, 12, 10), labels=4, dtype=np.uint8):
    rng = np.random.default_rng(seed)
    first = rng.integers(0, labels, shape).astype(dtype)
    second = np.where(rng.random(shape) < 0.7, first, rng.integers(0, labels, shape)).astype(dtype)
    return first, second


def assert_same(found, expected):
    """Compare names and values; the order of a sum may change its last bit."""
    for name, value in expected.items():
        assert found[name] == (pytest.approx(value, rel=1e-12, nan_ok=True) if isinstance(value, float) else value)


def one_by_one(a, b, spacing, rules):
    """Return the scores of one pair of masks from the single functions."""
    voxel_ml = math.prod(spacing) / 1000
    voxels = surface_distances(a, b, spacing_mm=spacing)
    surfels = surface_distances(a, b, spacing_mm=spacing, elements="surfels")
    table = lesion_overlap(a, b)
    strict = detection(table, matching="one_to_one", empty=rules.empty)
    return {
        "dice": dice(a, b, empty=rules.empty),
        "iou": iou(a, b, empty=rules.empty),
        "sensitivity": sensitivity(a, b, empty=rules.empty),
        "precision": precision(a, b, empty=rules.empty),
        "reference_ml": b.sum() * voxel_ml,
        "tn_voxels": int((~a & ~b).sum()),
        "hd95_mm": hausdorff(voxels, empty=rules.empty_distance),
        "hd95_max_mm": hausdorff(voxels, directions="max", empty=rules.empty_distance),
        "asd_to_reference_mm": average_distance(voxels, over="to_reference", empty=rules.empty_distance),
        "surface_dice_1mm_voxels": surface_dice(voxels, tolerance_mm=1.0, empty=rules.empty),
        "surface_dice_2mm": surface_dice(surfels, tolerance_mm=2.0, empty=rules.empty),
        "hd95_max_surfels_mm": hausdorff(surfels, directions="max", empty=rules.empty_distance),
        "lesion_f1_iou0.1_one_to_one": strict.f1,
        "lesion_fn_iou0.1_one_to_one": strict.false_negatives,
        "reference_components": len(table.reference_voxels),
    }


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float64])
def test_each_label_gets_what_the_single_functions_give(order, dtype):
    prediction, reference = (np.asarray(m, order=order) for m in maps(dtype=dtype))
    prediction[:, :4], reference[-3:] = 0, 0
    rules = Rules(empty="zero", empty_distance="inf")
    table = {2: "spleen", 1: "liver", (1, 3): "both", 9: "absent"}
    found = evaluate_labels(prediction, reference, SPACING, labels=table, rules=rules)
    assert [scores.label for scores in found] == ["spleen", "liver", "both", "absent"]
    for (label, _), scores in zip(table.items(), found, strict=True):
        expected = one_by_one(np.isin(prediction, label), np.isin(reference, label), SPACING, rules)
        assert_same(scores.scores, expected)
    assert math.isnan(found[3].scores["dice"]) and math.isnan(found[3].scores["hd95_mm"])


def test_without_a_table_everything_is_lesion():
    prediction, reference = maps()
    (found,) = evaluate_labels(prediction, reference, SPACING)
    expected = one_by_one(prediction > 0, reference > 0, SPACING, Rules())
    assert found.label == "lesion"
    (masks,) = evaluate_labels(prediction > 0, reference > 0, SPACING)
    assert masks == found
    np.testing.assert_equal({name: found.scores[name] for name in expected}, expected)


def test_large_label_numbers_are_the_same_labels():
    prediction, reference = maps()
    renamed = np.array([0, 7, 65_000, 900_000])
    small = evaluate_labels(prediction, reference, SPACING, labels={1: "a", 2: "b", 3: "c"})
    large = evaluate_labels(
        renamed[prediction], renamed[reference].astype(np.float32), SPACING, labels={7: "a", 65_000: "b", 900_000: "c"}
    )
    for one, other in zip(small, large, strict=True):
        np.testing.assert_equal(other.row(), one.row())


def test_the_order_of_axes_in_memory_and_strides_do_not_matter():
    prediction, reference = maps(3)
    (expected,) = (scores.row() for scores in evaluate_labels(prediction, reference, SPACING))
    turned = LabelPair.of(prediction.T, reference.T)
    assert turned.reversed and turned.prediction.flags.c_contiguous
    every_second = np.repeat(np.repeat(prediction, 2, axis=0), 2, axis=2)[::2, :, ::2]
    for first, second in (
        (np.asfortranarray(prediction), reference),
        (prediction, np.asfortranarray(reference)),
        (every_second, reference),
    ):
        (found,) = evaluate_labels(first, second, SPACING)
        assert_same(found.row(), expected)
    (found,) = evaluate_labels(prediction.transpose(2, 0, 1), reference.transpose(2, 0, 1), (3.0, 1.5, 2.0))
    assert_same(found.row(), expected)


def test_asking_for_less_gives_the_same_numbers_and_no_others():
    prediction, reference = maps()
    (everything,) = evaluate_labels(prediction, reference, SPACING)
    assert list(everything.scores) == [name for names in metric_names().values() for name in names]
    for group in GROUPS:
        (part,) = evaluate_labels(prediction, reference, SPACING, metrics=[group])
        assert part.scores == {name: everything.scores[name] for name in metric_names()[group]}
    (pair,) = evaluate_labels(prediction, reference, SPACING, metrics=["hd95_mm", "dice", "lesion_f1_any_one_to_one"])
    assert list(pair.scores) == ["dice", "hd95_mm", "lesion_f1_any_one_to_one"]
    (dice_only,) = evaluate_labels(prediction, reference, SPACING, metrics="dice")
    assert dict(dice_only.scores) == {"dice": everything.scores["dice"]}


def test_tolerances_and_overlap_are_part_of_the_names():
    rules = Rules(tolerances_mm=(0.5, 3.0), min_iou=0.5)
    (found,) = evaluate_labels(*maps(), SPACING, rules=rules)
    assert {"surface_dice_0.5mm", "surface_dice_3mm_voxels", "lesion_f1_iou0.5_many_to_one"} <= set(found.scores)
    assert found.row()["connectivity"] == 18 and found.row()["empty"] == "nan"


def test_pair_table_and_boxes():
    prediction, reference = np.zeros((2, 5, 6, 7), np.uint8)
    prediction[1:3, 2, 3], reference[2:4, 2, 3] = 5, 5
    reference[4, 5, 6] = 2
    pair = LabelPair.of(prediction, reference)
    assert pair.values.tolist() == [0, 1, 2, 3, 4, 5]
    assert (pair.table[5, 5], pair.table[5, 0], pair.table[0, 5], pair.table[0, 2]) == (1, 1, 1, 1)
    assert pair.table.sum() == prediction.size
    # The crop starts at (1, 2, 3), the first voxel that is not background.
    assert pair.prediction.shape == (4, 4, 4) and pair.size == prediction.size
    assert pair.boxes[5] == (slice(0, 3), slice(0, 1), slice(0, 1))
    assert pair.boxes[1] is None and pair.present(prediction=True) == [5] and pair.present(prediction=False) == [2, 5]


def test_volumes_take_their_voxel_from_the_affine():
    prediction, reference = maps()
    oblique = np.array([[0.0, -2, 0, 9], [1.5, 0, 0, -4], [0, 0, 3, 2], [0, 0, 0, 1]])
    (found,) = evaluate_volumes(Volume(prediction, oblique), Volume(reference, oblique))
    (expected,) = evaluate_labels(prediction, reference, SPACING)
    for name, value in expected.scores.items():
        assert found.scores[name] == pytest.approx(value)
    (pair,) = evaluate_pair(Volume(prediction, oblique), Volume(reference, oblique))
    for name in ("dice", "iou", "fp_volume_ml", "fn_components", "volume_error_fraction"):
        assert getattr(pair, name) == pytest.approx(found.scores[name])


def test_guards():
    prediction, reference = maps()
    with pytest.raises(InputError, match=r"\(14, 12, 9\)"):
        evaluate_labels(prediction[..., 1:], reference, SPACING)
    with pytest.raises(InputError, match="the reference: holds fractions"):
        evaluate_labels(prediction, reference * 0.3, SPACING)
    with pytest.raises(InputError, match="the prediction: holds NaN"):
        evaluate_labels(np.where(prediction, np.nan, 0.0), reference, SPACING)
    with pytest.raises(InputError, match="no label map"):
        evaluate_labels(prediction.astype(np.int64) << 40, reference, SPACING)
    with pytest.raises(InputError, match=r"the prediction holds labels \[2, 3\]"):
        evaluate_labels(prediction, reference, SPACING, labels={1: "liver"})
    with pytest.raises(InputError, match=r"the reference holds labels \[3\]"):
        evaluate_labels(np.minimum(prediction, 2), reference, SPACING, labels={(1, 2): "organ"})
    with pytest.raises(UsageError, match="background"):
        evaluate_labels(prediction, reference, SPACING, labels={})
    with pytest.raises(UsageError, match="background"):
        evaluate_labels(prediction, reference, SPACING, labels={(0, 1): "all"})
    with pytest.raises(UsageError, match="no metric is called hd94_mm"):
        evaluate_labels(prediction, reference, SPACING, metrics=["dice", "hd94_mm"])
    with pytest.raises(UsageError, match="no metric is called nothing"):
        evaluate_labels(prediction, reference, SPACING, metrics=[])
    with pytest.raises(InputError, match="voxel sizes"):
        evaluate_labels(prediction, reference, (1.0, 0.0, 2.0))
    for wrong in ({"empty": "none"}, {"empty_distance": "0"}, {"connectivity": 8}, {"min_iou": 0}):
        with pytest.raises(UsageError):
            Rules(**wrong)
    with pytest.raises(UsageError, match="tolerances_mm"):
        Rules(tolerances_mm=(-1.0,))
    tilted = np.diag([1.5, 2.0, 3.0, 1.0])
    tilted[1, 2] = 0.6
    with pytest.raises(GeometryError, match="not perpendicular"):
        evaluate_volumes(Volume(prediction, tilted), Volume(reference, tilted))
    (scores,) = evaluate_volumes(Volume(prediction, tilted), Volume(reference, tilted), metrics=["overlap"])
    assert scores.scores["reference_ml"] == pytest.approx((reference > 0).sum() * 0.009)
    with pytest.raises(GeometryError, match="mm apart"):
        evaluate_volumes(Volume(prediction, np.eye(4)), Volume(reference, np.diag([1.1, 1, 1, 1])))


@pytest.mark.parametrize("order", ["C", "F"])
def test_memory_stays_within_three_times_the_maps(order):
    """Organs in a large image: arrays made on the way, with the maps themselves, as NumPy reports them."""
    reference = np.zeros((160, 150, 140), np.uint8, order=order)
    for label, corner in enumerate(np.ndindex(2, 2, 2), start=1):
        i, j, k = (20 + 70 * c for c in corner)
        reference[i : i + 40, j : j + 30, k : k + 35] = label
    prediction = np.roll(reference, (2, -1, 1), (0, 1, 2))
    evaluate_labels(prediction[:40], reference[:40], SPACING)  # loads what is loaded once
    tracemalloc.start()
    evaluate_labels(prediction, reference, SPACING, labels={label: str(label) for label in range(1, 9)})
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak + prediction.nbytes + reference.nbytes < 3 * (prediction.nbytes + reference.nbytes)


@pytest.mark.parametrize(
    ("name", "figures"),
    [
        ("prediction_nnunet", (0.6967, 550.12, 2.754, 8, 25.015, 22, 88)),
        ("prediction_datacentric", (0.6604, 575.24, 4.976, 16, 18.711, 17, 98)),
    ],
)
def test_real_predictions(shared_data, name, figures):
    nibabel = pytest.importorskip("nibabel")
    folder = shared_data / "anatomy" / "psma_95b833d46f153cd2"
    prediction, reference = (nibabel.load(folder / f"{n}.nii.gz") for n in (name, "lesion"))
    (found,) = evaluate_volumes(
        *(Volume(np.asarray(image.dataobj), image.affine) for image in (prediction, reference)),
        metrics=["overlap", "components", "detection"],
    )
    names = ("dice", "prediction_ml", "fp_volume_ml", "fp_components", "fn_volume_ml", "fn_components")
    decimals = (4, 2, 3, 0, 3, 0, 0)
    rounded = [round(found.scores[n], d) for n, d in zip((*names, "prediction_components"), decimals, strict=True)]
    assert rounded == list(figures)
    assert found.scores["reference_components"] == 112
    # Touching the reference at all is what "any" asks for: the same components are missed and invented.
    assert found.scores["lesion_fn_any_many_to_one"] == figures[5]
    assert found.scores["lesion_fp_any_many_to_one"] == figures[3]
