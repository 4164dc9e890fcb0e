"""The one place that interpolates between grids.

A tensor-product spline is separable: interpolating a 3-D image is three matrix products, one along each axis. The
matrices come from `scipy.ndimage.zoom` applied to the identity, so the result is SciPy's (and, since nnU-Net resizes
through the same routine, nnU-Net's), at the speed of a matrix product.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from uptake.core.types import Shape3
from uptake.geometry.grid import Grid, same_grid
from uptake.geometry.volume import Volume

SLAB_VOXELS = 2_000_000
"""Values that `resized_slabs` holds at a time (labels included): 8 MB of float32."""

ANISOTROPY = 3.0
"""From this ratio of slice to in-plane spacing on, nnU-Net no longer interpolates between slices."""

REACH_VOXELS = 0.5 + 1e-3
"""How far beyond its outermost voxel centres a volume still reaches: to the voxels' outer edge, and header rounding."""


@lru_cache(maxsize=64)
def axis_matrix(size_in: int, size_out: int, order: int) -> npt.NDArray[np.float64]:
    """Return the (size_out, size_in) matrix that resamples one axis by a spline of `order`.

    Outer edges of the first and last voxel are kept (half-voxel shift), values beyond the edge repeat the border.
    """
    if size_in == size_out:
        matrix = np.eye(size_in)
    elif size_in == 1:
        matrix = np.ones((size_out, 1))
    else:
        factors = (size_out / size_in, 1.0)
        zoomed = ndimage.zoom(
            np.eye(size_in), factors, order=order, mode="nearest", grid_mode=True, prefilter=order > 1
        )
        matrix = np.asarray(zoomed, dtype=np.float64)
    matrix.flags.writeable = False  # shared between callers by the cache
    return matrix


def separate_axis(current_mm: npt.ArrayLike, target_mm: npt.ArrayLike) -> int | None:
    """Return the axis along which slices are so thick that a spline across them would invent structure.

    nnU-Net's rule: if the spacing that is left, or else the one that is gone to, has one axis more than
    `ANISOTROPY` times coarser than the finest, that axis is resampled by the nearest slice; None otherwise.
    """
    for spacing in (np.asarray(current_mm, dtype=np.float64), np.asarray(target_mm, dtype=np.float64)):
        if spacing.max() / spacing.min() > ANISOTROPY:
            coarsest = np.flatnonzero(spacing == spacing.max())
            return int(coarsest[0]) if coarsest.size == 1 else None
    return None


