"""What can be compared: two masks of one shape, on a grid whose voxel size is known."""

from __future__ import annotations

import math

from uptake.core.errors import InputError
from uptake.core.types import Mask, Vector3


def require_masks(prediction: Mask, reference: Mask) -> None:
    """Check that two arrays are masks of one shape.

    Raises
    ------
    InputError
        If the shapes differ, there are not three axes, or a mask is not boolean.
    """
    if prediction.shape != reference.shape or prediction.ndim != 3:
        raise InputError(f"masks of shape {prediction.shape} and {reference.shape} cannot be compared.")
    if prediction.dtype != bool or reference.dtype != bool:
        raise InputError(f"masks are boolean arrays, came {prediction.dtype} and {reference.dtype}.")


def require_spacing(spacing_mm: Vector3) -> Vector3:
    """Return three voxel sizes in mm as plain numbers.

    Raises
    ------
    InputError
        If they are not three finite, positive numbers.
    """
    sizes = tuple(float(size) for size in spacing_mm)
    if len(sizes) != 3 or not all(math.isfinite(size) and size > 0 for size in sizes):
        raise InputError(f"voxel sizes are three positive lengths in mm, came {tuple(spacing_mm)}.")
    return sizes
