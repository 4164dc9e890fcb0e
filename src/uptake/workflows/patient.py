"""What a case, and its user, tell of tracer and body: what PERCIST, the five-point scale and SDmax depend on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from uptake.cases import Case
from uptake.core.errors import UnitError
from uptake.core.units import CM2_PER_M2, GRAMS_PER_KG
from uptake.gate.tracers import tracer_of
from uptake.physics.body import body_surface_m2, sul_factor
from uptake.physics.supplied import SuppliedValues
from uptake.quantification.response import Patient
from uptake.workflows.tracers import require_tracer

FDG = "FDG"


@dataclass(frozen=True)
class PatientFacts:
    """What the user says of a patient. None: not said; a DICOM header's value is used where there is one.

    Attributes
    ----------
    tracer : str or None
        "FDG", "PSMA-11", ...: any spelling that `gate.tracers` knows. Wins over the header.
    weight_kg, height_m : float or None
    sex : str or None
        "M", "F" or "O".
    """

    tracer: str | None = None
    weight_kg: float | None = None
    height_m: float | None = None
    sex: str | None = None

    def __post_init__(self) -> None:
        self.supplied()  # raises for a value out of range
        require_tracer(self.tracer)

    def supplied(self) -> SuppliedValues:
        """Return weight, height and sex as reading a DICOM study takes them."""
        return SuppliedValues(weight_kg=self.weight_kg, height_m=self.height_m, sex=self.sex)

    def as_json(self) -> dict[str, object]:
        """Return what was said, as settings of a run."""
        said = {"tracer": self.tracer, "weight_kg": self.weight_kg, "height_m": self.height_m, "sex": self.sex}
        return {key: value for key, value in said.items() if value is not None}


def patient_of(case: Case, facts: PatientFacts | None = None) -> Patient:
    """Return tracer and body of a case: from its DICOM header, completed by the user's facts.

    Parameters
    ----------
    case : Case
        With its whole acquisition record.
    facts : PatientFacts, optional

    Returns
    -------
    Patient
        Unknown where neither tells. A body mass index outside the formula's range gives no SUL.
    """
    facts = facts or PatientFacts()
    tracer = tracer_of(facts.tracer if facts.tracer is not None else case.acquisition.get("tracer"))
    factor, surface = _from_header(case.acquisition)
    weight, height = facts.weight_kg, facts.height_m
    if weight is not None and height is not None:
        surface = body_surface_m2(weight, height) if surface is None else surface
        if factor is None and facts.sex is not None:
            try:
                factor = sul_factor(weight, height, facts.sex)
            except UnitError:
                factor = None
    return Patient(
        tracer="" if tracer is None else tracer.name,
        is_fdg=None if tracer is None else tracer.name == FDG,
        sul_factor=factor,
        body_surface_m2=surface,
    )


def _from_header(acquisition: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """Return SUL factor and body surface, m², of a DICOM header's record."""
    ratios = acquisition.get("suv_ratios") or {}
    lean, area = ratios.get("LBMJANMA"), ratios.get("BSA")
    weight = acquisition.get("patient_weight_kg")
    factor = float(lean["ratio"]) if lean and lean["valid"] else None
    # The record holds SUV by surface over SUV by weight, cm²/g.
    surface = float(area["ratio"]) * float(weight) * GRAMS_PER_KG / CM2_PER_M2 if area and weight else None
    return factor, surface
