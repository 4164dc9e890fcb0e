import json
from dataclasses import replace

import numpy as np
import pytest

from uptake.core.errors import UsageError
from uptake.geometry import Volume
from uptake.quantification.assessment import NO_MAP, Assessment, assess
from uptake.quantification.assessment_tables import (
    MEASUREMENT_COLUMNS,
    assessment_as_json,
    lesion_context,
    measurement_rows,
)
from uptake.quantification.lesions import measure_lesions
from uptake.quantification.reference_regions import NoReference
from uptake.quantification.report_assessment import (
    MANY_ORGANS,
    criteria_in_words,
    lesion_cells,
    organ_cells,
    place_in_words,
    reference_cells,
)
from uptake.quantification.response import Patient
from uptake.quantification.tables import CONTEXT_COLUMNS, LESION_COLUMNS, lesion_rows, table_as_json

NAMES = {1: "liver", 2: "spleen"}
FDG = Patient("FDG", True, sul_factor=0.75, body_surface_m2=2.0)


@pytest.fixture(scope="module")
def scan():
    """PET of 4 mm voxels: a liver of 2 SUV on the right, a spleen of 3, a lesion of 7 in it and one of 3.5 outside."""
    shape = (60, 40, 40)
    i, j, k = np.indices(shape)
    organs = np.zeros(shape, np.uint8)
    organs[(i - 38) ** 2 / 16**2 + (j - 20) ** 2 / 13**2 + (k - 20) ** 2 / 14**2 <= 1] = 1
    organs[(i - 10) ** 2 + (j - 14) ** 2 + (k - 20) ** 2 <= 36] = 2
    pet = np.choose(organs, (0.5, 2.0, 3.0))
    lesions = np.zeros(shape, np.uint8)
    lesions[9:12, 13:16, 19:22] = 1
    lesions[4:6, 30:32, 36:38] = 1
    pet[9:12, 13:16, 19:22] = 7.0
    pet[4:6, 30:32, 36:38] = 3.5
    grid = np.diag([4.0, 4, 4, 1])
    return Volume(pet, grid), Volume(organs, grid), measure_lesions(Volume(pet, grid), Volume(lesions, grid))


@pytest.fixture(scope="module")
def found(scan) -> Assessment:
    pet, organs, table = scan
    return assess(pet, table, patient=FDG, organs=organs, names=NAMES)


def test_lesions_of_a_scan_against_its_organs(scan, found):
    table = scan[2]
    assert found.liver.suv_mean == pytest.approx(2.0) and found.liver.suv_sd == pytest.approx(0)
    assert isinstance(found.blood_pool, NoReference)
    first, second = lesion_context(found)
    assert (first["organ"], first["organ_relation"], first["organ_share"]) == ("spleen", "in", 1)
    assert second["organ"] is second["organ_distance_mm"] is None
    # Threshold 1.5 x 2.0 x 0.75 SUL; the 27 voxels of 7 SUV fill the 1 mL sphere, the 8 of 3.5 hold half of it.
    assert found.percist.threshold == pytest.approx(2.25)
    assert first["sul_peak"] == pytest.approx(7 * 0.75, abs=0.05) and first["percist_measurable"] is True
    assert second["percist_measurable"] is False
    assert (first["deauville"], second["deauville"]) == (5, 4) and found.deauville.score == 5
    assert first["liver_ratio"] == pytest.approx(3.5) and first["blood_pool_ratio"] is None
    spread = np.linalg.norm(np.subtract(table.lesions[0].centroid_mm, table.lesions[1].centroid_mm))
    assert found.spread_per_m == pytest.approx(spread / 1000 / 2.0)
    assert found.spread_voxels_per_m > found.spread_per_m
    assert any("no blood-pool reference" in warning for warning in found.warnings)


def test_lesions_are_taken_out_of_their_organ(found):
    assert found.organs.find("spleen").suv_max == 3.0 and found.organs.without_lesions


def test_the_one_table_holds_references_organs_and_lesions(scan, found):
    rows = measurement_rows(scan[2], found)
    assert [(row["kind"], row["name"]) for row in rows] == [
        ("reference", "liver"), ("organ", "liver"), ("organ", "spleen"), ("lesion", "1"), ("lesion", "2"),
    ]  # fmt: skip
    assert all(tuple(row) == MEASUREMENT_COLUMNS for row in rows)
    spleen = rows[2]
    assert spleen["lesions"] == 1 and spleen["lesion_ml"] == pytest.approx(27 * 0.064)


