"""Organs that can be told by what they are, without being told where they should be.

Each function looks for one thing in an `Overview` by its uptake or density, its size and its shape alone, so that where
it is found says how the image is turned. None returns a guess: what is not clearly there is None.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from uptake.core.types import Image, Mask
from uptake.core.units import AIR_HU
from uptake.gate.overview import Overview

PLATEAU_RADIUS_MM = 28.0
"""Radius of the ball that has to fit into a liver; the right lobe holds one of twice the size, a spleen hardly any."""

PLATEAU_EVENNESS = 0.6
"""Lowest over highest smoothed SUV inside the ball: even uptake. Brain (grey over white matter) and kidney are not."""

PLATEAU_FLOOR_SUV = 1.0
"""Lowest smoothed SUV in the ball: keeps a liver apart from the muscle it touches."""

LIVER_SUV = (1.25, 25.0)
"""Liver uptake of tracers that show it: FDG 1.3 to 3, PSMA and DOTATATE up to 20. Muscle, as even, stays below 1.2."""

LIVER_OVER_BODY = 1.6
"""Uptake over the patient's median: 2.3 to 5.6 in simulated livers, 3.3 in a real one."""

LIVER_ML = (300.0, 5000.0)
TWIN_MM = 80.0
"""A plateau of like size on the other side, this close along z, is its twin: the muscle of thighs and buttocks."""

MIDLINE_MM = 25.0
"""Closer to the middle a plateau is no liver but a bladder or a heart, and says nothing about the side."""

SOFT_TISSUE_HU = (0.0, 160.0)
SOFT_TISSUE_SPAN_HU = 60.0
"""Highest minus lowest coarse HU inside the ball: parenchyma without fat, bone or air."""

LUNG_TO_LIVER_MM = 250.0
"""Between the middles of the lungs and of the liver, along z; the buttocks are 400 mm away."""

LUNG_HU = (-960.0, -400.0)
SMALLEST_LUNG_ML = 300.0

BONE_HU = 130.0
"""Coarse voxels above this hold bone."""

SMALLEST_TRUNK_CM2 = 200.0
"""Section of a child's trunk."""

SIDE_CONTACT_MM = 60.0
"""A slice that meets the side of the field over more than this is cut off."""

FULL_FIELD_MM = 480.0
"""In a field as wide as a scanner's, arms that are cut off on both sides leave the middle where it is."""

SMALLEST_FIELD_MM = 240.0
"""Front to back; across it is a third more. Smaller fields are crops around something."""

HEAD_SECTION_CM2 = (60.0, 400.0)
HEAD_WIDTH_MM = 260.0
TRUNK_SECTION_CM2 = 350.0
"""A field whose large sections are smaller is a limb or an animal; its narrow end is no head."""

HEAD_LENGTH_MM = 40.0
LEG_SECTION_CM2 = 80.0
"""Of one leg at least; a forearm has 40."""

LEG_LENGTH_MM = 20.0
END_MM = 200.0
SHORTEST_TRUNK_MM = 100.0
KIDNEY_OVER_LIVER = 1.2
KIDNEY_ML = (4.0, 350.0)
"""Of the part that is hotter than the liver: a renal pelvis at least, a kidney with blur at most."""

KIDNEY_BESIDE_MM = (38.0, 110.0)
KIDNEY_FROM_LIVER_MM = 180.0
LEAST_KIDNEY_DEPTH_MM = 15.0
"""How much of either end is looked at for a head or for legs."""

HOT_BRAIN_SUV = 3.0


@dataclass(frozen=True)
class Organ:
    """Something found: where its middle lies (world mm, RAS+), how large it is (mL), its median value (SUV or HU)."""

    centre_mm: tuple[float, float, float]
    volume_ml: float
    value: float


EndKind = Literal["head", "legs", "trunk"] | None


