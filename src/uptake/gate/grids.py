"""Voxel sizes, slices and steps: is this the reconstruction, or what some conversion left of it?"""

from __future__ import annotations

import numpy as np

from uptake.gate.findings import Finding, Light
from uptake.geometry.volume import Volume

VOXEL_MM = (1.0, 6.0)
"""Clinical PET: 1.65 (brain, Quadra) to 5.5 mm in plane, 1.5 to 5 mm between slices."""

VOXEL_ACCEPTED_MM = (0.5, 12.0)
LARGEST_RATIO = 3.0
FIELD_MM = 2300.0
"""Longer than the longest scanner bed."""

STEP_SUV = (0.05, 0.25)
"""Amber and red: an eighth of the difference between fat and muscle, and all of it."""

EIGHT_BIT_VALUES = 256
MOST_SAMPLES = 400_000
FEWEST_SAMPLES = 5_000


def voxel_finding(pet: Volume) -> Finding:
    """Return whether the voxels have the size and shape of a PET's."""
    spacing = pet.spacing_mm
    field = [n * mm for n, mm in zip(pet.shape, spacing, strict=True)]
    measured = " × ".join(f"{mm:.2f}" for mm in spacing) + " mm"
    expected = f"{VOXEL_MM[0]:g} to {VOXEL_MM[1]:g} mm, longest at most {LARGEST_RATIO:g} times the shortest"
    ratio = max(spacing) / min(spacing)
    details: dict[str, object] = {"ratio": round(ratio, 2), "field_mm": [round(mm) for mm in field]}
    check, title = "voxels", "Voxel size"
    if min(spacing) < VOXEL_ACCEPTED_MM[0] or max(spacing) > VOXEL_ACCEPTED_MM[1] or max(field) > FIELD_MM:
        sentence = (
            "No clinical PET has such voxels or such a field of view: the header has lost its scale (cm or µm for mm), "
            "or this is an animal. Volumes in mL are wrong then; convert from DICOM again."
        )
        return Finding(check, Light.RED, title, measured, expected, sentence, details)
    if min(spacing) < VOXEL_MM[0] or max(spacing) > VOXEL_MM[1] or ratio > LARGEST_RATIO:
        sentence = (
            "Unusual for a PET: resampled, or thick slices. SUVmax and SUVpeak depend on it; small lesions lose uptake "
            "in thick slices."
        )
        return Finding(check, Light.AMBER, title, measured, expected, sentence, details)
    if all(abs(mm - 1.0) < 1e-6 for mm in spacing):
        sentence = "Exactly 1 mm on all axes is what a header without voxel sizes says, or a resampled image. Check it."
        return Finding(check, Light.AMBER, title, measured, expected, sentence, details)
    return Finding(check, Light.GREEN, title, measured, expected, "As PET scanners give it.", details)


def slice_finding(pet: Volume) -> Finding:
    """Return whether slices are blank inside the patient, or the same as their neighbours."""
    axis = int(np.argmax(np.abs(pet.direction[2])))
    slices = np.moveaxis(pet.array, axis, 0)
    rows = slices.reshape(slices.shape[0], -1)
    flat = rows.max(axis=1) == rows.min(axis=1)
    used = np.flatnonzero(~flat)
    inside = flat[used[0] : used[-1] + 1] if len(used) else flat
    same = sum(
        bool(np.array_equal(slices[k], slices[k + 1])) for k in range(len(slices) - 1) if not (flat[k] or flat[k + 1])
    )
    blank, rim = int(inside.sum()), int(flat.sum() - inside.sum())
    details: dict[str, object] = {"blank_inside": blank, "blank_at_ends": rim, "repeated": same, "slices": len(slices)}
    check, title, expected = "slices", "Slices", "none blank, none repeated"
    measured = f"{len(slices)} slices, {blank} blank inside, {rim} blank at the ends, {same} repeated"
    if blank or same:
        sentence = (
            "Slices are missing or doubled: the image was put together from an incomplete or mixed series. Lesions are "
            "cut or stretched there; convert the series again."
        )
        return Finding(check, Light.RED, title, measured, expected, sentence, details)
    if rim > 2:
        sentence = "The field is padded with blank slices; nothing was measured there."
        return Finding(check, Light.AMBER, title, measured, expected, sentence, details)
    return Finding(check, Light.GREEN, title, measured, expected, "All slices hold an image of their own.", details)


def step_finding(pet: Volume) -> Finding:
    """Return how coarsely the values were stored: an 8-bit image has 256 of them for air, liver and bladder."""
    flat = pet.array.ravel(order="K")
    values, counts = np.unique(flat[:: max(1, flat.size // MOST_SAMPLES)], return_counts=True)
    positive = values[values > 0]
    seen = int(counts[values > 0].sum())
    check, title, expected = "steps", "Grey levels", f"steps below SUV {STEP_SUV[0]:g}"
    if seen < FEWEST_SAMPLES or len(positive) < 2:
        return Finding(check, Light.GREY, title, f"{len(values)} values", expected, "Too small to judge.")
    # The step that rules where the patient is: between the values of the lower half, which hold fat and muscle.
    middle = positive[: max(2, len(positive) // 2)]
    step = float(np.median(np.diff(middle)))
    few = len(values) <= EIGHT_BIT_VALUES
    details: dict[str, object] = {"values_seen": len(values), "step_suv": float(f"{step:.3g}")}
    measured = f"{len(values)} values among {seen:,} sampled, step {step:.2g}"
    if few and step > STEP_SUV[1]:
        sentence = (
            f"Stored in steps of SUV {step:.2g}, as 8-bit images are: means, SUVpeak and thresholds are off by up to "
            "half a step. Convert the PET again with a float or 16-bit type."
        )
        return Finding(check, Light.RED, title, measured, expected, sentence, details)
    if step > STEP_SUV[0] and len(values) <= 16 * EIGHT_BIT_VALUES:
        sentence = (
            f"Coarsely stored, in steps of SUV {step:.2g}; thresholds near tissue values are uncertain by half of it."
        )
        return Finding(check, Light.AMBER, title, measured, expected, sentence, details)
    return Finding(check, Light.GREEN, title, measured, expected, "Fine enough for every number.", details)
