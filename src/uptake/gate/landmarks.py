"""Organs that can be told by what they are, without being told where they should be.

Each function looks for one thing in an `Overview` by its uptake or density, its size and its shape alone, so that where
it is found says how the image is turned. None returns a guess: what is not clearly there is None.
"""

from __future__ import annotations

from dataclasses import dataclass

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
"""Liver uptake of tracers that show it: FDG 1.3 to 3, PSMA and DOTATATE up to 20. Muscle is mostly below."""

LIVER_OVER_BODY = 1.6
"""Uptake over the patient's median: 2.3 to 5.6 in simulated livers, 3.3 in a real one."""

LIVER_ML = (300.0, 5000.0)
OTHER_SIDE_PET = 0.68
"""Uptake across the middle over that of the plateau: 0.3 to 0.63 for livers, 0.74 to 0.97 for thighs and buttocks."""

TWIN_MM, TWIN_SIZE = 80.0, 0.35
"""A plateau of this share of its size on the other side, this close along z, is its twin."""

MIDLINE_MM = 25.0
"""Closer to the middle a plateau is no liver but a bladder or a heart, and says nothing about the side."""

SOFT_TISSUE_HU = (0.0, 160.0)
SOFT_TISSUE_SPAN_HU = 60.0
"""Highest minus lowest coarse HU inside the ball: parenchyma without fat, bone or air."""

LUNG_TO_LIVER_MM = 250.0
"""Between the middles of the lungs and of the liver, along z; the buttocks are 400 mm away."""

LUNG_HU = (-960.0, -400.0)
SMALLEST_LUNG_ML = 300.0

BONE_HU = 110.0
"""Coarse voxels above this hold bone."""

SMALLEST_BONE_CM2 = 3.0
BONE_AGREEMENT = 0.65
"""Share of slices on one side of the middle. Clavicles, sternum and pubis outweigh a thin spine in some: whole bodies
have 0.70 to 0.85 behind, a pelvis by itself 0.44 to 0.76, and nothing is said there.
"""

SMALLEST_TRUNK_CM2 = 200.0
"""Section of a child's trunk."""

SIDE_CONTACT_MM = 60.0
"""A slice that meets the side of the field over more than this is cut off."""

FULL_FIELD_MM = 480.0
"""In a field as wide as a scanner's, arms that are cut off on both sides leave the middle where it is."""

SMALLEST_FIELD_MM = 240.0
"""Front to back; across it is a third more. Smaller fields are crops around something."""

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
    least = max(LIVER_SUV[0], LIVER_OVER_BODY * median)
    return _largest_on_one_side(view, even, least=least, other_side=OTHER_SIDE_PET)


def liver_in_ct(view: Overview, breath: Organ | None) -> Organ | None:
    """Return the liver by its density: the largest even soft tissue, clearly on one side, next to the lungs (`breath`).

    Nearness to the lungs tells it from the muscle of the legs, which is as even and as dense.
    """
    if breath is None:
        return None
    low, high = _extremes(view, outside=AIR_HU)
    even = (low > SOFT_TISSUE_HU[0]) & (high < SOFT_TISSUE_HU[1]) & (high - low < SOFT_TISSUE_SPAN_HU)
    return _largest_on_one_side(view, even, least=SOFT_TISSUE_HU[0], near=breath.centre_mm[2])


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
    view: Overview, even: Mask, *, least: float, other_side: float | None = None, near: float | None = None
) -> Organ | None:
    """Return the plateau with the most excess over `least` that lies on one side and has no twin across the middle.

    A twin is a plateau of like size there; or, with `other_side`, tissue there of more than this share of its value.
    """
    ball = _ball(view, PLATEAU_RADIUS_MM)
    pieces, count = ndimage.label(ndimage.binary_dilation(even, structure=ball)) if even.any() else (even, 0)
    found: list[tuple[float, Organ, float, float]] = []
    for number in range(1, count + 1):
        whole = pieces == number
        value = float(np.median(view.image[whole & even]))
        volume = float(whole.sum() * view.voxel_ml)
        centre = np.asarray(ndimage.center_of_mass(whole))
        middle = float(view.midline_index[round(float(centre[2]))])
        x, y, z = (float(v) for v in view.world(centre))
        if value <= least or not np.isfinite(middle) or (near is not None and abs(z - near) > LUNG_TO_LIVER_MM):
            continue
        beside = (float(centre[0]) - middle) * view.spacing_mm
        across = _across(view, whole, middle) / value if other_side is not None else 0.0
        excess = volume * (value - least / LIVER_OVER_BODY)
        found.append((excess, Organ((x, y, z), volume, value), beside, across))
    for _, organ, beside, across in sorted(found, key=lambda item: -item[0]):
        if abs(beside) < MIDLINE_MM or not LIVER_ML[0] <= organ.volume_ml <= LIVER_ML[1]:
            continue
        if other_side is not None:
            twin = across > other_side
        else:
            twin = any(
                where * beside < 0
                and abs(other.centre_mm[2] - organ.centre_mm[2]) < TWIN_MM
                and other.volume_ml > TWIN_SIZE * organ.volume_ml
                for _, other, where, _ in found
            )
        if not twin:
            return organ
    return None


def _across(view: Overview, mask: Mask, middle: float) -> float:
    """Return the median value of the place that a mask has on the other side of the middle."""
    index = np.argwhere(mask)
    x = np.round(2 * middle - index[:, 0]).astype(np.intp)
    there = (x >= 0) & (x < view.image.shape[0])
    return float(np.median(view.image[x[there], index[there, 1], index[there, 2]])) if there.any() else 0.0


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
    many slices that was seen; None where fewer than eight slices show it, or they disagree.

    In every slice of chest, abdomen and pelvis the largest piece of bone near the midline is the spine or the sacrum.
    """
    half = view.voxels(44.0)
    area = view.spacing_mm**2 / 100.0
    offsets = []
    for k in trunk_slices(view):
        x = round(float(view.midline_index[k]))
        column = slice(max(0, x - half), x + half + 1)
        body = view.body[column, :, k]
        rows = np.flatnonzero(body.any(axis=0))
        pieces, count = ndimage.label((view.image[column, :, k] > BONE_HU) & body)
        sizes = np.bincount(pieces.ravel(), minlength=count + 1)[1:] * area
        if count == 0 or sizes.max() < SMALLEST_BONE_CM2:
            continue
        depth = np.nonzero(pieces == int(sizes.argmax()) + 1)[1].mean()
        offsets.append((float(depth) - (rows[0] + rows[-1]) / 2) * view.spacing_mm)
    behind = sum(mm < 0 for mm in offsets)
    if len(offsets) < 8 or max(behind, len(offsets) - behind) < BONE_AGREEMENT * len(offsets):
        return None
    return float(np.median(offsets)), len(offsets)


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


def _ball(view: Overview, radius_mm: float) -> Mask:
    n = int(radius_mm // view.spacing_mm)
    offsets = np.indices((2 * n + 1,) * 3) - n
    return np.asarray((offsets**2).sum(axis=0) * view.spacing_mm**2 <= radius_mm**2)
