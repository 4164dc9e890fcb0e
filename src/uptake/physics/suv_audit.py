"""The record of a conversion to SUV, as plain values for JSON, and the factor computed again from that record alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from uptake.core.errors import InputError, MissingAttributeError
from uptake.core.units import GRAMS_PER_KG, SECONDS_PER_MINUTE
from uptake.physics.body import NORMALISATIONS, normalisation_ratio
from uptake.physics.supplied import Choice
from uptake.physics.suv import SuvConversion

CLAUSES = {
    "BQML": "DICOM PS3.3 C.8.9.1.1.3 Units, C.8.9.2 PET Isotope, C.7.2.2 Patient Study",
    "GML": "DICOM PS3.3 C.8.9.1, SUV Type (0054,1006)",
    "CM2ML": "DICOM PS3.3 C.8.9.1, SUV Type (0054,1006)",
    "CNTS": "Philips DICOM conformance statements: (7053,1000), (7053,1009)",
    "START": "DICOM PS3.3 C.8.9.1.1.4 Decay Correction, C.8.9.4.1.5 Frame Reference Time",
    "ADMIN": "DICOM PS3.3 C.8.9.1.1.4 Decay Correction",
    "NONE": "DICOM PS3.3 C.8.9.1.1.4 Decay Correction, C.8.9.4.1.6 Actual Frame Duration",
}
"""Where each part of a rule's name is written."""


def described(conversion: SuvConversion) -> dict[str, Any]:
    """Return the record of a conversion: rule, factor, every input, accounts of the reference, checks, warnings.

    Parameters
    ----------
    conversion : SuvConversion

    Returns
    -------
    dict
        Strings, numbers, lists and dicts only. `recompute_factor` needs "suv_rule" and "suv_inputs".
    """
    reference = conversion.reference
    uptake_s = conversion.uptake_time_s
    return {
        "suv_factor": conversion.factor,
        "suv_slice_factors": None if conversion.slice_factors is None else list(conversion.slice_factors),
        "suv_rule": conversion.rule,
        "suv_clauses": [CLAUSES[part] for part in conversion.rule.split("/") if part in CLAUSES],
        "suv_inputs": dict(conversion.inputs),
        "reference_time": reference.moment.isoformat() if reference else None,
        "reference_time_source": reference.source if reference else "",
        "reference_time_accounts": [
            {
                "source": account.source,
                "moment": account.moment.isoformat() if account.moment else None,
                "standing": account.standing,
                "remark": account.remark,
            }
            for account in (reference.accounts if reference else ())
        ],
        "injection_time": conversion.injection.isoformat() if conversion.injection else None,
        "uptake_time_min": None if uptake_s is None else uptake_s / SECONDS_PER_MINUTE,
        "injected_dose_bq": conversion.injected_dose_bq,
        "dose_at_reference_bq": conversion.dose_at_reference_bq,
        "half_life_s": conversion.half_life_s,
        "patient_weight_kg": conversion.weight_kg,
        "suv_checks": [
            {"check": check.name, "agrees": check.agrees, "detail": check.detail} for check in conversion.checks
        ],
        "suv_supplied": {name: _supplied(choice) for name, choice in conversion.supplied.items()},
        "suv_ratios": {
            suv_type: None
            if ratio is None
            else {"ratio": ratio.value, "valid": ratio.valid, "unit": NORMALISATIONS[suv_type].unit}
            for suv_type, ratio in conversion.ratios.items()
        },
        "suv_warnings": list(conversion.warnings),
    }


def recompute_factor(acquisition: Mapping[str, Any]) -> tuple[float, ...]:
    """Return the SUV factor from the record alone, written down a second time and from first principles.

    Parameters
    ----------
    acquisition : mapping
        As `described` gives it, also after a round trip through JSON, or without its dates.

    Returns
    -------
    tuple of float
        One factor, or one per slice where they differ.

    Raises
    ------
    MissingAttributeError
        If the record lacks an input of its rule.
    InputError
        If there is no such rule.

    References
    ----------
    The formulas stand at the top of `physics.suv`.
    """
    rule = str(acquisition.get("suv_rule", ""))
    inputs = _Inputs(acquisition.get("suv_inputs") or {}, rule)
    units, *rest = rule.split("/")
    if rule == "CNTS/(7053,1000)":
        return tuple(inputs.numbers("philips_suv_factors"))
    if units == "BQML" and len(rest) == 1:
        return _of_activity(rest[0], inputs)
    if units == "CNTS" and len(rest) == 2:
        scales, factors = inputs.numbers("philips_activity_factors"), _of_activity(rest[1], inputs)
        count = max(len(scales), len(factors))
        return tuple(scales[k % len(scales)] * factors[k % len(factors)] for k in range(count))
    if units in ("GML", "CM2ML") and len(rest) == 1:
        if rest[0] == "BW":
            return (1.0,)
        ratio = normalisation_ratio(
            rest[0],
            weight_kg=inputs.number("patient_weight_kg"),
            height_m=inputs.number("patient_height_m"),
            sex=str(inputs.values.get("patient_sex", "")),
        )
        return (1.0 / ratio.value,)
    raise InputError(f"the record names the SUV rule {rule!r}, which this version does not know.")


class _Inputs:
    """Access to recorded inputs that names what is missing."""

    def __init__(self, values: Mapping[str, Any], rule: str) -> None:
        self.values = values
        self.rule = rule

    def need(self, name: str) -> Any:
        if self.values.get(name) is None:
            raise MissingAttributeError(f"the record lacks {name}, which the SUV rule {self.rule} needs.")
        return self.values[name]

    def number(self, name: str) -> float:
        return float(self.need(name))

    def numbers(self, name: str) -> list[float]:
        return [float(value) for value in self.need(name)]


def _of_activity(correction: str, inputs: _Inputs) -> tuple[float, ...]:
    per_bq = inputs.number("patient_weight_kg") * GRAMS_PER_KG / inputs.number("injected_dose_bq")
    if correction == "ADMIN":
        return (per_bq,)
    constant = math.log(2.0) / inputs.number("half_life_s")
    if correction == "START":
        return (per_bq * math.exp(constant * inputs.number("reference_after_injection_s")),)
    if correction == "NONE":
        after_s, durations_s = inputs.numbers("slice_after_injection_s"), inputs.numbers("slice_frame_durations_s")
        factors = []
        for elapsed_s, duration_s in zip(after_s, durations_s, strict=True):
            exponent = constant * duration_s
            factors.append(per_bq * exponent / -math.expm1(-exponent) * math.exp(constant * elapsed_s))
        return tuple(factors) if len(set(factors)) > 1 else (factors[0],)
    raise InputError(f"the record names the decay correction {correction!r}, which this version does not know.")


def _supplied(choice: Choice[float] | Choice[str] | Choice[datetime]) -> dict[str, object]:
    return {
        "supplied": _plain(choice.supplied),
        "header": _plain(choice.header),
        "used": "supplied" if choice.replaced else "header",
    }


def _plain(value: float | str | datetime | None) -> float | str | None:
    return value.isoformat() if isinstance(value, datetime) else value
