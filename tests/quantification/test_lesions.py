import json
import math

import numpy as np
import pytest

from uptake.core.errors import GeometryError, InputError, UsageError
from uptake.geometry import Volume, reorient
from uptake.quantification.lesions import measure_lesions
from uptake.quantification.tables import LESION_COLUMNS, lesion_rows, lps, table_as_json

GRID = np.array([[2.0, 0, 0, -10], [0, 3, 0, 20], [0, 0, 5, 100], [0, 0, 0, 1]])
"""Voxels of 0.03 mL."""


def hand_case():
    """Return a PET and a mask with three voxels (4, 6, 8 SUV) and one voxel (5 SUV), apart."""
    pet, mask = np.full((6, 6, 6), 1.0, np.float32), np.zeros((6, 6, 6), np.uint8)
    pet[1, 1, 1:4] = (4, 6, 8)
    mask[1, 1, 1:4] = 1
    pet[4, 4, 4] = 5
    mask[4, 4, 4] = 1
    return Volume(pet, GRID), Volume(mask, GRID)


def ball(radius_mm, spacing):
    """Return a ball whose centre lies between voxels, so that the grid does not favour its edge."""
    half = [math.ceil(radius_mm / s) + 2 for s in spacing]
    volume = Volume(np.zeros([2 * h for h in half]), np.diag([*spacing, 1]))
    index = np.stack(np.meshgrid(*map(np.arange, volume.shape), indexing="ij"), axis=-1)
    centre = volume.world_of(np.array(half) - (0.29, 0.41, 0.13))
    return volume.with_array(np.linalg.norm(volume.world_of(index) - centre, axis=-1) <= radius_mm)


def test_counted_by_hand():
    table = measure_lesions(*hand_case())
    first, second = table.lesions
    assert (first.lesion, first.voxels, second.lesion, second.voxels) == (1, 3, 2, 1)
    assert first.volume_ml == first.mtv_ml == pytest.approx(0.09)
    assert (first.suv_max, first.suv_mean) == (8, 6)
    assert first.tlg_g == pytest.approx(0.54)
    assert first.centroid_mm == (-8, 23, 110) and first.hottest_mm == (-8, 23, 115)
    totals = table.totals
    assert (totals.lesions, totals.suv_max) == (2, 8)
    assert totals.mtv_ml == pytest.approx(0.12) and totals.tlg_g == pytest.approx(0.69)
    assert totals.suv_mean == pytest.approx(23 / 4)
    assert totals.spread_mm == pytest.approx(math.dist((-8, 23, 110), (-2, 32, 120)))
    assert sorted(np.unique(table.numbered.array)) == [0, 1, 2]
    assert table.numbered.array[1, 1, 2] == 1 and table.numbered.array[4, 4, 4] == 2


@pytest.mark.parametrize(
    ("method", "voxels", "mean"), [("mask", 3, 6), ("suv4", 3, 6), ("75%", 2, 7), ("suv6.5", 1, 8), ("100%", 1, 8)]
)
def test_mtv_and_tlg_follow_the_named_rule(method, voxels, mean):
    table = measure_lesions(*hand_case(), mtv_method=method)
    lesion = table.lesions[0]
    assert table.mtv_method == method
    assert lesion.volume_ml == pytest.approx(0.09)
    assert lesion.mtv_ml == pytest.approx(0.03 * voxels) and lesion.suv_mean == mean
    assert lesion.tlg_g == pytest.approx(lesion.mtv_ml * lesion.suv_mean)


def test_a_rule_that_leaves_nothing_is_named_and_gives_null():
    table = measure_lesions(*hand_case(), mtv_method="suv20")
    assert table.totals.mtv_ml == table.totals.tlg_g == 0 and table.totals.lesions == 2
    assert "no voxel reaches" in table.warnings[-1]
    assert lesion_rows(table)[0]["suv_mean"] is None
    json.dumps(table_as_json(table), allow_nan=False)


@pytest.mark.parametrize("spacing", [(4.0, 4.0, 4.0), (4.07, 4.07, 3.0)])
def test_volume_of_a_ball(spacing):
    mask = ball(22, spacing)
    table = measure_lesions(mask.with_array(mask.array * 3.0 + 1), mask)
    assert table.totals.mtv_ml == pytest.approx(4 / 3 * math.pi * 22**3 / 1000, rel=0.02)
    assert table.totals.tlg_g == pytest.approx(table.totals.mtv_ml * 4.0)
    assert table.totals.suv_peak == pytest.approx(4.0)


def test_sums_hold_on_random_images():
    rng = np.random.default_rng(1)
    pet = Volume(rng.gamma(2, 1.5, (20, 18, 16)).astype(np.float32), GRID)
    mask = pet.with_array(rng.random(pet.shape) > 0.9)
    for method in ("mask", "41%", "suv2.5"):
        table = measure_lesions(pet, mask, mtv_method=method)
        assert sum(lesion.mtv_ml for lesion in table.lesions) == pytest.approx(table.totals.mtv_ml)
        assert sum(lesion.tlg_g for lesion in table.lesions) == pytest.approx(table.totals.tlg_g)
        assert all(lesion.suv_peak <= pet.array.max() and lesion.suv_mean <= lesion.suv_max + 1e-6
                   for lesion in table.lesions if lesion.mtv_ml)  # fmt: skip
    whole = float(pet.array[mask.array].sum(dtype=np.float64)) * pet.voxel_volume_ml
    assert measure_lesions(pet, mask).totals.tlg_g == pytest.approx(whole)


