from __future__ import annotations

import numpy as np
import pytest

from uptake.gate.coverage import arm_position, coverage_finding, truncation_finding
from uptake.gate.overview import ct_overview, pet_overview
from uptake.geometry.volume import Volume
from uptake.simulation import PatientConfig, simulate_patient


def test_a_scan_from_head_to_thigh_is_green_and_says_where_the_arms_are(patient):
    finding = coverage_finding(pet_overview(patient.pet), source="PET")
    assert str(finding.light) == "green"
    assert "from the head to the legs" in finding.measured and "arms up" in finding.measured
    assert finding.details["length_mm"] == pytest.approx(1090, abs=40)


def test_arms_beside_the_trunk_are_down():
    config = PatientConfig(sex="female", bmi=24.0, arms="down")
    case = simulate_patient(521, spacing_mm=(6.0, 6.0, 6.0), n_lesions=0, config=config).case
    assert arm_position(pet_overview(case.pet)) == "down"


@pytest.mark.parametrize("part", [(0.3, 0.8), (0.0, 0.3)])
def test_a_part_of_the_body_is_amber_because_totals_are_no_totals(patient, cut, part):
    finding = coverage_finding(pet_overview(cut(patient, z=part).pet), source="PET")
    assert str(finding.light) == "amber" and "of this part only" in finding.sentence


def test_a_crop_is_named_with_its_size(patient, cut):
    view = pet_overview(cut(patient, x=(0.4, 0.65), y=(0.3, 0.8), z=(0.4, 0.6)).pet)
    finding = coverage_finding(view, source="PET")
    assert str(finding.light) == "amber" and finding.measured.startswith("a crop of ")
    assert str(truncation_finding(view, None).light) == "grey"


def narrow(ct: Volume, radius_mm: float) -> Volume:
    """Return the CT with air outside a circle, as a scanner's field of view leaves it."""
    i, j = np.ogrid[: ct.shape[0], : ct.shape[1]]
    distance = np.hypot((i - (ct.shape[0] - 1) / 2) * ct.spacing_mm[0], (j - (ct.shape[1] - 1) / 2) * ct.spacing_mm[1])
    return ct.with_array(np.where((distance < radius_mm)[:, :, None], ct.array, np.float32(-1024)))


def test_a_patient_inside_the_field_is_green_and_one_that_is_cut_is_not(patient, cut):
    pet, ct = pet_overview(patient.pet), ct_overview(patient.ct)
    assert str(truncation_finding(pet, ct).light) == "green"
    sliced = cut(patient, x=(0.2, 0.8))
    finding = truncation_finding(pet_overview(sliced.pet), ct_overview(sliced.ct))
    assert str(finding.light) == "amber" and finding.details["pet_share"] > 0.03
    finding = truncation_finding(pet, ct_overview(sliced.ct))
    assert str(finding.light) == "red" and finding.details["pet_share"] == 0.0
    assert "extended CT field of view" in finding.sentence


def test_arms_are_not_told_where_there_is_no_trunk():
    assert arm_position(pet_overview(Volume(np.zeros((20, 20, 20)), np.diag([6.0, 6.0, 6.0, 1.0])))) is None
