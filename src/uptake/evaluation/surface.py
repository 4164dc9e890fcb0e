"""How far apart the surfaces of two masks are: Hausdorff distances, average surface distance, surface Dice, in mm.

Two definitions of a surface are in use and give different numbers, so each has a name:

"voxels": the voxels of the mask that have a face on the outside (the mask minus its erosion). Each counts the same.
What MedPy, MONAI and LDOS measure.

"surfels": pieces of surface in the cells between voxel centres, each weighted by its area; see `surfels`. What the
"surface-distance" code measures, and what surface Dice (NSD) usually means.

Distances are Euclidean between the centres of voxels, or of cells; nothing finer is known of a binary mask.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from uptake.core.errors import UsageError
from uptake.core.types import Mask, Vector3
from uptake.evaluation.empty import DistanceRule, EmptyRule, ratio, without_surface
from uptake.evaluation.masks import require_masks, require_spacing
from uptake.evaluation.surfels import FULL, cell_areas, cell_codes
from uptake.geometry.components import bounding_box
from uptake.geometry.nearest import nearest_distances

Elements = Literal["voxels", "surfels"]
Directions = Literal["pooled", "max"]
"""How the two directions make one Hausdorff distance. "pooled": one percentile of all distances of both directions
(MedPy, LDOS). "max": the larger of the two directed percentiles (MONAI, surface-distance)."""

Average = Literal["symmetric", "to_reference", "to_prediction"]
"""Over which distances the average surface distance is taken. "symmetric": those of both directions pooled (MedPy's
assd, MONAI's symmetric=True). "to_reference": from the prediction's surface to the reference's. "to_prediction": the
reverse."""

TOLERANCE_SLACK = 1.0e-6
"""Relative. A distance of one 2 mm voxel is within 2 mm, though a header in single precision calls it 2.0000002 mm."""


@dataclass(frozen=True, eq=False)
class SurfaceDistances:
    """The distances between two surfaces, element by element.

    Attributes
    ----------
    to_reference : array (n,) float64
        From each element of the prediction's surface to the nearest one of the reference's, mm; infinite if the
        reference is empty.
    to_prediction : array (m,) float64
        From each element of the reference's surface to the nearest one of the prediction's, mm.
    prediction_area, reference_area : array (n,), (m,) float64, or None
        Weight of each element: mm² for "surfels"; None for "voxels", which all count the same.
    elements : {"voxels", "surfels"}
    """

    to_reference: npt.NDArray[np.float64]
    to_prediction: npt.NDArray[np.float64]
    prediction_area: npt.NDArray[np.float64] | None
    reference_area: npt.NDArray[np.float64] | None
    elements: Elements

    @property
    def empty(self) -> bool:
        """Whether at least one of the two masks has no surface."""
        return len(self.to_reference) == 0 or len(self.to_prediction) == 0


def surface_distances(
    prediction: Mask, reference: Mask, *, spacing_mm: Vector3, elements: Elements = "voxels", threads: int = 1
) -> SurfaceDistances:
    """Return the distances between the surfaces of two masks; every metric of this module is taken from them.

    Parameters
    ----------
    prediction, reference : arrays (i, j, k) bool
        On one grid with perpendicular axes. Beyond its border a mask ends: a voxel there is on the surface.
    spacing_mm : tuple of float
        Voxel size along each array axis, mm.
    elements : {"voxels", "surfels"}
        See the module.
    threads : int
        Used where the surfaces are far apart.

    Raises
    ------
    InputError
        If the masks differ in shape or are not boolean, or a voxel size is not finite and positive.
    UsageError
        If `elements` is unknown.
    """
    if elements not in get_args(Elements):
        raise UsageError(f"a surface is made of 'voxels' or of 'surfels', came {elements!r}.")
    require_masks(prediction, reference)
    spacing = require_spacing(spacing_mm)
    box = bounding_box(prediction | reference)
    if box is None:
        nothing = np.zeros(0)
        weights = nothing if elements == "surfels" else None
        return SurfaceDistances(nothing, nothing, weights, weights, elements)
    first, second = prediction[box], reference[box]
    areas: list[npt.NDArray[np.float64] | None] = [None, None]
    if elements == "voxels":
        first, second = surface_voxels(first), surface_voxels(second)
    else:
        table = cell_areas(spacing)
        codes = [cell_codes(first), cell_codes(second)]
        first, second = ((code > 0) & (code < FULL) for code in codes)
        areas = [table[code[border]] for code, border in zip(codes, (first, second), strict=True)]
    return SurfaceDistances(
        nearest_distances(first, second, spacing_mm=spacing, threads=threads),
        nearest_distances(second, first, spacing_mm=spacing, threads=threads),
        areas[0],
        areas[1],
        elements,
    )


def surface_voxels(mask: Mask) -> Mask:
    """Return the voxels of a mask (i, j, k) that share a face with the outside: the mask minus its erosion by six."""
    inner = np.zeros_like(mask)
    core = (slice(1, -1),) * 3
    inner[core] = mask[core]
    for axis in range(3):
        for side in (slice(None, -2), slice(2, None)):
            inner[core] &= mask[tuple(side if a == axis else slice(1, -1) for a in range(3))]
    return np.asarray(mask & ~inner)


def hausdorff(
    distances: SurfaceDistances,
    *,
    percentile: float = 95.0,
    directions: Directions = "pooled",
    empty: DistanceRule = "nan",
) -> float:
    """Return a Hausdorff distance, mm: HD95 by default, HD100 (the maximum) for `percentile=100`.

    Parameters
    ----------
    distances : SurfaceDistances
    percentile : float
        0 to 100. Between two distances it is interpolated for "voxels"; for "surfels" it is the distance at which that
        share of the area is reached.
    directions : {"pooled", "max"}
        See `Directions`. Equal for `percentile=100`.
    empty : {"nan", "inf"}
        See `DistanceRule`.

    References
    ----------
    Huttenlocher DP et al., IEEE Trans Pattern Anal Mach Intell 15:850 (1993).
    """
    if directions not in get_args(Directions):
        raise UsageError(f"the two directions are 'pooled', or the 'max' of both is taken; came {directions!r}.")
    if not 0 <= percentile <= 100:
        raise UsageError(f"a percentile lies between 0 and 100, came {percentile!r}.")
    forth, back = distances.to_reference, distances.to_prediction
    if distances.empty:
        return without_surface(prediction=len(forth), reference=len(back), empty=empty)
    weights = distances.prediction_area, distances.reference_area
    if directions == "max":
        return max(_percentile(forth, weights[0], percentile), _percentile(back, weights[1], percentile))
    pooled = np.concatenate([forth, back])
    if weights[0] is None or weights[1] is None:
        return _percentile(pooled, None, percentile)
    return _percentile(pooled, np.concatenate([weights[0], weights[1]]), percentile)


def average_distance(distances: SurfaceDistances, *, over: Average = "symmetric", empty: DistanceRule = "nan") -> float:
    """Return the average surface distance (ASD), mm.

    Parameters
    ----------
    distances : SurfaceDistances
    over : {"symmetric", "to_reference", "to_prediction"}
        See `Average`.
    empty : {"nan", "inf"}
        See `DistanceRule`.
    """
    if over not in get_args(Average):
        raise UsageError(f"the average is {', '.join(get_args(Average))}; came {over!r}.")
    forth, back = distances.to_reference, distances.to_prediction
    if distances.empty:
        return without_surface(prediction=len(forth), reference=len(back), empty=empty)
    first, second = _weights(distances)
    above = {"to_reference": float((forth * first).sum()), "to_prediction": float((back * second).sum())}
    below = {"to_reference": float(first.sum()), "to_prediction": float(second.sum())}
    if over == "symmetric":
        return sum(above.values()) / sum(below.values())
    return above[over] / below[over]


def surface_dice(distances: SurfaceDistances, *, tolerance_mm: float, empty: EmptyRule = "nan") -> float:
    """Return the share of both surfaces that lies within a tolerance of the other, 0 to 1 (NSD).

    Parameters
    ----------
    distances : SurfaceDistances
        Of "surfels" for the published definition; of "voxels" for that of MONAI without subvoxels.
    tolerance_mm : float
        0 or more, inclusive up to `TOLERANCE_SLACK`.
    empty : {"nan", "one", "zero"}
        See `EmptyRule`; surface-distance and MONAI follow "zero".

    References
    ----------
    Nikolov S et al., J Med Internet Res 23:e26151 (2021).
    """
    if not (math.isfinite(tolerance_mm) and tolerance_mm >= 0):
        raise UsageError(f"a tolerance is a length in mm, 0 or more; came {tolerance_mm!r}.")
    first, second = _weights(distances)
    limit = tolerance_mm * (1 + TOLERANCE_SLACK)
    near = float(first[distances.to_reference <= limit].sum()) + float(second[distances.to_prediction <= limit].sum())
    sizes = float(first.sum()), float(second.sum())
    return ratio(near, sum(sizes), prediction=sizes[0], reference=sizes[1], empty=empty)


def _weights(distances: SurfaceDistances) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    if distances.prediction_area is None or distances.reference_area is None:
        return np.ones(len(distances.to_reference)), np.ones(len(distances.to_prediction))
    return distances.prediction_area, distances.reference_area


def _percentile(values: npt.NDArray[np.float64], weights: npt.NDArray[np.float64] | None, percentile: float) -> float:
    if weights is None:
        return float(np.percentile(values, percentile))
    # Equal distances in the order of their areas: the sums, and so the last bit, do not depend on the order of voxels.
    order = np.lexsort((weights, values))
    areas = weights[order]
    at = int(np.searchsorted(np.cumsum(areas) / areas.sum(), percentile / 100.0))
    return float(values[order[min(at, len(order) - 1)]])
