"""Overlap and surface metrics against MedPy, MONAI and surface-distance, where they are installed.

Where definitions agree the numbers do, to 1e-6. Where they do not, the difference is shown here and explained in
docs/explanation/metrics.md.
"""

from __future__ import annotations

import math
import sys
import warnings

import numpy as np
import pytest

from uptake.evaluation.overlap import dice, iou, precision, sensitivity
from uptake.evaluation.surface import average_distance, hausdorff, surface_dice, surface_distances
from uptake.evaluation.surfels import cell_areas

pytestmark = pytest.mark.filterwarnings("ignore")

CLOSE = {"rel": 1e-6, "abs": 1e-6}
SPACINGS = [(1.0, 1.0, 1.0), (4.0728, 4.0728, 3.0), (0.7, 1.9, 5.3)]


def ball(shape, radius):
    axes = np.ogrid[tuple(slice(-(n - 1) / 2, n / 2) for n in shape)]
    return sum(a * a for a in axes) <= radius * radius


def adversarial():
    """Yield name, prediction, reference: what breaks metrics."""
    shape = (13, 11, 9)
    empty, full = np.zeros(shape, bool), np.ones(shape, bool)
    rng = np.random.default_rng(7)
    one, corner, far = empty.copy(), empty.copy(), empty.copy()
    one[5, 5, 5] = corner[0, 0, 0] = far[-1, -1, -1] = True
    blob = ball(shape, 4)
    yield "equal", blob, blob
    yield "full and ball", full, blob
    yield "ball and full", blob, full
    yield "full and full", full, full
    yield "one voxel each", one, corner
    yield "corner to corner", corner, far
    yield "one voxel and full", one, full
    yield "slab at the border", np.arange(13)[:, None, None] * np.ones(shape) < 3, blob
    yield "hollow", blob & ~ball(shape, 2.5), blob
    yield "checkerboard", np.indices(shape).sum(0) % 2 == 0, np.indices(shape).sum(0) % 2 == 1
    yield "dense noise", rng.random(shape) < 0.5, rng.random(shape) < 0.5
    yield "thin noise", rng.random(shape) < 0.02, rng.random(shape) < 0.02
    grid = np.zeros((41, 40, 39), bool)
    grid[::3, ::3, ::3] = True
    yield "thousands of components", grid, np.roll(grid, (1, 0, 2), (0, 1, 2))
    yield "one slice", *(rng.random((2, 17, 1, 12)) < 0.4)
    yield "one row", *(rng.random((2, 1, 1, 30)) < 0.3)
    large = ball((90, 80, 70), 30)
    yield "large, moved far", large, np.roll(large, (9, -8, 7), (0, 1, 2))
    noisy = large ^ (rng.random(large.shape) < 0.002)
    yield "large, with specks", noisy, large


CASES = {name: (a, b) for name, a, b in adversarial()}
pairs = pytest.mark.parametrize("name", CASES)
spacings = pytest.mark.parametrize("spacing", SPACINGS, ids=str)


@pairs
def test_overlap_is_that_of_medpy(name):
    binary = pytest.importorskip("medpy.metric.binary", reason="needs the 'bench' extra")
    a, b = CASES[name]
    assert dice(a, b) == pytest.approx(binary.dc(a, b), **CLOSE)
    assert iou(a, b) == pytest.approx(binary.jc(a, b), **CLOSE)
    assert precision(a, b) == pytest.approx(binary.precision(a, b), **CLOSE)
    assert sensitivity(a, b) == pytest.approx(binary.recall(a, b), **CLOSE)


@pairs
@spacings
def test_distances_are_those_of_medpy(name, spacing):
    binary = pytest.importorskip("medpy.metric.binary", reason="needs the 'bench' extra")
    a, b = CASES[name]
    found = surface_distances(a, b, spacing_mm=spacing)
    assert hausdorff(found) == pytest.approx(binary.hd95(a, b, voxelspacing=spacing), **CLOSE)
    assert hausdorff(found, percentile=100) == pytest.approx(binary.hd(a, b, voxelspacing=spacing), **CLOSE)
    assert average_distance(found) == pytest.approx(binary.assd(a, b, voxelspacing=spacing), **CLOSE)
    assert average_distance(found, over="to_reference") == pytest.approx(
        binary.asd(a, b, voxelspacing=spacing), **CLOSE
    )


