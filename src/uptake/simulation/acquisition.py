"""What the scanner does to the truth: blur, count noise as OSEM leaves it, and the CT's own noise."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import affine_transform, zoom

from uptake.core.errors import UnitError
from uptake.core.types import Mask, Vector3
from uptake.simulation.attenuation import attenuation_per_cm
from uptake.simulation.fields import FWHM_PER_SIGMA, Array, correlated_noise, gaussian_blur


def scanner_blur(activity: Array, fwhm_mm: float, spacing_mm: Vector3) -> Array:
    """Return the activity as an ideal scanner of the given effective resolution shows it.

    A voxel already averages over its own width, which adds spacing²/12 to the variance; that share is left out of the
    blur, so that the width asked for is the width in the image.
    """
    if fwhm_mm < 0:
        raise UnitError(f"the resolution must not be negative, came {fwhm_mm!r} mm.")
    variance = (fwhm_mm / FWHM_PER_SIGMA) ** 2
    widths = [FWHM_PER_SIGMA * float(np.sqrt(max(variance - s**2 / 12.0, 0.0))) for s in spacing_mm]
    return gaussian_blur(activity, (widths[0], widths[1], widths[2]), spacing_mm, mode="reflect")


def fisher_diagonal(image: Array, hu: Array, spacing_mm: Vector3, *, angles: int = 12, step_mm: float = 14.0) -> Array:
    """Return how well the counts determine each voxel, relative units: high near the surface, low deep inside.

    The diagonal of the Fisher information of a parallel-beam scan, F = Aᵀ(m² / ȳ) with attenuation m = exp(-∫μ) and
    expected counts ȳ = m·∫f + background, on a coarse grid, by rotating slices and summing along columns.

    References
    ----------
    Qi and Leahy, IEEE Trans Med Imaging 19(5), 2000. doi:10.1109/42.870259
    """
    mu = attenuation_per_cm(hu)
    factors = [s / step_mm for s in spacing_mm]
    coarse_f = zoom(gaussian_blur(image, (step_mm,) * 3, spacing_mm), factors, order=1, grid_mode=True, mode="nearest")
    coarse_mu = zoom(gaussian_blur(mu, (step_mm,) * 3, spacing_mm), factors, order=1, grid_mode=True, mode="nearest")
    ni, nj, nk = coarse_f.shape
    side = int(np.ceil(np.hypot(ni, nj)))
    total = np.zeros((ni, nj, nk), np.float32)
    for angle in np.arange(angles) * np.pi / angles:
        c, s = np.cos(angle), np.sin(angle)
        turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
        here, there = np.array([ni - 1, nj - 1, 0]) / 2, np.array([side - 1, side - 1, 0]) / 2
        options = {"order": 1, "mode": "constant", "cval": 0.0}
        forward = {"output_shape": (side, side, nk), "offset": here - turn @ there, **options}
        lines_f = affine_transform(coarse_f, turn, **forward).sum(axis=1) * step_mm / 10.0
        lines_mu = affine_transform(coarse_mu, turn, **forward).sum(axis=1) * step_mm / 10.0
        m = np.exp(-lines_mu)
        trues = m * lines_f
        # Scatter and randoms: smooth, about as many as half of the trues of a slice.
        expected = trues + 0.5 * trues.mean(axis=0, keepdims=True) + 1e-3
        sinogram = np.broadcast_to((m**2 / expected)[:, None, :], (side, side, nk)).astype(np.float32)
        back = {"output_shape": (ni, nj, nk), "offset": there - turn.T @ here, **options, "mode": "nearest"}
        total += affine_transform(sinogram, turn.T, **back)
    fine = zoom(total / angles, [n / m for n, m in zip(image.shape, total.shape, strict=True)], order=1, grid_mode=True,
                mode="nearest")  # fmt: skip
    return np.asarray(np.maximum(fine, 1e-6 * float(fine.max())), dtype=np.float32)


def count_noise(
    rng: np.random.Generator,
    image: Array,
    hu: Array,
    liver: Mask,
    spacing_mm: Vector3,
    *,
    liver_cov: float,
    noise_fwhm_mm: Vector3,
) -> Array:
    """Return the image with noise like that of an OSEM reconstruction; never negative, mean kept.

    Standard deviation proportional to f^0.65 F^-0.16, f the local mean and F the Fisher diagonal (a fit to simulated
    OSEM images of an attenuating body), drawn as a correlated log-normal factor of mean 1, scaled so that the
    coefficient of variation in `liver` is `liver_cov`.

    Parameters
    ----------
    rng : numpy.random.Generator
    image : array (i, j, k) float32
        Noise-free PET, SUV.
    hu : array (i, j, k) float32
    liver : array (i, j, k) bool
        Where the noise level is set; the middle of the image's body where there is no liver.
    spacing_mm : tuple of float
    liver_cov : float
        Noise SD / mean over voxels in the liver, >= 0.
    noise_fwhm_mm : tuple of float
        Correlation of the noise along each axis, as the width of the Gaussian that blurs white noise.

    References
    ----------
    Barrett, Wilson, Tsui, Phys Med Biol 39, 1994 (log-normal voxels whose SD resembles the object).
    doi:10.1088/0031-9155/39/5/004
    """
    if liver_cov < 0:
        raise UnitError(f"the coefficient of variation must not be negative, came {liver_cov!r}.")
    unit = correlated_noise(rng, (image.shape[0], image.shape[1], image.shape[2]), noise_fwhm_mm, spacing_mm)
    if liver_cov == 0:
        return image
    local = np.maximum(gaussian_blur(image, (6.0, 6.0, 6.0), spacing_mm), np.float32(0.05))
    relative = local ** np.float32(-0.35) * fisher_diagonal(image, hu, spacing_mm) ** np.float32(-0.16)
    where = liver if liver.any() else image > 0.3
    level = float(np.sqrt((relative[where] ** 2).mean())) if where.any() else float(relative.mean())
    relative = np.minimum(relative * np.float32(liver_cov / level), np.float32(1.5))
    sigma = np.sqrt(np.log1p(relative**2))
    return np.asarray(image * np.exp(sigma * unit - sigma**2 / 2), dtype=np.float32)


def ct_noise(rng: np.random.Generator, hu: Array, spacing_mm: Vector3, *, sd_hu: float) -> Array:
    """Return the CT with slight blur and noise that grows with the thickness of the slice's section, whole HU."""
    blurred = gaussian_blur(hu, (2.5, 2.5, 2.0), spacing_mm)
    noise = correlated_noise(rng, (hu.shape[0], hu.shape[1], hu.shape[2]), (3.0, 3.0, 0.0), spacing_mm)
    # Water-equivalent width of the section, against 28 cm: quantum noise grows with exp(half the path).
    water_cm2 = (hu + 1000.0).clip(0, 2500).sum(axis=(0, 1)) / 1000.0 * spacing_mm[0] * spacing_mm[1] / 100.0
    width_cm = 2.0 * np.sqrt(water_cm2 / np.pi)
    strength = sd_hu * np.exp(0.06 * (np.clip(width_cm, 12.0, 45.0) - 28.0))
    noisy = blurred + noise * strength.astype(np.float32)[None, None, :]
    return np.asarray(np.clip(np.rint(noisy), -1024, 3071), dtype=np.float32)
