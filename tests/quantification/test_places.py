import json
import math

import numpy as np
import pytest

from uptake.core.errors import GeometryError, InputError
from uptake.geometry import Volume
from uptake.quantification.lesions import measure_lesions
from uptake.quantification.places import LEGS_BELOW_BLADDER_MM, NEAR_MM, place_lesions, region_at, region_levels

GRID = np.diag([2.0, 3, 5, 1])
NAMES = {1: "liver", 2: "kidney_left", 3: "torso_fat", 4: "spleen"}


def place(spots, organs, names=NAMES, grid=GRID):
    """Return the places of the lesions made of the given voxels in a (12, 12, 12) map."""
    mask = np.zeros((12, 12, 12), np.uint8)
    mask[tuple(np.array(spots).T)] = 1
    lesions = measure_lesions(Volume(mask + 1.0, grid), Volume(mask, grid))
    return place_lesions(lesions, Volume(organs, grid), names)


def empty():
    return np.zeros((12, 12, 12), np.uint8)


def test_the_organ_that_holds_most_of_it_names_it():
    organs = empty()
    organs[5, 5, 4:7], organs[5, 5, 7] = 1, 4
    (found,) = place([(5, 5, k) for k in range(4, 8)], organs)
    assert (found.organ, found.relation, found.share, found.distance_mm) == ("liver", "in", 0.75, 0)


def test_less_than_half_is_touching():
    organs = empty()
    organs[5, 5, 4] = 2
    (found,) = place([(5, 5, k) for k in range(4, 8)], organs)
    assert (found.organ, found.relation, found.share) == ("kidney_left", "touches", 0.25)


def test_beside_it_counts_voxels_and_not_who_is_first():
    organs = empty()
    organs[5, 4, 5] = 1  # one voxel beside, 3 mm away
    organs[5, 6, 5], organs[6, 5, 5] = 4, 4  # two voxels beside, 3 and 2 mm away
    (found,) = place([(5, 5, 5)], organs)
    assert (found.organ, found.relation, found.share, found.distance_mm) == ("spleen", "touches", 0, 2)


def test_the_nearest_organ_within_reach_in_mm():
    organs = empty()
    organs[5, 5, 7] = 1  # 2 voxels, 10 mm
    organs[8, 5, 5] = 4  # 3 voxels, 6 mm
    (found,) = place([(5, 5, 5)], organs)
    assert (found.organ, found.relation, found.distance_mm) == ("spleen", "near", 6)
    organs[8, 5, 5] = 0
    (found,) = place([(5, 5, 5)], organs)
    assert (found.organ, found.distance_mm) == ("liver", NEAR_MM)
    organs[5, 5, 7], organs[5, 5, 8] = 0, 1  # 15 mm
    (found,) = place([(5, 5, 5)], organs)
    assert (found.organ, found.relation, found.share) == ("", "", 0) and math.isnan(found.distance_mm)


def test_fat_names_a_lesion_only_where_no_organ_is_near():
    organs = np.full((12, 12, 12), 3, np.uint8)
    organs[8, 5, 5] = 4
    near, far = place([(5, 5, 5), (5, 5, 0)], organs)
    assert (near.organ, near.relation, near.share) == ("spleen", "near", 0)
    assert (far.organ, far.relation, far.share) == ("torso_fat", "in", 1)


def test_a_label_without_a_name_is_no_organ():
    organs = empty()
    organs[5, 5, 5] = 9
    (found,) = place([(5, 5, 5)], organs)
    assert found.organ == ""


def test_places_follow_the_numbers_of_the_lesions():
    organs = empty()
    organs[1, 1, 1], organs[9, 9, 8:] = 1, 4
    found = place([(1, 1, 1), (9, 9, 9), (9, 9, 10)], organs)
    assert [(p.lesion, p.organ) for p in found] == [(1, "spleen"), (2, "liver")]


def landmarks(**heights):
    """Return a map on 10 mm voxels with each organ between two heights (mm)."""
    array = np.zeros((3, 3, 120), np.uint8)
    names = dict(enumerate(heights, start=1))
    for label, (low, high) in enumerate(heights.values(), start=1):
        array[1, label % 3, low // 10 : high // 10 + 1] = label
    return Volume(array, np.diag([10.0, 10, 10, 1])), names


def test_levels_by_hand():
    # 101 and more voxels would be needed for the outer percentage to be a whole voxel; these are its interpolations.
    volume, names = landmarks(lungs=(700, 1000), liver=(600, 800), hip_left=(200, 500), hip_right=(200, 490))
    levels = region_levels(volume, names)
    assert levels == pytest.approx({"thorax": 997, "abdomen": 798, "pelvis": 497, "legs": 202.9}, abs=0.11)
    heights = {1100: "head_neck", 998: "head_neck", 990: "thorax", 799: "thorax", 790: "abdomen", 500: "abdomen",
               490: "pelvis", 210: "pelvis", 190: "legs", -50: "legs"}  # fmt: skip
    assert {z: region_at(z, levels) for z in heights} == heights


def test_a_map_without_hip_bones_uses_kidneys_and_bladder():
    volume, names = landmarks(liver=(600, 800), kidneys=(500, 600), urinary_bladder=(300, 400))
    levels = region_levels(volume, names)
    assert "thorax" not in levels
    assert levels["pelvis"] == pytest.approx(501, abs=0.2)
    assert levels["legs"] == pytest.approx(301 - LEGS_BELOW_BLADDER_MM, abs=0.2)
    assert region_at(900, levels) == ""  # chest or head: the map does not tell
    assert region_at(700, levels) == "abdomen" and region_at(100, levels) == "legs"


def test_no_landmark_no_region():
    assert region_at(0, {}) == ""
    assert place([(5, 5, 5)], empty())[0].region == ""


def test_refusals():
    lesions = measure_lesions(Volume(np.ones((3, 3, 3)), GRID), Volume(np.ones((3, 3, 3), np.uint8), GRID))
    with pytest.raises(GeometryError, match="organ map"):
        place_lesions(lesions, Volume(np.ones((3, 3, 3), np.uint8), np.eye(4)), NAMES)
    with pytest.raises(InputError, match="fractions"):
        place_lesions(lesions, Volume(np.full((3, 3, 3), 0.5), GRID), NAMES)


def test_lesions_of_a_real_patient_lie_where_prostate_cancer_spreads(shared_data):
    from uptake.core.anatomy import AUTOPET_NAMES
    from uptake.io.image import read_labels

    folder = shared_data / "anatomy/psma_95b833d46f153cd2"
    organs, _ = read_labels(folder / "organs.nii.gz")
    lesions, _ = read_labels(folder / "lesion.nii.gz")
    table = measure_lesions(lesions.with_array(lesions.array + 1.0), lesions)
    places = place_lesions(table, organs, AUTOPET_NAMES)
    assert len(places) == 112 and all(place.region for place in places)
    assert {place.region for place in places} >= {"thorax", "abdomen", "pelvis"}
    json.dumps([place.organ for place in places])
