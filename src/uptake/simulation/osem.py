"""Ordered-subsets expectation maximisation, as clinical scanners run it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from uptake.core.errors import GeometryError, UsageError
from uptake.core.types import Vector3
from uptake.simulation.fields import Array, gaussian_blur
from uptake.simulation.projector import Projector
from uptake.simulation.resolution import LineBlur

SENSITIVITY_BYTES = 320_000_000
HALF_SENSITIVITY_BYTES = 800_000_000
"""Sensitivity images of all subsets are kept if they fit into the first, or in half precision (rounded by at most
0.05 %) into the second; else each is made anew whenever it is needed."""

LARGEST_HALF = 60_000.0
"""What the largest sensitivity is scaled to in half precision, whose numbers end at 65,504."""

SMALLEST_EXPECTED = np.float32(1e-8)
"""Counts; below it a line sees nothing and takes no part."""


@dataclass(frozen=True)
class Recon:
    """How the images are reconstructed.

    Attributes
    ----------
    iterations, subsets : int
    psf_fwhm_mm : float
        Resolution modelled inside the loop ("PSF", "TrueX", "SharpIR"); 0 for none.
    filter_fwhm_mm : float
        Gaussian filter after reconstruction; 0 for none.
    """

    iterations: int = 2
    subsets: int = 16
    psf_fwhm_mm: float = 0.0
    filter_fwhm_mm: float = 5.0

    def __post_init__(self) -> None:
        if not 1 <= self.iterations <= 200 or not 1 <= self.subsets <= 64:
            raise UsageError(
                f"OSEM takes 1 to 200 iterations and 1 to 64 subsets, came {self.iterations!r} x {self.subsets!r}."
            )
        if not 0 <= self.psf_fwhm_mm <= 20 or not 0 <= self.filter_fwhm_mm <= 20:
            raise UsageError(
                f"psf_fwhm_mm and filter_fwhm_mm lie between 0 and 20 mm, came {self.psf_fwhm_mm!r} and "
                f"{self.filter_fwhm_mm!r}."
            )


@dataclass(frozen=True, eq=False)
class Measurement:
    """Counts and what is known about how they came about: counts ~ Poisson(factor * lines + background).

    Attributes
    ----------
    counts : array (angles, bins, slices)
        Prompts; whole numbers, or expected values for a reconstruction without noise.
    factor : array (angles, bins, slices) float32
        Counts per unit of the line integral: time, sensitivity and attenuation.
    background : array (angles, bins, slices) float32
        Expected scatter and randoms, counts.
    """

    counts: npt.NDArray[np.floating] | npt.NDArray[np.integer]
    factor: Array
    background: Array

    def __post_init__(self) -> None:
        if not self.counts.shape == self.factor.shape == self.background.shape:
            raise GeometryError(
                f"counts {self.counts.shape}, factor {self.factor.shape} and background {self.background.shape} must "
                "have one shape."
            )


def reconstruct(
    measurement: Measurement,
    projector: Projector,
    recon: Recon,
    spacing_mm: Vector3,
    *,
    sensitivity: Sensitivity | None = None,
    each: Callable[[int, Array], None] | None = None,
) -> Array:
    """Return the image (i, j, k) float32, >= 0, in the unit whose line integrals `factor` turns into counts.

    x <- x / (B A' m)_b * (B A' [m y / (m A B x + s)])_b over subsets b, B the modelled resolution.

    Parameters
    ----------
    measurement : Measurement
    projector : Projector
        Made with `recon.subsets`.
    recon : Recon
    spacing_mm : tuple of float
    sensitivity : Sensitivity or None
        Of the same lines at any dose, where several doses are reconstructed; None makes it from the measurement.
    each : callable or None
        Called after each iteration with its number from 1 and the image, before the filter.

    References
    ----------
    Hudson and Larkin, IEEE Trans Med Imaging 13(4), 1994. doi:10.1109/42.363108
    """
    if projector.subsets != recon.subsets:
        raise UsageError(f"the projector holds {projector.subsets} subsets, the reconstruction asks {recon.subsets}.")
    blur = line_blur(projector, recon, spacing_mm)
    image = np.ones((*projector.geometry.shape, measurement.factor.shape[2]), np.float32)
    sensitivity = sensitivity or Sensitivity(measurement.factor, projector, recon, spacing_mm)
    seen = np.zeros(image.shape, dtype=bool)
    for iteration in range(1, recon.iterations + 1):
        for subset in _order(recon.subsets):
            lines = slice(subset, None, recon.subsets)
            expected = blur(projector.apply_subset(subset, image))
            expected *= measurement.factor[lines]
            expected += measurement.background[lines]
            np.maximum(expected, SMALLEST_EXPECTED, out=expected)
            # A dose scales the factor in numerator and denominator alike: that of the sensitivity serves all doses.
            np.divide(measurement.counts[lines], expected, out=expected, casting="same_kind")
            expected *= sensitivity.factor[lines]
            back = projector.adjoint_subset(subset, blur(expected))
            whole = sensitivity.of(subset)
            # A voxel that no line of the subset sees keeps what it has.
            reached = whole > np.float32(1e-6) * whole.max()
            np.divide(back, whole, out=back, where=reached)
            np.multiply(image, back, out=image, where=reached)
            seen |= reached
        if each is not None:
            each(iteration, image)
    image[~seen] = 0.0
    return post_filter(image, recon, spacing_mm)


class Sensitivity:
    """Back-projections of the factor, one for each subset: made when first asked for, kept if all fit into memory."""

    def __init__(self, factor: Array, projector: Projector, recon: Recon, spacing_mm: Vector3) -> None:
        self.factor = factor
        self._projector, self._blur = projector, line_blur(projector, recon, spacing_mm)
        voxels = int(np.prod(projector.geometry.shape)) * factor.shape[2] * recon.subsets
        self._whole, self._half = 4 * voxels <= SENSITIVITY_BYTES, 2 * voxels <= HALF_SENSITIVITY_BYTES
        self._known: dict[int, tuple[npt.NDArray[np.floating], np.float32]] = {}

    def of(self, subset: int) -> Array:
        """Return the sensitivity (i, j, k) of one subset."""
        if subset in self._known:
            kept, scale = self._known[subset]
            return kept if kept.dtype == np.float32 else kept.astype(np.float32) * scale
        found = self._projector.adjoint_subset(subset, self._blur(self.factor[subset :: self._projector.subsets]))
        if self._whole:
            self._known[subset] = found, np.float32(1)
        elif self._half:
            scale = np.float32(max(float(found.max()), 1e-30) / LARGEST_HALF)
            kept = (found / scale).astype(np.float16)
            self._known[subset] = kept, scale
            # The first use must see what later uses see.
            found = kept.astype(np.float32) * scale
        return found


def post_filter(image: Array, recon: Recon, spacing_mm: Vector3) -> Array:
    """Return the image after the Gaussian filter of the protocol."""
    return gaussian_blur(image, (recon.filter_fwhm_mm,) * 3, spacing_mm, mode="reflect")


def line_blur(projector: Projector, recon: Recon, spacing_mm: Vector3) -> Callable[[Array], Array]:
    """Return the resolution model that acts on line integrals, or the identity."""
    if recon.psf_fwhm_mm == 0:
        return lambda lines: lines
    return LineBlur(recon.psf_fwhm_mm, projector.geometry.bin_mm, spacing_mm[2])


def log_likelihood(measurement: Measurement, lines: Array) -> float:
    """Return the Poisson log-likelihood of the counts given line integrals of an image, constants left out."""
    expected = np.maximum(measurement.factor * lines + measurement.background, SMALLEST_EXPECTED).astype(np.float64)
    return float((measurement.counts * np.log(expected) - expected).sum())


def _order(subsets: int) -> Iterator[int]:
    """Yield the subsets so that each is far in angle from those before it (golden-section steps)."""
    step = max(round(subsets * 0.381966), 1)
    while np.gcd(step, subsets) != 1:
        step += 1
    return iter([(n * step) % subsets for n in range(subsets)])