def test_medpy_refuses_the_empty_where_ours_has_a_rule():
    binary = pytest.importorskip("medpy.metric.binary", reason="needs the 'bench' extra")
    nothing, blob = np.zeros((4, 4, 4), bool), np.ones((4, 4, 4), bool)
    with pytest.raises(RuntimeError):
        binary.hd95(nothing, blob)
    assert math.isnan(hausdorff(surface_distances(nothing, blob, spacing_mm=(1.0, 1.0, 1.0))))
    for a, b in ((nothing, nothing), (blob, nothing), (nothing, blob)):
        assert dice(a, b, empty="zero") == pytest.approx(float(binary.dc(a, b)), nan_ok=True)


@pytest.fixture(scope="module")
def monai():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("monai", reason="needs the 'bench' extra")
        import torch
        from monai import metrics
    return torch, metrics


def batch(torch, mask):
    """Return (1, 1, i, j, k) as MONAI wants a single foreground channel."""
    return torch.from_numpy(np.ascontiguousarray(mask)[None, None].astype(np.float32))


@pairs
@spacings
def test_distances_are_those_of_monai(monai, name, spacing):
    torch, metrics = monai
    a, b = CASES[name]
    first, second = batch(torch, a), batch(torch, b)
    common = {"include_background": True, "spacing": list(spacing)}
    found = surface_distances(a, b, spacing_mm=spacing)
    theirs = metrics.compute_hausdorff_distance(first, second, percentile=95, **common)
    assert hausdorff(found, directions="max") == pytest.approx(float(theirs), **CLOSE)
    theirs = metrics.compute_hausdorff_distance(first, second, **common)
    assert hausdorff(found, percentile=100, directions="max") == pytest.approx(float(theirs), **CLOSE)
    theirs = metrics.compute_average_surface_distance(first, second, symmetric=True, **common)
    assert average_distance(found) == pytest.approx(float(theirs), **CLOSE)
    theirs = metrics.compute_average_surface_distance(first, second, **common)
    assert average_distance(found, over="to_reference") == pytest.approx(float(theirs), **CLOSE)
    for tolerance in (1.0, 2.0, 6.1):
        theirs = metrics.compute_surface_dice(first, second, [tolerance], **common)
        assert surface_dice(found, tolerance_mm=tolerance) == pytest.approx(float(theirs), **CLOSE)


@pairs
@spacings
def test_surfels_are_those_of_monai(monai, name, spacing):
    torch, metrics = monai
    a, b = CASES[name]
    found = surface_distances(a, b, spacing_mm=spacing, elements="surfels")
    for tolerance in (1.0, 2.0, 6.1):
        theirs = metrics.compute_surface_dice(
            batch(torch, a), batch(torch, b), [tolerance], True, spacing=list(spacing), use_subvoxels=True
        )
        # MONAI adds up its areas in single precision.
        assert surface_dice(found, tolerance_mm=tolerance) == pytest.approx(float(theirs), abs=2e-6)


def test_rules_for_the_empty_are_those_of_monai(monai):
    torch, metrics = monai
    nothing, blob = np.zeros((6, 6, 6), bool), ball((6, 6, 6), 2)
    for a, b in ((nothing, nothing), (blob, nothing), (nothing, blob)):
        first, second = batch(torch, a), batch(torch, b)
        found = surface_distances(a, b, spacing_mm=(1.0, 1.0, 1.0))
        for ignore, rule in ((True, "nan"), (False, "one")):
            theirs = float(metrics.compute_dice(first, second, ignore_empty=ignore))
            assert dice(a, b, empty=rule) == pytest.approx(theirs, nan_ok=True)
        theirs = float(metrics.compute_surface_dice(first, second, [1.0], True))
        assert surface_dice(found, tolerance_mm=1.0, empty="zero") == pytest.approx(theirs, nan_ok=True)
        theirs = float(metrics.compute_hausdorff_distance(first, second, True))
        assert hausdorff(found, percentile=100, empty="inf") == pytest.approx(theirs, nan_ok=True)
        theirs = float(metrics.compute_average_surface_distance(first, second, True, True))
        assert average_distance(found, empty="inf") == pytest.approx(theirs, nan_ok=True)
        # Its percentile interpolates between infinities, and so follows the other rule.
        theirs = float(metrics.compute_hausdorff_distance(first, second, True, percentile=95))
        assert hausdorff(found, empty="nan") == pytest.approx(theirs, nan_ok=True)


