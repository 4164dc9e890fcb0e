"""Do the PET values look like SUV? Mass balance, mean over the patient, liver, sign and largest value."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from uptake.core.units import GRAMS_PER_KG
from uptake.gate.findings import Finding, Light
from uptake.gate.landmarks import Organ
from uptake.gate.organs import Organs
from uptake.gate.tracers import Tracer
from uptake.geometry.volume import Volume
from uptake.physics.plausibility import pet_objection

MEAN_SUV = (0.55, 1.25)
"""Mean SUV over a patient of whom most is in the field. The dose spreads over the body's mass, so the whole body has 1
minus the voided share: 0.75 to 1. The organs left out, or a hot heart, move a part of it by a third."""

MEAN_SUV_ACCEPTED = (0.3, 2.5)
LEAST_BODY_L = 15.0
"""Smaller parts of a patient may have any mean."""

LARGEST_SHARE_OF_WEIGHT = 1.05
LARGEST_MASS_KG = 200.0
NEGATIVE_SHARE = (0.01, 0.05)
"""Of the summed absolute SUV: amber and red. OSEM makes no negative values, FBP in air a few."""

MAXIMUM_SUV = (2.0, 150.0, 500.0)
"""Less is a scaled image or no patient; more than the second is a bladder of a small patient at best; more than the
third is no SUV."""


def unit_finding(pet: Volume) -> Finding:
    """Return whether the values can be SUV at all; the physics that refuses is `physics.plausibility`."""
    objection = pet_objection(pet.array, pet.voxel_volume_ml)
    expected = "SUV by body weight, g/mL"
    if objection is None:
        return Finding("units", Light.GREEN, "PET unit", "can be SUV", expected, "No value contradicts SUV.")
    return Finding(
        "units", Light.RED, "PET unit", objection, expected,
        "These values are plainly not SUV and were taken as such on request (--assume-suv). No SUV, MTV or TLG of this "
        "run means anything. Give the DICOM folder, or convert the PET to SUV.",
    )  # fmt: skip


def mass_finding(pet: Volume, litres: float, weight_kg: float | None) -> Finding:
    """Return whether the dose in the field of view goes with the patient: integral of SUV, and mean over the body.

    Parameters
    ----------
    pet : Volume
        SUV.
    litres : float
        Volume of the patient inside the PET's field (`pairing.patient_litres`).
    weight_kg : float or None
    """
    # Activity per mL over dose per gram, summed over volume: the part of the body's mass whose dose is in the field.
    mass_kg = float(pet.array.sum(dtype=np.float64)) * pet.voxel_volume_ml / GRAMS_PER_KG
    mean = mass_kg / litres if litres > 0 else float("nan")
    details: dict[str, object] = {"dose_in_field_kg": round(mass_kg, 2), "patient_in_field_l": round(litres, 1)}
    measured = f"dose for {mass_kg:.1f} kg in {litres:.1f} L of patient, mean SUV {mean:.2f}"
    if weight_kg is not None:
        details["share_of_weight"] = round(mass_kg / weight_kg, 3)
        measured += f", {mass_kg / weight_kg:.0%} of {weight_kg:.0f} kg"
    expected = f"mean SUV {MEAN_SUV[0]:g} to {MEAN_SUV[1]:g}, no more than the patient's weight"
    title = "Mass balance"
    if litres == 0 or (weight_kg is None and litres < LEAST_BODY_L):
        return Finding(
            "mass_balance", Light.GREY, title, measured if litres else "", expected,
            "Too little of the patient is in the field to judge the scale of the image by it.", details,
        )  # fmt: skip
    too_much = mass_kg > (LARGEST_MASS_KG if weight_kg is None else LARGEST_SHARE_OF_WEIGHT * weight_kg)
    whole = litres >= LEAST_BODY_L
    if too_much or (whole and not MEAN_SUV_ACCEPTED[0] <= mean <= MEAN_SUV_ACCEPTED[1]):
        light = Light.RED
        sentence = (
            "The field holds more dose than was injected, or far less than it should: weight, dose or decay correction "
            "is wrong. Check them against the protocol of the injection before using any number."
        )
    elif whole and not MEAN_SUV[0] <= mean <= MEAN_SUV[1]:
        light = Light.AMBER
        sentence = (
            "The whole image reads high or low. Check weight, dose and injection time; very large tumours, voiding "
            "before the scan and paravenous injection do this too."
        )
    else:
        light, sentence = Light.GREEN, "The scale of the image goes with the injected dose."
    return Finding("mass_balance", light, title, measured, expected, sentence, details)


def liver_finding(pet: Volume, found: Organ | None, organs: Organs | None, tracer: Tracer | None) -> Finding:
    """Return whether the liver shows what the tracer's livers show: the closest thing to a calibration phantom."""
    value, source = _liver(pet, found, organs)
    title, check = "Liver uptake", "liver"
    known = tracer is not None and tracer.liver_suv is not None
    low, high = tracer.liver_suv if tracer is not None and tracer.liver_suv is not None else (1.3, 3.0)
    expected = f"mean SUV {low:g} to {high:g} ({tracer.name if tracer is not None and known else 'if FDG'})"
    if value is None:
        return Finding(check, Light.GREY, title, "", expected, "No liver was found in the field.")
    measured = f"mean SUV {value:.2f} ({source})"
    details: dict[str, object] = {"liver_suv_mean": round(value, 3), "source": source}
    if tracer is not None and not known:
        sentence = f"The liver says nothing about the scale of a {tracer.name} scan."
        return Finding(check, Light.GREY, title, measured, "none for this tracer", sentence, details)
    if low <= value <= high:
        return Finding(check, Light.GREEN, title, measured, expected, "As healthy livers show it.", details)
    if tracer is None or tracer.liver_accepted is None:
        sentence = "Unusual for FDG; the tracer is not known. Name it, or compare with the tracer's own range."
        return Finding(check, Light.GREY, title, measured, expected, sentence, details)
    accepted = tracer.liver_accepted
    light = Light.AMBER if accepted[0] <= value <= accepted[1] else Light.RED
    sentence = (
        "Outside what livers show: check weight, dose, residual, clocks and decay correction. Disease of the liver, "
        "paravenous injection and high glucose shift it too."
    )
    return Finding(check, light, title, measured, expected, sentence, details)


