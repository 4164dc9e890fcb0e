"""Resampling against SciPy, against arithmetic, and against CT that others brought onto the PET grid."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from uptake.core.units import AIR_HU
from uptake.geometry import Volume
from uptake.geometry.affine import compose
from uptake.geometry.grid import Grid
from uptake.harmonise import resample
from uptake.harmonise.resample import (
    SlabResizer,
    axis_matrix,
    labels_resized,
    resized,
    resized_slabs,
    separate_axis,
    to_grid,
)

SHAPES = [
    ((5, 6, 7), (8, 6, 4)),
    ((4, 9, 3), (13, 2, 5)),
    ((6, 5, 4), (1, 1, 1)),
    ((2, 2, 2), (7, 5, 3)),
    ((1, 5, 4), (3, 7, 4)),
]


def zoomed(array, shape, order):
    factors = [after / before for before, after in zip(array.shape, shape, strict=True)]
    return ndimage.zoom(array, factors, order=order, mode="nearest", grid_mode=True)


@pytest.mark.parametrize("order", [0, 1, 3])
@pytest.mark.parametrize(("before", "after"), SHAPES)
def test_resized_is_scipy_zoom_with_kept_outer_edges(before, after, order):
    array = np.random.default_rng(order).normal(size=before)
    expected = np.clip(zoomed(array, after, order), array.min(), array.max())
    result = resized(array, after, order=order)
    assert result.dtype == np.float32 and result.shape == after
    assert np.abs(result - expected).max() < 2e-6


def test_the_axis_matrix_by_hand_for_two_voxels_split_into_four():
    # Centres of the four new voxels lie at -0.25, 0.25, 0.75 and 1.25 of the old ones; the border repeats.
    assert axis_matrix(2, 4, 1) == pytest.approx(np.array([[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]]))


@pytest.mark.parametrize("order", [0, 1, 3])
@pytest.mark.parametrize(("size_in", "size_out"), [(7, 11), (11, 7), (5, 5), (1, 4), (4, 1)])
def test_every_row_of_an_axis_matrix_sums_to_one(size_in, size_out, order):
    matrix = axis_matrix(size_in, size_out, order)
    assert matrix.shape == (size_out, size_in)
    assert matrix.sum(axis=1) == pytest.approx(np.ones(size_out))


@pytest.mark.parametrize(("size_in", "size_out"), [(5, 5), (1, 3), (5, 3)])
def test_cached_matrices_cannot_be_written_to(size_in, size_out):
    with pytest.raises(ValueError, match="read-only"):
        axis_matrix(size_in, size_out, 1)[0, 0] = 2.0


def test_a_cubic_spline_does_not_overshoot_the_hottest_voxel():
    array = np.zeros((6, 6, 6))
    array[2:4, 2:4, 2:4] = 10.0
    assert zoomed(array, (15, 15, 15), 3).max() > 10.5
    result = resized(array, (15, 15, 15), order=3)
    assert result.max() == 10.0 and result.min() == 0.0


def test_the_same_shape_is_a_copy_of_nothing_but_the_type():
    array = np.random.default_rng(0).normal(size=(3, 4, 5))
    assert np.array_equal(resized(array, (3, 4, 5), order=3), array.astype(np.float32))


@pytest.mark.parametrize("slab_voxels", [1, 130, 500, 10**9])
def test_slabs_of_any_height_give_what_resized_gives(monkeypatch, slab_voxels):
    monkeypatch.setattr(resample, "SLAB_VOXELS", slab_voxels)
    channels = np.random.default_rng(1).normal(size=(2, 5, 6, 7)).astype(np.float32)
    result, covered = np.full((2, 9, 4, 8), np.nan, np.float32), []
    for where, slab in resized_slabs(channels, (9, 4, 8), order=1):
        result[:, where] = slab
        covered += range(9)[where]
        assert slab.size <= max(slab_voxels, 2 * 4 * 8)
    assert covered == list(range(9))
    for channel, image in zip(result, channels, strict=True):
        assert np.abs(channel - resized(image, (9, 4, 8), order=1)).max() < 1e-5


def test_labels_take_the_largest_linear_share_and_ties_go_to_the_smaller():
    # Old centres at 0, 1, 2; new ones at 0.25 and 1.75 for two voxels out of three.
    labels = np.array([5, 0, 3], np.uint8).reshape(3, 1, 1)
    assert labels_resized(labels, (2, 1, 1)).ravel().tolist() == [5, 3]
    # One voxel out of two: both shares are one half.
    assert labels_resized(np.array([7, 2], np.uint8).reshape(2, 1, 1), (1, 1, 1)).item() == 2


def test_no_label_appears_that_was_not_there():
    labels = np.random.default_rng(2).choice([0, 2, 9], (6, 7, 5)).astype(np.uint8)
    result = labels_resized(labels, (11, 4, 8))
    assert result.dtype == np.uint8 and set(np.unique(result)) <= {0, 2, 9}


def test_a_binary_mask_is_its_indicator_above_one_half():
    mask = (np.random.default_rng(3).random((6, 5, 7)) < 0.5).astype(np.uint8)
    assert np.array_equal(labels_resized(mask, (9, 8, 4)), zoomed(mask.astype(float), (9, 8, 4), 1) > 0.5 + 1e-6)


def test_a_linear_field_of_world_position_survives_any_change_of_grid():
    def field(volume):
        index = np.stack(np.meshgrid(*[np.arange(n) for n in volume.shape], indexing="ij"), axis=-1)
        return volume.world_of(index) @ (1.0, -2.0, 0.5)

    blank = Volume(np.zeros((20, 22, 18)), compose(np.array([2.0, 2.0, 3.0]), np.eye(3), np.array([-20.0, -20, -20])))
    source = blank.with_array(field(blank))
    turn = np.array([[0.98, -0.19899748742, 0], [0.19899748742, 0.98, 0], [0, 0, 1.0]])
    target = Volume(np.zeros((5, 6, 4)), compose(np.array([3.0, 2.5, 4.0]), turn, np.array([-8.0, -6.0, -5.0])))
    result = to_grid(source, Grid.of(target), order=1, fill=AIR_HU)
    assert result.affine == pytest.approx(target.affine)
    assert np.abs(result.array - field(target)).max() < 1e-3


def line(shift, n_out=6):
    """Return four voxels 10, 20, 30, 40 of 1 mm sampled at the centres of `n_out` voxels that begin at `shift` mm."""
    source = Volume(np.array([10.0, 20, 30, 40]).reshape(4, 1, 1), np.eye(4))
    affine = np.eye(4)
    affine[0, 3] = shift
    return to_grid(source, Grid((n_out, 1, 1), affine), order=1, fill=-1.0).array.ravel().tolist()


def test_a_volume_reaches_to_the_outer_edge_of_its_border_voxels():
    assert line(-1.4) == pytest.approx([-1, 10, 16, 26, 36, -1])
    assert line(-0.6) == pytest.approx([-1, 14, 24, 34, 40, -1])


def test_a_header_that_is_off_by_a_rounding_error_turns_no_slice_into_air():
    assert line(0.006, n_out=4) == pytest.approx([10.06, 20.06, 30.06, 40.0])
    assert line(-0.006, n_out=4) == pytest.approx([10.0, 19.94, 29.94, 39.94])


def test_beyond_an_oblique_volume_there_is_fill_and_inside_there_is_none():
    turn = np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1.0]])
    source = Volume(np.full((9, 9, 5), 7.0), compose(np.ones(3), turn, np.array([0.0, 0, 0])))
    grid = Grid((25, 25, 9), compose(np.ones(3), np.eye(3), np.array([-9.0, -4.0, -2.0])))
    result = to_grid(source, grid, order=1, fill=-3.0)
    index = np.stack(np.meshgrid(*[np.arange(n) for n in grid.shape], indexing="ij"), axis=-1)
    position = source.index_of(result.world_of(index))
    inside = ((position >= -0.5) & (position <= np.array(source.shape) - 0.5)).all(axis=-1)
    near = (np.abs(position + 0.5) < 0.01) | (np.abs(position - np.array(source.shape) + 0.5) < 0.01)
    clear = ~near.any(axis=-1)
    assert 0.05 < inside.mean() < 0.5
    assert np.array_equal(result.array[clear], np.where(inside, 7.0, -3.0)[clear])


def test_the_same_grid_is_not_interpolated():
    volume = Volume(np.random.default_rng(5).normal(size=(4, 5, 6)).astype(np.float32), np.diag([2, 2, 3, 1.0]))
    moved = volume.affine.copy()
    moved[:3, 3] += 1e-4
    assert np.array_equal(to_grid(volume, Grid(volume.shape, moved), order=1, fill=0).array, volume.array)


def test_native_ct_comes_onto_the_pet_grid_as_the_data_set_has_it(shared_data):
    """Every voxel of every patient with native CT, the rim included; the reference is rounded to whole HU."""
    nib = pytest.importorskip("nibabel")

    def volume(path):
        image = nib.load(path)
        return Volume(np.asarray(image.dataobj, dtype=np.float32), image.affine)

    patients = sorted((shared_data / "sts").glob("*/ct.nii.gz"))
    if not patients:
        pytest.skip("no patient with native CT")
    for native in patients:
        pet, expected = volume(native.with_name("pet.nii.gz")), volume(native.with_name("ct_on_pet.nii.gz"))
        result = to_grid(volume(native), Grid.of(pet), order=1, fill=AIR_HU).array
        assert np.abs(result - expected.array).max() <= 0.501, native.parent.name
        assert np.array_equal(result == AIR_HU, expected.array == AIR_HU), native.parent.name


@pytest.mark.parametrize(
    ("current", "target", "axis"),
    [
        ((5.0, 1.0, 1.0), (1.0, 1.0, 1.0), 0),
        ((3.0, 1.0, 1.0), (1.0, 1.0, 1.0), None),  # three times is not more than three times
        ((1.0, 1.0, 1.0), (1.0, 4.0, 1.0), 1),
        ((1.0, 1.0, 4.0), (4.0, 1.0, 1.0), 2),  # the grid that is left decides first
        ((0.2, 1.0, 1.0), (1.0, 1.0, 1.0), None),  # two coarse axes are none
    ],
)
def test_the_axis_of_thick_slices(current, target, axis):
    assert separate_axis(current, target) == axis


def test_thick_slices_are_repeated_not_blended():
    array = np.zeros((2, 1, 2), dtype=np.float32)
    array[1] = 8.0
    found = resized(array, (4, 1, 2), order=3, separate=0)
    assert found[:, 0, 0].tolist() == [0.0, 0.0, 8.0, 8.0]
    blended = resized(array, (4, 1, 2), order=1)
    assert 0.0 < blended[1, 0, 0] < blended[2, 0, 0] < 8.0


def test_separate_slices_are_clipped_one_by_one():
    rng = np.random.default_rng(0)
    array = rng.normal(0, 1, (2, 6, 6)).astype(np.float32)
    array[1] *= 100
    found = resized(array, (2, 12, 12), order=3, separate=0)
    assert found[0].max() <= array[0].max()
    assert found[0].min() >= array[0].min()


def test_labels_and_logits_follow_the_separate_axis():
    labels = np.zeros((2, 2, 2), dtype=np.uint8)
    labels[1] = 3
    assert labels_resized(labels, (4, 2, 2), separate=0)[:, 0, 0].tolist() == [0, 0, 3, 3]
    ((where, slab),) = resized_slabs(labels[None].astype(np.float32), (4, 2, 2), order=1, separate=0)
    assert where == slice(0, 4)
    assert slab[0, :, 0, 0].tolist() == [0.0, 0.0, 3.0, 3.0]


@pytest.mark.parametrize("separate", [None, 0, 2])
@pytest.mark.parametrize("shape", [(9, 5, 12), (4, 14, 6)])
def test_small_slabs_give_what_one_large_slab_gives(monkeypatch, shape, separate):
    array = np.random.default_rng(3).normal(0, 1, (6, 7, 8)).astype(np.float32)
    whole = resized(array, shape, order=3, separate=separate)
    monkeypatch.setattr("uptake.harmonise.resample.SLAB_VOXELS", 20)
    np.testing.assert_allclose(resized(array, shape, order=3, separate=separate), whole, atol=1e-6)


@pytest.mark.parametrize("after", [(9, 4, 8), (3, 4, 8), (5, 6, 7), (5, 9, 7)])
@pytest.mark.parametrize(("order", "separate"), [(1, None), (1, 0), (0, None), (3, None)])
@pytest.mark.parametrize("cuts", [(), (1,), (2, 3), (1, 2, 3, 4)])
def test_slices_that_come_a_few_at_a_time_are_resampled_as_the_whole(after, order, separate, cuts):
    channels = np.random.default_rng(4).normal(size=(2, 5, 6, 7)).astype(np.float32)
    resizer = SlabResizer(2, (5, 6, 7), after, order=order, separate=separate)
    result, covered = np.full((2, *after), np.nan, np.float32), []
    for first, last in zip((0, *cuts), (*cuts, 5), strict=True):
        for where, slab in resizer.add(channels[:, first:last]):
            result[:, where] = slab
            covered += range(after[0])[where]
    assert covered == list(range(after[0]))
    whole = np.concatenate([s for _, s in resized_slabs(channels, after, order=order, separate=separate)], axis=1)
    np.testing.assert_allclose(result, whole, atol=1e-6)


def test_a_long_image_is_resampled_with_two_slices_held():
    resizer = SlabResizer(1, (100, 2, 2), (150, 2, 2), order=1)
    given = 0
    for z in range(100):
        for where, _ in resizer.add(np.full((1, 1, 2, 2), z, np.float32)):
            given = where.stop
        assert given >= int((z - 1) * 1.5)
        assert resizer._held is None or resizer._held.shape[1] <= 2
    assert given == 150