def trunk_slices(view: Overview) -> npt.NDArray[np.intp]:
    """Return the indices of the slices across z whose section is a whole trunk's: large, not cut off."""
    section = view.section_cm2
    if not (section > 0).any():
        return np.empty(0, dtype=np.intp)
    least = max(SMALLEST_TRUNK_CM2, 0.6 * float(np.percentile(section[section > 0], 90)))
    cut = (view.side_contact_mm > SIDE_CONTACT_MM) & (view.image.shape[0] * view.spacing_mm < FULL_FIELD_MM)
    return np.flatnonzero((section > least) & ~cut)


def is_crop(view: Overview) -> bool:
    """Return whether the field is too small across to show where the patient's middle is."""
    return min(view.image.shape[0] * 0.75, view.image.shape[1]) * view.spacing_mm < SMALLEST_FIELD_MM


def liver_in_pet(view: Overview) -> Organ | None:
    """Return the liver by its uptake: the largest even plateau above the rest of the body, clearly on one side."""
    if not view.body.any():
        return None
    low, high = _extremes(view, outside=0.0)
    median = float(np.median(view.image[view.body]))
    even = (low > PLATEAU_EVENNESS * high) & (low > PLATEAU_FLOOR_SUV) & (high < LIVER_SUV[1])
    return _largest_on_one_side(view, even, least=max(LIVER_SUV[0], LIVER_OVER_BODY * median), mirror_ratio=0.35)


def liver_in_ct(view: Overview, breath: Organ | None) -> Organ | None:
    """Return the liver by its density: the largest even soft tissue, clearly on one side, next to the lungs (`breath`).

    Nearness to the lungs tells it from the muscle of the legs, which is as even and as dense.
    """
    if breath is None:
        return None
    low, high = _extremes(view, outside=AIR_HU)
    even = (low > SOFT_TISSUE_HU[0]) & (high < SOFT_TISSUE_HU[1]) & (high - low < SOFT_TISSUE_SPAN_HU)
    return _largest_on_one_side(view, even, least=SOFT_TISSUE_HU[0], mirror_ratio=0.35, near=breath.centre_mm[2])


def _extremes(view: Overview, *, outside: float) -> tuple[Image, Image]:
    """Return the lowest and the highest value within a ball around every voxel of the patient's box."""
    ball = _ball(view, PLATEAU_RADIUS_MM)
    low, high = np.full_like(view.image, outside), np.full_like(view.image, np.inf)
    box = ndimage.find_objects(view.body.astype(np.uint8))
    if box:
        part = view.image[box[0]]
        low[box[0]] = ndimage.minimum_filter(part, footprint=ball, mode="constant", cval=outside)
        high[box[0]] = ndimage.maximum_filter(part, footprint=ball)
    return low, high


def _largest_on_one_side(
    view: Overview, even: Mask, *, least: float, mirror_ratio: float, near: float | None = None
) -> Organ | None:
    """Return the plateau with the most excess over `least`, unless it straddles the middle or has a twin across it."""
    ball = _ball(view, PLATEAU_RADIUS_MM)
    pieces, count = ndimage.label(ndimage.binary_dilation(even, structure=ball)) if even.any() else (even, 0)
    middle = view.midline_index
    found: list[tuple[float, Organ, float]] = []
    for number in range(1, count + 1):
        whole = pieces == number
        value = float(np.median(view.image[whole & even]))
        volume = float(whole.sum() * view.voxel_ml)
        centre = np.asarray(ndimage.center_of_mass(whole))
        beside = (centre[0] - middle[round(float(centre[2]))]) * view.spacing_mm
        if value <= least or not np.isfinite(beside):
            continue
        x, y, z = (float(v) for v in view.world(centre))
        if near is not None and abs(z - near) > LUNG_TO_LIVER_MM:
            continue
        found.append((volume * (value - least / LIVER_OVER_BODY), Organ((x, y, z), volume, value), float(beside)))
    found.sort(key=lambda item: -item[0])
    for _, organ, beside in found:
        if abs(beside) < MIDLINE_MM or not LIVER_ML[0] <= organ.volume_ml <= LIVER_ML[1]:
            continue
        twins = (
            across * beside < 0
            and abs(other.centre_mm[2] - organ.centre_mm[2]) < TWIN_MM
            and other.volume_ml > mirror_ratio * organ.volume_ml
            for _, other, across in found
        )
        if not any(twins):
            return organ
    return None