@pytest.mark.parametrize(("connectivity", "lesions"), [(6, 3), (18, 2), (26, 1)])
def test_connectivity_is_counted_and_stated(connectivity, lesions):
    mask = np.zeros((5, 5, 5), bool)
    mask[1, 1, 1] = mask[2, 2, 1] = mask[3, 3, 2] = True
    table = measure_lesions(Volume(np.ones((5, 5, 5)), GRID), Volume(mask, GRID), connectivity=connectivity)
    assert table.totals.lesions == lesions
    assert table_as_json(table)["connectivity"] == connectivity


def test_turning_the_array_changes_neither_numbers_nor_numbering():
    rng = np.random.default_rng(2)
    angle = 0.4
    affine = GRID.copy()
    affine[:2, :2] = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]) @ GRID[:2, :2]
    pet = Volume(rng.gamma(2, 1.5, (14, 13, 12)), affine)
    mask = pet.with_array((rng.random(pet.shape) > 0.93).astype(np.uint8))
    here = measure_lesions(pet, mask)
    there = measure_lesions(reorient(pet, "PSL"), reorient(mask, "PSL"))
    assert len(here.lesions) > 20
    for a, b in zip(here.lesions, there.lesions, strict=True):
        assert a.lesion == b.lesion and a.voxels == b.voxels
        assert a.suv_peak == pytest.approx(b.suv_peak, rel=1e-9) and a.tlg_g == pytest.approx(b.tlg_g)
        np.testing.assert_allclose(a.centroid_mm, b.centroid_mm, atol=1e-6)
        np.testing.assert_allclose(a.hottest_mm, b.hottest_mm, atol=1e-6)


def test_empty_mask_gives_an_empty_table_with_zero_totals():
    pet, mask = hand_case()
    table = measure_lesions(pet, mask.with_array(np.zeros(mask.shape, np.uint8)))
    assert table.lesions == () and lesion_rows(table) == []
    totals = table_as_json(table)["totals"]
    assert set(totals.values()) == {0}
    assert not table.numbered.array.any()


def test_small_components_are_left_out_and_counted():
    pet, mask = hand_case()
    table = measure_lesions(pet, mask, min_volume_ml=0.05)
    assert (table.totals.lesions, table.left_out) == (1, 1) and table.left_out_ml == pytest.approx(0.03)
    assert table.numbered.array[4, 4, 4] == 0
    assert measure_lesions(pet, mask, min_volume_ml=0.03).left_out == 0


def test_rows_and_json_carry_units_and_both_world_frames():
    table = measure_lesions(*hand_case())
    rows = lesion_rows(table)
    assert all(tuple(row) == LESION_COLUMNS for row in rows)
    assert (rows[0]["centroid_x_mm"], rows[0]["centroid_y_mm"], rows[0]["centroid_z_mm"]) == (-8, 23, 110)
    entry = json.loads(json.dumps(table_as_json(table), allow_nan=False))["lesions"][0]
    assert entry["hottest_ras_mm"] == [-8, 23, 115] and entry["hottest_lps_mm"] == [8, -23, 115]
    assert math.copysign(1, lps((0.0, 0.0, 0.0))[0]) == 1


def test_mask_on_another_grid_is_refused_with_the_distance():
    pet, mask = hand_case()
    moved = GRID.copy()
    moved[2, 3] += 5
    with pytest.raises(GeometryError, match=r"5\.00 mm apart"):
        measure_lesions(pet, Volume(mask.array, moved))
    with pytest.raises(GeometryError, match="frames of reference"):
        measure_lesions(
            Volume(pet.array, GRID, frame_of_reference="1.2.3"), Volume(mask.array, GRID, frame_of_reference="1.2.4")
        )


def test_bad_input_is_refused():
    pet, mask = hand_case()
    with pytest.raises(InputError, match="NaN"):
        measure_lesions(pet.with_array(np.where(mask.array, np.nan, 1)), mask)
    with pytest.raises(InputError, match="fractions"):
        measure_lesions(pet, mask.with_array(mask.array * 0.5))
    with pytest.raises(UsageError, match="min_volume_ml"):
        measure_lesions(pet, mask, min_volume_ml=-1)
    with pytest.raises(UsageError, match="connectivity"):
        measure_lesions(pet, mask, connectivity=4)
    with pytest.raises(UsageError, match="MTV rule"):
        measure_lesions(pet, mask, mtv_method="liver")
    with pytest.raises(UsageError, match="MTV rule"):
        measure_lesions(pet, mask.with_array(mask.array * 0), mtv_method="liver")


def test_real_scan(shared_data):
    nibabel = pytest.importorskip("nibabel")
    pet, mask = (nibabel.load(shared_data / "sts" / "STS_044" / f"{n}.nii.gz") for n in ("pet", "lesion"))
    table = measure_lesions(Volume(pet.get_fdata(), pet.affine), Volume(np.asarray(mask.dataobj), mask.affine))
    # The README of the data: two pieces, 637 and 4 mL.
    assert [round(lesion.volume_ml) for lesion in table.lesions] == [637, 4]
    assert table.totals.suv_max == pytest.approx(3.63, abs=0.005)
