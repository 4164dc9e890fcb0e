from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from uptake.core.errors import GeometryError
from uptake.geometry import Volume


@pytest.fixture
def volume() -> Volume:
    affine = np.array([[0.0, -3.0, 0.0, 10.0], [2.0, 0.0, 0.0, 20.0], [0.0, 0.0, 5.0, 30.0], [0.0, 0.0, 0.0, 1.0]])
    return Volume(np.zeros((4, 5, 6)), affine, frame_of_reference="1.2.3")


def test_what_a_volume_says(volume):
    assert volume.shape == (4, 5, 6)
    assert volume.spacing_mm == (2.0, 3.0, 5.0)
    assert volume.origin_mm == (10.0, 20.0, 30.0)
    assert volume.orientation == "ALS"
    assert volume.voxel_volume_ml == pytest.approx(0.030)
    np.testing.assert_allclose(volume.direction, [[0, -1, 0], [1, 0, 0], [0, 0, 1]])


def test_world_by_hand(volume):
    np.testing.assert_allclose(volume.world_of(np.array([1, 2, 3])), [10 - 6, 20 + 2, 30 + 15])
    np.testing.assert_allclose(volume.index_of(np.array([[4.0, 22.0, 45.0]])), [[1, 2, 3]])


@given(st.tuples(*[st.floats(-1e3, 1e3)] * 3))
def test_index_and_world_are_inverse(point):
    affine = np.diag([2.0, 3.0, 5.0, 1.0])
    affine[0, 1], affine[:3, 3] = 0.7, [1.0, -2.0, 3.0]
    volume = Volume(np.zeros((1, 1, 1)), affine)
    np.testing.assert_allclose(volume.index_of(volume.world_of(np.array(point))), point, atol=1e-9)


def test_voxel_volume_of_a_sheared_grid_is_the_determinant():
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[0, 1] = 1.0
    assert Volume(np.zeros((1, 1, 1)), affine).voxel_volume_ml == pytest.approx(0.008)


def test_another_image_on_the_same_grid(volume):
    other = volume.with_array(np.ones((4, 5, 6), np.uint8))
    assert other.frame_of_reference == "1.2.3"
    np.testing.assert_array_equal(other.affine, volume.affine)
    with pytest.raises(GeometryError, match=r"\(4, 5, 5\) does not fit a grid of shape \(4, 5, 6\)"):
        volume.with_array(np.ones((4, 5, 5)))


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 6, 1), (4, 0, 6), ()])
def test_three_axes_with_voxels_are_needed(shape):
    with pytest.raises(GeometryError, match="three axes"):
        Volume(np.zeros(shape), np.eye(4))


def test_an_affine_of_its_own_and_frozen(volume):
    affine = np.eye(4)
    made = Volume(np.zeros((1, 1, 1)), affine)
    affine[0, 0] = 99
    assert made.spacing_mm == (1.0, 1.0, 1.0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.array = np.ones((1, 1, 1))
