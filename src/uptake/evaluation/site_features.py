"""Numbers by which the scans of one site may look different from another's: values, noise, texture, sharpness.

All are taken inside the body and in mm, not voxels. The voxel size itself is no feature: it tells a site at once and no
image step could change it.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from uptake.core.errors import InputError
from uptake.core.types import Image, Mask, Vector3

QUANTILES = (0.05, 0.25, 0.50, 0.75, 0.95, 0.99)
SMOOTH_MM = 6.0
"""Standard deviation of the Gaussian that noise and texture are what is left of: about one PET resolution."""

MAD_TO_SD = 1.4826
BODY_HU = -500.0
BODY_SUV = 0.1
LEAST_BODY = 100
"""Voxels below which there is no body to take features of."""


def body_mask(pet: Image, ct: Image | None, spacing_mm: Vector3) -> Mask:
    """Return where the patient is, (i, j, k) bool: the largest connected piece above air on PET, or on CT.

    Parameters
    ----------
    pet : array (i, j, k)
        SUV; smoothed by `SMOOTH_MM` before it is compared with `BODY_SUV`.
    ct : array (i, j, k) or None
        HU on the same grid, compared with `BODY_HU`; lungs come from the PET.
    spacing_mm : tuple of float
        Voxel size, mm.

    Raises
    ------
    InputError
        If hardly anything is above air.
    """
    from scipy import ndimage

    from uptake.geometry.components import connected_components

    smooth = ndimage.gaussian_filter(np.asarray(pet, dtype=np.float32), [SMOOTH_MM / mm for mm in spacing_mm])
    inside = smooth > BODY_SUV
    if ct is not None:
        inside |= np.asarray(ct) > BODY_HU
    pieces = connected_components(np.asarray(inside), connectivity=6)
    if not pieces.count or int(pieces.voxels.max()) < LEAST_BODY:
        raise InputError(f"fewer than {LEAST_BODY} voxels are above air (SUV {BODY_SUV}, HU {BODY_HU:g}): no body.")
    return np.asarray(pieces.labels == int(pieces.voxels.argmax()) + 1)


def image_features(image: Image, body: Mask, spacing_mm: Vector3, *, prefix: str = "") -> dict[str, float]:
    """Return values, noise, texture and sharpness of one image inside the body.

    Parameters
    ----------
    image : array (i, j, k)
        SUV, HU, or normalised values.
    body : array (i, j, k) bool
    spacing_mm : tuple of float
        Voxel size, mm.
    prefix : str
        Before each name, e.g. "pet_".

    Returns
    -------
    dict
        `q05` to `q99`, `mean`, `sd`, `skewness`; `noise`: robust standard deviation of what a Gaussian of `SMOOTH_MM`
        leaves; `noise_share`: that over the standard deviation; `texture_in_plane_mm`, `texture_axial_mm`: full width
        at half maximum, mm, of a Gaussian whose smoothing would correlate neighbouring voxels of the rest as they are;
        `sharpness_per_mm`: mean gradient over the standard deviation.

    Raises
    ------
    InputError
        If the shapes differ, or the body or the values are unusable.

    References
    ----------
    Worsley KJ et al., J Cereb Blood Flow Metab 12:900 (1992): smoothness from the correlation ρ of neighbours at
    distance d, FWHM = d sqrt(2 ln 2 / -ln ρ) for white noise smoothed by a Gaussian.
    """
    from scipy import ndimage

    if image.shape != body.shape or body.dtype != bool or int(body.sum()) < LEAST_BODY:
        raise InputError(f"a body mask of shape {image.shape} with {LEAST_BODY} voxels or more is needed.")
    values = np.asarray(image, dtype=np.float64)
    inside = values[body]
    if not np.isfinite(inside).all():
        raise InputError("the image holds NaN or infinite voxels inside the body.")
    mean, sd = float(inside.mean()), float(inside.std())
    found = {f"q{100 * q:02.0f}": float(v) for q, v in zip(QUANTILES, np.quantile(inside, QUANTILES), strict=True)}
    found |= {"mean": mean, "sd": sd}
    found["skewness"] = float(((inside - mean) ** 3).mean() / sd**3) if sd > 0 else 0.0
    sigma = [SMOOTH_MM / mm for mm in spacing_mm]
    # Smoothed over the body alone, so that its edge does not count as texture.
    weight = ndimage.gaussian_filter(body.astype(np.float64), sigma)
    smooth = ndimage.gaussian_filter(np.where(body, values, 0.0), sigma)
    rest = values - smooth / np.maximum(weight, 1e-6)
    core = ndimage.binary_erosion(body)
    core = core if int(core.sum()) >= LEAST_BODY else body
    centred = rest[core] - np.median(rest[core])
    found["noise"] = MAD_TO_SD * float(np.median(np.abs(centred)))
    found["noise_share"] = found["noise"] / sd if sd > 0 else 0.0
    widths = [_width_mm(rest, core, axis, spacing_mm[axis]) for axis in range(3)]
    found["texture_in_plane_mm"] = float(np.mean(widths[:2]))
    found["texture_axial_mm"] = widths[2]
    slopes = np.stack([np.gradient(values, spacing_mm[axis], axis=axis)[core] for axis in range(3)])
    steepness = float(np.sqrt((slopes**2).sum(axis=0)).mean())
    found["sharpness_per_mm"] = steepness / sd if sd > 0 else 0.0
    return {f"{prefix}{name}": value for name, value in found.items()}


def _width_mm(rest: npt.NDArray[np.float64], core: Mask, axis: int, step_mm: float) -> float:
    """Return the smoothness of the rest along one axis from the correlation of neighbouring voxels, mm."""
    here = [slice(None)] * 3
    there = [slice(None)] * 3
    here[axis], there[axis] = slice(None, -1), slice(1, None)
    both = core[tuple(here)] & core[tuple(there)]
    a, b = rest[tuple(here)][both], rest[tuple(there)][both]
    if len(a) < 2 or a.std() == 0 or b.std() == 0:
        return 0.0
    correlation = float(np.corrcoef(a, b)[0, 1])
    # Hardly correlated, or even alternating: rougher than the grid can show.
    correlation = min(max(correlation, 1e-3), 1.0 - 1e-9)
    return step_mm * math.sqrt(2.0 * math.log(2.0) / -math.log(correlation))
