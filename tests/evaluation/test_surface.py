import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from uptake.core.errors import InputError, UsageError
from uptake.evaluation.surface import average_distance, hausdorff, surface_dice, surface_distances, surface_voxels
from uptake.evaluation.surfels import FULL, cell_areas, cell_codes

UNIT = (1.0, 1.0, 1.0)
SPACING = (1.0, 2.0, 4.0)


def blank(shape=(12, 12, 12)):
    return np.zeros(shape, bool)


def cube(start, size, shape=(12, 12, 12)):
    mask = blank(shape)
    mask[tuple(slice(start, start + size) for _ in range(3))] = True
    return mask


def ball(radius_mm, spacing, shape, centre_mm=(0.0, 0.0, 0.0)):
    axes = [(np.arange(n) - (n - 1) / 2) * s - c for n, s, c in zip(shape, spacing, centre_mm, strict=True)]
    x, y, z = np.meshgrid(*axes, indexing="ij", sparse=True)
    return x * x + y * y + z * z <= radius_mm**2


def all_scores(prediction, reference, spacing, elements):
    found = surface_distances(prediction, reference, spacing_mm=spacing, elements=elements)
    return [
        *(hausdorff(found, percentile=p, directions=d) for p in (95, 100) for d in ("pooled", "max")),
        *(average_distance(found, over=over) for over in ("symmetric", "to_reference", "to_prediction")),
        *(surface_dice(found, tolerance_mm=t) for t in (0.0, 1.0, 2.0)),
    ]


def test_the_surface_of_a_cube_is_its_outer_layer():
    mask = cube(3, 4)
    assert surface_voxels(mask).sum() == 4**3 - 2**3
    assert not surface_voxels(mask)[5, 5, 5]
    assert surface_voxels(np.ones((3, 3, 3), bool)).sum() == 26  # beyond the border a mask ends
    assert surface_voxels(np.ones((2, 1, 3), bool)).all()


@pytest.mark.parametrize("rank", [0.2, 0.5, 0.9])
def test_surface_voxels_are_mask_minus_erosion(rank):
    rng = np.random.default_rng(int(rank * 10))
    for _ in range(20):
        mask = rng.random(rng.integers(1, 8, 3)) < rank
        assert (surface_voxels(mask) == (mask & ~ndimage.binary_erosion(mask))).all()


def test_two_voxels_by_hand():
    prediction, reference = blank(), blank()
    prediction[2, 2, 2] = reference[2, 4, 3] = True
    found = surface_distances(prediction, reference, spacing_mm=SPACING)
    apart = math.sqrt(4**2 + 4**2)
    assert found.to_reference.tolist() == found.to_prediction.tolist() == [apart]
    assert hausdorff(found) == average_distance(found) == apart
    assert surface_dice(found, tolerance_mm=5.6) == 0 and surface_dice(found, tolerance_mm=5.7) == 1


def test_pooled_and_directed_numbers_by_hand():
    """Prediction: a voxel on the reference and one 3 mm beside it. Reference: that voxel alone."""
    prediction, reference = blank(), blank()
    prediction[2, 2, 2] = prediction[5, 2, 2] = reference[2, 2, 2] = True
    found = surface_distances(prediction, reference, spacing_mm=SPACING)
    assert found.to_reference.tolist() == [0.0, 3.0] and found.to_prediction.tolist() == [0.0]
    assert average_distance(found) == 1.0
    assert average_distance(found, over="to_reference") == 1.5
    assert average_distance(found, over="to_prediction") == 0.0
    assert hausdorff(found) == pytest.approx(2.7)  # 0, 0, 3: the 95th percentile lies 0.9 of the way from 0 to 3
    assert hausdorff(found, directions="max") == pytest.approx(2.85)  # 0, 3
    assert hausdorff(found, percentile=100) == hausdorff(found, percentile=100, directions="max") == 3.0
    assert surface_dice(found, tolerance_mm=1.0) == pytest.approx(2 / 3)


def test_cubes_one_inside_the_other():
    """A cube of 6 voxels around one of 4: corners lie √3, edges √2, faces 1 voxel away."""
    outer, inner = cube(3, 6), cube(4, 4)
    found = surface_distances(outer, inner, spacing_mm=UNIT)
    distances, counts = np.unique(found.to_reference, return_counts=True)
    np.testing.assert_allclose(distances, [1, math.sqrt(2), math.sqrt(3)])
    assert counts.tolist() == [6 * 16, 12 * 4, 8]
    assert (found.to_prediction == 1).all() and len(found.to_prediction) == 56
    expected = (96 + 48 * math.sqrt(2) + 8 * math.sqrt(3)) / 152
    assert average_distance(found, over="to_reference") == pytest.approx(expected)
    assert hausdorff(found, percentile=100) == pytest.approx(math.sqrt(3))
    assert surface_dice(found, tolerance_mm=1.0) == pytest.approx((96 + 56) / (152 + 56))


