"""From stored PET values to standardised uptake value: a plain record of what a header says, and the factor.

Every rule ends in SUV by body weight, SUV = factor * (slope * stored + intercept), g/mL. Its name says what was done:

| rule | factor |
|---|---|
| BQML/START | W / (D * 2**(-(t_ref - t_inj) / T_half)): the image is corrected to t_ref, so is the dose |
| BQML/ADMIN | W / D: the image is corrected to the injection |
| BQML/NONE | W / D * λT / (1 - exp(-λT)) * 2**((t_acq - t_inj) / T_half), slice by slice |
| GML/BW, GML/LBMJANMA, ... | W / size: SUV was stored, normalised to that size |
| CM2ML/BSA | W / body surface |
| CNTS/(7053,1009)/START, ... | (7053,1009) gives Bq/mL, then as BQML |
| CNTS/(7053,1000) | (7053,1000) gives SUV by body weight |
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np

from uptake.core.errors import MissingAttributeError, UnitError
from uptake.core.types import Image
from uptake.core.units import GRAMS_PER_KG
from uptake.physics.body import NORMALISATIONS, Ratio, normalisation_ratio, normalisation_ratios
from uptake.physics.decay import decay_factor, decay_within_frame
from uptake.physics.injection import require_uptake
from uptake.physics.supplied import Choice
from uptake.physics.supplied import SuppliedValues as SuppliedValues
from uptake.physics.suv_ledger import Ledger
from uptake.physics.suv_record import Check as Check
from uptake.physics.suv_record import SuvRecord as SuvRecord
from uptake.physics.suv_rules import (
    require_corrections,
    require_decay_correction,
    require_frame_times,
    require_image,
    require_units,
)
from uptake.physics.timing import ReferenceTime

PHILIPS_ACTIVITY = "Philips Activity Concentration Scale Factor (7053,1009)"
PHILIPS_SUV = "Philips SUV Scale Factor (7053,1000)"

PHILIPS_REPORTED = 0.01
"""Relative difference of the two Philips factors above which it is reported; three printed digits explain less."""

PHILIPS_CONTRADICTION = 0.10
"""Relative difference above which they contradict one another: a wrong weight, dose or time."""


@dataclass(frozen=True)
class SuvConversion:
    """How rescaled stored values become SUV normalised to body weight.

    Attributes
    ----------
    factor : float
        SUV = factor * (slope * stored + intercept). In g/Bq where the rescaled values are Bq/mL. Where slices differ,
        that of the middle slice.
    rule : str
        Name of the rule, see the top of this module.
    uptake_time_s : float or None
        Injection to the start of the scan, s.
    injected_dose_bq, dose_at_reference_bq : float or None
        At the injection, and at the moment the image is decay corrected to, Bq; None where they do not enter.
    warnings : tuple of str
    slice_factors : tuple of float or None
        One factor per slice, in the order of the record's tuples (the third array axis), where they differ: images
        without decay correction, scale factors that change from slice to slice. None: `factor` holds for all.
    inputs : dict
        Every number that entered, in the units of its name; `physics.suv_audit` recomputes the factor from them.
    reference : ReferenceTime or None
        The decay-correction reference (START), else the start of the scan; with all accounts of it.
    injection : datetime or None
    half_life_s, weight_kg : float or None
        As used, or as they would be.
    checks : tuple of Check
    supplied : dict
        By name of the value: what was supplied, what the header says, which of them was used.
    ratios : dict
        SUV of other normalisations over this SUV, by SUV Type (0054,1006); None where the body is not known.
    """

    factor: float
    rule: str
    uptake_time_s: float | None
    injected_dose_bq: float | None
    dose_at_reference_bq: float | None
    warnings: tuple[str, ...] = ()
    slice_factors: tuple[float, ...] | None = None
    inputs: dict[str, object] = field(default_factory=dict)
    reference: ReferenceTime | None = None
    injection: datetime | None = None
    half_life_s: float | None = None
    weight_kg: float | None = None
    checks: tuple[Check, ...] = ()
    supplied: dict[str, Choice[float] | Choice[str] | Choice[datetime]] = field(default_factory=dict)
    ratios: dict[str, Ratio | None] = field(default_factory=dict)

    def applied_to(self, rescaled: Image) -> Image:
        """Return SUV, float32.

        Parameters
        ----------
        rescaled : array (i, j, k)
            slope * stored + intercept; k counts the slices in the order of the headers.

        Raises
        ------
        UnitError
            If there are factors for another number of slices.
        """
        if self.slice_factors is None:
            return (rescaled * np.float64(self.factor)).astype(np.float32)
        factors = np.asarray(self.slice_factors, dtype=np.float64)
        if rescaled.shape[2] != factors.size:
            raise UnitError(f"{factors.size} SUV factors were found for {rescaled.shape[2]} slices.")
        return (rescaled * factors).astype(np.float32)


def suv_conversion(record: SuvRecord, supplied: SuppliedValues | None = None) -> SuvConversion:
    """Return the factor from rescaled stored values to SUV normalised to body weight.

    1 mL of tissue is taken as 1 g, so SUV is written without unit.

    Parameters
    ----------
    record : SuvRecord
    supplied : SuppliedValues or None
        Values that the caller gives where the header lacks them.

    Raises
    ------
    MissingAttributeError
        If a value that the rule needs is absent; attribute and tag are named.
    UnitError
        If there is no rule, corrections are missing, attributes contradict one another, or a value lies outside its
        physical range.

    References
    ----------
    DICOM PS3.3 C.8.9.1 (PET Series), C.8.9.2 (PET Isotope), C.8.9.4 (PET Image), C.7.2.2 (Patient Study).
    """
    require_image(record.series_type, record.image_type)
    require_units(record.units, record.suv_type)
    ledger = Ledger(record, supplied or SuppliedValues())
    ledger.warnings += require_corrections(record.corrected_image, decay_corrected=record.decay_correction != "NONE")
    if record.units == "BQML":
        rule, factors = _of_activity(ledger)
    elif record.units == "CNTS":
        ledger, rule, factors = _of_counts(ledger)
    else:
        rule, factors = _of_stored_suv(ledger)
    if not all(math.isfinite(factor) and factor > 0 for factor in factors):
        raise UnitError(f"The SUV factor would be {factors[0]:g}: weight, dose or times are out of any range.")
    return SuvConversion(
        factor=factors[len(factors) // 2],
        rule=f"{record.units}/{rule}",
        uptake_time_s=ledger.uptake_time_s,
        injected_dose_bq=ledger.dose_bq,
        dose_at_reference_bq=ledger.dose_at_reference_bq,
        warnings=(*ledger.warnings, *ledger.remarks_on_supplied(f"{record.units}/{rule}")),
        slice_factors=factors if len(set(factors)) > 1 else None,
        inputs={"units": record.units, "decay_correction": record.decay_correction, **ledger.inputs},
        reference=ledger.reference,
        injection=ledger.injection,
        half_life_s=ledger.half_life.value,
        weight_kg=ledger.weight.value,
        checks=tuple(ledger.checks),
        supplied=ledger.choices(),
        ratios=normalisation_ratios(weight_kg=ledger.weight.value, height_m=ledger.height.value, sex=ledger.sex.value),
    )


def _of_activity(ledger: Ledger) -> tuple[str, tuple[float, ...]]:
    """Return SUV over Bq/mL, g/Bq: one factor, or one per slice."""
    record = ledger.record
    require_decay_correction(record.decay_correction)
    weight_g = ledger.number("patient_weight_kg", ledger.weight) * GRAMS_PER_KG
    ledger.dose_bq = ledger.number("injected_dose_bq", ledger.dose)
    if record.decay_correction == "ADMIN":
        ledger.note_times(contradictions_refuse=True)
        ledger.dose_at_reference_bq = ledger.dose_bq
        return "ADMIN", (weight_g / ledger.dose_bq,)
    half_life_s = ledger.number("half_life_s", ledger.half_life)
    if record.decay_correction == "NONE":
        factors = tuple(
            weight_g / ledger.dose_bq * growth for growth in _growth_without_correction(ledger, half_life_s)
        )
        assert ledger.uptake_time_s is not None
        ledger.dose_at_reference_bq = ledger.dose_bq * decay_factor(ledger.uptake_time_s, half_life_s)
        return "NONE", factors
    reference = ledger.find_reference(record.times, half_life_s)
    ledger.warnings += reference.warnings
    injection = ledger.find_injection(reference.moment, half_life_s)
    # A duration, so that the record still yields the factor when dates are taken out of it.
    elapsed_s = ledger.inputs["reference_after_injection_s"] = (reference.moment - injection).total_seconds()
    ledger.dose_at_reference_bq = ledger.dose_bq * decay_factor(elapsed_s, half_life_s)
    return "START", (weight_g / ledger.dose_at_reference_bq,)


def _growth_without_correction(ledger: Ledger, half_life_s: float) -> list[float]:
    """Return, slice by slice, by what an uncorrected mean over a frame has to grow to be that at the injection."""
    times = ledger.record.times
    listed = "DECY" in ledger.record.corrected_image
    require_frame_times(times, decay_corrected=listed)
    if listed:
        ledger.warnings.append(
            "Decay Correction (0054,1102) is NONE but Corrected Image (0028,0051) holds DECY; the former was followed."
        )
    first = min(times.acquisition)
    injection = ledger.find_injection(first, half_life_s)
    require_uptake(injection, max(times.acquisition), half_life_s)
    ledger.reference = ReferenceTime(first, "earliest Acquisition Time (0008,0032); the image is not decay corrected")
    elapsed_s = [(moment - injection).total_seconds() for moment in times.acquisition]
    ledger.inputs["slice_after_injection_s"] = elapsed_s
    ledger.inputs["slice_frame_durations_s"] = list(times.frame_duration_s)
    return [
        decay_within_frame(duration_s, half_life_s) / decay_factor(after_s, half_life_s)
        for after_s, duration_s in zip(elapsed_s, times.frame_duration_s)
    ]


def _of_stored_suv(ledger: Ledger) -> tuple[str, tuple[float, ...]]:
    """Return SUV by body weight over the SUV that was stored."""
    record = ledger.record
    if record.decay_correction == "NONE":
        raise UnitError(
            f"Units (0054,1001) is {record.units} but Decay Correction (0054,1102) is NONE: there is no SUV without "
            "decay correction, they contradict one another. Give the series in Bq/mL."
        )
    if record.decay_correction:
        require_decay_correction(record.decay_correction)
    else:
        ledger.warnings.append("Decay Correction (0054,1102) is absent; stored SUV was taken as corrected.")
    suv_type = record.suv_type or ("BSA" if record.units == "CM2ML" else "BW")
    ledger.inputs["suv_type"] = suv_type
    ledger.checks.append(Check("SUV Type against Units", True, f"{record.suv_type or 'empty'}, {record.units}"))
    factor = 1.0
    if suv_type != "BW":
        weight_kg = ledger.number("patient_weight_kg", ledger.weight)
        height_m = ledger.number("patient_height_m", ledger.height)
        sex = ""
        if suv_type != "BSA":
            sex = ledger.inputs["patient_sex"] = ledger.sex.required()
        ratio = normalisation_ratio(suv_type, weight_kg=weight_kg, height_m=height_m, sex=sex)
        if not ratio.valid:
            ledger.warnings.append(
                f"SUV Type (0054,1006) is {suv_type} ({NORMALISATIONS[suv_type].title}), which falls with weight at a "
                f"body mass index of {weight_kg / height_m**2:.1f} kg/m²; it was undone all the same."
            )
        factor = 1.0 / ratio.value
    ledger.note_times(contradictions_refuse=False)
    return suv_type, (factor,)


def _of_counts(ledger: Ledger) -> tuple[Ledger, str, tuple[float, ...]]:
    """Return the ledger, rule and factors for counts of a Philips scanner."""
    record = ledger.record
    require_decay_correction(record.decay_correction)
    activity, direct = record.philips_activity_factors, record.philips_suv_factors
    if not _usable(activity) and not _usable(direct):
        if activity or direct:
            raise UnitError(
                f"Units (0054,1001) is CNTS, and {PHILIPS_ACTIVITY} and {PHILIPS_SUV} are 0 or no numbers: the scanner "
                "says that these counts cannot be converted. Give the series in Bq/mL."
            )
        raise MissingAttributeError(
            f"Units (0054,1001) is CNTS, but {PHILIPS_ACTIVITY} and {PHILIPS_SUV} are absent; counts cannot be "
            "converted. Keep private attributes when the series is exported."
        )
    why_not = ""
    if _usable(activity):
        # A fresh ledger, for what was noted on a way that led nowhere is not part of the record.
        fresh = Ledger(record, ledger.values)
        fresh.warnings += ledger.warnings
        try:
            rule, per_bq = _of_activity(fresh)
        except MissingAttributeError as error:
            if not _usable(direct) or record.decay_correction == "NONE":
                raise
            why_not = str(error)
        else:
            factors = _products(activity, per_bq)
            fresh.inputs["philips_activity_factors"] = list(_short(activity))
            if _usable(direct) and record.decay_correction != "NONE":
                _compare_philips(fresh, direct, factors)
            return fresh, f"(7053,1009)/{rule}", factors
    if record.decay_correction == "NONE":
        raise UnitError(
            f"Decay Correction (0054,1102) is NONE, with which {PHILIPS_SUV} gives no SUV, and {PHILIPS_ACTIVITY} is "
            "absent or 0. Give a decay-corrected series."
        )
    if why_not:
        ledger.warnings.append(f"{PHILIPS_SUV} was used instead of {PHILIPS_ACTIVITY}: {why_not}")
    ledger.note_times(contradictions_refuse=False)
    ledger.inputs["philips_suv_factors"] = list(_short(direct))
    return ledger, "(7053,1000)", _short(direct)


def _compare_philips(ledger: Ledger, direct: Sequence[float], factors: Sequence[float]) -> None:
    """Compare SUV Scale Factor with the factor found by way of activity."""
    ratios = np.asarray(direct) / np.asarray(factors)
    worst = float(ratios[np.argmax(np.abs(ratios - 1.0))])
    detail = f"(7053,1000) is {worst:.5f} times what (7053,1009), weight, dose and times give"
    ledger.checks.append(Check("Philips scale factors", abs(worst - 1.0) <= PHILIPS_REPORTED, detail))
    if abs(worst - 1.0) > PHILIPS_CONTRADICTION and not any(c.replaced for c in ledger.choices().values()):
        raise UnitError(
            f"{PHILIPS_SUV} and {PHILIPS_ACTIVITY} contradict one another: {detail}. Patient's Weight (0010,1030), "
            "Radionuclide Total Dose (0018,1074) or a time is not the one that the scanner used; supply the right one "
            "to replace it."
        )
    if abs(worst - 1.0) > PHILIPS_REPORTED:
        ledger.warnings.append(f"The Philips scale factors disagree: {detail}; (7053,1009) was used.")


def _usable(factors: Sequence[float]) -> bool:
    return bool(factors) and all(math.isfinite(factor) and factor > 0 for factor in factors)


def _short(factors: Sequence[float]) -> tuple[float, ...]:
    """Return one factor where all are the same."""
    return tuple(factors[:1]) if len(set(factors)) == 1 else tuple(factors)


def _products(one: Sequence[float], other: Sequence[float]) -> tuple[float, ...]:
    one, other = _short(one), _short(other)
    count = max(len(one), len(other))
    if {len(one), len(other)} - {1, count}:
        raise UnitError(f"{len(one)} scale factors (7053,1009) do not fit {len(other)} slices with times.")
    return tuple(a * b for a, b in zip(one * (count // len(one)), other * (count // len(other))))