def lungs(view: Overview) -> Organ | None:
    """Return both lungs of a CT: low density inside the patient, closed off from the air around."""
    low = view.body & (view.image > LUNG_HU[0]) & (view.image < LUNG_HU[1])
    low &= ndimage.binary_erosion(view.body, iterations=2)
    pieces, count = ndimage.label(ndimage.binary_opening(low))
    if count == 0:
        return None
    sizes = np.bincount(pieces.ravel()) * view.voxel_ml
    sizes[0] = 0
    kept = sizes > SMALLEST_LUNG_ML
    if not kept.any():
        return None
    mask = kept[pieces]
    x, y, z = (float(v) for v in view.world(np.asarray(ndimage.center_of_mass(mask))))
    return Organ((x, y, z), float(mask.sum() * view.voxel_ml), float(np.median(view.image[mask])))


def spine_offset_mm(view: Overview) -> tuple[float, int] | None:
    """Return how far the bone in the middle of a CT's trunk lies in front of (+) the middle of the body, mm, and in how
    many slices that was seen; None where fewer than eight show bone in the middle.

    In every slice of chest, abdomen and pelvis the heaviest bone near the midline is the spine or the sacrum.
    """
    middle = view.midline_index
    half = view.voxels(44.0)
    offsets = []
    for k in trunk_slices(view):
        x = round(float(middle[k]))
        column = slice(max(0, x - half), x + half + 1)
        bone = (view.image[column, :, k] > BONE_HU) & view.body[column, :, k]
        rows = np.flatnonzero(view.body[column, :, k].any(axis=0))
        if bone.sum() * view.spacing_mm**2 < 200.0 or len(rows) == 0:
            continue
        weight = np.where(bone, view.image[column, :, k] - BONE_HU, 0.0).sum(axis=0)
        offsets.append(float((np.arange(len(weight)) @ weight) / weight.sum() - (rows[0] + rows[-1]) / 2))
    return (float(np.median(offsets)) * view.spacing_mm, len(offsets)) if len(offsets) >= 8 else None


def kidneys_in_pet(view: Overview, liver: Organ) -> float | None:
    """Return how far a pair of hot kidneys lies in front of (+) or behind (-) the middle of the liver, mm.

    Two foci hotter than the liver, one on either side, at like distance, depth and height, kidney-sized, within reach
    of the liver along z. In 48 whole-body label maps the kidneys lay 18 to 86 mm behind the liver.
    """
    z = round((liver.centre_mm[2] - view.origin_mm[2]) / view.spacing_mm)
    middle = view.midline_index[z]
    pieces, _ = ndimage.label(view.image > KIDNEY_OVER_LIVER * liver.value, structure=np.ones((3, 3, 3)))
    sides: tuple[list[_Focus], list[_Focus]] = ([], [])
    for number, box in enumerate(ndimage.find_objects(pieces), start=1):
        piece = pieces[box] == number
        ml = float(piece.sum()) * view.voxel_ml
        if not KIDNEY_ML[0] <= ml <= KIDNEY_ML[1]:
            continue
        index = np.asarray(ndimage.center_of_mass(piece * view.image[box])) + [s.start for s in box]
        x, y, height = (index - [middle, 0, 0]) * view.spacing_mm + [0, view.origin_mm[1], view.origin_mm[2]]
        focus = _Focus(abs(float(x)), float(y) - liver.centre_mm[1], float(height) - liver.centre_mm[2], ml)
        if KIDNEY_BESIDE_MM[0] < focus.beside < KIDNEY_BESIDE_MM[1] and abs(focus.height) < KIDNEY_FROM_LIVER_MM:
            sides[int(x > 0)].append(focus)
    pairs = [
        (a.ml + b.ml, (a.depth + b.depth) / 2)
        for a in sides[0]
        for b in sides[1]
        if abs(a.height - b.height) < 50.0 and abs(a.depth - b.depth) < 35.0 and abs(a.beside - b.beside) < 60.0
        and max(a.ml, b.ml) < 6.0 * min(a.ml, b.ml) and min(abs(a.depth), abs(b.depth)) > LEAST_KIDNEY_DEPTH_MM
    ]  # fmt: skip
    return max(pairs)[1] if pairs else None


