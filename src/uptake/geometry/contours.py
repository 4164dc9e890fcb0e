"""Closed contours and voxels: which voxels a set of contours holds, and the contours that hold a given mask.

Everything here lives in index coordinates of one plane: voxel (i, j) is centred on (i, j) and reaches half a unit to
either side. Who turns millimetres into indices knows where the plane lies; nothing here does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from uptake.core.types import FloatArray, Mask

SNAP = 1.0e-6
"""Index units. A voxel centre this close to a contour lies on it, whatever the rounding of the way there."""

INSET = 0.01
"""Contours made here run this far inside the voxel edges, in voxels.

Every corner is then nearest to a voxel of the mask, so that a reader that rounds corners to voxels and fills the
polygon with its border (OpenCV, hence rt-utils) finds the mask as exactly as one that asks for voxel centres.
"""

CHANNEL = 0.25
"""Keyhole channels run this far beside a row of voxel centres, so that no centre lies on them."""

ON_CENTRE = 0.02
"""Index units. Corners this close to voxel centres, all of them, are the corners of a contour drawn through centres."""


@dataclass(frozen=True, eq=False)
class Outline:
    """One connected piece of a mask: its outer contour and the contours of its holes, each (n, 2), not repeated."""

    outer: FloatArray
    holes: tuple[FloatArray, ...] = ()

    def keyhole(self) -> FloatArray:
        """Return the piece as one contour (n, 2), each hole joined to the outside by a channel of no width.

        Notes
        -----
        A reader that fills each contour, one that combines contours by union, and one that takes them by even-odd all
        find the same region; nested contours mean a hole to the last alone.
        """
        ring = self.outer
        # From the right: the channel of a hole, which runs to the right, can then only meet what is joined already.
        for hole in sorted(self.holes, key=lambda points: -float(points[:, 0].max())):
            ring = _joined(ring, hole)
        return ring


def polygon_mask(polygons: Sequence[FloatArray], shape: tuple[int, int], *, through_centres: bool = False) -> Mask:
    """Return the voxels of one plane whose centre lies inside the polygons by the even-odd rule.

    Parameters
    ----------
    polygons : sequence of arrays (n, 2)
        Corners in index coordinates; the last is joined to the first. Together they are one region: a contour inside
        another is a hole, an island in it is filled again, and a keyhole's channel leaves no trace.
    shape : tuple of int
        Voxels (i, j) of the plane; contours may reach beyond it.
    through_centres : bool
        Count voxels whose centre lies on a contour as inside. Right for contours that were drawn from one border
        voxel's centre to the next (see `runs_through_centres`), which otherwise would lose half their border.

    Returns
    -------
    array (i, j) bool

    Notes
    -----
    A centre exactly on a contour belongs to the side of the higher index, along both axes: two regions that share a
    border share no voxel and leave none out.
    """
    rings = [np.asarray(ring, np.float64).reshape(-1, 2) for ring in polygons]
    rings = [ring for ring in rings if len(ring)]
    inside = np.zeros(shape, dtype=bool)
    if not rings:
        return inside
    # Only the voxels around the contours are looked at: a region is small in its plane.
    low = np.clip(np.floor(np.min([ring.min(axis=0) for ring in rings], axis=0)), 0, shape).astype(np.int64)
    high = np.clip(np.ceil(np.max([ring.max(axis=0) for ring in rings], axis=0)) + 1, low, shape).astype(np.int64)
    width, height = (int(size) for size in high - low)
    if not width or not height:
        return inside
    near = inside[low[0] : high[0], low[1] : high[1]]
    near[...] = _even_odd([ring - low for ring in rings], width, height)
    if through_centres:
        i, j = (_lattice_points(rings) - low).T
        here = (i >= 0) & (i < width) & (j >= 0) & (j < height)
        near[i[here], j[here]] = True
    return inside


def _even_odd(rings: Sequence[FloatArray], width: int, height: int) -> Mask:
    """Return the voxels (i, j) of a plane whose centres have an odd number of crossings to one side."""
    start = np.concatenate(rings)
    stop = np.concatenate([np.roll(ring, -1, axis=0) for ring in rings])
    # An edge is taken upwards whichever way it was drawn: the two banks of a channel then cross a row at one point.
    upwards = (start[:, 1] <= stop[:, 1])[:, None]
    low, high = np.where(upwards, start, stop), np.where(upwards, stop, start)
    first = np.clip(np.ceil(low[:, 1] - SNAP), 0, height).astype(np.int64)
    count = np.clip(np.ceil(high[:, 1] - SNAP), 0, height).astype(np.int64) - first
    edge = np.repeat(np.arange(len(count)), count)
    row = first[edge] + np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count)
    rise = high[edge, 1] - low[edge, 1]
    share = np.clip((row - low[edge, 1]) / np.where(rise > 0, rise, 1.0), 0.0, 1.0)
    crossing = low[edge, 0] + share * (high[edge, 0] - low[edge, 0])
    column = np.clip(np.ceil(crossing - SNAP), 0, width).astype(np.int64)
    crossings = np.bincount(column * height + row, minlength=(width + 1) * height).reshape(width + 1, height)
    return np.asarray(np.cumsum(crossings[:width], axis=0) % 2 == 1)


def inside_polygons(points: FloatArray, polygons: Sequence[FloatArray]) -> Mask:
    """Return for points (m, 2) of a plane whether they lie inside the polygons (n, 2) by the even-odd rule, (m,)."""
    found = np.zeros(len(points), dtype=bool)
    for ring in polygons:
        low, high = ring.min(axis=0), ring.max(axis=0)
        near = np.flatnonzero(((points >= low) & (points <= high)).all(axis=1))
        x, y = points[near].T
        odd = np.zeros(len(near), dtype=bool)
        for (x0, y0), (x1, y1) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
            if y0 == y1:
                continue
            if y0 > y1:
                x0, y0, x1, y1 = x1, y1, x0, y0
            across = (y >= y0) & (y < y1)
            odd[across] ^= x[across] >= x0 + (y[across] - y0) * ((x1 - x0) / (y1 - y0))
        found[near] ^= odd
    return found


def runs_through_centres(polygons: Sequence[FloatArray]) -> bool:
    """Return whether every corner of every polygon (n, 2) lies on a voxel centre.

    rt-utils and other writers on OpenCV draw contours from centre to centre of the voxels at the border; contours drawn
    by hand or along voxel edges never do so throughout.
    """
    corners = np.concatenate([np.asarray(ring).reshape(-1, 2) for ring in polygons] or [np.empty((0, 2))])
    return len(corners) > 0 and bool((np.abs(corners - np.rint(corners)) <= ON_CENTRE).all())


def outlines(mask: Mask) -> list[Outline]:
    """Return the contours of a plane of voxels (i, j): one `Outline` for each piece that hangs together across edges.

    Contours follow the voxel edges, `INSET` inside, so that each voxel keeps its area however small the mask is; voxels
    that touch at a corner alone are pieces of their own. `polygon_mask` of them is the mask.

    Notes
    -----
    contourpy traces the pieces and their holes on samples just inside each voxel edge; the samples on both sides of an
    edge are so close that its interpolated corners are then moved onto the edges they belong to.
    """
    from uptake.geometry.components import bounding_box

    box = bounding_box(mask[:, :, None])
    if box is None:
        return []
    from contourpy import FillType, contour_generator

    (left, right), (bottom, top) = ((side.start, side.stop) for side in box[:2])
    padded = np.zeros((right - left + 2, top - bottom + 2), np.float64)
    padded[1:-1, 1:-1] = mask[left:right, bottom:top]
    # Two samples per voxel and axis, 2 * INSET inside its edges; the level puts the contour at INSET.
    x, y = (
        (np.arange(low - 1, high + 1)[:, None] + np.array([2 * INSET - 0.5, 0.5 - 2 * INSET])).ravel()
        for low, high in ((left, right), (bottom, top))
    )
    traced = contour_generator(
        x, y, np.repeat(np.repeat(padded, 2, axis=0), 2, axis=1).T, fill_type=FillType.OuterOffset
    )
    pieces = []
    for corners, starts in zip(*traced.filled(0.75, 2.0)[:2], strict=True):
        rings = [_square_corners(corners[a : b - 1]) for a, b in pairwise(starts)]
        pieces.append(Outline(rings[0], tuple(rings[1:])))
    return pieces


def _square_corners(ring: FloatArray) -> FloatArray:
    """Return a traced ring (n, 2) with the short slopes at its corners and the points on its sides taken away."""
    step = np.roll(ring, -1, axis=0) - ring
    side = np.flatnonzero(np.abs(step).max(axis=1) > 4 * INSET)
    level = np.abs(step[side, 1]) < np.abs(step[side, 0])
    # Where a level side meets an upright one there is a corner: x of the upright, y of the level one.
    here, following = side, np.roll(side, -1)
    turns = level != np.roll(level, -1)
    x = np.where(level, ring[following, 0], ring[here, 0])
    y = np.where(level, ring[here, 1], ring[following, 1])
    return np.stack([x, y], axis=1)[turns]


def _joined(ring: FloatArray, hole: FloatArray) -> FloatArray:
    """Return the ring with a hole joined to it by a channel that runs to the right of the hole."""
    following = np.roll(hole, -1, axis=0)
    upright = (hole[:, 0] == following[:, 0]) & (hole[:, 0] == hole[:, 0].max())
    edge = int(np.flatnonzero(upright)[0])
    row = np.ceil(min(hole[edge, 1], following[edge, 1])) + CHANNEL
    begin = np.array([hole[edge, 0], row])
    ends = np.roll(ring, -1, axis=0)
    meets = (ring[:, 0] == ends[:, 0]) & (ring[:, 0] > begin[0])
    meets &= (np.minimum(ring[:, 1], ends[:, 1]) < row) & (np.maximum(ring[:, 1], ends[:, 1]) > row)
    at = int(np.flatnonzero(meets)[ring[meets, 0].argmin()])
    bank = np.array([ring[at, 0], row])
    around = np.roll(hole, -(edge + 1), axis=0)  # from the corner after the channel to the one before it
    return np.concatenate([ring[: at + 1], [bank, begin], around, [begin, bank], ring[at + 1 :]])


def _lattice_points(polygons: Sequence[FloatArray]) -> npt.NDArray[np.int64]:
    """Return the voxel centres (n, 2) that lie on the edges of polygons whose corners are voxel centres."""
    found = [np.empty((0, 2), np.int64)]
    for ring in polygons:
        corners = np.rint(np.asarray(ring, np.float64).reshape(-1, 2)).astype(np.int64)
        step = np.roll(corners, -1, axis=0) - corners
        parts = np.maximum(np.gcd(step[:, 0], step[:, 1]), 1)
        edge = np.repeat(np.arange(len(parts)), parts)
        n = np.arange(len(edge)) - np.repeat(np.cumsum(parts) - parts, parts)
        found.append(corners[edge] + (step // parts[:, None])[edge] * n[:, None])
    return np.concatenate(found)
