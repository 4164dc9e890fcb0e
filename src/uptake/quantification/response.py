"""Lesions against healthy tissue of the same scan: measurability after PERCIST 1.0, and the five-point scale.

Both are defined for FDG alone. They compare; they do not judge a treatment, which takes two scans and a reader.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from uptake.quantification.lesions import Lesion
from uptake.quantification.reference_regions import NoReference, ReferenceRegion

LIVER_FACTOR, BLOOD_FACTOR = 1.5, 2.0
"""PERCIST: what the mean of liver or blood pool is multiplied by."""

DEVIATIONS = 2.0
"""PERCIST: standard deviations of the reference added to it."""

MARKEDLY = 2.0
"""Times the liver's SUVmax above which uptake is "markedly" increased, score 5. The literature says two to three times;
the lower end misses fewer."""

Reference = ReferenceRegion | NoReference


@dataclass(frozen=True)
class Patient:
    """What of the examination the criteria depend on.

    Attributes
    ----------
    tracer : str
        Its name; empty where unknown.
    is_fdg : bool or None
        None where the tracer is unknown.
    sul_factor : float or None
        SUL over SUV by body weight, `physics.body.sul_factor`; None where weight, height or sex is unknown.
    body_surface_m2 : float or None
        None where weight or height is unknown.
    """

    tracer: str = ""
    is_fdg: bool | None = None
    sul_factor: float | None = None
    body_surface_m2: float | None = None


@dataclass(frozen=True)
class NotAssessed:
    """Why a criterion was not applied, as a sentence."""

    reason: str


@dataclass(frozen=True)
class Percist:
    """PERCIST 1.0 on one scan.

    Attributes
    ----------
    reference : str
        "liver" or "blood_pool".
    unit : str
        "SUL" (lean body mass, Janmahasatian) or, where the body is not known, "SUV" (body weight): of `threshold` and
        `peaks`. Which lesions are measurable does not depend on it.
    threshold : float
        Smallest peak of a measurable lesion, g/mL.
    formula : str
        The threshold with its numbers.
    peaks : tuple of float
        SULpeak (or SUVpeak) of every lesion, in their order, g/mL.
    measurable : tuple of bool
        Of every lesion: peak >= threshold.
    hottest : int or None
        Number of the measurable lesion with the highest peak, which PERCIST follows; None if there is none.
    notes : tuple of str
    """

    reference: str
    unit: str
    threshold: float
    formula: str
    peaks: tuple[float, ...]
    measurable: tuple[bool, ...]
    hottest: int | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Deauville:
    """A score after the rules of the five-point scale, from SUVmax.

    Attributes
    ----------
    liver_suv_max, blood_suv_max : float
        SUVmax of the reference regions, g/mL; NaN where there is none.
    liver_ratios, blood_ratios : tuple of float
        SUVmax of every lesion over them; NaN without a reference.
    scores : tuple of (int or None)
        2 to 5 for every lesion; None where the reference that decides is missing.
    score : int or None
        Of the scan: the highest; 1 without a lesion; None if a lesion without a score might be higher.
    notes : tuple of str
    """

    liver_suv_max: float
    blood_suv_max: float
    liver_ratios: tuple[float, ...]
    blood_ratios: tuple[float, ...]
    scores: tuple[int | None, ...]
    score: int | None
    notes: tuple[str, ...] = ()


def percist(
    lesions: Sequence[Lesion], liver: Reference, blood_pool: Reference, *, patient: Patient
) -> Percist | NotAssessed:
    """Return the PERCIST threshold and which lesions are measurable.

    Parameters
    ----------
    lesions : sequence of Lesion
        With SUVpeak by body weight.
    liver, blood_pool : ReferenceRegion or NoReference
        The liver decides; the blood pool takes its place where the liver has no healthy region.
    patient : Patient

    Returns
    -------
    Percist or NotAssessed
        The latter for other tracers than FDG, an unknown one, or without any reference.

    Notes
    -----
    Measurable: SULpeak >= 1.5 x SULmean + 2 SD of the liver, or 2.0 x SULmean + 2 SD of the blood pool. SUL is SUV
    times one factor per patient, so SUV gives the same verdicts.

    References
    ----------
    Wahl et al. 2009, J Nucl Med 50:122S, table 5; O et al. 2016, Radiology 280:576.
    """
    unfit = _unfit(patient, "PERCIST")
    if unfit is not None:
        return unfit
    if isinstance(liver, ReferenceRegion):
        reference, factor = liver, LIVER_FACTOR
    elif isinstance(blood_pool, ReferenceRegion):
        reference, factor = blood_pool, BLOOD_FACTOR
    else:
        return NotAssessed(f"PERCIST: no reference. Liver: {liver.reason}. Blood pool: {blood_pool.reason}.")
    scale = 1.0 if patient.sul_factor is None else patient.sul_factor
    unit = "SUV" if patient.sul_factor is None else "SUL"
    mean, deviation = reference.suv_mean * scale, reference.suv_sd * scale
    threshold = factor * mean + DEVIATIONS * deviation
    peaks = tuple(lesion.suv_peak * scale for lesion in lesions)
    measurable = tuple(peak >= threshold for peak in peaks)
    chosen = [(peak, -lesion.lesion) for peak, lesion, fit in zip(peaks, lesions, measurable, strict=True) if fit]
    notes = []
    if unit == "SUV":
        notes.append("PERCIST: weight, height or sex is not known; SUV by body weight stands in for SUL, which changes "
                     "the numbers and no verdict.")  # fmt: skip
    if isinstance(liver, NoReference):
        notes.append(f"PERCIST: the blood pool is the reference, because no liver sphere could be placed: "
                     f"{liver.reason}.")  # fmt: skip
    return Percist(
        reference=reference.name,
        unit=unit,
        threshold=threshold,
        formula=f"{factor:g} × {mean:.2f} + {DEVIATIONS:g} × {deviation:.2f}",
        peaks=peaks,
        measurable=measurable,
        hottest=-max(chosen)[1] if chosen else None,
        notes=tuple(notes),
    )


def deauville(
    lesions: Sequence[Lesion], liver: Reference, blood_pool: Reference, *, patient: Patient
) -> Deauville | NotAssessed:
    """Return each lesion's score on the five-point scale, taken from SUVmax ratios.

    Parameters, and when nothing is assessed, as `percist`.

    Notes
    -----
    2: SUVmax up to that of the mediastinal blood pool. 3: above it, up to that of the liver. 4: above the liver. 5:
    above `MARKEDLY` times the liver. 1, no uptake, is that of a scan without lesions: an outlined lesion has uptake.
    Where the blood pool is not below the liver, less than the liver is 2 and as much as the liver is 3.

    The scale is a visual one for residual lymphoma after treatment, and new lesions count as 5 there; this is its
    arithmetic and no reading. SUVmax of a reference grows with noise and with the size of the region.

    References
    ----------
    Barrington et al. 2014, J Clin Oncol 32:3048; Cheson et al. 2014, J Clin Oncol 32:3059; blood pool not below the
    liver: Barrington et al. 2010, Eur J Nucl Med Mol Imaging 37:1824.
    """
    unfit = _unfit(patient, "Five-point score")
    if unfit is not None:
        return unfit
    notes = []
    if isinstance(liver, NoReference) and isinstance(blood_pool, NoReference):
        return NotAssessed(f"Five-point score: no reference. Liver: {liver.reason}. Blood pool: {blood_pool.reason}.")
    liver_max = liver.suv_max if isinstance(liver, ReferenceRegion) else math.nan
    blood_max = blood_pool.suv_max if isinstance(blood_pool, ReferenceRegion) else math.nan
    for name, reference in (("liver", liver), ("blood-pool", blood_pool)):
        if isinstance(reference, NoReference):
            notes.append(f"Five-point score: no {name} reference: {reference.reason}. Lesions that need it have none.")
    scores = tuple(five_point_score(lesion.suv_max, liver_max, blood_max) for lesion in lesions)
    known = [score for score in scores if score is not None]
    highest = max(known, default=1)
    # Without the blood pool an open lesion is a 2 or 3; without the liver it may be anything.
    open_up_to = 0 if len(known) == len(scores) else 5 if isinstance(liver, NoReference) else 3
    return Deauville(
        liver_suv_max=liver_max,
        blood_suv_max=blood_max,
        liver_ratios=tuple(_ratio(lesion.suv_max, liver_max) for lesion in lesions),
        blood_ratios=tuple(_ratio(lesion.suv_max, blood_max) for lesion in lesions),
        scores=scores,
        score=highest if highest >= open_up_to else None,
        notes=tuple(notes),
    )


def five_point_score(suv_max: float, liver_suv_max: float, blood_suv_max: float) -> int | None:
    """Return 2 to 5 for a lesion's SUVmax; None where a reference that decides is NaN. See `deauville`."""
    if math.isnan(liver_suv_max):
        return 2 if suv_max <= blood_suv_max else None
    if suv_max > MARKEDLY * liver_suv_max:
        return 5
    if suv_max > liver_suv_max:
        return 4
    if math.isnan(blood_suv_max):
        return None
    if blood_suv_max >= liver_suv_max:
        return 2 if suv_max < liver_suv_max else 3
    return 2 if suv_max <= blood_suv_max else 3


def _ratio(value: float, reference: float) -> float:
    return value / reference if reference > 0 else math.nan


def _unfit(patient: Patient, criterion: str) -> NotAssessed | None:
    if patient.is_fdg is None:
        return NotAssessed(f"{criterion}: defined for FDG, and the tracer is not known. Name it with --tracer FDG.")
    if not patient.is_fdg:
        return NotAssessed(f"{criterion}: defined for FDG; the tracer is {patient.tracer}.")
    return None
