"""Smooth random fields fixed in millimetres, and the Gaussian blur with an exact width."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.ndimage import correlate1d
from scipy.special import ive

from uptake.core.types import Shape3, Vector3

Array = npt.NDArray[np.float32]
Line = npt.NDArray[np.float64]

FWHM_PER_SIGMA = float(2.0 * np.sqrt(2.0 * np.log(2.0)))


def _bspline_rows(positions_mm: Line, low_mm: float, step_mm: float, count: int) -> Array:
    """Return (n, count) weights of cubic B-splines centred on a lattice, rows of unit length."""
    lattice = low_mm + step_mm * (np.arange(count) - 1.5)
    t = np.abs((positions_mm[:, None] - lattice[None, :]) / step_mm)
    weights = np.where(
        t < 1.0, 2.0 / 3.0 - t**2 + 0.5 * t**3, np.where(t < 2.0, (2.0 - np.minimum(t, 2.0)) ** 3 / 6.0, 0)
    )
    # Unit rows: independent lattice values of variance 1 then give variance 1 at every position.
    return np.asarray(weights / np.sqrt((weights**2).sum(axis=1, keepdims=True)), dtype=np.float32)


def random_field(
    rng: np.random.Generator, axes_mm: Sequence[Line], extent_mm: Sequence[tuple[float, float]], scale_mm: float
) -> Array:
    """Return a smooth Gaussian random field with mean 0 and variance 1 at every voxel.

    White noise on a lattice of step `scale_mm` times cubic B-splines. The lattice is laid over `extent_mm`, not over
    the voxels, so that one generator state gives one and the same field on every grid.

    Parameters
    ----------
    rng : numpy.random.Generator
    axes_mm : sequence of array (n,)
        Voxel centres along each axis, mm.
    extent_mm : sequence of (float, float)
        Extent of the lattice along each axis, mm; must hold the voxel centres.
    scale_mm : float
        Lattice step, mm. The field is like white noise blurred with a Gaussian of sigma 0.58 `scale_mm`.

    Returns
    -------
    array (ni, nj, nk) float32
    """
    counts = [int(np.ceil((high - low) / scale_mm)) + 4 for low, high in extent_mm]
    noise = rng.standard_normal(counts, dtype=np.float32)
    for axis, (positions, (low, _), count) in enumerate(zip(axes_mm, extent_mm, counts, strict=True)):
        rows = _bspline_rows(np.asarray(positions, dtype=np.float64), low, scale_mm, count)
        noise = np.moveaxis(np.tensordot(rows, noise, axes=(1, axis)), 0, axis)
    return np.ascontiguousarray(noise)


def discrete_gaussian(variance: float) -> Line:
    """Return the discrete Gaussian kernel T(n, t) = exp(-t) I_n(t) of exactly the given variance in voxels².

    A sampled Gaussian is far too narrow below half a voxel; this one has variance t for every t > 0 and stays a
    semigroup, so that two blurs add in quadrature on the grid as they do in the scanner.

    References
    ----------
    Lindeberg, Scale-space for discrete signals, IEEE PAMI 12(3), 1990, eq. 19. doi:10.1109/34.49051
    """
    radius = int(np.ceil(4.5 * np.sqrt(variance) + 2.0))
    kernel = np.asarray(ive(np.abs(np.arange(-radius, radius + 1)), variance), dtype=np.float64)
    return np.asarray(kernel / kernel.sum())


def gaussian_blur(image: Array, fwhm_mm: Vector3, spacing_mm: Vector3, *, mode: str = "nearest") -> Array:
    """Return the image blurred with a Gaussian of the given full width at half maximum along each array axis.

    Parameters
    ----------
    image : array (i, j, k) float32
    fwhm_mm : tuple of float
        0 leaves an axis as it is.
    spacing_mm : tuple of float
    mode : str
        Continuation beyond the edge, as in `scipy.ndimage`. "nearest" keeps constants, "reflect" keeps sums as well.
    """
    for axis in range(3):
        variance = (fwhm_mm[axis] / FWHM_PER_SIGMA / spacing_mm[axis]) ** 2
        if variance > 1e-6:
            image = correlate1d(image, discrete_gaussian(variance), axis=axis, mode=mode)
    return np.asarray(image, dtype=np.float32)


def correlated_noise(rng: np.random.Generator, shape: Shape3, fwhm_mm: Vector3, spacing_mm: Vector3) -> Array:
    """Return Gaussian noise of variance 1 whose correlation is that of white noise blurred with `fwhm_mm`."""
    noise = rng.standard_normal(shape, dtype=np.float32)
    norm = 1.0
    for axis in range(3):
        variance = (fwhm_mm[axis] / FWHM_PER_SIGMA / spacing_mm[axis]) ** 2
        if variance > 1e-6:
            kernel = discrete_gaussian(variance)
            noise = correlate1d(noise, kernel, axis=axis, mode="wrap")
            norm *= float(np.sqrt((kernel**2).sum()))
    return np.asarray(noise / np.float32(norm), dtype=np.float32)
