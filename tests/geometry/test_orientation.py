from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from uptake.core.errors import GeometryError
from uptake.geometry import AxisChange, Volume, axis_change, reorient

CODES = ["".join(letters) for pairs in permutations(["RL", "AP", "SI"]) for letters in product(*pairs)]


def volume(code: str = "RAS", degrees: float = 0.0) -> Volume:
    """(2, 3, 4) numbered voxels; oblique about z, anisotropic, in the orientation asked for."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    affine = np.eye(4)
    affine[:3, :3] = np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]]) * [2.0, 3.0, 5.0]
    affine[:3, 3] = [-30.0, 12.0, 400.0]
    return reorient(Volume(np.arange(24).reshape(2, 3, 4), affine, frame_of_reference="1.2"), code)


def test_there_are_48_orientations():
    assert len(set(CODES)) == 48


def test_by_hand():
    flipped = reorient(volume(), "LAS")
    assert flipped.array[0, 0, 0] == 12  # was (1, 0, 0)
    np.testing.assert_allclose(flipped.origin_mm, (-28.0, 12.0, 400.0))
    turned = reorient(volume(), "SAR")
    assert turned.shape == (4, 3, 2)
    assert turned.array[3, 1, 0] == volume().array[0, 1, 3]
    assert turned.spacing_mm == (5.0, 3.0, 2.0)


@given(st.sampled_from(CODES), st.sampled_from(CODES), st.floats(-40, 40))
def test_no_voxel_leaves_its_place(start, target, degrees):
    before = volume(start, degrees)
    after = reorient(before, target)
    assert after.orientation == target
    assert after.frame_of_reference == "1.2"
    world = {value: before.world_of(np.array(index)) for index, value in np.ndenumerate(before.array)}
    for index, value in np.ndenumerate(after.array):
        np.testing.assert_allclose(after.world_of(np.array(index)), world[value], atol=1e-9)


@given(st.sampled_from(CODES), st.sampled_from(CODES))
def test_there_and_back_is_exact(start, target):
    before = volume(start, 25.0)
    change = axis_change(before.affine, target)
    np.testing.assert_array_equal(change.inverse().apply(change.apply(before.array)), before.array)
    after = change.apply(before.array)
    there = before.affine @ change.matrix(before.array.shape)
    back = there @ change.inverse().matrix(after.shape)
    np.testing.assert_allclose(back, before.affine, atol=1e-9)


@given(st.permutations([0, 1, 2]), st.tuples(st.booleans(), st.booleans(), st.booleans()))
def test_inverse_of_the_inverse(order, flips):
    change = AxisChange((order[0], order[1], order[2]), flips)
    assert change.inverse().inverse() == change


@pytest.mark.parametrize("code", ["RRS", "RA", "RASL", "XYZ", ""])
def test_no_orientation_is_refused(code):
    with pytest.raises(GeometryError, match="is no orientation"):
        axis_change(np.eye(4), code)


def test_lower_case_is_accepted():
    assert reorient(volume(), "lps").orientation == "LPS"