def test_json_has_no_nan_and_sums_by_organ(scan, found):
    table = scan[2]
    content = assessment_as_json(table, found)
    json.dumps(content, allow_nan=False)
    assert [(row["name"], row["lesions"]) for row in content["by_organ"]] == [("spleen", 1), (None, 1)]
    assert sum(row["mtv_ml"] for row in content["by_organ"]) == pytest.approx(table.totals.mtv_ml)
    assert content["references"][1] == {
        "name": "blood_pool", "placed": False, "reason": "the organ map has no aorta"
    }  # fmt: skip
    assert content["percist"]["hottest"] == 1 and content["patient"]["body_surface_m2"] == 2.0


def test_lesion_rows_take_the_context(scan, found):
    table = scan[2]
    rows = lesion_rows(table, lesion_context(found))
    assert all(tuple(row) == LESION_COLUMNS for row in rows)
    assert rows[0]["organ"] == "spleen" and table_as_json(table, lesion_context(found))["lesions"][0]["deauville"] == 5
    assert all(lesion_rows(table)[0][column] is None for column in CONTEXT_COLUMNS)


def test_without_an_organ_map_only_the_spread_is_known(scan):
    pet, _, table = scan
    alone = assess(pet, table, patient=FDG)
    assert alone.organs is None and alone.references == () and alone.liver.reason == NO_MAP
    assert NO_MAP in alone.percist.reason and alone.spread_per_m > 0
    json.dumps(assessment_as_json(table, alone), allow_nan=False)
    nobody = assess(pet, table)
    assert nobody.spread_per_m is None and "the tracer is not known" in nobody.deauville.reason


def test_the_spread_of_one_lesion_is_its_own_extent(scan, found):
    pet, organs, table = scan
    told = dict(criteria_in_words(table, found))["Spread (Dmax)"]
    assert "between the centroids" in told and " and " in told.rpartition("that is ")[2]
    single = measure_lesions(pet, table.numbered.with_array((table.numbered.array == 1).astype(np.uint8)))
    told = dict(criteria_in_words(single, assess(pet, single, patient=FDG, organs=organs, names=NAMES)))[
        "Spread (Dmax)"
    ]
    assert "centroids" not in told and told.endswith("over a body surface of 2.00 m² that is 0.01 per m (SDmax).")


def test_no_lesion(scan):
    pet, organs, _ = scan
    empty = measure_lesions(pet, pet.with_array(np.zeros(pet.shape, np.uint8)))
    found = assess(pet, empty, patient=FDG, organs=organs, names=NAMES)
    assert found.deauville.score == 1 and found.spread_per_m is None and lesion_context(found) == []
    assert [title for title, _ in criteria_in_words(empty, found)] == ["PERCIST 1.0", "Five-point score"]


def test_a_map_needs_names(scan):
    pet, organs, table = scan
    with pytest.raises(UsageError, match="names of its labels"):
        assess(pet, table, organs=organs)


def test_words_of_the_report(scan, found):
    table = scan[2]
    first, second = lesion_cells(found)
    assert (first.where, first.score, first.measurable) == ("spleen", "5", "yes")
    assert (second.where, second.measurable) == ("–", "no")
    near = replace(found.places[0], organ="aorta", relation="near", distance_mm=6.4)
    assert place_in_words(near) == "6 mm from aorta"
    assert place_in_words(replace(near, relation="touches", organ="kidney_left")) == "touches kidney left"
    assert place_in_words(replace(near, relation="", organ="", region="head_neck")) == "level of head and neck"
    liver, blood = reference_cells(found)
    assert liver.mean == pytest.approx(2) and blood.reason == "the organ map has no aorta"
    criteria = dict(criteria_in_words(table, found))
    assert criteria["PERCIST 1.0"].startswith(
        "measurable from SULpeak 2.25 (liver: 1.5 × 1.50 + 2 × 0.00): 1 of 2, the hottest is number 1"
    )
    assert criteria["Five-point score"].startswith("5,")
    assert "over a body surface of 2.00 m²" in criteria["Spread (Dmax)"]


def test_long_organ_tables_are_folded_but_not_the_organs_with_lesions(scan, found):
    shown, folded = organ_cells(found.organs, found, scan[2])
    assert [row.organ.organ for row in shown] == ["liver", "spleen"] and folded == []
    rib = found.organs.organs[0]
    many = replace(
        found.organs,
        organs=(*found.organs.organs, *(replace(rib, organ=f"rib_left_{n}", label=10 + n) for n in range(MANY_ORGANS))),
    )
    placed = replace(found, places=(replace(found.places[0], organ="rib_left_3"), found.places[1]))
    shown, folded = organ_cells(many, placed, scan[2])
    assert [row.organ.organ for row in shown] == ["liver", "spleen", "rib_left_3"]
    assert len(folded) == MANY_ORGANS - 1 and shown[2].lesions == 1
