"""Attenuation guessed from a PET without CT: water wherever there is body."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from uptake.core.errors import InputError, UsageError
from uptake.core.types import Mask, Vector3
from uptake.geometry.volume import Volume
from uptake.simulation.attenuation import MU_WATER_PER_MM
from uptake.simulation.fields import Array, gaussian_blur

BODY_SUV = 0.12
"""Skin and fat lie above, air below, after a blur of `BLUR_MM`."""

BLUR_MM = 12.0
SMALLEST_PART = 0.05
"""Pieces smaller than this share of the largest are noise in the air."""

MARGIN_MM = 32.0
"""Around the body, reconstructed with it; further out there is air."""

LUNG_DENSITY = 0.27
"""Of water."""


def body_of(pet: Volume) -> Mask:
    """Return the body (i, j, k) bool: everything above air, largest pieces, holes of each slice filled.

    Raises
    ------
    InputError
        If there is no body in the image.
    """
    smooth = gaussian_blur(np.maximum(pet.array, 0.0).astype(np.float32), (BLUR_MM,) * 3, pet.spacing_mm)
    pieces, count = ndimage.label(smooth > BODY_SUV)
    if count == 0:
        raise InputError(f"no voxel is above SUV {BODY_SUV:g} after smoothing: there is no body in this PET.")
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    body = (sizes >= SMALLEST_PART * sizes.max())[pieces]
    for k in range(body.shape[2]):
        body[:, :, k] = ndimage.binary_fill_holes(body[:, :, k])
    return np.asarray(body)


def attenuation_from_pet(pet: Volume, lungs: Mask | None = None) -> Array:
    """Return attenuation at 511 keV, 1/mm: water in the body, 0.27 of it in the lungs where they are given.

    Good enough to know how noise is distributed, no map for correcting attenuation with. Lungs are not looked for:
    their uptake per mL is often that of muscle. Without them lines through the chest get too few counts.

    Parameters
    ----------
    pet : Volume
        SUV, third axis along the body.
    lungs : array (i, j, k) bool or None
    """
    density = body_of(pet).astype(np.float32)
    if lungs is not None:
        if lungs.shape != pet.shape:
            raise UsageError(f"the lung mask has shape {lungs.shape}, the PET {pet.shape}; give both on one grid.")
        density[lungs] = LUNG_DENSITY
    return np.asarray(density * np.float32(MU_WATER_PER_MM), dtype=np.float32)


def body_box(body: Mask, spacing: Vector3) -> tuple[slice, slice, slice]:
    """Return the part of the grid that is reconstructed: columns around the body with a margin, all slices.

    Parameters
    ----------
    body : array (i, j, k) bool
    spacing : tuple of float
        mm.
    """
    slices = []
    for axis in range(2):
        present = np.flatnonzero(body.any(axis=(1 - axis, 2)))
        margin = int(np.ceil(MARGIN_MM / spacing[axis]))
        low, high = (int(present[0]), int(present[-1]) + 1) if present.size else (0, body.shape[axis])
        slices.append(slice(max(low - margin, 0), min(high + margin, body.shape[axis])))
    return slices[0], slices[1], slice(0, body.shape[2])
