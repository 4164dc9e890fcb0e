"""`check`: every rule of the gate on one case."""

from __future__ import annotations

from uptake.cases import Case
from uptake.gate.coverage import coverage_finding, truncation_finding
from uptake.gate.findings import Finding, GateReport
from uptake.gate.grids import slice_finding, step_finding, voxel_finding
from uptake.gate.hounsfield import scale_finding
from uptake.gate.landmarks import is_crop, liver_in_pet
from uptake.gate.misalignment import measure_misalignment
from uptake.gate.organs import Organs
from uptake.gate.orientation import clues_of_images, clues_of_organs, orientation_findings
from uptake.gate.overview import ct_overview, pet_overview
from uptake.gate.pairing import frame_finding, misalignment_finding, overlap_finding, patient_litres
from uptake.gate.tracers import tracer_of
from uptake.gate.uptake_time import uptake_time_finding
from uptake.gate.uptake_values import liver_finding, mass_finding, range_findings, unit_finding, weight_of


def check(case: Case, *, organs: Organs | None = None) -> GateReport:
    """Return what is wrong with a case, what is right, and what cannot be known.

    Parameters
    ----------
    case : Case
        As read; nothing in it is changed. Without a CT the rules about it are left out.
    organs : Organs, optional
        Organ labels with their names, from a CT segmentation or a reference. They make the rules about orientation and
        liver uptake surer.

    Returns
    -------
    GateReport
        Findings in the order in which a reader needs them: units first.

    Notes
    -----
    The same case gives the same report, byte for byte. A whole-body PET/CT takes about two seconds on one core, most of
    it for the registration behind ``misalignment``. Rules and thresholds stand on the page *Input gate*.

    Examples
    --------
    >>> report = check(uptake.read("study/"))
    >>> report.light, report.finding("misalignment").measured
    """
    tracer = tracer_of(case.acquisition.get("tracer"))
    pet = pet_overview(case.pet)
    ct = None if case.ct is None else ct_overview(case.ct)
    liver = None if is_crop(pet) else liver_in_pet(pet)
    clues = clues_of_images(pet, ct, liver) + ([] if organs is None else clues_of_organs(organs.centres_mm()))
    findings: list[Finding] = [
        unit_finding(case.pet),
        mass_finding(case.pet, patient_litres(pet, ct), weight_of(case.acquisition)),
        liver_finding(case.pet, liver, organs, tracer),
        *range_findings(case.pet),
        uptake_time_finding(case.acquisition, tracer),
        *orientation_findings(clues),
        coverage_finding(pet, source="PET"),
        truncation_finding(pet, ct),
    ]
    if case.ct is not None and ct is not None:
        findings += [
            frame_finding(case.pet, case.ct),
            overlap_finding(pet, ct),
            misalignment_finding(measure_misalignment(case.pet, case.ct)),
            scale_finding(case.ct),
        ]
    findings += [voxel_finding(case.pet), slice_finding(case.pet), step_finding(case.pet)]
    return GateReport(tuple(findings))
