"""Where lesions are, in words: the organ each lies in, touches or is next to, and the level of the body."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from uptake.core.anatomy import LUNG_LOBES
from uptake.core.types import LabelMap
from uptake.geometry.components import Box, require_labels
from uptake.geometry.grid import require_same_grid
from uptake.geometry.volume import Volume
from uptake.quantification.lesions import LesionTable
from uptake.quantification.organs import TISSUES, whole_numbers

NEAR_MM = 10.0
"""A lesion whose nearest voxel is no further from an organ is named after it; it is less than twice the resolution of a
PET, and about what breathing moves organs between PET and CT."""

INSIDE_SHARE = 0.5
"""A lesion lies in an organ that holds at least this share of its voxels; below it touches the organ."""

Relation = Literal["in", "touches", "near", ""]

REGIONS = ("head_neck", "thorax", "abdomen", "pelvis", "legs")
"""Levels of the body, from the head down."""

_EDGE_PERCENTILE = 1.0
"""The top of an organ is the level above which this percentage of its voxels lies: stray voxels do not move it."""

_LUNGS = (*LUNG_LOBES, "lungs", "lung", "lung_left", "lung_right")
_HIPS = ("hip_left", "hip_right", "hip")
_KIDNEYS = ("kidney_left", "kidney_right", "kidneys", "kidney")
_BLADDER = ("urinary_bladder", "prostate")

LEGS_BELOW_BLADDER_MM = 60.0
"""The ischia end about this far below the bladder; used where the map holds no hip bones."""

_LANDMARKS: dict[str, tuple[tuple[tuple[str, ...], Literal["top", "bottom"], float], ...]] = {
    "thorax": ((_LUNGS, "top", 0.0),),
    "abdomen": ((("liver",), "top", 0.0),),
    "pelvis": ((_HIPS, "top", 0.0), (("sacrum",), "top", 0.0), (_KIDNEYS, "bottom", 0.0)),
    "legs": ((_HIPS, "bottom", 0.0), (_BLADDER, "bottom", -LEGS_BELOW_BLADDER_MM)),
}
"""Upper end of each region: of the first group that the map holds, an end and what is added to it, mm.