def range_findings(pet: Volume) -> list[Finding]:
    """Return what the sign and the largest value say."""
    array = pet.array
    size = float(np.abs(array).sum(dtype=np.float64))
    below = (size - float(array.sum(dtype=np.float64))) / 2.0
    share = max(0.0, below / size) if size > 0 else 0.0
    light = Light.GREEN if share <= NEGATIVE_SHARE[0] else Light.AMBER if share <= NEGATIVE_SHARE[1] else Light.RED
    sentence = {
        Light.GREEN: "No more than noise.",
        Light.AMBER: "More than the noise of an FBP image in air. Was a background subtracted, or the image resampled "
        "by a spline?",
        Light.RED: "SUV is not negative. The image was normalised, subtracted or filtered; give the reconstruction.",
    }[light]
    negative = Finding(
        "negative_values", light, "Negative values", f"{share:.2%} of the summed SUV",
        f"at most {NEGATIVE_SHARE[0]:.0%}", sentence, {"negative_share": round(share, 5)},
    )  # fmt: skip
    top = float(array.max())
    expected = f"SUVmax {MAXIMUM_SUV[0]:g} to {MAXIMUM_SUV[1]:g}"
    if MAXIMUM_SUV[0] <= top <= MAXIMUM_SUV[1]:
        light, sentence = Light.GREEN, "Within what patients show."
    elif top > MAXIMUM_SUV[2]:
        light, sentence = Light.RED, "No organ takes up so much. The unit is wrong, or a reconstruction artefact rules."
    elif top > MAXIMUM_SUV[1]:
        light = Light.AMBER
        sentence = "Only urine, a catheter or an injection site is so hot. Look where it is before using SUVmax."
    else:
        light = Light.AMBER
        sentence = "No voxel is hot. A cold crop, an empty field, or an image that was scaled."
    return [negative, Finding("maximum", light, "Largest value", f"SUVmax {top:.1f}", expected, sentence)]


def weight_of(acquisition: Mapping[str, object]) -> float | None:
    """Return the patient's weight, kg, where the header or the simulation says it."""
    for key in ("patient_weight_kg", "weight_kg"):
        value = acquisition.get(key)
        if isinstance(value, int | float) and 0 < value < 1000:
            return float(value)
    return None


def _liver(pet: Volume, found: Organ | None, organs: Organs | None) -> tuple[float | None, str]:
    """Return the liver's mean SUV and where it is from: the label's interior, else the even plateau of the image."""
    inner = None if organs is None else organs.interior(pet, "liver")
    if inner is not None:
        return inner, "organ label"
    return (None, "") if found is None else (found.value, "found by its even uptake")
