import numpy as np
import pytest

from uptake.geometry import Volume
from uptake.quantification.region_shapes import ball, clear_of, cylinder, posterior_depth

PET = Volume(np.zeros((9, 9, 9)), np.diag([2.0, 3, 5, 1]))


def test_a_ball_by_hand():
    # Radius 5 mm on 2 x 3 x 5 mm: along the axes 2, 1 and 1 voxels; 2i, 3j with 4i² + 9j² <= 25 in the middle plane.
    offsets = {tuple(o) for o in ball(PET, 5.0).tolist()}
    plane = {(i, j) for i in range(-2, 3) for j in range(-1, 2) if 4 * i * i + 9 * j * j <= 25}
    assert offsets == {(i, j, 0) for i, j in plane} | {(0, 0, 1), (0, 0, -1)}


def test_a_cylinder_stands_upright_on_any_grid():
    offsets = cylinder(PET, 3.0, 10.0)
    assert {tuple(o) for o in offsets[offsets[:, 2] == 0, :2].tolist()} == {(0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)}
    assert sorted(set(offsets[:, 2].tolist())) == [-1, 0, 1] and len(offsets) == 15
    turned = Volume(np.zeros((9, 9, 9)), PET.affine[:, [2, 0, 1, 3]])  # heights along the first array axis
    assert {tuple(o) for o in cylinder(turned, 3.0, 10.0).tolist()} == {(k, i, j) for i, j, k in offsets.tolist()}


def test_clear_of_sees_lesions_beside_the_box():
    lesions = np.zeros((9, 9, 9), bool)
    lesions[0, 4, 4] = True
    box = (slice(2, 7), slice(4, 5), slice(4, 5))
    assert clear_of(lesions, box, (2.0, 3.0, 5.0), 7.0)[:, 0, 0].tolist() == [False, False, True, True, True]  # 4 to 12
    assert clear_of(np.zeros_like(lesions), box, (2.0, 3.0, 5.0), 7.0).all()


def test_what_lies_at_the_back_and_is_large_enough():
    plane = np.zeros((9, 9), bool)
    plane[2:5, 5:8] = True  # in front
    plane[2:5, 1:4] = True  # at the back
    plane[7, 0] = True  # further back, one voxel of 6 mm²
    depth = posterior_depth(plane, (2.0, 3.0, 5.0), least_mm2=20.0)
    assert depth[3, 2] == pytest.approx(4.0) and depth[2, 1] == 2.0
    assert not depth[:, 5:].any() and depth[7, 0] == 0
    assert not posterior_depth(plane, (2.0, 3.0, 5.0), least_mm2=1000.0).any()
    assert not posterior_depth(np.zeros((4, 4), bool), (2.0, 3.0, 5.0), least_mm2=1.0).any()
