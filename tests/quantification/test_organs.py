import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from uptake.core.errors import GeometryError, InputError, UsageError
from uptake.geometry import Volume, reorient
from uptake.quantification.organ_tables import ORGAN_COLUMNS, organ_rows, organs_as_json
from uptake.quantification.organs import in_depth, measure_organs, whole_numbers

GRID = np.array([[2.0, 0, 0, -10], [0, 3, 0, 20], [0, 0, 5, 100], [0, 0, 0, 1]])
"""Voxels of 0.03 mL."""


def hand_case():
    """Return a PET, a map with a liver of four voxels (1, 2, 3, 6) and a spleen of one (5), and no kidney."""
    pet, organs = np.full((6, 6, 6), 9.0, np.float32), np.zeros((6, 6, 6), np.uint8)
    pet[1, 1, 1:5] = (1, 2, 3, 6)
    organs[1, 1, 1:5] = 5
    pet[4, 4, 4] = 5
    organs[4, 4, 4] = 1
    return Volume(pet, GRID), Volume(organs, GRID), {1: "spleen", 2: "kidney_right", 5: "liver"}


def test_counted_by_hand():
    table = measure_organs(*hand_case())
    assert [organ.organ for organ in table.organs] == ["spleen", "liver"] and table.absent == ("kidney_right",)
    liver, spleen = table.find("liver"), table.find("spleen")
    assert (liver.label, liver.voxels) == (5, 4)
    assert liver.volume_ml == liver.measured_ml == pytest.approx(0.12)
    assert (liver.suv_mean, liver.suv_median, liver.suv_min, liver.suv_max) == (3.0, 2.5, 1.0, 6.0)
    assert liver.suv_sd == pytest.approx(math.sqrt((4 + 1 + 0 + 9) / 3))
    assert liver.suv_cov == pytest.approx(liver.suv_sd / 3)
    assert liver.suv_percentiles == pytest.approx((1.15, 1.75, 3.75, 5.55))  # positions 0.15, 0.75, 2.25, 2.85 of 0..3
    assert liver.total_g == pytest.approx(0.36)
    assert liver.centroid_mm == pytest.approx((-8, 23, 112.5))
    assert math.isnan(liver.suv_peak)  # no 1 mL sphere fits into 0.12 mL
    assert spleen.suv_mean == 5 and math.isnan(spleen.suv_sd) and math.isnan(spleen.suv_cov)
    assert not liver.at_edge and not table.warnings and table.find("kidney_right") is None


def test_lesions_leave_the_statistics_but_not_the_volume():
    pet, organs, names = hand_case()
    lesions = np.zeros(pet.shape, np.uint8)
    lesions[1, 1, 4] = lesions[4, 4, 4] = 1
    table = measure_organs(pet, organs, names, lesions=pet.with_array(lesions))
    liver, spleen = table.find("liver"), table.find("spleen")
    assert (liver.suv_mean, liver.suv_max, liver.voxels) == (2, 3, 4)
    assert liver.volume_ml == pytest.approx(0.12) and liver.measured_ml == pytest.approx(0.09)
    assert spleen.measured_ml == 0 and math.isnan(spleen.suv_mean) and spleen.total_g == 0
    assert table.without_lesions
    json.dumps(organs_as_json(table), allow_nan=False)


def test_peak_lies_in_the_organ_and_knows_no_neighbour():
    pet = np.full((24, 24, 24), 2.0)
    organs = np.zeros((24, 24, 24), np.uint8)
    organs[6:18, 6:18, 6:18] = 3
    pet[organs == 0] = 50.0
    for shift in np.vstack([np.zeros((1, 3), int), np.eye(3, dtype=int), -np.eye(3, dtype=int)]):
        pet[tuple(shift + 12)] = 4.0
    grid = np.diag([3.0, 3, 3, 1])
    organ = measure_organs(Volume(pet, grid), Volume(organs, grid), {3: "liver"}).organs[0]
    # 7 hot voxels of 0.027 mL, a cross, lie wholly in the 1 mL sphere around its centre: 2 + 2 * 0.189.
    assert organ.suv_peak == pytest.approx(2.378, abs=0.002)
    assert organ.suv_max == 4