def test_a_slab_moved_along_each_axis_is_as_far_as_it_was_moved():
    for axis, step in ((0, 3), (1, 2), (2, 1)):
        prediction, reference = blank(), blank()
        place = [slice(None)] * 3
        place[axis] = slice(4, 5)
        reference[tuple(place)] = True
        prediction = np.roll(reference, step, axis)
        found = surface_distances(prediction, reference, spacing_mm=SPACING)
        assert hausdorff(found) == average_distance(found) == step * SPACING[axis]


@pytest.mark.parametrize("elements", ["voxels", "surfels"])
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (1.0, 0.7, 1.4), (0.5, 0.5, 0.5)])
def test_concentric_balls_are_as_far_apart_as_their_radii(elements, spacing):
    """Within three quarters of a voxel: of the steps of a ball made of voxels the nearest one counts."""
    shape = tuple(int(54 / s) for s in spacing)
    inner, outer = ball(16.0, spacing, shape), ball(24.0, spacing, shape)
    found = surface_distances(outer, inner, spacing_mm=spacing, elements=elements)
    step = 0.75 * max(spacing)
    assert average_distance(found) == pytest.approx(8.0, abs=step)
    assert hausdorff(found) == pytest.approx(8.0, abs=step)
    assert surface_dice(found, tolerance_mm=8 - 2 * max(spacing)) == 0.0
    assert surface_dice(found, tolerance_mm=8 + max(spacing)) == 1.0


def test_balls_side_by_side():
    """Radius 12 mm, centres 6 mm apart: the farthest point of one surface is 6 mm from the other."""
    spacing, shape = (0.5, 0.5, 0.75), (80, 60, 44)
    first, second = ball(12.0, spacing, shape, (-3.0, 0, 0)), ball(12.0, spacing, shape, (3.0, 0.0, 0.0))
    found = surface_distances(first, second, spacing_mm=spacing)
    assert hausdorff(found, percentile=100) == pytest.approx(6.0, abs=0.4)
    # The other surface is | |p - c| - r | away from a point p; the cosine of its angle is uniform on a sphere.
    cosine = np.linspace(-1, 1, 20_001)
    expected = np.abs(np.sqrt(6**2 + 12**2 - 2 * 6 * 12 * cosine) - 12)
    assert average_distance(found) == pytest.approx(expected.mean(), abs=0.4)
    assert hausdorff(found) == pytest.approx(np.percentile(expected, 95), abs=0.4)


def test_areas_of_a_box():
    """A box of 4 x 6 x 8 voxels: each face loses its rim to the edges, which marching cubes cuts off."""
    mask = np.zeros((10, 10, 12), bool)
    mask[2:6, 2:8, 2:10] = True
    sizes, spacing = np.array([4, 6, 8]), np.array([1.0, 2.0, 4.0])
    inner = sizes - 1  # cells along each axis that see two sides
    faces = 2 * (inner * spacing)[[1, 0, 0]] * (inner * spacing)[[2, 2, 1]]
    edges = 4 * inner * spacing * np.sqrt([(2**2 + 4**2) / 4, (1 + 4**2) / 4, (1 + 2**2) / 4])
    corner = np.linalg.norm([2 * 4, 1 * 4, 1 * 2]) / 8
    codes = cell_codes(mask)
    assert cell_areas(tuple(spacing))[codes].sum() == pytest.approx(faces.sum() + edges.sum() + 8 * corner)
    assert codes.shape == (11, 11, 13) and codes.max() == FULL


def test_area_of_a_ball_is_nearly_that_of_the_sphere():
    spacing = (1.0, 1.5, 2.0)
    mask = ball(30.0, spacing, (64, 44, 34))
    area = cell_areas(spacing)[cell_codes(mask)].sum()
    # Binary marching cubes sees steps, not slopes, and comes out some per cent too large.
    assert 4 * math.pi * 900 < area < 1.12 * 4 * math.pi * 900


@given(st.integers(0, 255))
def test_a_surface_has_no_side_and_no_preferred_axis(code):
    areas = cell_areas(SPACING)
    assert areas[code] == pytest.approx(areas[FULL - code])
    # Bit 7 - 4 i - 2 j - k stands for corner (i, j, k).
    corners = np.array([code >> bit & 1 for bit in range(7, -1, -1)], bool).reshape(2, 2, 2)
    for axes in ((1, 0, 2), (2, 1, 0), (1, 2, 0)):
        turned = sum(int(v) << bit for bit, v in zip(range(7, -1, -1), corners.transpose(axes).ravel()))
        spacing = tuple(SPACING[a] for a in axes)
        assert cell_areas(spacing)[turned] == pytest.approx(areas[code])


def test_surfels_of_one_voxel():
    """Eight corners of 1/8 (1, 1, 1) each: an octahedron."""
    mask = cube(3, 1)
    found = surface_distances(mask, np.roll(mask, 2, 0), spacing_mm=UNIT, elements="surfels")
    assert found.prediction_area.sum() == pytest.approx(math.sqrt(3))
    assert sorted(found.to_reference.tolist()) == [1, 1, 1, 1, 2, 2, 2, 2]
    assert surface_dice(found, tolerance_mm=1.0) == pytest.approx(0.5)


