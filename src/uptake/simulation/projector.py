"""Line integrals through a stack of slices: Joseph's method as a stored sparse matrix, and its exact transpose.

Each transverse slice is projected by itself, in parallel beams over 180 degrees, as after rebinning of a 3-D scan. All
slices share one matrix, so a projection is one product (lines x pixels) @ (pixels x slices). The matrix is cut into
the subsets of OSEM when it is made, and kept for the next patient on the same grid.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from uptake.core.errors import UsageError
from uptake.core.types import Vector3
from uptake.simulation.fields import Array, Line

SLAB_BYTES = 8_000_000
"""Slices are multiplied as many at a time, 16 to 64, as keep an image within this: their columns stay in the cache."""

MOST_ANGLES = 160

CACHED_PROJECTORS = 2
"""Grids remembered; one at 2 mm takes 150 to 300 MB."""


@dataclass(frozen=True)
class ScanGeometry:
    """Where the lines run.

    Attributes
    ----------
    shape : tuple of int
        Pixels of a slice along the first and second array axis.
    pixel_mm : tuple of float
        Their size.
    n_angles : int
        Directions, evenly over 180 degrees.
    n_bins : int
        Parallel lines per direction.
    bin_mm : float
        Distance of neighbouring lines.
    """

    shape: tuple[int, int]
    pixel_mm: tuple[float, float]
    n_angles: int
    n_bins: int
    bin_mm: float

    def __post_init__(self) -> None:
        if min(*self.shape, self.n_angles, self.n_bins) < 1 or min(*self.pixel_mm, self.bin_mm) <= 0:
            raise UsageError(f"a scan geometry needs positive numbers and sizes, came {self}.")

    @classmethod
    def of_image(cls, shape: tuple[int, ...], spacing_mm: Vector3, *, subsets: int = 1) -> ScanGeometry:
        """Return lines one pixel apart that cover a slice to its corners.

        Directions: five for every six pixels of the slice's diagonal, and not above 160 (4 mm of arc 20 cm from the
        axis, less than detectors resolve there), rounded up to fill `subsets` evenly.
        """
        width, height = shape[0] * spacing_mm[0], shape[1] * spacing_mm[1]
        pitch = min(spacing_mm[0], spacing_mm[1])
        bins = int(np.ceil(np.hypot(width, height) / pitch)) + 1
        angles = subsets * int(np.ceil(min(bins * 5 / 6, MOST_ANGLES) / subsets))
        return cls((shape[0], shape[1]), (float(spacing_mm[0]), float(spacing_mm[1])), angles, bins, float(pitch))

    def radial_mm(self) -> Line:
        """Return the signed distance of each line from the centre, mm."""
        return np.asarray((np.arange(self.n_bins) - (self.n_bins - 1) / 2) * self.bin_mm)

    def angles_rad(self) -> Line:
        """Return the direction of each line's normal."""
        return np.asarray(np.arange(self.n_angles) * np.pi / self.n_angles)


