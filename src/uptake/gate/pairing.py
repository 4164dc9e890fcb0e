"""Do PET and CT belong together: one frame of reference, one part of the patient, tissue in one where it is in the
other?
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from uptake.core.types import Image, Mask
from uptake.gate.findings import Finding, Light
from uptake.gate.misalignment import Misalignment, Shift, length_mm
from uptake.gate.overview import Overview
from uptake.geometry.volume import Volume

COVERED = (0.98, 0.8)
"""Share of the PET's patient inside the CT's field: green from the first, red below the second."""

TISSUE_IN_AIR_ML = (300.0, 2000.0)
"""PET tissue where the CT shows air outside its patient: amber and red. Hot urine next to bowel gas makes up to 220."""

TISSUE_SUV = 0.25
AIR_HU = -700.0

SHIFT_MM = (7.0, 15.0)
"""Amber and red, at the middle of the body. The liver dome of an FDG scan reads 11 % low at 8 mm and 23 % at 15 mm, and
33 real crops without a known fault measured at most 6.5 mm.
"""

SECTION_MM = (10.0, 20.0)
"""Of a third of the body by itself: breathing, head and arms move against the rest."""

LARGEST_MM = (12.0, 25.0)
"""Anywhere on the body, rotation included."""


def frame_finding(pet: Volume, ct: Volume) -> Finding:
    """Return whether both images name the same DICOM Frame of Reference UID (0020,0052)."""
    check, title, expected = "frame_of_reference", "Frame of reference", "the same for PET and CT"
    if not (pet.frame_of_reference and ct.frame_of_reference):
        sentence = "Not known: image files do not say in whose coordinates they are. The measured shift below tells."
        return Finding(check, Light.GREY, title, "", expected, sentence)
    if pet.frame_of_reference == ct.frame_of_reference:
        sentence = "Both were taken on one bed in one position."
        return Finding(check, Light.GREEN, title, "the same", expected, sentence)
    sentence = "Two examinations: positions cannot be compared. Give the CT of this PET, or leave it out."
    return Finding(check, Light.RED, title, "different", expected, sentence)


def patient_litres(pet: Overview, ct: Overview | None) -> float:
    """Return how much of the patient lies in the PET's field, L.

    By the CT's outline where the CT covers the patient: that of the PET depends on its scale, which is in question.
    """
    own = float(pet.body.sum())
    if ct is not None and own > 0:
        covered, _, dense = _on_pet(ct, pet)
        if float((pet.body & covered).sum()) >= COVERED[0] * own:
            own = float((dense & pet.inside).sum())
    return own * pet.voxel_ml / 1000.0


def overlap_finding(pet: Overview, ct: Overview) -> Finding:
    """Return whether the CT covers the PET's patient, and shows tissue where the PET does."""
    check, title = "overlap", "CT over PET"
    expected = f"at least {COVERED[0]:.0%} covered, at most {TISSUE_IN_AIR_ML[0]:.0f} mL of tissue in air"
    covered, air, _ = _on_pet(ct, pet)
    patient = float(pet.body.sum())
    if patient == 0:
        return Finding(check, Light.GREY, title, "", expected, "The PET shows no patient.")
    share = float((pet.body & covered).sum()) / patient
    core = ndimage.binary_erosion(pet.body, iterations=2) & (pet.image > TISSUE_SUV)
    lost = float((core & covered & air).sum()) * pet.voxel_ml
    details: dict[str, object] = {"covered_share": round(share, 4), "tissue_in_air_ml": round(lost)}
    measured = f"{share:.0%} covered, {lost:.0f} mL of PET tissue in the CT's air"
    if share < COVERED[1] or lost > TISSUE_IN_AIR_ML[1]:
        sentence = (
            "The CT shows another part, another position or another patient. Nothing beyond it has attenuation "
            "correction from it or a CT for the model; check which CT belongs to this PET."
        )
        return Finding(check, Light.RED, title, measured, expected, sentence, details)
    if share < COVERED[0] or lost > TISSUE_IN_AIR_ML[0]:
        sentence = "Part of the patient has no CT: SUV there may be low and the model works on PET alone."
        return Finding(check, Light.AMBER, title, measured, expected, sentence, details)
    return Finding(check, Light.GREEN, title, measured, expected, "The CT shows what the PET shows.", details)


