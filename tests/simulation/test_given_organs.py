"""Patients around given organs: the labels of a drawn patient as a map give that patient again."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import binary_dilation

from uptake.core.anatomy import AUTOPET_NAMES, TOTAL_NAMES, class_table
from uptake.core.errors import InputError
from uptake.geometry import Volume
from uptake.geometry.orientation import reorient
from uptake.io.image import read_labels
from uptake.simulation import PatientConfig, simulate_truth
from uptake.simulation.frame import build_of
from uptake.simulation.label_map import LabelMap, label_map
from uptake.simulation.labels import ORGAN_IDS, ORGAN_NAMES
from uptake.simulation.map_frame import depths_at, landmarks_of, volumes_in
from uptake.simulation.organ_volumes import Condition, draw_volumes
from uptake.simulation.person import draw_person

COARSE = (10.0, 10.0, 10.0)
FINE = (8.0, 8.0, 8.0)
HEALTHY = PatientConfig(sex="male", conditions=False, arms="up")
SOLID = ("liver", "spleen", "kidney_left", "kidney_right", "heart", "brain", "urinary_bladder", "stomach")
WALLS = {"heart": ("heart_myocardium",), "urinary_bladder": ("bladder_wall",)}
BONES = ("hip_left", "hip_right", "sacrum", "femur_left", "sternum", "skull")


@pytest.fixture(scope="module")
def drawn():
    return simulate_truth(11, spacing_mm=FINE, n_lesions=0, config=HEALTHY)


def as_map(organs: Volume, names: dict[int, str]) -> LabelMap:
    """Return organ labels of the simulator in another numbering."""
    table = class_table(ORGAN_NAMES, ["background", *(names[n] for n in sorted(names))])
    return label_map(Volume(table[organs.array], organs.affine), names)


@pytest.fixture(scope="module")
def total(drawn):
    # Stored otherwise than the canvas, as other people's maps are.
    turned = reorient(drawn.organs, "RAS")
    return as_map(turned, TOTAL_NAMES)


@pytest.fixture(scope="module")
def around(total):
    return simulate_truth(4, spacing_mm=COARSE, n_lesions=3, config=PatientConfig(arms="up"), anatomy=total)


def on_the_grid_of(truth, source: Volume) -> np.ndarray:
    """Return labels sampled, nearest, where the voxels of a patient are."""
    index = np.stack(np.meshgrid(*(np.arange(n) for n in truth.organs.shape), indexing="ij"), axis=-1)
    world = truth.organs.world_of(index.astype(float))
    place = np.rint((world - source.affine[:3, 3]) @ np.linalg.inv(source.affine[:3, :3]).T).astype(int)
    inside = ((place >= 0) & (place < source.shape)).all(axis=-1)
    place = np.clip(place, 0, np.array(source.shape) - 1)
    return np.where(inside, source.array[tuple(np.moveaxis(place, -1, 0))], 0)


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * (a & b).sum() / max(a.sum() + b.sum(), 1))


def test_organs_lie_where_the_map_says(around, drawn):
    given = on_the_grid_of(around, drawn.organs)
    for name in (*SOLID, *BONES):
        number = ORGAN_IDS[name]
        # The map has walls of heart and bladder as part of them.
        parts = [number, *(ORGAN_IDS[n] for n in WALLS.get(name, ()))]
        wanted = np.isin(given, parts)
        found = np.isin(around.organs.array, parts[: 2 if name == "heart" else 1])
        # Voxels of 10 mm from voxels of 8 mm: flat bones are a voxel thick.
        assert dice(found, wanted) > (0.78 if name in SOLID else 0.5), name
        if name in SOLID:
            assert found.sum() == pytest.approx(wanted.sum(), rel=0.15), name


def test_the_person_is_as_tall_as_the_map_says(around, drawn):
    assert around.parameters["height_m"] == pytest.approx(drawn.parameters["height_m"], rel=0.04)
    assert around.parameters["anatomy"] == "label map" and drawn.parameters["anatomy"] == "drawn"
    # A prostate tells the sex; another seed is another uptake and weight.
    assert around.parameters["sex"] == "male"
    assert around.parameters["bmi"] != drawn.parameters["bmi"]


def test_tissues_are_those_of_the_organs(around):
    def hu(name: str) -> float:
        return float(np.median(around.hu.array[around.organs.array == ORGAN_IDS[name]]))

    def suv(name: str) -> float:
        return float(np.median(around.activity.array[around.organs.array == ORGAN_IDS[name]]))

    assert hu("lung_lower_lobe_left") < -600 < -50 < hu("liver") < 120 < hu("hip_left")
    assert suv("urinary_bladder") > suv("liver") > suv("aorta") > suv("skeletal_muscle") > suv("subcutaneous_fat")
    # Beneath the skin there is fat, and every given organ is inside the body.
    outside = ~binary_dilation(around.organs.array > 0)
    assert (around.hu.array[outside] == -1000).mean() > 0.99
    assert 0.75 <= around.parameters["mass_balance"] <= 1.0


def test_lungs_are_coated_without_seams(around):
    lobes = [n for name, n in ORGAN_IDS.items() if name.startswith("lung_") and name.endswith("_right")]
    right = np.isin(around.organs.array, lobes)
    inner = right.copy()
    for axis in range(3):
        inner &= np.roll(right, 1, axis) & np.roll(right, -1, axis)
    assert inner.sum() > 300
    assert float(np.quantile(around.hu.array[inner], 0.99)) < -350


def test_an_organ_that_is_missing_from_the_map_is_gone(drawn, total):
    array = total.labels.array.copy()
    array[array == 1] = 0
    without = label_map(total.labels.with_array(array), TOTAL_NAMES)
    person = draw_person(np.random.default_rng(0), HEALTHY)
    volumes = draw_volumes(np.random.default_rng(1), person, Condition())
    found = volumes_in(without, volumes)
    assert found["spleen"] == 0.0
    assert found["liver"] == pytest.approx(total.structure("liver").volume_ml)
    # Glands of the face are no class of this numbering: they are drawn.
    assert found["parotid_gland_left"] == volumes["parotid_gland_left"]


def test_ten_organs_are_enough(drawn):
    names = {n: name for n, name in AUTOPET_NAMES.items() if n < 10}
    ten = as_map(drawn.organs, names)
    truth = simulate_truth(2, spacing_mm=COARSE, n_lesions=0, anatomy=ten, config=PatientConfig(arms="up"))
    for side in ("left", "right"):
        kidney = np.argwhere(truth.organs.array == ORGAN_IDS[f"kidney_{side}"])
        assert len(kidney)
        middle = truth.organs.world_of(kidney.astype(float))[:, 0].mean()
        assert (middle > 0) == (side == "right")
    spine = np.argwhere(truth.organs.array == ORGAN_IDS["vertebrae_T9"])
    true = np.argwhere(drawn.organs.array == ORGAN_IDS["vertebrae_T9"])
    # The spine is drawn where lungs, kidneys and bladder say that it must be.
    apart = truth.organs.world_of(spine.astype(float)).mean(0) - drawn.organs.world_of(true.astype(float)).mean(0)
    assert np.abs(apart).max() < 20.0


def test_its_own_labels_with_skin_are_the_outline(drawn):
    whole = label_map(drawn.organs, ORGAN_NAMES)
    assert whole.outline
    truth = simulate_truth(3, spacing_mm=(12.0, 12.0, 12.0), n_lesions=0, config=HEALTHY, anatomy=whole)
    assert dice(truth.organs.array > 0, on_the_grid_of(truth, drawn.organs) > 0) > 0.95


def test_depths_go_through_the_landmarks(total):
    marks = landmarks_of(total)
    assert (np.diff(marks.depth) > 0).all() and (np.diff(marks.z_mm) < 0).all()
    person = draw_person(np.random.default_rng(0), HEALTHY, height_m=marks.height_m)
    build = build_of(person, draw_volumes(np.random.default_rng(1), person, Condition()))
    np.testing.assert_allclose(depths_at(marks, person, build, marks.z_mm), marks.depth, atol=1e-6)
    below = depths_at(marks, person, build, marks.z_mm[-1:] - 100.0)
    assert below[0] - marks.depth[-1] == pytest.approx(100.0 / person.scale_z, rel=1e-3)


def test_a_label_in_the_wrong_place_is_no_landmark(drawn, total):
    array = total.labels.array.copy()
    array[array == 21] = 0
    array[30:34, 20:24, -12:-8] = 21  # a bladder beside the neck
    marks = landmarks_of(label_map(total.labels.with_array(array), TOTAL_NAMES))
    assert 886.0 not in marks.depth
    assert marks.height_m == pytest.approx(drawn.parameters["height_m"], rel=0.04)


def test_maps_that_cannot_be_placed_are_refused(total):
    lone = np.where(total.labels.array == 6, 6, 0).astype(np.uint8)
    with pytest.raises(InputError, match="tells where it lies in the body"):
        landmarks_of(label_map(total.labels.with_array(lone), TOTAL_NAMES))
    shrunk = total.labels.affine @ np.diag([0.1, 0.1, 0.1, 1.0])
    with pytest.raises(InputError, match=r"landmarks.*voxel sizes in mm"):
        landmarks_of(label_map(Volume(total.labels.array, shrunk), TOTAL_NAMES))
    bone = total.structure("vertebrae_L3")
    few = slice(bone.box[2].start - 1, bone.box[2].stop + 1)
    affine = total.labels.affine.copy()
    affine[:3, 3] += affine[:3, 2] * few.start
    short = label_map(Volume(total.labels.array[:, :, few], affine), TOTAL_NAMES)
    with pytest.raises(InputError, match="less than eight slices"):
        simulate_truth(0, spacing_mm=COARSE, anatomy=short)


def test_a_published_map_becomes_a_patient(shared_data):
    path = shared_data / "anatomy" / "autopet_organs" / "psma_0a52cb5b45b821f7.nii.gz"
    labels, _ = read_labels(path)
    anatomy = label_map(labels, AUTOPET_NAMES)
    truth = simulate_truth(3, spacing_mm=COARSE, n_lesions=2, config=PatientConfig(tracer="PSMA-1007"), anatomy=anatomy)
    # The liver of the data's table, and a height that a man has.
    ml = float((truth.organs.array == ORGAN_IDS["liver"]).sum()) * truth.organs.voxel_volume_ml
    assert ml == pytest.approx(1739.5, rel=0.05)
    assert 1.6 < truth.parameters["height_m"] < 1.9
    assert truth.parameters["sex"] == "male" and len(truth.lesion_table) == 2
