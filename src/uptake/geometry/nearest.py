"""How far the voxels of one mask are from the nearest voxel of another, exactly, in mm.

Surfaces of two outlines of one organ lie a few voxels apart. So every voxel first looks at its neighbours in the order
of their distance; most find their partner within some dozens of steps. Those left over ask a k-d tree. Against a
distance transform this is exact in double precision, several times faster, and needs one byte per voxel of the box.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from uptake.core.types import FloatArray, Mask, Vector3

REACH = 6
"""Voxels along each axis that the search around a voxel covers."""

LOOK_COST = 5.0e-9
TREE_BUILD_COST = 3.5e-7
TREE_ASK_COST = 1.2e-6
"""Rough seconds per neighbour looked at, per voxel put into a tree, per question to it; they decide when to change."""


def nearest_distances(points: Mask, targets: Mask, *, spacing_mm: Vector3, threads: int = 1) -> npt.NDArray[np.float64]:
    """Return for every voxel of `points` the distance of its centre to the nearest voxel centre of `targets`, mm.

    Parameters
    ----------
    points, targets : arrays (i, j, k) bool
        On one grid with perpendicular axes.
    spacing_mm : tuple of float
        Voxel size along each array axis, mm.
    threads : int
        Used by the k-d tree.

    Returns
    -------
    array (n,) float64
        In the order in which the array `points` is scanned (last axis fastest); infinite if `targets` is empty.

    Notes
    -----
    The change from neighbours to tree comes when looking has cost as much as the tree would have: never more than
    about twice the better of the two.
    """
    index = np.argwhere(points)
    distances = np.full(len(index), np.inf)
    total = int(np.count_nonzero(targets))
    if total == 0 or len(index) == 0:
        return distances
    offsets, lengths = _neighbours(spacing_mm)
    reach = np.minimum(REACH, np.array(targets.shape) - 1)
    inside = (np.abs(offsets) <= reach).all(axis=1)
    padded = np.pad(targets, [(int(r), int(r)) for r in reach])
    strides = np.array([padded.shape[1] * padded.shape[2], padded.shape[2], 1])
    around = padded.ravel()
    where = (index + reach) @ strides
    left = np.arange(len(index))
    spent = 0
    for step, length in zip((offsets[inside] @ strides).tolist(), lengths[inside].tolist(), strict=True):
        hit = around[where + step]
        spent += len(where)
        if hit.any():
            distances[left[hit]] = length
            missed = ~hit
            where, left = where[missed], left[missed]
        if len(left) == 0 or spent * LOOK_COST > total * TREE_BUILD_COST + len(left) * TREE_ASK_COST:
            break
    if len(left):
        from scipy.spatial import cKDTree

        scale = np.asarray(spacing_mm, dtype=np.float64)
        tree = cKDTree(np.argwhere(targets) * scale, balanced_tree=False, compact_nodes=False)
        distances[left] = tree.query(index[left] * scale, workers=threads)[0]
    return distances


@lru_cache(maxsize=16)
def _neighbours(spacing_mm: Vector3) -> tuple[npt.NDArray[np.int64], FloatArray]:
    """Return the steps (n, 3) to all voxels within the largest ball that `REACH` covers, nearest first, and mm."""
    scale = np.asarray(spacing_mm, dtype=np.float64)
    axis = np.arange(-REACH, REACH + 1)
    steps = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    lengths = np.sqrt(((steps * scale) ** 2).sum(axis=1))
    # Beyond this some voxel outside the cube of steps would be nearer than one inside.
    near = lengths < (REACH + 1) * scale.min()
    steps, lengths = steps[near], lengths[near]
    order = np.argsort(lengths, kind="stable")
    return steps[order], lengths[order]
