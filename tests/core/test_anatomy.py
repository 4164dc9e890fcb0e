from __future__ import annotations

import csv

import pytest

from uptake.core.anatomy import AUTOPET_NAMES, GROUPINGS, TOTAL, TOTAL_NAMES, class_table, classes_of
from uptake.core.errors import UsageError
from uptake.simulation.labels import ORGAN_NAMES


def test_the_classes_are_totalsegmentators(shared_data):
    with (shared_data / "anatomy/totalsegmentator/classes.csv").open() as file:
        rows = [(int(row["id"]), row["name"]) for row in csv.DictReader(file)]
    assert dict(rows) == TOTAL_NAMES


def test_numbers_that_are_known_by_heart():
    assert (len(TOTAL), len(set(TOTAL))) == (117, 117)
    known = {1: "spleen", 5: "liver", 21: "urinary_bladder", 27: "vertebrae_L5", 50: "vertebrae_C1", 51: "heart"}
    assert {number: TOTAL_NAMES[number] for number in known} == known
    assert {number: TOTAL_NAMES[number] for number in (90, 92, 117)} == {
        90: "brain", 92: "rib_left_1", 117: "costal_cartilages",
    }  # fmt: skip


def test_simulated_organs_have_the_same_numbers():
    assert {number: ORGAN_NAMES[number] for number in range(1, 118)} == TOTAL_NAMES


@pytest.mark.parametrize(("grouping", "classes"), [("lesiontracer", 11), ("lesiontracer-published", 11), ("ldos", 19)])
def test_classes_of_a_grouping(grouping, classes):
    assert len(classes_of(grouping)) == classes
    parts = [part for members in GROUPINGS[grouping].values() for part in members]
    assert len(parts) == len(set(parts))


def test_an_unknown_grouping():
    with pytest.raises(UsageError, match="'ldo' is no grouping of organs; known are lesiontracer"):
        classes_of("ldo")


def test_organs_are_merged_by_name():
    table = class_table(TOTAL_NAMES, classes_of("ldos"))
    names = classes_of("ldos")
    found = {TOTAL_NAMES[value]: names[table[value]] for value in TOTAL_NAMES}
    assert found["kidney_left"] == found["kidney_right"] == "kidney"
    assert found["vertebrae_S1"] == found["sacrum"] == "sacrum"
    assert found["vertebrae_C7"] == "vertebrae"
    assert found["kidney_cyst_left"] == found["rib_left_3"] == "background"
    assert table[0] == 0


def test_a_heart_in_parts_is_one_heart():
    names = {1: "heart_myocardium", 2: "heart_ventricle_left", 3: "heart", 4: "bladder_wall"}
    classes = classes_of("ldos")
    found = [classes[value] for value in class_table(names, classes)[1:]]
    assert found == ["heart", "heart", "heart", "urinary_bladder"]


def test_published_organ_maps_keep_their_numbers_and_lose_the_slip_where_it_is_not_wanted():
    assert class_table(AUTOPET_NAMES, classes_of("lesiontracer-published")).tolist() == list(range(11))
    assert class_table(AUTOPET_NAMES, classes_of("lesiontracer")).tolist() == [*range(10), 0]


def test_a_class_of_another_grouping_is_taken_where_all_its_parts_are():
    classes = classes_of("ldos")
    found = {AUTOPET_NAMES[value]: classes[new] for value, new in enumerate(class_table(AUTOPET_NAMES, classes)) if new}
    assert found == {
        "spleen": "spleen", "kidneys": "kidney", "liver": "liver", "urinary_bladder": "urinary_bladder",
        "lungs": "lung", "brain": "brain", "heart": "heart", "stomach": "stomach",
    }  # fmt: skip
    # Back again: the vertebrae are no class there, and one kidney is not taken for both.
    names = dict(enumerate(classes_of("ldos")[1:], start=1))
    there = classes_of("lesiontracer")
    assert {names[v]: there[n] for v, n in enumerate(class_table(names, there)) if n} == {
        new: old for old, new in found.items()
    }  # fmt: skip
    assert class_table({1: "kidneys", 2: "spleen"}, ("background", "kidney_left", "spleen")).tolist() == [0, 0, 2]


def test_the_slip_is_made_only_by_name():
    glands = {
        1: "parotid_gland_left",
        2: "submandibular_gland_left",
        3: "submandibular_gland_right",
        4: "optic_nerve_right",
    }
    assert (class_table(glands, classes_of("lesiontracer")) > 0).tolist() == [False, True, True, True, False]
    slipped = class_table({**glands, 5: "spleen"}, classes_of("lesiontracer-published"))
    assert (slipped > 0).tolist() == [False, True, False, True, True, True]


def test_maps_of_another_kind():
    with pytest.raises(UsageError, match=r"none of the organ labels \(femur bone, …\) belongs"):
        class_table({1: "femur bone"}, classes_of("ldos"))


def test_the_18_organs_are_those_of_the_papers_table():
    """Numbers of TotalSegmentator's task "total", version 2, in the order of table 1 of LDOS."""
    published = {
        "spleen": [1], "colon": [20], "urinary_bladder": [21], "sacrum": [25, 26], "vertebrae": [*range(27, 51)],
        "heart": [51], "aorta": [52], "clavicula": [73, 74], "femur": [75, 76], "hip": [77, 78],
        "autochthon": [86, 87], "kidney": [2, 3], "brain": [90], "liver": [5], "stomach": [6], "pancreas": [7],
        "lung": [*range(10, 15)], "esophagus": [15],
    }  # fmt: skip
    assert classes_of("ldos")[1:] == tuple(published)
    table = class_table(TOTAL_NAMES, classes_of("ldos"))
    for number, (organ, values) in enumerate(published.items(), start=1):
        assert [value for value in TOTAL_NAMES if table[value] == number] == values, organ
    # Parts that version 2 has no number for: chambers of the heart, the bladder's wall.
    extra = {part for parts in GROUPINGS["ldos"].values() for part in parts} - set(TOTAL)
    assert extra == {part for part in GROUPINGS["ldos"]["heart"] if part != "heart"} | {"bladder_wall"}
