from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from uptake.gate.overview import block_means, ct_overview, pet_overview
from uptake.geometry.orientation import reorient
from uptake.geometry.volume import Volume


def test_block_means_by_hand_with_the_affine_moved_to_the_middle_of_the_block():
    array = np.arange(5 * 2 * 3, dtype=np.int16).reshape(5, 2, 3)
    affine = np.diag([4.0, 8.0, 3.0, 1.0])
    affine[:3, 3] = (10, 20, 30)
    reduced = block_means(Volume(array, affine), 8.0)  # blocks of 2, 1 and 3 voxels; the fifth plane is left over
    assert reduced.shape == (2, 2, 1)
    assert reduced.array[0, 0, 0] == array[0:2, 0, :].mean()
    assert reduced.array[1, 1, 0] == array[2:4, 1, :].mean()
    assert reduced.origin_mm == (12.0, 20.0, 33.0) and reduced.spacing_mm == (8.0, 8.0, 9.0)


@pytest.mark.parametrize("order", ["C", "F"])
def test_block_means_do_not_depend_on_the_order_in_memory(order):
    array = np.random.default_rng(3).random((9, 8, 11))
    there = block_means(Volume(np.asarray(array, order=order), np.diag([3.0, 4.0, 2.0, 1.0])), 8.0)
    want = array[:9, :8, :8].reshape(3, 3, 4, 2, 2, 4).mean(axis=(1, 3, 5))
    np.testing.assert_allclose(there.array, want, rtol=1e-6)


@given(st.permutations("RAS"), st.tuples(*[st.booleans()] * 3))
def test_the_overview_does_not_depend_on_how_the_voxels_are_stored(order, flips):
    rng = np.random.default_rng(0)
    volume = Volume(rng.random((12, 10, 14)).astype(np.float32), np.diag([8.0, 8.0, 8.0, 1.0]))
    opposite = {"R": "L", "A": "P", "S": "I"}
    code = "".join(opposite[letter] if flip else letter for letter, flip in zip(order, flips, strict=True))
    here, there = pet_overview(volume), pet_overview(reorient(volume, code))
    np.testing.assert_allclose(there.image, here.image, atol=1e-5)
    assert (there.body == here.body).all() and there.origin_mm == pytest.approx(here.origin_mm)


def test_an_oblique_scan_has_corners_without_voxels_and_a_patient_at_the_same_place(turned):
    pet = np.zeros((30, 30, 30), np.float32)
    pet[8:22, 8:22, 5:25] = 1.0
    volume = Volume(pet, turned)
    view = pet_overview(volume)
    assert 0.5 < view.inside.mean() < 0.95
    centre = view.world(np.argwhere(view.body).mean(axis=0))
    np.testing.assert_allclose(centre, volume.world_of(np.argwhere(pet > 0).mean(axis=0)), atol=4.0)
    litres = view.body.sum() * view.voxel_ml / 1000
    assert litres == pytest.approx((pet > 0).sum() * volume.voxel_volume_ml / 1000, rel=0.25)


def test_lungs_are_inside_the_patient_and_the_air_and_the_couch_are_not():
    hu = np.full((60, 60, 20), -1000.0, np.float32)
    hu[10:50, 15:45] = 40.0
    hu[15:25, 20:40] = -800.0  # open above and below, closed in every slice
    hu[12:48, 8:9] = -250.0  # a thin couch
    view = ct_overview(Volume(hu, np.diag([8.0, 8.0, 8.0, 1.0])))
    assert view.body[20, 30, 10] and not view.body[30, 8, 10] and not view.body[2, 2, 10]
    assert view.midline_index[10] == pytest.approx(29.5, abs=0.5)
    assert view.section_cm2[10] == pytest.approx(40 * 30 * 0.64, rel=0.02)


def test_padding_below_air_is_air():
    hu = np.full((20, 20, 20), -3024.0, np.float32)
    assert ct_overview(Volume(hu, np.diag([8.0, 8.0, 8.0, 1.0]))).image.min() == -1024.0


def test_where_the_patient_meets_the_side_of_the_field_is_measured_in_mm():
    pet = np.zeros((30, 30, 10), np.float32)
    pet[0:20, 10:20, :5] = 1.0
    view = pet_overview(Volume(pet, np.diag([8.0, 8.0, 8.0, 1.0])))
    assert view.side_contact_mm[2] == pytest.approx(80.0, abs=17) and view.side_contact_mm[9] == 0.0
