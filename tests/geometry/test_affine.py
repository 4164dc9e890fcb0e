from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from uptake.core.errors import GeometryError
from uptake.geometry.affine import checked, compose, direction, orientation_code, orthonormalised, shear, spacing_mm


def rotation(degrees: float) -> np.ndarray:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def test_spacing_and_direction_of_an_oblique_affine():
    affine = compose(np.array([2.0, 3.0, 5.0]), rotation(30), np.array([1.0, 2.0, 3.0]))
    np.testing.assert_allclose(spacing_mm(affine), [2, 3, 5])
    np.testing.assert_allclose(direction(affine), rotation(30), atol=1e-12)
    np.testing.assert_allclose(affine @ [1, 0, 0, 1], [1 + 2 * np.cos(np.pi / 6), 2 + 2 * 0.5, 3, 1])


@pytest.mark.parametrize(
    ("diagonal", "code"),
    [((1, 1, 1), "RAS"), ((-1, -1, 1), "LPS"), ((-1, 1, 1), "LAS"), ((1, 1, -1), "RAI")],
)
def test_orientation_letters_name_where_axes_point_to(diagonal, code):
    assert orientation_code(np.diag([*diagonal, 1.0])) == code


@given(st.permutations([0, 1, 2]), st.tuples(*[st.sampled_from([-1.0, 1.0])] * 3), st.floats(-44, 44))
def test_orientation_uses_each_world_axis_once(order, signs, degrees):
    turned = rotation(degrees) @ np.eye(3)[:, order] * np.array(signs)
    code = orientation_code(compose(np.array([2.0, 3.0, 4.0]), turned, np.zeros(3)))
    assert code == "".join(("RAS" if sign > 0 else "LPI")[world] for world, sign in zip(order, signs))


def test_exact_ties_still_name_three_axes():
    code = orientation_code(compose(np.ones(3), rotation(45), np.zeros(3)))
    axes = ("RL", "AP", "IS")
    assert {next(axis for axis in axes if letter in axis) for letter in code} == set(axes)


def test_a_nearly_orthonormal_affine_is_repaired_and_told():
    affine = compose(np.array([2.0, 2.0, 3.0]), rotation(20), np.array([5.0, 6.0, 7.0]))
    bent = affine.copy()
    bent[0, 2] += 0.012  # 0.004 in a direction cosine
    repaired, moved = orthonormalised(bent, name="x.nii")
    assert 0.001 < moved < 0.005
    assert shear(repaired) < 1e-12
    np.testing.assert_allclose(spacing_mm(repaired), spacing_mm(bent))
    np.testing.assert_array_equal(repaired[:3, 3], bent[:3, 3])
    same, moved = orthonormalised(affine)
    np.testing.assert_array_equal(same, affine)
    assert moved == 0.0


def test_a_mirrored_affine_stays_mirrored():
    bent = np.diag([-2.0, 2.0, 3.0, 1.0])
    bent[1, 0] = 0.005
    repaired, _ = orthonormalised(bent)
    assert np.linalg.det(repaired[:3, :3]) < 0


def test_a_tilted_gantry_is_refused():
    tilted = np.diag([2.0, 2.0, 3.0, 1.0])
    tilted[1, 2] = 0.5
    with pytest.raises(GeometryError, match=r"x\.nii: its axes are not perpendicular .* allowed 0\.01"):
        orthonormalised(tilted, name="x.nii")


@pytest.mark.parametrize(
    ("affine", "message"),
    [
        (np.eye(3), "finite 4x4"),
        (np.full((4, 4), np.nan), "finite 4x4"),
        (np.diag([1.0, 1.0, 1.0, 2.0]), "last row"),
        (np.diag([1.0, 0.0, 1.0, 1.0]), "collapses an axis"),
        (np.array([[1.0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]), "collapses an axis"),
    ],
)
def test_unusable_affines_are_refused(affine, message):
    with pytest.raises(GeometryError, match=message):
        checked(affine)
    if affine.shape == (4, 4):
        with pytest.raises(GeometryError, match=message):
            orthonormalised(affine)
