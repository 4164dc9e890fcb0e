"""How far a disease has spread: the largest distance within the lesions, and by body surface."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from uptake.core.errors import UnitError
from uptake.core.types import FloatArray, Mask
from uptake.core.units import MM_PER_M
from uptake.geometry.volume import Volume

POINTS_AT_ONCE = 2048
"""Rows of the table of distances made in one go: 2048 x 10,000 points are 160 MB."""


def largest_extent_mm(mask: Volume) -> float:
    """Return the largest distance between two voxel centres of a mask, whichever lesions they belong to, mm.

    Parameters
    ----------
    mask : Volume
        Voxels that are not 0 count.

    Returns
    -------
    float
        0 for one voxel and for none. One long lesion has its own length.

    Notes
    -----
    The two points are corners of the convex hull, so only those are compared; the result is exact.
    """
    index = _corners(np.asarray(mask.array) != 0)
    return farthest_pair_mm(mask.world_of(index.astype(np.float64))) if len(index) else 0.0


def farthest_pair_mm(points: FloatArray) -> float:
    """Return the largest distance between two of the points (n, 3) in mm; 0 for one."""
    points = np.asarray(points, dtype=np.float64)
    largest = 0.0
    for first in range(0, len(points), POINTS_AT_ONCE):
        part = points[first : first + POINTS_AT_ONCE]
        largest = max(largest, float(_squared(part, points).max()))
    return float(np.sqrt(largest))


def standardised_spread_per_m(spread_mm: float, body_surface_m2: float) -> float:
    """Return SDmax, the largest distance over body surface, 1/m.

    Parameters
    ----------
    spread_mm : float
        Dmax, mm.
    body_surface_m2 : float
        See `physics.body.body_surface_m2`.

    Raises
    ------
    UnitError
        If the body surface is not a positive number.

    References
    ----------
    Cottereau et al. 2021, Ann Oncol 32:404 (SDmax, m⁻¹); Cottereau et al. 2020, J Nucl Med 61:40 (Dmax).
    """
    if not (np.isfinite(body_surface_m2) and body_surface_m2 > 0):
        raise UnitError(f"body surface is {body_surface_m2!r}; expected a positive number of m².")
    return spread_mm / MM_PER_M / body_surface_m2


def _squared(part: FloatArray, points: FloatArray) -> FloatArray:
    """Return squared distances (m, n) one axis at a time, which needs a third of the memory."""
    squared = np.zeros((len(part), len(points)))
    for axis in range(3):
        squared += (part[:, None, axis] - points[None, :, axis]) ** 2
    return squared


def _corners(mask: Mask) -> npt.NDArray[np.int64]:
    """Return voxel indices (n, 3) among which are all corners of the convex hull of a mask."""
    index = np.argwhere(mask)
    # Along each line of the last axis only the two ends can be corners.
    if len(index) > 2:
        line = index[:, 0] * mask.shape[1] + index[:, 1]
        starts = np.flatnonzero(np.r_[True, np.diff(line) != 0])
        index = index[np.unique(np.r_[starts, starts[1:] - 1, len(index) - 1])]
    if len(index) > 64:
        from scipy.spatial import ConvexHull, QhullError

        try:
            index = index[ConvexHull(index).vertices]
        except QhullError:
            return index  # all in one plane or line: no hull in three dimensions, but few points
    return np.asarray(index, dtype=np.int64)
