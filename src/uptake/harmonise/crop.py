"""The box that holds everything but empty voxels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from uptake.cases import Crop
from uptake.core.types import Shape3


def crop_to_nonzero(images: Sequence[npt.NDArray[Any]]) -> Crop:
    """Return the smallest box outside of which every image is exactly zero.

    Published LesionTracer preprocessing (nnU-Net): a voxel counts if any channel differs from zero. With CT air at
    -1024 the box is nearly always the whole image; PET without CT loses its empty rim. An image of zeros only keeps
    everything.
    """
    shape = images[0].shape
    lower, upper = [], []
    for axis in range(3):
        # From either end up to the first slice that holds something, which in a scan with air at -1024 is the first.
        slices = [np.moveaxis(image, axis, 0) for image in images]
        size = shape[axis]
        first = next((n for n in range(size) if any(one[n].any() for one in slices)), None)
        if first is None:
            return Crop((shape[0], shape[1], shape[2]), (0, 0, 0), (shape[0], shape[1], shape[2]))
        lower.append(first)
        upper.append(next(n for n in range(size, first, -1) if any(one[n - 1].any() for one in slices)))
    return Crop((shape[0], shape[1], shape[2]), (lower[0], lower[1], lower[2]), (upper[0], upper[1], upper[2]))


def crop_to_mask(mask: npt.NDArray[np.bool_], margin: Shape3) -> Crop:
    """Return the smallest box that holds the mask, widened by `margin` voxels (z, y, x) as far as the image goes.

    A mask without a voxel keeps everything.
    """
    shape: Shape3 = (mask.shape[0], mask.shape[1], mask.shape[2])
    lower, upper = [], []
    for axis, extra in enumerate(margin):
        filled = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        lower.append(max(0, int(filled[0]) - extra) if filled.size else 0)
        upper.append(min(shape[axis], int(filled[-1]) + 1 + extra) if filled.size else shape[axis])
    return Crop(shape, (lower[0], lower[1], lower[2]), (upper[0], upper[1], upper[2]))


def box(crop: Crop) -> tuple[slice, slice, slice]:
    """Return the crop as slices."""
    a, b, c = (slice(low, high) for low, high in zip(crop.lower, crop.upper, strict=True))
    return a, b, c


def filled(images: Sequence[npt.NDArray[Any]]) -> npt.NDArray[np.bool_]:
    """Return where any image differs from zero, holes filled (nnU-Net's non-zero mask)."""
    return np.asarray(ndimage.binary_fill_holes(np.any([image != 0 for image in images], axis=0)))