@pytest.fixture(scope="module")
def deepmind():
    """The surface-distance package, which has not been mended for NumPy 2 and SciPy 1.15."""
    pytest.importorskip("surface_distance", reason="needs the 'bench' extra")
    from scipy import ndimage

    module = sys.modules["surface_distance.metrics"]

    class OldNumpy:
        """NumPy with the three names that the package still uses."""

        bool, Inf, NaN = np.bool_, math.inf, math.nan

        def __getattr__(self, name):
            return getattr(np, name)

    class OldScipy:
        filters = morphology = ndimage

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "np", OldNumpy())
        patch.setattr(module, "ndimage", OldScipy)
        yield module


@spacings
def test_areas_are_those_of_surface_distance(deepmind, spacing):
    theirs = deepmind.lookup_tables.create_table_neighbour_code_to_surface_area(spacing)
    np.testing.assert_allclose(cell_areas(spacing), theirs, rtol=1e-12)


@pairs
@spacings
def test_surfels_are_those_of_surface_distance(deepmind, name, spacing):
    a, b = CASES[name]
    theirs = deepmind.compute_surface_distances(b, a, spacing)
    found = surface_distances(a, b, spacing_mm=spacing, elements="surfels")
    for tolerance in (0.0, 1.0, 2.0, 6.1):
        expected = deepmind.compute_surface_dice_at_tolerance(theirs, tolerance)
        assert surface_dice(found, tolerance_mm=tolerance) == pytest.approx(expected, **CLOSE)
    to_prediction, to_reference = deepmind.compute_average_surface_distance(theirs)
    assert average_distance(found, over="to_reference") == pytest.approx(to_reference, **CLOSE)
    assert average_distance(found, over="to_prediction") == pytest.approx(to_prediction, **CLOSE)
    for percentile in (50, 95, 100):
        expected = deepmind.compute_robust_hausdorff(theirs, percentile)
        assert hausdorff(found, percentile=percentile, directions="max") == pytest.approx(expected, **CLOSE)


def test_rules_for_the_empty_are_those_of_surface_distance(deepmind):
    nothing, blob = np.zeros((6, 6, 6), bool), ball((6, 6, 6), 2)
    for a, b in ((nothing, nothing), (blob, nothing), (nothing, blob)):
        theirs = deepmind.compute_surface_distances(b, a, (1.0, 1.0, 1.0))
        found = surface_distances(a, b, spacing_mm=(1.0, 1.0, 1.0), elements="surfels")
        assert dice(a, b, empty="zero") == pytest.approx(deepmind.compute_dice_coefficient(b, a), nan_ok=True)
        expected = deepmind.compute_surface_dice_at_tolerance(theirs, 1.0)
        assert surface_dice(found, tolerance_mm=1.0, empty="zero") == pytest.approx(expected, nan_ok=True)
        if a.any() or b.any():  # theirs is infinite where both are empty; ours is undefined
            assert hausdorff(found, directions="max", empty="inf") == deepmind.compute_robust_hausdorff(theirs, 95)


def test_the_two_surfaces_are_not_one(deepmind):
    """Why a name is needed: the same masks, HD95 of voxels pooled, of voxels by direction, and of surfels."""
    a, b = CASES["large, with specks"]
    voxels = surface_distances(a, b, spacing_mm=(1.0, 1.0, 1.0))
    surfels = surface_distances(a, b, spacing_mm=(1.0, 1.0, 1.0), elements="surfels")
    numbers = [hausdorff(voxels), hausdorff(voxels, directions="max"), hausdorff(surfels, directions="max")]
    assert len({round(number, 2) for number in numbers}) == 3


def test_a_tolerance_of_whole_voxels_is_met_whatever_the_last_bit(deepmind):
    """3 voxels of 0.1 mm are 0.30000000000000004 mm; surface-distance calls that farther than 0.3 mm."""
    a = np.zeros((9, 3, 3), bool)
    a[1] = True
    b = np.roll(a, 3, 0)
    theirs = deepmind.compute_surface_distances(b, a, (0.1, 1.0, 1.0))
    found = surface_distances(a, b, spacing_mm=(0.1, 1.0, 1.0), elements="surfels")
    assert deepmind.compute_surface_dice_at_tolerance(theirs, 0.3) < 0.7
    assert surface_dice(found, tolerance_mm=0.3) > 0.99