@pytest.mark.parametrize("elements", ["voxels", "surfels"])
def test_equal_masks_are_equal(elements):
    mask = np.random.default_rng(0).random((9, 8, 7)) < 0.5
    assert all_scores(mask, mask, SPACING, elements) == [0.0] * 7 + [1.0] * 3


@pytest.mark.parametrize("elements", ["voxels", "surfels"])
@given(seed=st.integers(0, 10_000))
def test_symmetric_where_they_should_be(elements, seed):
    rng = np.random.default_rng(seed)
    first, second = rng.random((2, *rng.integers(1, 8, 3))) < 0.4
    first.flat[0] = second.flat[-1] = True
    here, there = (all_scores(a, b, SPACING, elements) for a, b in ((first, second), (second, first)))
    here[5], here[6] = here[6], here[5]
    assert here == pytest.approx(there)
    far = hausdorff(surface_distances(first, second, spacing_mm=SPACING, elements=elements), percentile=100)
    assert 0 <= far <= np.linalg.norm(np.array(first.shape) * SPACING)


@pytest.mark.parametrize("elements", ["voxels", "surfels"])
@pytest.mark.parametrize(
    ("prediction", "reference", "distance", "dice"),
    [
        (False, False, {"nan": math.nan, "inf": math.nan}, {"nan": math.nan, "one": 1, "zero": math.nan}),
        (True, False, {"nan": math.nan, "inf": math.inf}, {"nan": math.nan, "one": 0, "zero": 0}),
        (False, True, {"nan": math.nan, "inf": math.inf}, {"nan": 0, "one": 0, "zero": 0}),
    ],
)
def test_rules_for_the_empty(elements, prediction, reference, distance, dice):
    found = surface_distances(
        blank() | (cube(2, 2) if prediction else blank()),
        blank() | (cube(2, 2) if reference else blank()),
        spacing_mm=UNIT,
        elements=elements,
    )
    for rule, expected in distance.items():
        for directions in ("pooled", "max"):
            np.testing.assert_equal(hausdorff(found, directions=directions, empty=rule), expected)
        for over in ("symmetric", "to_reference", "to_prediction"):
            np.testing.assert_equal(average_distance(found, over=over, empty=rule), expected)
    for rule, expected in dice.items():
        np.testing.assert_equal(surface_dice(found, tolerance_mm=1.0, empty=rule), float(expected))


def test_a_voxel_size_in_single_precision_stays_within_its_tolerance():
    reference = cube(4, 2)
    size = float(np.float32(0.1)) * 20  # 2.0000000298: what a header makes of 2 mm
    found = surface_distances(np.roll(reference, 1, 0), reference, spacing_mm=(size, 2.0, 2.0))
    assert size > 2 and surface_dice(found, tolerance_mm=2.0) == 1.0
    assert surface_dice(found, tolerance_mm=1.999) < 1.0


def test_masks_that_fill_or_touch_the_image():
    full = np.ones((5, 6, 7), bool)
    part = full.copy()
    part[0] = False
    found = surface_distances(part, full, spacing_mm=SPACING)
    assert hausdorff(found, percentile=100) == 1.0
    assert len(surface_distances(full, full, spacing_mm=SPACING).to_reference) == 5 * 6 * 7 - 3 * 4 * 5


def test_guards():
    mask = cube(3, 3)
    with pytest.raises(UsageError, match="'voxels' or of 'surfels'"):
        surface_distances(mask, mask, spacing_mm=UNIT, elements="faces")
    with pytest.raises(InputError, match="cannot be compared"):
        surface_distances(mask, mask[1:], spacing_mm=UNIT)
    with pytest.raises(InputError, match="boolean"):
        surface_distances(mask.astype(int), mask, spacing_mm=UNIT)
    for wrong in ((1.0, -1.0, 1.0), (1.0, math.nan, 1.0), (1.0, 1.0)):
        with pytest.raises(InputError, match="voxel sizes"):
            surface_distances(mask, mask, spacing_mm=wrong)
    found = surface_distances(mask, mask, spacing_mm=UNIT)
    with pytest.raises(UsageError, match="'pooled'"):
        hausdorff(found, directions="min")
    with pytest.raises(UsageError, match="percentile"):
        hausdorff(found, percentile=101)
    with pytest.raises(UsageError, match="the average is"):
        average_distance(found, over="both")
    with pytest.raises(UsageError, match="tolerance"):
        surface_dice(found, tolerance_mm=-1)
    nothing = surface_distances(blank(), mask, spacing_mm=UNIT)
    with pytest.raises(UsageError, match="'nan' or 'inf'"):
        hausdorff(nothing, empty="zero")
    with pytest.raises(UsageError, match="empty references"):
        surface_dice(nothing, tolerance_mm=1, empty="inf")
