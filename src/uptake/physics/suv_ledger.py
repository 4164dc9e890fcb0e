"""The ledger of one conversion to SUV: what was read, supplied, used and noticed on the way to the factor."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from uptake.core.errors import InputError, MissingAttributeError, UnitError
from uptake.physics.injection import injection_time, require_uptake
from uptake.physics.patient import Given, dose_of, half_life_of, height_of, sex_of, weight_of
from uptake.physics.supplied import Choice, SuppliedValues, choose
from uptake.physics.suv_record import Check, SuvRecord
from uptake.physics.timing import AcquisitionTimes, ReferenceTime, reference_time

REFERENCE = "The decay-correction reference"
INJECTION = "Radiopharmaceutical Start DateTime (0018,1078)"

ENTERS_AS = {
    "weight_kg": {"patient_weight_kg"},
    "height_m": {"patient_height_m"},
    "sex": {"patient_sex"},
    "dose_bq": {"injected_dose_bq"},
    "half_life_s": {"half_life_s"},
    "injection": {"reference_after_injection_s", "slice_after_injection_s"},
    "reference": {"reference_after_injection_s"},
}
"""By name of a supplied value: the inputs of the factor that come from it."""


class Ledger:
    """What was read, used and noticed on the way to one factor."""

    def __init__(self, record: SuvRecord, supplied: SuppliedValues) -> None:
        self.record = record
        self.values = supplied
        self.weight = weight_of(record.patient_weight_kg, supplied)
        self.height = height_of(record.patient_height_m, supplied)
        self.sex = sex_of(record.patient_sex or None, supplied)
        self.dose = dose_of(record.injected_dose_bq, supplied)
        self.half_life = half_life_of(record.half_life_s, record.nuclides, supplied)
        self.moments: dict[str, Choice[datetime]] = {}
        self.warnings: list[str] = []
        self.inputs: dict[str, object] = {}
        self.checks: list[Check] = []
        self.reference: ReferenceTime | None = None
        self.injection: datetime | None = None
        self.dose_bq: float | None = None
        self.dose_at_reference_bq: float | None = None

    @property
    def uptake_time_s(self) -> float | None:
        if self.reference is None or self.injection is None:
            return None
        return (self.reference.moment - self.injection).total_seconds()

    def number(self, name: str, given: Given[float]) -> float:
        """Return a value that the rule needs, and note it."""
        value = given.required()
        self.inputs[name] = value
        self.inputs[f"{name}_from"] = given.origin
        self.warnings += given.notes
        return value

    def find_reference(self, times: AcquisitionTimes, half_life_s: float) -> ReferenceTime:
        """Return the reference of the header, or the supplied one."""
        found: ReferenceTime | None = None
        try:
            found = reference_time(times, half_life_s)
        except MissingAttributeError:
            if self.values.reference is None:
                raise
        choice = choose(
            REFERENCE,
            found.moment if found else None,
            self.values.reference,
            replace_header=self.values.replace_header,
        )
        self.moments["reference"] = choice
        assert choice.value is not None
        if found is None or choice.replaced:
            found = ReferenceTime(choice.value, "supplied", (), found.accounts if found else ())
        self.reference = found
        return found

    def find_injection(self, reference: datetime, half_life_s: float) -> datetime:
        """Return the injection of the header, or the supplied one."""
        record, found = self.record, None
        try:
            found, notes = injection_time(
                reference=reference,
                half_life_s=half_life_s,
                date_and_time=record.injection_date_and_time,
                time_only=record.injection_time_only,
                zone_unknown=record.injection_zone_unknown,
            )
        except InputError as error:
            unusable = isinstance(error, MissingAttributeError) or self.values.replace_header
            if self.values.injection is None or not unusable:
                raise
            notes = ()
        choice = choose(
            INJECTION,
            found,
            self.values.injection,
            replace_header=self.values.replace_header,
        )
        self.moments["injection"] = choice
        assert choice.value is not None
        if not choice.replaced:
            self.warnings += notes
        require_uptake(choice.value, reference, half_life_s)
        self.injection = choice.value
        return choice.value

    def note_times(self, *, contradictions_refuse: bool) -> None:
        """Find start of the scan and injection for a rule that does not need them."""
        try:
            half_life_s = self.half_life.required()
            # Decay Correction DateTime is the injection here, not the start of the scan.
            start = self.find_reference(replace(self.record.times, decay_correction=None), half_life_s)
            self.find_injection(start.moment, half_life_s)
        except MissingAttributeError:
            pass
        except UnitError as error:
            if contradictions_refuse:
                raise
            self.warnings.append(f"Times contradict one another, which does not enter stored SUV: {error}")

    def choices(self) -> dict[str, Choice[float] | Choice[str] | Choice[datetime]]:
        """Return what the caller supplied, by name."""
        every: dict[str, Choice[float] | Choice[str] | Choice[datetime]] = {
            "weight_kg": self.weight.choice,
            "height_m": self.height.choice,
            "sex": self.sex.choice,
            "dose_bq": self.dose.choice,
            "half_life_s": self.half_life.choice,
            **self.moments,
        }
        return {name: choice for name, choice in every.items() if choice.supplied is not None}

    def remarks_on_supplied(self, rule: str) -> list[str]:
        """Return warnings on supplied values that contradict the header or were of no use."""
        remarks = []
        for name, choice in self.choices().items():
            if choice.warning:
                remarks.append(choice.warning)
            elif choice.replaced and not self.inputs.keys() & ENTERS_AS[name]:
                remarks.append(f"{name} was supplied, but does not enter the SUV rule {rule}.")
        return remarks