@dataclass(frozen=True)
class _Focus:
    """A hot spot relative to the middle of the patient and the liver: all mm, and mL."""

    beside: float
    depth: float
    height: float
    ml: float


def ends(view: Overview) -> tuple[EndKind, EndKind]:
    """Return what lies at the high-z and at the low-z end of the field: "head", "legs", "trunk"; None if too short."""
    filled = np.flatnonzero(view.section_cm2 > 25.0)
    if len(filled) * view.spacing_mm < 2.5 * END_MM:
        return None, None
    trunk = trunk_slices(view)
    if len(trunk) * view.spacing_mm < SHORTEST_TRUNK_MM:
        return None, None
    centre = float(np.nanmedian(view.midline_index[trunk]))
    count = view.voxels(END_MM)
    large = float(np.percentile(view.section_cm2[filled], 80))
    upper = [_layout(view, int(k), centre) for k in filled[-count:]]
    lower = [_layout(view, int(k), centre) for k in filled[:count]]
    return _kind(upper, large, view.spacing_mm), _kind(lower, large, view.spacing_mm)


@dataclass(frozen=True)
class _Layout:
    """One slice: the piece on the midline (area cm², width mm), the smaller half's area (cm²), and how deep the midline
    is as a share of the sides."""

    middle_cm2: float
    middle_mm: float
    half_cm2: float
    depth: float


def _layout(view: Overview, k: int, centre: float) -> _Layout:
    section = view.body[:, :, k]
    pieces, _ = ndimage.label(section)
    near, x = view.voxels(20.0), round(centre)
    column = slice(max(0, x - near), x + near + 1)
    area = view.spacing_mm**2 / 100.0
    middle_cm2 = middle_mm = 0.0
    for number in np.unique(pieces[column]):
        piece = pieces == number
        if number and piece.sum() * area > middle_cm2:
            across = np.flatnonzero(piece.any(axis=1))
            middle_cm2, middle_mm = float(piece.sum()) * area, float(np.ptp(across) + 1) * view.spacing_mm
    depth = section.sum(axis=1)
    beside = min(depth[: column.start].max(initial=0), depth[column.stop :].max(initial=0))
    half = float(min(section[:x].sum(), section[x + 1 :].sum())) * area
    return _Layout(middle_cm2, middle_mm, half, float(depth[column].min()) / beside if beside else np.inf)


def _kind(layouts: list[_Layout], large_cm2: float, spacing_mm: float) -> EndKind:
    """Return what a stack of slices at one end of the field shows.

    A head is one narrow piece on the midline, whatever arms lie beside or beyond it. Legs are two pieces and nothing
    between them.
    """
    low, high = HEAD_SECTION_CM2[0], min(HEAD_SECTION_CM2[1], 0.62 * large_cm2)
    head = [low < s.middle_cm2 < high and s.middle_mm < HEAD_WIDTH_MM and s.depth > 0.75 for s in layouts]
    legs = [s.depth < 0.5 and s.half_cm2 > LEG_SECTION_CM2 for s in layouts]
    if sum(head) * spacing_mm >= HEAD_LENGTH_MM and large_cm2 > TRUNK_SECTION_CM2:
        return "head"
    if sum(legs) * spacing_mm >= LEG_LENGTH_MM:
        return "legs"
    return "trunk"


def _ball(view: Overview, radius_mm: float) -> Mask:
    n = int(radius_mm // view.spacing_mm)
    offsets = np.indices((2 * n + 1,) * 3) - n
    return np.asarray((offsets**2).sum(axis=0) * view.spacing_mm**2 <= radius_mm**2)