def misalignment_finding(measured: Misalignment | None) -> Finding:
    """Return the judgement of a measured shift between PET and CT."""
    check, title = "misalignment", "PET to CT"
    expected = f"at most {SHIFT_MM[0]:g} mm, {SECTION_MM[0]:g} mm in any third, {LARGEST_MM[0]:g} mm anywhere"
    if measured is None or not np.isfinite(measured.length_mm):
        sentence = "This field of view is too small, or too even, to measure a shift between PET and CT."
        return Finding(check, Light.GREY, title, "", expected, sentence)
    sections = {name: length_mm(shift) for name, shift in measured.sections.items()}
    blind = [axis for axis, mm in zip("xyz", measured.shift_mm, strict=True) if mm is None]
    parts = [f"{measured.length_mm:.1f} mm ({_words(measured.shift_mm)})"]
    if measured.rotation_deg is not None:
        parts.append(f"turned by {measured.rotation_deg:.1f}°, at most {measured.largest_mm:.1f} mm anywhere")
    parts += [f"{name} {mm:.1f} mm" for name, mm in sections.items()]
    if blind:
        parts.append(f"not measurable along {' and '.join(blind)}")
    details: dict[str, object] = {
        "shift_right_mm": _rounded(measured.shift_mm[0]),
        "shift_front_mm": _rounded(measured.shift_mm[1]),
        "shift_head_mm": _rounded(measured.shift_mm[2]),
        "rotation_deg": _rounded(measured.rotation_deg),
        "largest_mm": _rounded(measured.largest_mm),
        "sections_mm": {name: [_rounded(mm) for mm in shift] for name, shift in measured.sections.items()},
    }
    worst = max(sections.values(), default=0.0)
    everywhere = measured.largest_mm if measured.rotation_deg is not None else 0.0
    over = [measured.length_mm > SHIFT_MM[n] or worst > SECTION_MM[n] or everywhere > LARGEST_MM[n] for n in range(2)]
    light = Light.RED if over[1] else Light.AMBER if over[0] else Light.GREEN
    sentence = {
        Light.GREEN: "PET and CT fit to within the resolution of the PET. Nothing was moved.",
        Light.AMBER: "PET and CT do not fit: uptake near the diaphragm and at the skin reads wrong by some 10 %, and "
        "organs and lesions are taken from shifted places. Look at the fused pictures. Nothing was moved.",
        Light.RED: "PET and CT are far apart: the attenuation correction used the wrong tissue (20 % and more near "
        "lung), and the CT misleads the model. Run without the CT, or register it first. Nothing was moved.",
    }[light]
    return Finding(check, light, title, "; ".join(parts), expected, sentence, details)


def _on_pet(ct: Overview, pet: Overview) -> tuple[Mask, Mask, Mask]:
    """Return, on the PET's overview grid, where the CT has voxels, air outside its patient, and its patient."""
    offset = (np.asarray(pet.origin_mm) - np.asarray(ct.origin_mm)) / ct.spacing_mm

    def sampled(array: Image, outside: float) -> Image:
        return np.asarray(
            ndimage.affine_transform(
                array.astype(np.float32), np.ones(3), offset, output_shape=pet.image.shape, order=1,
                mode="grid-constant", cval=outside,
            )
        )  # fmt: skip

    covered = sampled(ct.inside, 0.0) > 0.4
    dense = sampled(ct.body, 0.0) > 0.5
    air = (sampled(ct.image, -1024.0) < AIR_HU) & ~dense
    return np.asarray(covered), np.asarray(air), np.asarray(dense)


def _words(shift: Shift) -> str:
    """Return in which direction the CT lies off, largest first."""
    names = (("right", "left"), ("front", "back"), ("head", "feet"))
    known = [
        (abs(mm), f"{abs(mm):.1f} {pair[mm < 0]}") for mm, pair in zip(shift, names, strict=True) if mm is not None
    ]
    return "CT lies " + ", ".join(words for _, words in sorted(known, reverse=True))


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