class Projector:
    """Line integrals of a stack of slices; see the module's description.

    Parameters
    ----------
    geometry : ScanGeometry
    subsets : int
        Subset b holds the directions b, b + subsets, b + 2 subsets, ...
    threads : int
        Slabs of slices worked on at a time. The result does not depend on it.
    """

    def __init__(self, geometry: ScanGeometry, *, subsets: int = 1, threads: int = 1) -> None:
        self._check_subsets(geometry, subsets)
        self.geometry, self.subsets, self.threads = geometry, subsets, threads
        self._matrices = _matrices(geometry, subsets)

    @staticmethod
    def _check_subsets(geometry: ScanGeometry, subsets: int) -> None:
        if not 1 <= subsets <= geometry.n_angles:
            raise UsageError(f"subsets must lie between 1 and the {geometry.n_angles} angles, came {subsets!r}.")

    def angles_of(self, subset: int) -> npt.NDArray[np.intp]:
        """Return the indices of the directions in a subset."""
        return np.arange(subset, self.geometry.n_angles, self.subsets)

    def apply(self, image: Array) -> Array:
        """Return line integrals (angles, bins, slices) float32, in units of `image` times mm.

        Parameters
        ----------
        image : array (i, j, slices) float32
        """
        g = self.geometry
        lines = np.empty((g.n_angles, g.n_bins, image.shape[2]), np.float32)
        for subset in range(self.subsets):
            lines[subset :: self.subsets] = self.apply_subset(subset, image)
        return lines

    def adjoint(self, lines: Array) -> Array:
        """Return the back-projection (i, j, slices) float32 of (angles, bins, slices): the transpose of `apply`."""
        total = np.zeros((*self.geometry.shape, lines.shape[2]), np.float32)
        for subset in range(self.subsets):
            total += self.adjoint_subset(subset, lines[subset :: self.subsets])
        return total

    def apply_subset(self, subset: int, image: Array) -> Array:
        """Return the line integrals (angles of the subset, bins, slices) of an image."""
        matrix = self._matrices[subset]
        pixels = image.reshape(-1, image.shape[2])
        result = np.empty((matrix.shape[0], image.shape[2]), np.float32)

        def work(slab: slice) -> None:
            result[:, slab] = matrix @ np.ascontiguousarray(pixels[:, slab])

        self._run(work, image.shape[2])
        return result.reshape(-1, self.geometry.n_bins, image.shape[2])

    def adjoint_subset(self, subset: int, lines: Array) -> Array:
        """Return the back-projection of the lines of one subset."""
        matrix = self._matrices[subset].T
        rows = lines.reshape(-1, lines.shape[2])
        result = np.empty((matrix.shape[0], lines.shape[2]), np.float32)

        def work(slab: slice) -> None:
            result[:, slab] = matrix @ np.ascontiguousarray(rows[:, slab])

        self._run(work, lines.shape[2])
        return result.reshape(*self.geometry.shape, lines.shape[2])

    def _run(self, work: Callable[[slice], None], slices: int) -> None:
        ni, nj = self.geometry.shape
        step = int(np.clip(SLAB_BYTES / (4 * ni * nj), 16, 64)) // 16 * 16
        slabs = [slice(start, min(start + step, slices)) for start in range(0, slices, step)]
        if self.threads == 1 or len(slabs) == 1:
            for slab in slabs:
                work(slab)
        else:
            with ThreadPoolExecutor(self.threads) as pool:
                list(pool.map(work, slabs))


@lru_cache(maxsize=CACHED_PROJECTORS)
def _matrices(geometry: ScanGeometry, subsets: int) -> tuple[csr_array[Any, tuple[int, int]], ...]:
    """Return one matrix per subset, rows in the order (angle, bin), columns in the order of the image array."""
    angles = geometry.angles_rad()
    result = []
    for subset in range(subsets):
        parts = [_joseph_rows(geometry, float(angle)) for angle in angles[subset::subsets]]
        counts = np.concatenate([counts for counts, _, _ in parts])
        columns = np.concatenate([columns for _, columns, _ in parts])
        weights = np.concatenate([weights for _, _, weights in parts])
        starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
        shape = (len(counts), geometry.shape[0] * geometry.shape[1])
        result.append(csr_array((weights, columns, starts), shape=shape))
    return tuple(result)


def _joseph_rows(geometry: ScanGeometry, angle: float) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.int32], Array]:
    """Return entries per line, pixel indices and weights (mm) of the lines x cos + y sin = s of one direction.

    References
    ----------
    Joseph, IEEE Trans Med Imaging 1(3), 1982: step along the axis that the line crosses faster, interpolate linearly
    between the two pixels beside it. doi:10.1109/TMI.1982.4307572
    """
    (ni, nj), (di, dj) = geometry.shape, geometry.pixel_mm
    cosine, sine = np.cos(angle), np.sin(angle)
    s = geometry.radial_mm()[:, None]
    x, y = (np.arange(ni) - (ni - 1) / 2) * di, (np.arange(nj) - (nj - 1) / 2) * dj
    # The line runs along (-sin, cos): it crosses |sin| / di columns and |cos| / dj rows per mm.
    if abs(sine) / di >= abs(cosine) / dj:
        place = (s - x[None, :] * cosine) / sine / dj + (nj - 1) / 2
        length, step, stride, across = di / abs(sine), np.arange(ni)[None, :] * nj, 1, nj
    else:
        place = (s - y[None, :] * sine) / cosine / di + (ni - 1) / 2
        length, step, stride, across = dj / abs(cosine), np.arange(nj)[None, :], nj, ni
    lower = np.floor(place).astype(np.int64)
    share = place - lower
    pixel = np.stack([lower, lower + 1], axis=-1)
    weight = np.stack([1.0 - share, share], axis=-1) * length
    keep = (pixel >= 0) & (pixel < across) & (weight > 0)
    columns = (pixel * stride + step[..., None])[keep]
    return keep.sum(axis=(1, 2)), columns.astype(np.int32), weight[keep].astype(np.float32)
