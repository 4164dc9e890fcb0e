"""Contours hold the voxels they were made from, by every way of reading them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from uptake.geometry.contours import INSET, inside_polygons, outlines, polygon_mask, runs_through_centres

masks = st.tuples(st.integers(1, 8), st.integers(1, 8)).flatmap(lambda shape: arrays(np.bool_, shape))


def square(low: float, high: float) -> np.ndarray:
    return np.array([[low, low], [high, low], [high, high], [low, high]])


def area(ring: np.ndarray) -> float:
    x, y = ring.T
    return abs(float(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1)))) / 2


def rings_of(mask: np.ndarray) -> list[np.ndarray]:
    return [ring for piece in outlines(mask) for ring in (piece.outer, *piece.holes)]


def test_a_square_holds_the_centres_inside_it():
    found = polygon_mask([square(0.5, 3.5)], (5, 6))
    assert found.sum() == 9
    assert found[1:4, 1:4].all()


def test_nested_contours_are_a_hole_and_an_island():
    found = polygon_mask([square(-0.5, 6.5), square(0.5, 5.5), square(1.5, 4.5)], (7, 7))
    expected = np.ones((7, 7), bool)
    expected[1:6, 1:6] = False
    expected[2:5, 2:5] = True
    assert (found == expected).all()


def test_two_regions_share_a_border_and_no_voxel():
    left = np.array([[0, 0], [2, 0], [2, 4], [0, 4.0]])
    right = left + np.array([2, 0])
    one, other = polygon_mask([left], (6, 6)), polygon_mask([right], (6, 6))
    assert not (one & other).any()
    assert (one | other).sum() == 16
    assert one[0, 0] and not one[2, 0] and other[2, 0] and not other[4, 0]


def test_a_border_through_centres_does_not_hang_on_rounding():
    rng = np.random.default_rng(3)
    expected = polygon_mask([square(1, 4)], (6, 6))
    for _ in range(20):
        assert (polygon_mask([square(1, 4) + rng.normal(0, 1e-9, (4, 2))], (6, 6)) == expected).all()


def test_contours_may_reach_beyond_the_plane():
    assert polygon_mask([square(-10, 30)], (4, 5)).all()
    assert not polygon_mask([square(40, 50)], (4, 5)).any()
    assert not polygon_mask([], (4, 5)).any()


@given(masks)
def test_a_mask_comes_back_from_its_contours(mask):
    rings = rings_of(mask)
    assert (polygon_mask(rings, mask.shape) == mask).all()
    keyholes = [piece.keyhole() for piece in outlines(mask)]
    assert (polygon_mask(keyholes, mask.shape) == mask).all()


@given(masks)
def test_keyholes_mean_the_same_by_union_and_by_even_odd(mask):
    union = np.zeros_like(mask)
    for piece in outlines(mask):
        found = polygon_mask([piece.keyhole()], mask.shape)
        assert not (union & found).any()
        union |= found
    assert (union == mask).all()


@given(masks)
def test_points_agree_with_the_raster(mask):
    keyholes = [piece.keyhole() for piece in outlines(mask)]
    points = np.argwhere(np.ones_like(mask)).astype(float)
    assert (inside_polygons(points, keyholes).reshape(mask.shape) == mask).all()


@given(masks)
def test_contours_enclose_the_area_of_the_voxels(mask):
    for piece in outlines(mask):
        rings = [piece.outer, *piece.holes]
        border = sum(float(np.abs(ring - np.roll(ring, -1, axis=0)).sum()) for ring in rings)
        inside = area(piece.outer) - sum(area(hole) for hole in piece.holes)
        voxels = polygon_mask(rings, mask.shape).sum()
        assert voxels - 1.1 * INSET * border < inside < voxels


@given(masks)
def test_corners_are_nearest_to_voxels_of_the_mask(mask):
    for piece in outlines(mask):
        i, j = np.rint(piece.keyhole()).astype(int).T
        assert mask[i, j].all()


def test_one_voxel_keeps_its_area_and_corner_neighbours_stay_apart():
    mask = np.zeros((4, 4), bool)
    mask[1, 1] = mask[2, 2] = True
    pieces = outlines(mask)
    assert len(pieces) == 2
    assert [area(piece.outer) for piece in pieces] == pytest.approx([(1 - 2 * INSET) ** 2] * 2)
    assert np.abs(pieces[0].outer - 1).ravel() == pytest.approx(np.full(8, 0.5 - INSET))


def test_a_contour_from_centre_to_centre_is_known_and_keeps_its_border():
    ring = square(1, 4)
    assert runs_through_centres([ring])
    assert not runs_through_centres([ring + 0.5]) and not runs_through_centres([])
    found = polygon_mask([ring], (6, 6), through_centres=True)
    assert found.sum() == 16
    assert polygon_mask([np.array([[2.0, 2.0]])], (6, 6), through_centres=True).sum() == 1
    slope = np.array([[0, 0], [2, 2], [4, 0.0]])
    assert polygon_mask([slope], (5, 5), through_centres=True)[[1, 2, 3], [1, 2, 1]].all()


@given(masks)
def test_contours_drawn_by_opencv_come_back_as_opencv_fills_them(mask):
    cv2 = pytest.importorskip("cv2")
    rings, _ = cv2.findContours(mask.T.astype(np.uint8), cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
    corners = [ring[:, 0, :].astype(float) for ring in rings]
    assert (polygon_mask(corners, mask.shape, through_centres=True) == mask).all()


@given(masks)
def test_opencv_fills_our_contours_to_the_same_voxels(mask):
    cv2 = pytest.importorskip("cv2")
    filled = np.zeros(mask.T.shape, np.uint8)
    for piece in outlines(mask):
        cv2.fillPoly(filled, [np.around(piece.keyhole()).astype(np.int32)], 1)
    assert (filled.T.astype(bool) == mask).all()