def test_depth_counts_from_the_first_voxel_outside():
    mask = np.zeros((7, 3, 3), bool)
    mask[1:6, 1, 1] = True
    assert in_depth(mask, (2.0, 9.0, 9.0))[:, 1, 1].tolist() == [0, 2, 4, 6, 4, 2, 0]
    assert in_depth(np.ones((3, 3, 3), bool), (2.0, 2.0, 2.0))[0, 1, 1] == 2  # nothing is known beyond the edge


def test_an_organ_at_the_edge_is_measured_and_marked():
    pet, organs, names = hand_case()
    array = organs.array.copy()
    array[0, 1, 1] = 5
    table = measure_organs(pet, organs.with_array(array), names)
    assert table.find("liver").at_edge and table.find("liver").voxels == 5 and not table.find("spleen").at_edge
    assert "may cut liver" in table.warnings[0]


def test_a_label_without_a_name_is_kept_and_reported():
    pet, organs, _ = hand_case()
    table = measure_organs(pet, organs, {5: "liver"})
    assert [organ.organ for organ in table.organs] == ["label_1", "liver"]
    assert "label 1 has no name" in table.warnings[0]


def test_rows_have_the_columns_and_no_nan():
    rows = organ_rows(measure_organs(*hand_case()))
    assert [list(row) for row in rows] == [list(ORGAN_COLUMNS)] * 2
    assert rows[0]["suv_sd"] is None and rows[1]["suv_p95"] == pytest.approx(5.55)


@given(st.permutations(range(3)), st.tuples(*[st.booleans()] * 3))
def test_turning_the_arrays_changes_nothing(order, flips):
    code = "".join("RAS"[a] if not flips[a] else "LPI"[a] for a in order)
    pet, organs, names = hand_case()
    straight = organ_rows(measure_organs(pet, organs, names))
    assert organ_rows(measure_organs(reorient(pet, code), reorient(organs, code), names)) == straight


def test_floats_that_are_whole_numbers_are_labels():
    pet, organs, names = hand_case()
    as_floats = organs.with_array(organs.array.astype(np.float32))
    assert organ_rows(measure_organs(pet, as_floats, names)) == organ_rows(measure_organs(pet, organs, names))
    assert whole_numbers(as_floats.array).dtype == np.int32


def test_refusals():
    pet, organs, names = hand_case()
    with pytest.raises(GeometryError, match="organ map"):
        measure_organs(pet, Volume(organs.array, np.diag([2.0, 3, 4, 1])), names)
    with pytest.raises(GeometryError, match="lesion mask"):
        measure_organs(pet, organs, names, lesions=Volume(organs.array, np.diag([2.0, 3, 4, 1])))
    with pytest.raises(InputError, match="fractions"):
        measure_organs(pet, organs.with_array(organs.array * 0.5), names)
    with pytest.raises(InputError, match="NaN"):
        measure_organs(pet.with_array(np.full(pet.shape, np.nan)), organs, names)
    with pytest.raises(UsageError, match="names of its labels"):
        measure_organs(pet, organs, {0: "background"})
    with pytest.raises(UsageError, match="start at 1"):
        measure_organs(pet, organs, {-1: "liver"})
    with pytest.raises(UsageError, match="one name for several"):
        measure_organs(pet, organs, {1: "liver", 2: "liver"})


def test_volumes_of_a_real_organ_map(shared_data):
    from uptake.core.anatomy import AUTOPET_NAMES
    from uptake.io.image import read_labels

    organs, _ = read_labels(shared_data / "anatomy/autopet_organs/psma_0a52cb5b45b821f7.nii.gz")
    pet = organs.with_array(np.where(organs.array == 3, 5.25, 1.0).astype(np.float32))
    table = measure_organs(pet, organs, AUTOPET_NAMES)
    # Volumes from the README beside the maps, counted by whoever collected them.
    written = {
        "spleen": 168.5,
        "kidneys": 259,
        "liver": 1739.5,
        "urinary_bladder": 100.9,
        "lungs": 3061.1,
        "brain": 227,
        "heart": 763,
        "stomach": 317.4,
        "prostate": 6.6,
        "head_glands_published": 11.6,
    }
    assert {organ.organ: organ.volume_ml for organ in table.organs} == pytest.approx(written, abs=0.06)
    assert table.find("liver").suv_mean == 5.25 and table.find("liver").suv_peak == pytest.approx(5.25)
    assert table.find("brain").at_edge