def resized(
    array: npt.NDArray[Any], shape: Shape3, *, order: int, separate: int | None = None
) -> npt.NDArray[np.float32]:
    """Return the image resampled to `shape` by a spline, float32.

    Parameters
    ----------
    array : array (z, y, x)
    shape : tuple of int
    order : int
        0 nearest, 1 linear, 3 cubic. Values are clipped to the range of the input, as nnU-Net does, so that a cubic
        spline does not invent uptake beyond the hottest voxel.
    separate : int, optional
        Axis that takes the nearest slice whatever `order` is (`separate_axis`); slices are then clipped one by one.

    Returns
    -------
    array of `shape`, float32
    """
    if array.shape == tuple(shape):
        return np.asarray(array, dtype=np.float32)
    result = np.asarray(array, dtype=np.float64)
    together = None if separate is None else tuple(a for a in range(3) if a != separate)
    low, high = result.min(axis=together, keepdims=True), result.max(axis=together, keepdims=True)
    # The axis that shrinks most goes first, so that the others work on less.
    *first, last = sorted({0, 1, 2} - {separate}, key=lambda a: shape[a] / array.shape[a])
    for axis in first:
        result = _along(axis_matrix(array.shape[axis], shape[axis], order), result, axis)
    # The last one, which makes the array large, goes slab by slab: float64 of the whole would be the peak of memory.
    matrix = axis_matrix(array.shape[last], shape[last], order)
    across = 1 if last == 0 else 0
    size = list(result.shape)
    size[last] = shape[last]
    whole = np.empty(size, dtype=np.float32)
    height = max(1, SLAB_VOXELS * size[across] // whole.size)
    for start in range(0, size[across], height):
        where = tuple(slice(start, start + height) if axis == across else slice(None) for axis in range(3))
        limits = (v[where] if v.shape[across] > 1 else v for v in (low, high))
        whole[where] = np.clip(_along(matrix, result[where], last), *limits)
    if separate is not None:
        nearest = axis_matrix(array.shape[separate], shape[separate], 0).argmax(axis=1)
        whole = np.take(whole, nearest, axis=separate)
    return whole


def resized_slabs(
    channels: npt.NDArray[np.float32], shape: Shape3, *, order: int, separate: int | None = None
) -> Iterator[tuple[slice, npt.NDArray[np.float32]]]:
    """Yield the channels resampled to `shape`, a slab of leading-axis slices at a time.

    Never more than `SLAB_VOXELS` values of a slab exist at once: the memory of restoring C labels on a full grid is
    that of one slab, not of C grids.

    Parameters
    ----------
    channels : array (c, z, y, x) float32
    shape : tuple of int
        Output (z, y, x).
    order : int
    separate : int, optional
        As in `resized`.

    Yields
    ------
    where : slice
        Along the output's leading axis.
    slab : array (c, n, y, x) float32
    """
    yield from SlabResizer(channels.shape[0], channels.shape[1:], shape, order=order, separate=separate).add(channels)


class SlabResizer:
    """Resample channels that come a few leading-axis slices at a time, in order; what `resized_slabs` yields.

    An output slice is given as soon as the slices that it is made of are there, and slices that no further output needs
    are let go: by linear interpolation two are held beyond those that just came, whatever the length of the image. A
    cubic spline along the leading axis needs all slices and waits for them.

    Parameters
    ----------
    count : int
        Channels.
    before, after : tuple of int
        (z, y, x) of the input and of the output.
    order : int
    separate : int, optional
        As in `resized`.
    """

    def __init__(self, count: int, before: Shape3, after: Shape3, *, order: int, separate: int | None = None) -> None:
        self._before, self._after = before, after
        orders = [0 if axis == separate else order for axis in range(3)]
        self._matrices = [axis_matrix(before[a], after[a], orders[a]).astype(np.float32) for a in range(3)]
        used = self._matrices[0] != 0
        self._first = np.minimum.accumulate(used.argmax(axis=1)[::-1])[::-1]
        self._last = np.maximum.accumulate(before[0] - 1 - used[:, ::-1].argmax(axis=1))
        # A slice is largest before, between or after its two in-plane steps.
        _, y, x = before
        self._height = max(1, SLAB_VOXELS // (count * max(y * x, after[1] * x, after[1] * after[2])))
        self._held: npt.NDArray[np.float32] | None = None
        self._held_from = self._received = self._done = 0

    def add(self, channels: npt.NDArray[np.float32]) -> Iterator[tuple[slice, npt.NDArray[np.float32]]]:
        """Take the next slices, (c, n, y, x) float32, and yield (where, slab) of the outputs that they complete."""
        held = channels if self._held is None else np.concatenate([self._held, channels], axis=1)
        self._received += channels.shape[1]
        ready = int(np.searchsorted(self._last, self._received))
        while self._done < ready:
            where = slice(self._done, min(self._done + self._height, ready))
            reach = slice(int(self._first[where.start]), int(self._last[where.stop - 1]) + 1)
            own = slice(reach.start - self._held_from, reach.stop - self._held_from)
            slab = _along(self._matrices[0][where, reach], held[:, own], 1)
            slab = _along(self._matrices[1], slab, 2)
            yield where, _along(self._matrices[2], slab, 3)
            self._done = where.stop
        needed = int(self._first[self._done]) if self._done < self._after[0] else self._received
        keep = min(needed, self._received)
        rest = held[:, keep - self._held_from :]
        # A copy: a view would keep everything that came alive.
        self._held, self._held_from = (rest.copy() if rest.shape[1] < held.shape[1] else rest), keep


def labels_resized(labels: npt.NDArray[Any], shape: Shape3, *, separate: int | None = None) -> npt.NDArray[np.uint8]:
    """Return a label map resampled to `shape`: each label's indicator linearly, then the largest wins, uint8.

    Ties go to the smaller label. For a single label this is "indicator above one half". `separate` as in `resized`.
    """
    if labels.shape == tuple(shape):
        return np.asarray(labels, dtype=np.uint8)
    result = np.zeros(shape, dtype=np.uint8)
    best = np.full(shape, -1.0, dtype=np.float32)
    for label in np.unique(labels):
        share = resized((labels == label).astype(np.float32), shape, order=1, separate=separate)
        wins = share > best
        result[wins] = label
        best[wins] = share[wins]
    return result


def to_grid(volume: Volume, grid: Grid, *, order: int, fill: float) -> Volume:
    """Return the volume sampled at the voxel centres of another grid, float32.

    Parameters
    ----------
    volume : Volume
        For instance CT on its own grid.
    grid : Grid
        For instance that of the PET.
    order : int
        1 linear, the autoPET convention for CT.
    fill : float
        Value where the volume does not reach, that is beyond the outer edge of its border voxels. Between the centre
        and the edge of a border voxel that voxel's value holds (ITK's rule), so that a header which puts a CT 0.02 mm
        off its PET does not turn a whole slice into air.

    Notes
    -----
    Index in the volume = inverse(volume.affine) · grid.affine · index in the grid. No smoothing is applied when going
    from the fine CT to the coarse PET grid, as the field's reference data does it.
    """
    if same_grid(volume, grid, tolerance_mm=1e-3):
        return Volume(
            np.asarray(volume.array, dtype=np.float32), grid.affine, frame_of_reference=volume.frame_of_reference
        )
    between = np.linalg.inv(volume.affine) @ grid.affine
    linear, shift = between[:3, :3], between[:3, 3]
    diagonal = np.diag(np.diag(linear))
    matrix = np.diag(linear) if np.abs(linear - diagonal).max() < 1e-7 else linear
    array = ndimage.affine_transform(
        np.asarray(volume.array, dtype=np.float32),
        matrix,
        offset=shift,
        output_shape=grid.shape,
        order=order,
        mode="nearest",
        output=np.float32,
    )
    _fill_beyond(array, volume.shape, linear, shift, fill)
    return Volume(array, grid.affine, frame_of_reference=volume.frame_of_reference)


def _fill_beyond(
    array: npt.NDArray[np.float32],
    reach: Shape3,
    linear: npt.NDArray[np.float64],
    shift: npt.NDArray[np.float64],
    fill: float,
) -> None:
    """Write `fill`, in place, wherever ``linear · index + shift`` lies outside a volume of shape `reach`."""
    j, k = np.ogrid[: array.shape[1], : array.shape[2]]
    planes = [linear[axis, 1] * j + linear[axis, 2] * k + shift[axis] for axis in range(3)]
    # One leading plane at a time: positions of a whole PET grid would take 1.2 GB.
    for i, image in enumerate(array):
        for axis, size in enumerate(reach):
            position = planes[axis] + linear[axis, 0] * i
            image[(position < -REACH_VOXELS) | (position > size - 1 + REACH_VOXELS)] = fill


def _along(matrix: npt.NDArray[Any], array: npt.NDArray[Any], axis: int) -> npt.NDArray[Any]:
    """Multiply `matrix` onto one axis of `array`."""
    if matrix.shape[0] == matrix.shape[1] and np.array_equal(matrix, np.eye(matrix.shape[0])):
        return array
    return np.moveaxis(np.tensordot(matrix, array, axes=(1, axis)), 0, axis)
