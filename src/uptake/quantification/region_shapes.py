"""Shapes on a voxel grid, in mm: balls, upright cylinders, what is clear of lesions, the back of a slice."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from uptake.core.types import FloatArray, Mask, Vector3
from uptake.geometry.components import Box
from uptake.geometry.volume import Volume


def ball(pet: Volume, radius_mm: float) -> npt.NDArray[np.int64]:
    """Return the voxels (n, 3), relative to the middle one, whose centres lie in a sphere."""
    offsets, world = _around(pet, radius_mm)
    return offsets[(world**2).sum(axis=1) <= radius_mm**2 * (1 + 1e-9)]


def cylinder(pet: Volume, radius_mm: float, length_mm: float) -> npt.NDArray[np.int64]:
    """Return the voxels (n, 3), relative to the middle one, whose centres lie in an upright cylinder."""
    offsets, world = _around(pet, math.hypot(radius_mm, length_mm / 2))
    across = (world[:, :2] ** 2).sum(axis=1) <= radius_mm**2 * (1 + 1e-9)
    along = np.abs(world[:, 2]) <= length_mm / 2 * (1 + 1e-9)
    return offsets[across & along]


def clear_of(lesions: Mask, box: Box, spacing: Vector3, gap_mm: float) -> Mask:
    """Return where in a box the nearest lesion voxel, in the box or around it, is at least `gap_mm` away."""
    margin = [math.ceil(gap_mm / mm) for mm in spacing]
    wide = tuple(slice(max(p.start - m, 0), p.stop + m) for p, m in zip(box, margin, strict=True))
    around = lesions[wide]
    inner = tuple(slice(p.start - w.start, p.stop - w.start) for p, w in zip(box, wide, strict=True))
    if not around.any():
        return np.ones(around[inner].shape, dtype=bool)
    return np.asarray(ndimage.distance_transform_edt(~around, sampling=spacing)[inner] >= gap_mm)


def posterior_depth(slice_mask: Mask, spacing: Vector3, *, least_mm2: float) -> FloatArray:
    """Return the distance (i, j) to the edge, mm, in the part of a slice that lies furthest back; 0 elsewhere.

    Axis j runs to the front. Parts smaller than `least_mm2` are passed over.
    """
    parts, count = ndimage.label(slice_mask)
    if count == 0:
        return np.zeros(slice_mask.shape)
    area_mm2 = np.bincount(parts.ravel())[1:] * spacing[0] * spacing[1]
    rows = ndimage.mean(np.indices(slice_mask.shape)[1], parts, np.arange(1, count + 1))
    wide = np.flatnonzero(area_mm2 >= least_mm2)
    if not len(wide):
        return np.zeros(slice_mask.shape)
    furthest = 1 + int(wide[np.asarray(rows)[wide].argmin()])
    padded = np.pad(parts == furthest, 1)
    return np.asarray(ndimage.distance_transform_edt(padded, sampling=spacing[:2])[1:-1, 1:-1])


def _around(pet: Volume, reach_mm: float) -> tuple[npt.NDArray[np.int64], FloatArray]:
    steps = [math.ceil(reach_mm / mm) for mm in pet.spacing_mm]
    grid = np.meshgrid(*(np.arange(-n, n + 1) for n in steps), indexing="ij")
    offsets = np.stack(grid, axis=-1).reshape(-1, 3)
    return offsets, np.asarray(offsets @ pet.affine[:3, :3].T)
