"""Users who know the truth and answer with prompts: clicks and strokes into the mistakes of a mask, by rule and seed.

For judging promptable models, never for using them. All positions are voxel indices (i, j, k) of the reference.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from uptake.core.errors import InputError, UsageError
from uptake.core.types import FloatArray, Image, Mask, Vector3
from uptake.evaluation.masks import require_masks
from uptake.geometry.components import bounding_box, connected_components

ClickRule = Literal["centre", "random", "deep"]
"""Where in a mistake a user clicks. "centre": the point deepest inside the largest mistake (CVPR 2025 challenge).
"random": any wrong voxel (SegAnyPET's helper). "deep": a random voxel more than half as deep as the deepest, in the
missing or the surplus part, whichever is deeper (SAM-Med3D's older script, after RITM)."""

PHYSIOLOGICAL_PERCENTILE = 99.75
"""autoPET IV puts background clicks into voxels outside tumours that are hotter than this percentile of them."""

LESION_CONNECTIVITY = 26


@dataclass(frozen=True)
class UserClick:
    """A click: where, and whether the voxel belongs to the object."""

    place: tuple[int, int, int]
    positive: bool


@dataclass(frozen=True, eq=False)
class UserScribble:
    """A stroke in one slice: its voxels (n, 3), and whether they belong to the object."""

    places: npt.NDArray[np.int64]
    positive: bool


def next_click(
    mask: Mask,
    reference: Mask,
    rng: np.random.Generator,
    *,
    rule: ClickRule = "centre",
    spacing_mm: Vector3 = (1.0, 1.0, 1.0),
) -> UserClick | None:
    """Return the click that a user makes next; None where nothing is wrong.

    Parameters
    ----------
    mask, reference : arrays (i, j, k) bool
        What there is, what there should be.
    rng : Generator
    rule : {"centre", "random", "deep"}
    spacing_mm : tuple of float
        Depths are measured in mm.

    Notes
    -----
    Of mistakes equally large, and voxels equally deep, the first in scan order is taken.
    """
    require_masks(mask, reference)
    if rule not in get_args(ClickRule):
        raise UsageError(f"rules of clicking are {', '.join(get_args(ClickRule))}; came {rule!r}.")
    wrong = mask != reference
    box = bounding_box(wrong)
    if box is None:
        return None
    first = np.array([side.start for side in box])
    missing, surplus = (reference & wrong)[box], (mask & wrong)[box]
    if rule == "random":
        place = _any(missing | surplus, rng)
    elif rule == "deep":
        depths = [_depth(part, spacing_mm) for part in (missing, surplus)]
        deeper = depths[0] if depths[0].max(initial=0) >= depths[1].max(initial=0) else depths[1]
        place = _any(deeper > deeper.max() / 2, rng)
    else:
        place = _deepest(_largest(missing, surplus), spacing_mm)
    i, j, k = (int(n) for n in place + first)
    return UserClick((i, j, k), bool(reference[i, j, k]))


def autopet_iv_clicks(
    reference: Mask, pet: Image, rng: np.random.Generator, *, clicks: int = 10, spacing_mm: Vector3 = (1.0, 1.0, 1.0)
) -> tuple[list[UserClick], list[UserClick]]:
    """Return the pre-simulated tumour and background clicks of autoPET IV, revealed in pairs, independent of any mask.

    Tumour: lesions (26-connected) in random order, each clicked at its deepest voxel; what is left of the budget goes
    to random voxels on the rims of lesions. Background: the same in the connected parts of the uptake outside tumours
    above its 99.75th percentile. Fewer than `clicks` where there is nothing to click on.

    Parameters
    ----------
    reference : array (i, j, k) bool
    pet : array (i, j, k)
        SUV.
    rng : Generator
    clicks : int
        Of each kind.
    spacing_mm : tuple of float
    """
    require_masks(reference, reference)
    if pet.shape != reference.shape:
        raise InputError(f"the PET has shape {pet.shape}, the reference {reference.shape}.")
    outside = pet[~reference]
    hot = ~reference & (pet > np.percentile(outside, PHYSIOLOGICAL_PERCENTILE)) if outside.size else ~reference
    return (
        [UserClick(place, True) for place in _centre_then_rim(reference, rng, clicks, spacing_mm)],
        [UserClick(place, False) for place in _centre_then_rim(hot, rng, clicks, spacing_mm)],
    )


def next_scribble(
    mask: Mask, reference: Mask, rng: np.random.Generator, *, style: Literal["centreline", "random"] = "centreline"
) -> UserScribble | None:
    """Return a stroke through the largest mistake of any axial slice, as in autoPET V; None if nothing is wrong.

    The slice (along the last axis) and its 8-connected part of the mistake are those of the largest area. The stroke is
    in what is missing or in what is too much, whichever part is larger there, a tie counting as missing.

    Parameters
    ----------
    mask, reference : arrays (i, j, k) bool
    rng : Generator
    style : {"centreline", "random"}
        "centreline": for each line of the part across its longer side, the middle voxel of its longest run. "random":
        from one random voxel of the part straight to another, as far as it stays inside.
    """
    require_masks(mask, reference)
    if style not in ("centreline", "random"):
        raise UsageError(f"styles of scribbles are centreline and random; came {style!r}.")
    best: tuple[int, int, bool, Mask] | None = None
    for positive, wrong in ((True, reference & ~mask), (False, mask & ~reference)):
        for level in np.flatnonzero(wrong.any(axis=(0, 1))):
            k = int(level)
            parts, count = ndimage.label(wrong[:, :, k], np.ones((3, 3)))
            sizes = np.bincount(parts.ravel(), minlength=count + 1)[1:]
            largest = int(sizes.argmax())
            if best is None or sizes[largest] > best[0]:
                best = int(sizes[largest]), k, positive, np.asarray(parts == largest + 1)
    if best is None:
        return None
    _, k, positive, part = best
    line = _centreline(part) if style == "centreline" else _chord(part, rng)
    return UserScribble(np.column_stack([line, np.full(len(line), k)]), positive)


def _any(mask: Mask, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    inside = np.argwhere(mask)
    return np.asarray(inside[rng.integers(len(inside))])


def _depth(mask: Mask, spacing_mm: Vector3) -> FloatArray:
    # A rim of background, so that depth counts from the edge of the box too.
    return np.asarray(ndimage.distance_transform_edt(np.pad(mask, 1), sampling=spacing_mm)[1:-1, 1:-1, 1:-1])


def _deepest(mask: Mask, spacing_mm: Vector3) -> npt.NDArray[np.int64]:
    return np.array(np.unravel_index(int(_depth(mask, spacing_mm).argmax()), mask.shape))


def _largest(missing: Mask, surplus: Mask) -> Mask:
    """Return the largest connected mistake, missing and surplus parts kept apart."""
    best, size = missing, -1
    for part in (missing, surplus):
        pieces = connected_components(part, connectivity=LESION_CONNECTIVITY)
        if pieces.count and int(pieces.voxels.max()) > size:
            size = int(pieces.voxels.max())
            best = np.asarray(pieces.labels == int(pieces.voxels.argmax()) + 1)
    return best


def _centre_then_rim(
    mask: Mask, rng: np.random.Generator, clicks: int, spacing_mm: Vector3
) -> list[tuple[int, int, int]]:
    pieces = connected_components(mask, connectivity=LESION_CONNECTIVITY)
    places: list[tuple[int, int, int]] = []
    for number in rng.permutation(pieces.count)[:clicks]:
        box = pieces.boxes[number]
        i, j, k = _deepest(pieces.labels[box] == number + 1, spacing_mm) + [side.start for side in box]
        places.append((int(i), int(j), int(k)))
    rims: dict[int, npt.NDArray[np.int64]] = {}
    while pieces.count and len(places) < clicks:
        number = int(rng.integers(pieces.count))
        if number not in rims:
            box = pieces.boxes[number]
            piece = np.pad(pieces.labels[box] == number + 1, 1)
            rim = (piece & ~ndimage.binary_erosion(piece))[1:-1, 1:-1, 1:-1]
            rims[number] = np.argwhere(rim) + [side.start for side in box]
        i, j, k = rims[number][rng.integers(len(rims[number]))]
        places.append((int(i), int(j), int(k)))
    return places


def _centreline(part: Mask) -> npt.NDArray[np.int64]:
    inside = np.argwhere(part)
    along = int(np.ptp(inside, axis=0).argmax())
    line = []
    for level in np.unique(inside[:, along]):
        across = np.sort(inside[inside[:, along] == level, 1 - along])
        runs = np.split(across, np.flatnonzero(np.diff(across) > 1) + 1)
        longest = max(runs, key=len)
        line.append((level, longest[len(longest) // 2]) if along == 0 else (longest[len(longest) // 2], level))
    return np.array(line, dtype=np.int64)


def _chord(part: Mask, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    start, stop = _any(part, rng), _any(part, rng)
    steps = np.linspace(0, 1, int(np.abs(stop - start).max()) + 1)[:, None]
    line = np.rint(start + (stop - start) * steps).astype(np.int64)
    leaves = np.flatnonzero(~part[tuple(line.T)])
    return line[: leaves[0]] if leaves.size else line
