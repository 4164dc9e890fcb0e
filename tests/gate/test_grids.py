from __future__ import annotations

import numpy as np
import pytest

from uptake.gate.grids import slice_finding, step_finding, voxel_finding
from uptake.geometry.volume import Volume


def volume(array, spacing=(4.0, 4.0, 4.0)):
    return Volume(array, np.diag([*spacing, 1.0]))


@pytest.mark.parametrize(
    ("spacing", "light"),
    [
        ((4.07, 4.07, 3.0), "green"), ((1.65, 1.65, 1.65), "green"), ((5.47, 5.47, 3.27), "green"),
        ((0.8, 0.8, 3.0), "amber"), ((2.0, 2.0, 7.0), "amber"), ((1.0, 1.0, 1.0), "amber"),
        ((0.4, 0.4, 0.4), "red"), ((0.4, 0.4, 0.3), "red"), ((4.0, 4.0, 20.0), "red"),
    ],
)  # fmt: skip
def test_voxel_sizes(spacing, light):
    assert str(voxel_finding(volume(np.zeros((20, 20, 20)), spacing)).light) == light


def test_a_field_longer_than_any_bed_has_lost_its_scale():
    assert str(voxel_finding(volume(np.zeros((4, 4, 500)), (4.0, 4.0, 5.0))).light) == "red"


@pytest.fixture
def slices():
    return np.random.default_rng(1).gamma(2.0, 0.5, (20, 21, 30)).astype(np.float32)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slices_run_along_the_head_foot_axis_whatever_the_storage(axis, slices):
    array = np.moveaxis(slices, 2, axis).copy()
    np.moveaxis(array, axis, 0)[12] = 0
    affine = np.zeros((4, 4))
    affine[2, axis], affine[3, 3] = 3.0, 1.0
    affine[0, (axis + 1) % 3] = affine[1, (axis + 2) % 3] = 4.0
    finding = slice_finding(Volume(array, affine))
    assert str(finding.light) == "red" and finding.details == {
        "blank_inside": 1, "blank_at_ends": 0, "repeated": 0, "slices": 30
    }  # fmt: skip


def test_doubled_slices_are_red_and_padding_is_amber(slices):
    assert str(slice_finding(volume(slices)).light) == "green"
    doubled = slices.copy()
    doubled[:, :, 11] = doubled[:, :, 10]
    assert slice_finding(volume(doubled)).details["repeated"] == 1
    assert str(slice_finding(volume(doubled)).light) == "red"
    padded = slices.copy()
    padded[:, :, :4] = 0
    assert str(slice_finding(volume(padded)).light) == "amber"
    assert slice_finding(volume(slices * 0)).details["blank_inside"] == 30


def test_eight_bit_images_are_told_by_their_steps():
    suv = np.random.default_rng(2).gamma(2.0, 0.6, (40, 40, 40)).astype(np.float32)
    suv[20, 20, 20] = 80.0
    assert str(step_finding(volume(suv)).light) == "green"
    step = 80.0 / 255
    eight = step_finding(volume(np.rint(suv / step) * step))
    assert str(eight.light) == "red" and eight.details["step_suv"] == pytest.approx(step, rel=0.01)
    assert str(step_finding(volume(np.rint(suv / 0.1) * 0.1)).light) == "amber"
    assert str(step_finding(volume(np.rint(suv / 0.0025) * 0.0025)).light) == "green"
    assert str(step_finding(volume(suv[:10, :10, :10])).light) == "grey"
    assert str(step_finding(volume(suv * 0)).light) == "grey"
