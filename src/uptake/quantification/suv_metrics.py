"""SUVpeak and the threshold rules of metabolic tumour volume: the definitions behind the lesion table."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from uptake.core.errors import UsageError
from uptake.core.types import Affine, Image
from uptake.core.units import MM3_PER_ML

PEAK_VOLUME_ML = 1.0
PEAK_RADIUS_MM = (3.0 * PEAK_VOLUME_ML * MM3_PER_ML / (4.0 * math.pi)) ** (1.0 / 3.0)
"""6.2035 mm: a sphere of 1 mL. The "12 mm sphere" of some papers holds 0.905 mL only."""

SUBVOXEL_MM = 0.15
"""Voxels on the surface of the sphere count by the share of their sub-voxels, of this size or smaller, inside it.

The voxels' shares then add up to 1 mL within 0.2 % on clinical grids.
"""

MINIMUM_SUBVOXELS = 4
"""Sub-voxels per axis at least, however small the voxel."""

CANDIDATES_AT_ONCE = 16384
"""Sphere centres evaluated in one go: bounds the memory of the gather to some tens of megabytes."""


@dataclass(frozen=True, eq=False)
class PeakKernel:
    """The 1 mL sphere on one voxel grid.

    Attributes
    ----------
    offsets : array (n, 3) int64
        Voxels that the sphere around a voxel centre reaches, relative to that voxel (i, j, k).
    weights : array (n,) float64
        Share of the sphere's volume in each of them; they sum to 1.
    """

    offsets: npt.NDArray[np.int64]
    weights: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Peak:
    """The best sphere of one lesion.

    Attributes
    ----------
    suv : float
        Mean SUV in the sphere, g/mL.
    index : tuple of int
        Voxel (i, j, k) at its centre.
    inside : float
        Share of the sphere's volume that lies inside the image, 0 to 1. Below 1 the mean is over that share.
    """

    suv: float
    index: tuple[int, int, int]
    inside: float


def peak_kernel(affine: Affine) -> PeakKernel:
    """Return the 1 mL sphere centred on a voxel, as voxel offsets and fractional weights.

    Parameters
    ----------
    affine : array (4, 4)
        Of the PET grid. Anisotropic, oblique and sheared grids are handled: the sphere is an ellipsoid uᵀGu <= r² in
        index space, with G = AᵀA and A the affine's 3x3 part.

    References
    ----------
    Wahl RL et al., PERCIST, J Nucl Med 50 Suppl 1 (2009): a 1 cm³ sphere, 1.2 cm in diameter (12.4 mm to be exact).
    """
    matrix = affine[:3, :3]
    spacing = np.linalg.norm(matrix, axis=0)
    # The ellipsoid reaches r * |row a of A⁻¹| along index axis a; voxel o covers o - 0.5 to o + 0.5.
    reach = PEAK_RADIUS_MM * np.linalg.norm(np.linalg.inv(matrix), axis=1)
    steps = np.maximum(np.ceil(reach - 0.5).astype(int), 0)
    parts = np.maximum(np.ceil(spacing / SUBVOXEL_MM).astype(int), MINIMUM_SUBVOXELS)
    sizes = 2 * steps + 1
    x, y, z = (
        ((np.arange(n * s) + 0.5) / s - 0.5 - m).reshape([-1 if axis == a else 1 for axis in range(3)])
        for a, (n, s, m) in enumerate(zip(sizes, parts, steps, strict=True))
    )
    g = matrix.T @ matrix
    squared = g[0, 0] * x * x + g[1, 1] * y * y + g[2, 2] * z * z
    squared = squared + 2 * (g[0, 1] * x * y + g[0, 2] * x * z + g[1, 2] * y * z)
    blocks = (squared <= PEAK_RADIUS_MM**2).reshape(sizes[0], parts[0], sizes[1], parts[1], sizes[2], parts[2])
    share = blocks.mean(axis=(1, 3, 5))
    used = np.argwhere(share > 0)
    weights = share[tuple(used.T)]
    return PeakKernel(used - steps, weights / weights.sum())


def suv_peak(pet: Image, centres: npt.NDArray[np.integer[Any]], kernel: PeakKernel) -> Peak:
    """Return the hottest 1 mL sphere among those centred on the given voxels.

    Parameters
    ----------
    pet : array (i, j, k)
        SUV, g/mL. The sphere takes voxels of the whole image, not of the lesion alone.
    centres : array (n, 3) int
        Voxels of the lesion, n >= 1. Centres between voxels are not tried: on a 4 mm grid that leaves SUVpeak of small
        lesions a few per cent below its supremum.
    kernel : PeakKernel
        For the grid of `pet`.

    Notes
    -----
    Where the sphere crosses the edge of the image the mean is taken over the part inside, and `Peak.inside` says how
    much that is; nothing is invented beyond the edge.

    Centres are visited in the order of an upper bound (the maximum of the sphere's bounding box), so that for large
    lesions most of them need no evaluation. The result is exact.
    """
    reach = np.abs(kernel.offsets).max(axis=0)
    lower = np.maximum(centres.min(axis=0) - reach, 0)
    upper = np.minimum(centres.max(axis=0) + reach + 1, pet.shape)
    box = tuple(slice(int(a), int(b)) for a, b in zip(lower, upper, strict=True))
    around = np.pad(np.asarray(pet[box], dtype=np.float64), [(int(r), int(r)) for r in reach])
    within = np.pad(np.ones(upper - lower), [(int(r), int(r)) for r in reach])
    flat_offsets = _flat(kernel.offsets, around.shape)
    start = _flat(centres - lower + reach, around.shape)
    order = np.arange(len(start))
    bound = np.full(len(start), np.inf)
    if len(start) > CANDIDATES_AT_ONCE:
        from scipy import ndimage

        ceiling = ndimage.maximum_filter(around, size=tuple(2 * int(r) + 1 for r in reach), mode="constant")
        bound = ceiling.ravel()[start]
        order = np.argsort(-bound, kind="stable")
    best, best_at, best_inside = -np.inf, 0, 1.0
    for first in range(0, len(order), CANDIDATES_AT_ONCE):
        chosen = order[first : first + CANDIDATES_AT_ONCE]
        if bound[chosen[0]] <= best:
            break
        where = start[chosen, None] + flat_offsets
        share = within.ravel()[where] @ kernel.weights
        means = (around.ravel()[where] @ kernel.weights) / share
        top = int(means.argmax())
        if means[top] > best:
            best, best_at, best_inside = float(means[top]), int(chosen[top]), float(share[top])
    i, j, k = (int(v) for v in centres[best_at])
    # In a uniform region the last bit of the sum must not lift the mean above every voxel.
    best = min(best, float(around.max()))
    return Peak(best, (i, j, k), min(best_inside, 1.0))


def mtv_threshold(method: str, suv_max: float) -> float | None:
    """Return the SUV from which a lesion voxel belongs to the metabolic tumour volume; None for all of the mask.

    Parameters
    ----------
    method : str
        "mask": the mask is the volume (a model's or a reader's outline). "41%" (or another percentage): of the lesion's
        own SUVmax. "suv2.5", "suv4" (or another number): a fixed SUV. Compared with >=.
    suv_max : float
        Of the lesion, g/mL.

    Raises
    ------
    UsageError
        If `method` is none of these.

    Notes
    -----
    The rules give very different volumes, so the method is always stored with the number (Ilyas H et al., Eur J Nucl
    Med Mol Imaging 45:1142, 2018). A percentage breaks down in small or faint lesions; here the mask limits it.
    """
    kind, value = parse_mtv_method(method)
    if kind == "mask":
        return None
    return suv_max * value / 100.0 if kind == "percent" else value


def parse_mtv_method(method: str) -> tuple[str, float]:
    """Return the kind ("mask", "percent", "suv") and the number of an MTV rule such as "41%" or "suv2.5".

    Raises
    ------
    UsageError
        If the rule is unknown or its number out of range.
    """
    if method == "mask":
        return "mask", 0.0
    text = method.removesuffix("%") if method.endswith("%") else method.removeprefix("suv")
    try:
        value = float(text) if text != method else math.nan
    except ValueError:
        value = math.nan
    percent = method.endswith("%")
    if not math.isfinite(value) or value <= 0 or (percent and value > 100):
        raise UsageError(f"{method!r} is no MTV rule; write 'mask', a percentage such as '41%', or 'suv2.5' or 'suv4'.")
    return ("percent" if percent else "suv"), value


def _flat(index: npt.NDArray[np.integer[Any]], shape: tuple[int, ...]) -> npt.NDArray[np.int64]:
    """Return positions in the raveled array of `shape`; linear, so offsets (negative ones too) map alike."""
    return np.asarray(index @ np.array([shape[1] * shape[2], shape[2], 1]), dtype=np.int64)
