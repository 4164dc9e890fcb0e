"""Which part of the patient is in the field, and is it cut off at the side?"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from uptake.gate import landmarks
from uptake.gate.ends import ends
from uptake.gate.findings import Finding, Light
from uptake.gate.overview import Overview

WHOLE_BODY_MM = 750.0
"""Skull base to mid-thigh in a small adult."""

CONTACT_MM = 24.0
"""Of the outline in one slice that lies on the field's edge before it counts as cut."""

CUT_SHARE = (0.03, 0.4)
"""Share of the patient's slices that are cut: amber and red (CT only)."""

ARM_CM2 = (12.0, 160.0)
ARM_BESIDE_MM = 60.0
ARM_SLICES = 4

WORDS = {"head": "the head", "legs": "the legs", "trunk": "the trunk"}


def coverage_finding(view: Overview, *, source: str) -> Finding:
    """Return which part of the patient the field shows, and where the arms are."""
    check, title = "coverage", "Part of the body"
    expected = f"skull base to mid-thigh, at least {WHOLE_BODY_MM:.0f} mm"
    length = float((view.section_cm2 > 25.0).sum()) * view.spacing_mm
    details: dict[str, object] = {"length_mm": round(length)}
    totals = "Total MTV, TLG and lesion counts are those of this part only, not of the whole body."
    if landmarks.is_crop(view) or length == 0:
        wide = (view.image.shape[0] * view.spacing_mm, view.image.shape[1] * view.spacing_mm)
        measured = f"a crop of {wide[0]:.0f} × {wide[1]:.0f} × {view.image.shape[2] * view.spacing_mm:.0f} mm"
        return Finding(check, Light.AMBER, title, measured, expected, totals, details)
    upper, lower = ends(view)
    arms = arm_position(view)
    details |= {"upper_end": upper, "lower_end": lower, "arms": arms}
    heads = [end for end in (upper, lower) if end is not None]
    where = f"from {WORDS[upper]} to {WORDS[lower]}, " if upper and lower else ""
    measured = f"{where}{length:.0f} mm ({source}); arms {arms or 'not told'}"
    if "head" in heads and length >= WHOLE_BODY_MM:
        return Finding(
            check, Light.GREEN, title, measured, expected, "The usual field of an oncological scan.", details
        )
    return Finding(check, Light.AMBER, title, measured, expected, totals, details)


def truncation_finding(pet: Overview, ct: Overview | None) -> Finding:
    """Return whether the patient reaches the side of the PET's or the CT's field of view."""
    check, title = "truncation", "Cut off at the side"
    expected = f"at most {CUT_SHARE[0]:.0%} of the slices"
    shares = {"PET": _cut_share(pet)} | ({} if ct is None else {"CT": _cut_share(ct)})
    measured = ", ".join(f"{name} {share:.0%} of the slices" for name, share in shares.items())
    details: dict[str, object] = {f"{name.lower()}_share": round(share, 3) for name, share in shares.items()}
    if landmarks.is_crop(pet):
        sentence = "A crop: where it ends says nothing about the scanner's field."
        return Finding(check, Light.GREY, title, measured, expected, sentence, details)
    worst = max(shares.values())
    if worst <= CUT_SHARE[0]:
        return Finding(check, Light.GREEN, title, measured, expected, "The patient lies inside the field.", details)
    # Outside the CT nothing is corrected for attenuation: SUV drops at the rim, and inwards from it.
    light = Light.RED if shares.get("CT", 0.0) > CUT_SHARE[1] and shares["PET"] <= CUT_SHARE[0] else Light.AMBER
    sentence = (
        "Arms or flanks leave the field: SUV near the edge reads low where the CT is cut, and lesions out there are "
        "not seen. Prefer a reconstruction with an extended CT field of view."
    )
    return Finding(check, light, title, measured, expected, sentence, details)


def arm_position(view: Overview) -> str | None:
    """Return "up" (beside the head), "down" (beside the trunk), or None where too few slices show them apart."""
    trunk = landmarks.trunk_slices(view)
    if len(trunk) == 0:
        return None
    centre = float(np.nanmedian(view.midline_index[trunk]))
    filled = np.flatnonzero(view.section_cm2 > 25.0)
    large = float(np.percentile(view.section_cm2[filled], 80))
    beside = {"up": 0, "down": 0}
    for k in filled:
        pieces, count = ndimage.label(view.body[:, :, k])
        if count < 3:
            continue
        areas = np.bincount(pieces.ravel())[1:] * view.spacing_mm**2 / 100.0
        middles = ndimage.center_of_mass(view.body[:, :, k], pieces, range(1, count + 1))
        sides = [
            (middle[0] - centre) * view.spacing_mm
            for area, middle in zip(areas, middles, strict=True)
            if ARM_CM2[0] < area < ARM_CM2[1]
        ]
        if any(mm < -ARM_BESIDE_MM for mm in sides) and any(mm > ARM_BESIDE_MM for mm in sides):
            beside["up" if float(areas.max()) < 0.62 * large else "down"] += 1
    best = max(beside, key=lambda key: beside[key])
    return best if beside[best] >= ARM_SLICES and beside[best] > 2 * min(beside.values()) else None


def _cut_share(view: Overview) -> float:
    filled = view.section_cm2 > 25.0
    return float((view.side_contact_mm[filled] > CONTACT_MM).mean()) if filled.any() else 0.0
