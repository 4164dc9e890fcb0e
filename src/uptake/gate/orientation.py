"""Is the head up, the liver right and the front in front, as the header says?

A flipped axis goes unnoticed by everything that works on voxels: left and right change places in the report, and a
model that has never seen a liver on the left finds what it likes. Each axis is judged by clues that are independent of
one another, and an axis without any is "cannot tell": a crop of a thigh does not show which way the head is.

Clues from images (`landmarks`) hold for any tracer that shows the liver. Clues from organ labels are pairs of organs
whose order along an axis was the same in all 48 whole-body label maps that it was measured on (see the page *Input
gate*).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from uptake.core.types import FloatArray
from uptake.gate import landmarks
from uptake.gate.ends import ends
from uptake.gate.findings import Finding, Light
from uptake.gate.landmarks import Organ
from uptake.gate.overview import Overview

AXES = ("left_right", "front_back", "head_foot")
TITLES = ("Left and right", "Front and back", "Head and foot")
TOWARDS = (("right", "left"), ("front", "back"), ("head", "feet"))
EXPECTED = (
    "liver on the right, spleen and stomach on the left",
    "spine and kidneys behind, heart and stomach in front",
    "head, lungs, liver, bladder, legs in this order",
)

ORGAN_PAIRS: tuple[tuple[int, str, str], ...] = (
    # (axis, the organ further to the right, front or head, the other)
    (0, "liver", "spleen"), (0, "liver", "stomach"), (0, "liver", "heart"), (0, "liver", "lungs"),
    (0, "kidneys", "spleen"), (0, "lungs", "spleen"), (0, "lungs", "heart"),
    (1, "heart", "lungs"), (1, "heart", "spleen"), (1, "heart", "kidneys"), (1, "liver", "kidneys"),
    (1, "liver", "spleen"), (1, "stomach", "spleen"), (1, "stomach", "kidneys"), (1, "liver", "spine"),
    (1, "heart", "spine"),
    (2, "brain", "lungs"), (2, "brain", "liver"), (2, "brain", "bladder"), (2, "lungs", "liver"),
    (2, "lungs", "kidneys"), (2, "heart", "liver"), (2, "liver", "kidneys"), (2, "liver", "bladder"),
    (2, "lungs", "bladder"), (2, "kidneys", "bladder"),
)  # fmt: skip

LEAST_PAIR_MM = 5.0
"""Pairs closer than this along the axis say nothing."""

LEAST_LUNG_LIVER_MM = 40.0
LEAST_SPINE_MM = 12.0


@dataclass(frozen=True)
class Clue:
    """One reason to believe that an axis is right or flipped.

    Attributes
    ----------
    axis : int
        0 left-right, 1 front-back, 2 head-foot.
    right_way : bool
        Whether the anatomy lies as the header says.
    source : str
        "PET", "CT", "PET and CT" or "organ labels".
    words : str
        What was seen.
    strong : bool
        Whether it decides alone.
    """

    axis: int
    right_way: bool
    source: str
    words: str
    strong: bool = True


def clues_of_organs(centres_mm: dict[str, FloatArray]) -> list[Clue]:
    """Return what the order of labelled organs says, one clue per axis: the majority of its pairs, if it is clear."""
    clues = []
    for axis in range(3):
        votes = [
            float(centres_mm[a][axis] - centres_mm[b][axis])
            for at, a, b in ORGAN_PAIRS
            if at == axis and a in centres_mm and b in centres_mm
        ]
        votes = [mm for mm in votes if abs(mm) >= LEAST_PAIR_MM]
        right = sum(mm > 0 for mm in votes)
        if votes and (right == len(votes) or right == 0 or abs(2 * right - len(votes)) >= 0.6 * len(votes)):
            words = f"{right} of {len(votes)} pairs of organs lie in the expected order"
            clues.append(Clue(axis, 2 * right > len(votes), "organ labels", words))
    return clues


def clues_of_images(pet: Overview, ct: Overview | None, liver: Organ | None) -> list[Clue]:
    """Return what PET and CT say by themselves; nothing for crops. `liver` is that of the PET, if it shows one."""
    clues: list[Clue] = []
    if landmarks.is_crop(pet):
        return clues
    if liver is not None:
        clues.append(_side(liver, pet, "PET"))
    clues += _ends(pet, "PET")
    behind = None if liver is None else landmarks.kidneys_in_pet(pet, liver)
    if behind is not None:
        where = "behind" if behind < 0 else "in front of"
        words = f"two foci like kidneys lie {abs(behind):.0f} mm {where} the liver"
        # Two loops of bowel can look like this, so it does not make an axis red by itself.
        clues.append(Clue(1, behind < 0, "PET", words, strong=False))
    if ct is None or landmarks.is_crop(ct):
        return clues
    breath = landmarks.lungs(ct)
    dense = landmarks.liver_in_ct(ct, breath)
    if dense is not None:
        clues.append(_side(dense, ct, "CT"))
    clues += _ends(ct, "CT")
    spine = landmarks.spine_offset_mm(ct)
    if spine is not None and abs(spine[0]) > LEAST_SPINE_MM:
        where = "behind" if spine[0] < 0 else "in front of"
        clues.append(Clue(1, spine[0] < 0, "CT", f"the spine lies {abs(spine[0]):.0f} mm {where} the middle"))
    for organ, source in ((dense, "CT"), (liver, "PET and CT")):
        if organ is not None and breath is not None:
            above = breath.centre_mm[2] - organ.centre_mm[2]
            if abs(above) > LEAST_LUNG_LIVER_MM:
                words = f"the lungs lie {abs(above):.0f} mm {'above' if above > 0 else 'below'} the liver"
                clues.append(Clue(2, above > 0, source, words))
            break
    return clues


def orientation_findings(clues: list[Clue]) -> list[Finding]:
    """Return one finding per axis."""
    return [_judged(axis, [clue for clue in clues if clue.axis == axis]) for axis in (2, 0, 1)]


def _side(liver: Organ, view: Overview, source: str) -> Clue:
    k = round((liver.centre_mm[2] - view.origin_mm[2]) / view.spacing_mm)
    middle = float(view.world(np.array([view.midline_index[k], 0, 0]))[0])
    beside = liver.centre_mm[0] - middle
    unit = f"SUV {liver.value:.1f}" if source == "PET" else f"{liver.value:.0f} HU"
    words = f"a liver of {unit} lies {abs(beside):.0f} mm to the {'right' if beside > 0 else 'left'} of the middle"
    return Clue(0, beside > 0, source, words)


def _ends(view: Overview, source: str) -> list[Clue]:
    upper, lower = ends(view)
    if "head" in (upper, lower) and upper != lower:
        return [Clue(2, upper == "head", source, f"the head is at the {'upper' if upper == 'head' else 'lower'} end")]
    if "legs" in (upper, lower) and upper != lower:
        return [Clue(2, lower == "legs", source, f"the legs are at the {'lower' if lower == 'legs' else 'upper'} end")]
    return []


def _judged(axis: int, clues: list[Clue]) -> Finding:
    """Return the finding of one axis."""
    plus, minus = TOWARDS[axis]
    for_, against = [c for c in clues if c.right_way], [c for c in clues if not c.right_way]
    if any(c.strong for c in (*for_, *against)):
        for_, against = [c for c in for_ if c.strong], [c for c in against if c.strong]
    seen = "; ".join(f"{c.source}: {c.words}" for c in (*against, *for_))
    details = {"clues": [{"source": c.source, "as_stated": c.right_way, "seen": c.words} for c in clues]}
    if not clues:
        light, measured = Light.GREY, ""
        sentence = f"The image does not show which way {plus} and {minus} are; check it in a viewer if it matters."
    elif not against:
        light, measured = Light.GREEN, seen
        sentence = "The anatomy lies as the header says."
    elif not for_ and any(c.strong for c in against):
        light, measured = Light.RED, seen
        sentence = (
            f"The anatomy is flipped: what the header calls {plus} is {minus}. Positions and sides in all results are "
            "wrong, and the model has not learnt such images. Convert the scan from DICOM again, without reordering "
            "slices or dropping the affine."
        )
    elif not for_:
        light, measured = Light.AMBER, seen
        sentence = f"{plus.capitalize()} and {minus} look exchanged, by a faint clue only. Look at the pictures."
    elif {c.source for c in for_}.isdisjoint({c.source for c in against}):
        light, measured = Light.RED, seen
        sentence = (
            "PET, CT and labels contradict one another: one of them is flipped. Convert them from DICOM again, "
            "together."
        )
    else:
        light, measured = Light.AMBER, seen
        sentence = "The clues contradict one another. Look at the pictures."
    return Finding(AXES[axis], light, TITLES[axis], measured, EXPECTED[axis], sentence, details)