Apices of the lungs, dome of the liver, iliac crests (else sacrum, else lower poles of the kidneys), ischia (else below
the bladder).
"""


@dataclass(frozen=True)
class LesionPlace:
    """The place of one lesion.

    Attributes
    ----------
    lesion : int
        Its number in the lesion table.
    organ : str
        Name of the organ; empty where none is within `NEAR_MM`.
    relation : str
        "in": the organ holds at least half of the lesion's voxels. "touches": it holds some, or has a voxel next to
        one of the lesion. "near": its nearest voxel is at most `NEAR_MM` away. Empty without an organ.
    share : float
        Share of the lesion's voxels in that organ, 0 to 1.
    distance_mm : float
        Between the closest voxel centres of lesion and organ, mm; 0 where they overlap, NaN without an organ.
    region : str
        One of `REGIONS` by the height of the lesion's centroid; empty where the map holds no landmark for it. A raised
        arm is at the level of the head.
    """

    lesion: int
    organ: str = ""
    relation: Relation = ""
    share: float = 0.0
    distance_mm: float = math.nan
    region: str = ""


def place_lesions(
    table: LesionTable, organs: Volume, names: Mapping[int, str], *, near_mm: float = NEAR_MM
) -> tuple[LesionPlace, ...]:
    """Return the place of every lesion of a table, in its order.

    Parameters
    ----------
    table : LesionTable
    organs : Volume
        Organ map on the grid of the PET; 0 is no organ.
    names : mapping of int to str
        Label -> organ; labels without a name count as no organ. Sides are kept where names have them.
    near_mm : float
        How far an organ may be to name a lesion that does not touch it, mm.

    Raises
    ------
    GeometryError
        If the map is not on the grid of the lesions.
    InputError
        If it holds no labels.

    Notes
    -----
    The organ is the one with the largest share of the lesion; without any, the one with the most voxels beside the
    lesion; else the nearest within `near_mm`. Whatever is between organs (`TISSUES`) comes last, and only where it
    holds voxels of the lesion. An organ map knows nothing of the tumour: a lesion *in* the lung may have grown into it
    from the chest wall.
    """
    require_same_grid(table.numbered, organs, names=("the lesions", "the organ map"))
    require_labels(organs, name="the organ map")
    array = whole_numbers(organs.array)
    levels = region_levels(organs, names)
    spacing = organs.spacing_mm
    margin = np.array([math.ceil(near_mm / mm) + 1 for mm in spacing])
    places = []
    boxes = ndimage.find_objects(whole_numbers(table.numbered.array))
    for lesion in table.lesions:
        box = boxes[lesion.lesion - 1]
        assert box is not None
        around = _widened(box, margin, organs.shape)
        inside = np.asarray(table.numbered.array[around] == lesion.lesion)
        place = _place(inside, np.asarray(array[around]), names, spacing, near_mm)
        region = region_at(lesion.centroid_mm[2], levels)
        places.append(LesionPlace(lesion.lesion, *place, region=region))
    return tuple(places)


def region_levels(organs: Volume, names: Mapping[int, str]) -> dict[str, float]:
    """Return the upper ends of "thorax", "abdomen", "pelvis" and "legs", z in mm (RAS+); only what the map tells."""
    ends = _ends(organs, names)
    levels = {}
    for region, choices in _LANDMARKS.items():
        for group, end, added_mm in choices:
            found = [ends[name] for name in group if name in ends]
            if found:
                level = max(high for _, high in found) if end == "top" else min(low for low, _ in found)
                levels[region] = level + added_mm
                break
    return levels


def region_at(height_mm: float, levels: Mapping[str, float]) -> str:
    """Return the region at a height (z, mm, RAS+); empty where the levels do not tell.

    Two regions are told apart only by the level between them: with the dome of the liver alone, what is above it may be
    chest or head, and stays without a name.
    """
    for place, region in enumerate(REGIONS):
        top = math.inf if place == 0 else levels.get(region, math.nan)
        bottom = -math.inf if region == REGIONS[-1] else levels.get(REGIONS[place + 1], math.nan)
        if bottom < height_mm <= top:
            return region
    return ""


def _ends(organs: Volume, names: Mapping[int, str]) -> dict[str, tuple[float, float]]:
    """Return lower and upper end (z, mm) of every landmark of the map."""
    wanted = {name for choices in _LANDMARKS.values() for group, _, _ in choices for name in group}
    found = {}
    array = whole_numbers(organs.array)
    boxes = ndimage.find_objects(array)
    for label, name in names.items():
        if name not in wanted or not 0 < label <= len(boxes) or boxes[label - 1] is None:
            continue
        box = boxes[label - 1]
        index = np.argwhere(array[box] == label) + [part.start for part in box]
        low, high = np.percentile(organs.world_of(index)[:, 2], (_EDGE_PERCENTILE, 100 - _EDGE_PERCENTILE))
        found[name] = (float(low), float(high))
    return found


def _place(
    inside: npt.NDArray[np.bool_],
    labels: LabelMap | npt.NDArray[np.int32],
    names: Mapping[int, str],
    spacing: Sequence[float],
    near_mm: float,
) -> tuple[str, Relation, float, float]:
    """Return organ, relation, share and distance of one lesion within the box around it."""
    voxels = int(inside.sum())
    organ = {label: name for label, name in names.items() if name not in TISSUES and label > 0}
    held = {int(label): int(n) for label, n in zip(*np.unique(labels[inside], return_counts=True), strict=True)}
    overlapping = {label: n for label, n in held.items() if label in organ}
    if overlapping:
        best = _most(overlapping)
        share = overlapping[best] / voxels
        return organ[best], "in" if share >= INSIDE_SHARE else "touches", share, 0.0
    distance = ndimage.distance_transform_edt(~inside, sampling=spacing)
    around = np.isin(labels, list(organ)) & (distance <= near_mm)
    if around.any():
        found, gap = labels[around], distance[around]
        # One step along the longest edge of a voxel: a neighbour across a face, whichever way it lies.
        beside = found[gap <= max(spacing) * (1 + 1e-6)]
        if len(beside):
            best = _most({int(label): int(n) for label, n in zip(*np.unique(beside, return_counts=True), strict=True)})
            return organ[best], "touches", 0.0, float(gap[found == best].min())
        closest = float(gap.min())
        best = int(found[gap <= closest * (1 + 1e-9)].min())
        return organ[best], "near", 0.0, closest
    tissue = {label: n for label, n in held.items() if names.get(label) in TISSUES}
    if tissue:
        best = _most(tissue)
        share = tissue[best] / voxels
        return names[best], "in" if share >= INSIDE_SHARE else "touches", share, 0.0
    return "", "", 0.0, math.nan


def _most(counts: Mapping[int, int]) -> int:
    """Return the label with the highest count; of equals the lowest label."""
    return min(counts, key=lambda label: (-counts[label], label))


def _widened(box: tuple[slice, ...], margin: npt.NDArray[np.int64], shape: tuple[int, int, int]) -> Box:
    i, j, k = (
        slice(max(part.start - int(m), 0), min(part.stop + int(m), size))
        for part, m, size in zip(box, margin, shape, strict=True)
    )
    return i, j, k
