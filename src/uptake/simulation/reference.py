"""The sphere in which noise is measured: 3 cm across, where the liver, or an image without labels, is quietest."""

from __future__ import annotations

import numpy as np
from scipy.fft import irfftn, next_fast_len, rfftn
from scipy.ndimage import distance_transform_edt, find_objects, label

from uptake.core.errors import UsageError
from uptake.core.types import FloatArray, Mask, Vector3
from uptake.geometry.volume import Volume
from uptake.simulation.fields import Array, gaussian_blur

SPHERE_MM = 30.0
"""Diameter of the reference sphere (PERCIST)."""

SMOOTH_MM = 20.0
EVEN = 0.08
EDGE_MM, INNER_MM = 12.0, 5.0
"""How far from the border of a liver mask, and of what looks even, noise is looked at."""

LIVER_LIKE_SUV = (1.2, 20.0)
STEEP = 0.015
SMALLEST_LIVER_ML = 60.0
"""What a liver is taken for without a mask; see `liver_like`."""


def quiet_sphere(pet: Volume, liver: Mask | None = None) -> Mask | None:
    """Return the voxels (i, j, k) bool of the 3-cm sphere with the smallest relative spread, or None if none fits.

    Parameters
    ----------
    pet : Volume
        SUV.
    liver : array (i, j, k) bool or None
        Whole spheres inside it; None takes `liver_like`.

    References
    ----------
    Hirata et al., PLoS One 9(8), 2014: automatic liver reference. doi:10.1371/journal.pone.0105682
    """
    spacing = pet.spacing_mm
    ball = _ball(spacing)
    where = liver_like(pet) if liver is None else liver
    if where.shape != pet.shape:
        raise UsageError(f"the liver mask has shape {where.shape}, the PET {pet.shape}; give both on one grid.")
    found = find_objects(where.astype(np.uint8))
    if not found or found[0] is None:
        return None
    box = found[0]
    image = pet.array[box].astype(np.float64)
    if any(n < m for n, m in zip(image.shape, ball.shape, strict=True)):
        return None
    count = float(ball.sum())
    # Sums over the ball at every place where it fits in whole: its mirror image is itself.
    size = [next_fast_len(n, real=True) for n in image.shape]
    spectrum = np.asarray(rfftn(ball, size))
    whole = tuple(slice(m - 1, n) for m, n in zip(ball.shape, image.shape, strict=True))

    def local(values: FloatArray) -> FloatArray:
        return np.asarray(irfftn(np.asarray(rfftn(values, size)) * spectrum, size))[whole] / count

    mean = local(image)
    # FFT noise can make a variance slightly negative.
    spread = np.sqrt(np.maximum(local(image**2) - mean**2, 0.0)) / np.maximum(mean, 1e-6)
    fits = (local(where[box].astype(np.float64)) > 1.0 - 0.5 / count) & (mean > 0)
    if not fits.any():
        return None
    spot = np.unravel_index(int(np.argmin(np.where(fits, spread, np.inf))), spread.shape)
    mask = np.zeros(pet.shape, dtype=bool)
    corner = [int(s) + part.start for s, part in zip(spot, box, strict=True)]
    mask[tuple(slice(c, c + n) for c, n in zip(corner, ball.shape, strict=True))] = ball > 0.5
    return mask


def liver_like(pet: Volume) -> Mask:
    """Return the largest place of even uptake (i, j, k) bool: the liver, in most tracers; empty if there is none.

    Even is where the smoothed image, between SUV 1.2 and 20, changes by less than `STEEP` of itself per mm. The brain
    is as large, but cortex and white matter make it uneven.
    """
    spacing = pet.spacing_mm
    smooth = gaussian_blur(np.maximum(pet.array, 0.0).astype(np.float32), (SMOOTH_MM,) * 3, spacing)
    slope = np.zeros(smooth.shape, np.float32)
    for axis, step in enumerate(spacing):
        if smooth.shape[axis] > 1:
            slope += (np.gradient(smooth, axis=axis) / np.float32(step)) ** 2
    even = np.sqrt(slope) < STEEP * smooth
    pieces, count = label(even & (smooth > LIVER_LIKE_SUV[0]) & (smooth < LIVER_LIKE_SUV[1]))
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    if count == 0 or sizes.max() * pet.voxel_volume_ml < SMALLEST_LIVER_ML:
        return np.zeros(pet.shape, dtype=bool)
    return np.asarray(pieces == int(np.argmax(sizes)))


def even_region(pet: Volume, sphere: Mask, liver: Mask | None = None) -> Mask:
    """Return the voxels (i, j, k) bool around a sphere where the smoothed image stays close to its mean.

    More of the liver than the sphere alone, which was chosen for being quiet and so underrates the noise.

    Parameters
    ----------
    pet : Volume
    sphere : array (i, j, k) bool
    liver : array (i, j, k) bool or None
        Nothing closer than `EDGE_MM` to its border is taken.
    """
    spacing = pet.spacing_mm
    smooth = gaussian_blur(np.asarray(pet.array, dtype=np.float32), (SMOOTH_MM,) * 3, spacing)
    mean = float(smooth[sphere].mean())
    even = np.abs(smooth - mean) < EVEN * mean
    if liver is not None:
        even &= distance_transform_edt(liver, sampling=spacing) > EDGE_MM
    pieces, _ = label(even)
    touched = np.bincount(pieces[sphere & (pieces > 0)])
    if touched.size < 2:
        return sphere
    region = pieces == int(np.argmax(touched))
    core = distance_transform_edt(region, sampling=spacing) > INNER_MM
    return np.asarray(core if core.sum() >= sphere.sum() else sphere)


def fine_part(image: Array, spacing: Vector3) -> Array:
    """Return the image less its smoothed self: noise without the slow texture and gradients of the organ."""
    return np.asarray(image - gaussian_blur(image, (SMOOTH_MM,) * 3, spacing), dtype=np.float32)


def relative_spread(image: Array, sphere: Mask) -> float:
    """Return SD / mean over the voxels of a mask; not a number where the mean is not positive."""
    values = image[sphere].astype(np.float64)
    return float(values.std() / values.mean()) if values.mean() > 0 else float("nan")


def _ball(spacing: Vector3) -> FloatArray:
    radius = SPHERE_MM / 2.0
    halves = [int(radius / s) for s in spacing]
    axes = [np.arange(-h, h + 1) * s for h, s in zip(halves, spacing, strict=True)]
    inside = axes[0][:, None, None] ** 2 + axes[1][None, :, None] ** 2 + axes[2][None, None, :] ** 2 <= radius**2
    return np.asarray(inside, dtype=np.float64)
