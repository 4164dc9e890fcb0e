"""How far is the CT from the PET, in mm? Measured by rigid registration, reported, never applied.

Mutual information between the square root of the PET (so that the patient's outline counts as much as a bladder) and
the CT between -1000 and 200 HU, blurred to the PET's resolution, on coarse grids (`comparison`, `registration`). The
middle of the body says how far the images are apart; each third of a long field is then shifted by itself, because
heads turn, arms move and diaphragms breathe while the rest lies still.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np

from uptake.core.types import FloatArray, Mask, Vector3
from uptake.gate.comparison import REACH_MM, Comparison
from uptake.gate.registration import (
    FEWEST_SAMPLES,
    angle_deg,
    displacement,
    one_thread,
    registered,
    start_at,
    translation,
)
from uptake.geometry.volume import Volume

LEVELS_MM = (12.0, 8.0)
"""Voxel size of the grids, coarse to fine."""

MOST_SAMPLES = (60_000, 80_000)
"""PET voxels compared on each grid, about."""

SECTION_SAMPLES = 40_000
FARTHEST_MM = 80.0
"""A larger shift than this is a failed registration, or two examinations. Short fields: no further than `REACH_MM`
along an axis on which the CT ends in tissue.
"""

SECTIONS = ("upper third", "middle third", "lower third")

Shift = tuple[float | None, float | None, float | None]
"""Along x (right), y (front) and z (head), RAS+ mm; None along an axis that the field of view cannot measure."""


@dataclass(frozen=True)
class Misalignment:
    """Where the CT shows a structure, minus where the PET shows it.

    Attributes
    ----------
    shift_mm : Shift
        At the middle of the body.
    rotation_deg : float or None
        Angle of the rotation; None where only a translation was measured.
    largest_mm : float
        Largest displacement anywhere on the body, mm, over the measured axes.
    centre_mm : tuple of float
        Where the middle of the body is, RAS+ mm.
    sections : mapping
        The same shift measured for each third of a long field by itself, where it could be.
    """

    shift_mm: Shift
    rotation_deg: float | None
    largest_mm: float
    centre_mm: Vector3
    sections: dict[str, Shift]

    @property
    def length_mm(self) -> float:
        """Length of the shift over the measured axes, mm."""
        return length_mm(self.shift_mm)


def length_mm(shift: Shift) -> float:
    """Return the length of a shift over the axes that were measured, mm; NaN if none was."""
    known = [mm for mm in shift if mm is not None]
    return float(np.linalg.norm(known)) if known else float("nan")


def measure_misalignment(pet: Volume, ct: Volume) -> Misalignment | None:
    """Return how far the CT is from the PET, or None where the field is too small to tell.

    Parameters
    ----------
    pet : Volume
        SUV.
    ct : Volume
        HU, on any grid in the same frame of reference.
    """
    levels = [Comparison(pet, ct, spacing) for spacing in LEVELS_MM]
    fine = levels[-1]
    if fine.compared.sum() < FEWEST_SAMPLES or not (fine.compared & fine.body).any():
        return None
    known = fine.measurable_axes()
    if not known.any():
        return None
    low, high = fine.body_box_mm()
    # A rotation and a shift look alike in a short field.
    rigid = bool(known.all()) and fine.is_long
    centre = (low + high) / 2
    with one_thread():
        return _measured(levels, known, centre, low, high, rigid=rigid)


def _measured(
    levels: list[Comparison], known: Mask, centre: FloatArray, low: FloatArray, high: FloatArray, *, rigid: bool
) -> Misalignment | None:
    fine = levels[-1]
    still = start_at(centre, rigid=rigid)
    coarse = registered(levels[0], [still], levels[0].compared, MOST_SAMPLES[0])
    transform = registered(fine, [still] if coarse is None else [still, coarse], fine.compared, MOST_SAMPLES[1])
    if transform is None:
        return None
    shift = displacement(transform, centre)
    farthest = np.where(fine.open_axes | fine.is_long, FARTHEST_MM, REACH_MM)
    if not (np.abs(shift) <= farthest)[known].all():
        return None
    sections = {}
    if rigid:
        for name, (bottom, top) in zip(SECTIONS, _thirds(low[2], high[2]), strict=True):
            part = fine.compared & fine.between(bottom, top)
            local = _section(fine, part, shift)
            if local is not None:
                sections[name] = _over(local, known)
    corners = np.array(list(product(*zip(low, high, strict=True))))
    far = max(float(np.linalg.norm(displacement(transform, corner)[known])) for corner in corners)
    angle = angle_deg(transform) if rigid else None
    x, y, z = (float(mm) for mm in centre)
    return Misalignment(_over(shift, known), angle, round(far, 3), (x, y, z), sections)


def _thirds(low: float, high: float) -> list[tuple[float, float]]:
    cuts = np.linspace(low, high, 4)
    return [(float(cuts[2 - n]), float(cuts[3 - n])) for n in range(3)]


def _section(level: Comparison, part: Mask, start_mm: FloatArray) -> FloatArray | None:
    """Return the translation, RAS+ mm, that fits a part of the patient best."""
    if part.sum() < FEWEST_SAMPLES:
        return None
    found = registered(level, [translation(start_mm)], part, SECTION_SAMPLES)
    return None if found is None else displacement(found, np.zeros(3))


def _over(shift: FloatArray, known: Mask) -> Shift:
    """Return a shift to the micrometre, so that the last bit of a sum does not show; None along unknown axes."""
    x, y, z = (round(float(mm), 3) if here else None for mm, here in zip(shift, known, strict=True))
    return x, y, z
