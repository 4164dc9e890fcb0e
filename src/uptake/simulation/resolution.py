"""How sharp a scanner sees: positron range and detectors blur the truth; the reconstruction may know of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import correlate1d

from uptake.core.errors import UnitError
from uptake.core.types import Vector3
from uptake.simulation.fields import FWHM_PER_SIGMA, Array, discrete_gaussian, gaussian_blur

POSITRON_RANGE_FWHM_MM: dict[str, float] = {
    "F-18": 0.5,
    "Cu-64": 0.6,
    "C-11": 0.9,
    "Zr-89": 0.9,
    "N-13": 1.3,
    "O-15": 2.0,
    "Ga-68": 2.3,
    "Rb-82": 4.5,
}
"""Width of a Gaussian that stands for the positron range in water, mm, added in quadrature.

A tunable default, about 0.7 of the mean range; the true kernel is a cusp. Ranges: Conti and Eriksson, EJNMMI Physics
3:8, 2016. doi:10.1186/s40658-016-0144-5
"""

EDGE_RADIUS_MM = 200.0
"""Distance from the axis at which `Scanner.fwhm_edge_mm` is measured."""


def detector_blur(
    activity: Array, spacing_mm: Vector3, *, fwhm_mm: float, fwhm_edge_mm: float | None = None, nuclide: str = "F-18"
) -> Array:
    """Return the activity as it arrives at the detectors: sums are kept, sharpness falls from the axis outwards.

    Parameters
    ----------
    activity : array (i, j, k) float32
        Mean over each voxel; that share of the blur, spacing²/12 of variance, is not added again.
    spacing_mm : tuple of float
    fwhm_mm : float
        On the axis, mm.
    fwhm_edge_mm : float or None
        20 cm away from it, mm; None for the same everywhere. In between the variance grows with the square of the
        distance.
    nuclide : str

    Raises
    ------
    UnitError
        For a width below zero, an edge sharper than the centre, or a nuclide without a known range.
    """
    edge = fwhm_mm if fwhm_edge_mm is None else fwhm_edge_mm
    if not 0 <= fwhm_mm <= edge:
        raise UnitError(f"resolution must be 0 <= centre <= edge, came {fwhm_mm!r} and {edge!r} mm.")
    if nuclide not in POSITRON_RANGE_FWHM_MM:
        raise UnitError(f"no positron range for {nuclide!r}; known are {sorted(POSITRON_RANGE_FWHM_MM)}.")
    positron = POSITRON_RANGE_FWHM_MM[nuclide]
    centre_variance = (fwhm_mm**2 + positron**2) / FWHM_PER_SIGMA**2
    edge_variance = (edge**2 + positron**2) / FWHM_PER_SIGMA**2
    if edge == fwhm_mm:
        return blur_variance(activity, spacing_mm, centre_variance, voxel_share=True)
    ni, nj, _ = activity.shape
    x, y = (np.arange(ni) - (ni - 1) / 2) * spacing_mm[0], (np.arange(nj) - (nj - 1) / 2) * spacing_mm[1]
    share = np.minimum((x[:, None] ** 2 + y[None, :] ** 2) / EDGE_RADIUS_MM**2, 1.0).astype(np.float32)[:, :, None]
    # The mixture is made at the source, so that every voxel's activity is only spread, never lost.
    blurred = blur_variance(activity * (1 - share), spacing_mm, centre_variance, voxel_share=True)
    blurred += blur_variance(activity * share, spacing_mm, edge_variance, voxel_share=True)
    return blurred


def blur_variance(image: Array, spacing_mm: Vector3, variance_mm2: float, *, voxel_share: bool = False) -> Array:
    """Return the image blurred by a Gaussian of this variance; sums are kept by reflection at the edges.

    Parameters
    ----------
    image : array (i, j, k) float32
    spacing_mm : tuple of float
    variance_mm2 : float
    voxel_share : bool
        The voxels have already averaged over themselves: leave out spacing²/12 along each axis.
    """
    widths = [
        FWHM_PER_SIGMA * float(np.sqrt(max(variance_mm2 - (s**2 / 12.0 if voxel_share else 0.0), 0.0)))
        for s in spacing_mm
    ]
    return gaussian_blur(image, (widths[0], widths[1], widths[2]), spacing_mm, mode="reflect")


@dataclass(frozen=True)
class LineBlur:
    """A Gaussian of the image, done on its line integrals: across the lines and across the slices.

    The projection of a blurred slice is the blurred projection (central slice theorem), so the model of resolution
    inside OSEM costs two short 1-D filters on a subset's lines in place of three on the whole image. Its matrix is
    symmetric, so it is its own adjoint, exactly.

    Attributes
    ----------
    fwhm_mm, bin_mm, slice_mm : float
    """

    fwhm_mm: float
    bin_mm: float
    slice_mm: float

    def __post_init__(self) -> None:
        if not self.fwhm_mm > 0:
            raise UnitError(f"the modelled resolution must be positive, came {self.fwhm_mm!r} mm.")

    def __call__(self, lines: Array) -> Array:
        """Return the lines (angles, bins, slices) blurred."""
        for axis, step in ((1, self.bin_mm), (2, self.slice_mm)):
            kernel = discrete_gaussian((self.fwhm_mm / FWHM_PER_SIGMA / step) ** 2)
            # Half-sample reflection keeps sums and the symmetry of the matrix.
            lines = correlate1d(lines, kernel.astype(np.float32), axis=axis, mode="reflect")
        return lines
