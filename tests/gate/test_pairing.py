from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from uptake.gate.misalignment import Misalignment
from uptake.gate.overview import ct_overview, pet_overview
from uptake.gate.pairing import frame_finding, misalignment_finding, overlap_finding
from uptake.geometry.volume import Volume


def test_frames_of_reference_are_equal_different_or_not_known(patient):
    pet, ct = (replace(volume, frame_of_reference="1.2.3") for volume in (patient.pet, patient.ct))
    assert str(frame_finding(pet, ct).light) == "green"
    assert str(frame_finding(pet, replace(ct, frame_of_reference="1.2.4")).light) == "red"
    assert str(frame_finding(patient.pet, ct).light) == "grey"


def test_a_ct_of_the_same_field_covers_the_patient(patient):
    finding = overlap_finding(pet_overview(patient.pet), ct_overview(patient.ct))
    assert str(finding.light) == "green"
    assert finding.details["covered_share"] == pytest.approx(1.0) and finding.details["tissue_in_air_ml"] < 50


@pytest.mark.parametrize(("part", "light"), [((0.06, 1.0), "amber"), ((0.4, 1.0), "red")])
def test_a_shorter_ct_leaves_patient_uncovered(patient, cut, part, light):
    finding = overlap_finding(pet_overview(patient.pet), ct_overview(cut(patient, z=part).ct))
    assert str(finding.light) == light and finding.details["covered_share"] < 0.98


def test_tissue_where_the_ct_shows_air_is_counted_in_ml(patient):
    i, j = np.ogrid[: patient.ct.shape[0], : patient.ct.shape[1]]
    distance = np.hypot(i - (patient.ct.shape[0] - 1) / 2, j - (patient.ct.shape[1] - 1) / 2) * 6.0
    circle = patient.ct.with_array(np.where((distance < 140.0)[:, :, None], patient.ct.array, np.float32(-1024)))
    finding = overlap_finding(pet_overview(patient.pet), ct_overview(circle))
    assert str(finding.light) in ("amber", "red") and finding.details["tissue_in_air_ml"] > 300


def test_no_patient_has_no_overlap(patient):
    empty = Volume(np.zeros((20, 20, 20), np.float32), np.diag([6.0, 6.0, 6.0, 1.0]))
    assert str(overlap_finding(pet_overview(empty), ct_overview(patient.ct)).light) == "grey"


def shifted(x=0.0, y=0.0, z=0.0, largest=0.0, angle=0.0, **sections):
    return Misalignment((x, y, z), angle, max(largest, abs(z)), (0.0, 0.0, 0.0), sections)


@pytest.mark.parametrize(
    ("measured", "light"),
    [
        (shifted(2, -3, 4), "green"), (shifted(z=9), "amber"), (shifted(z=-16), "red"), (shifted(4, 4, 4.5), "amber"),
        (shifted(largest=13), "amber"), (shifted(largest=26), "red"), (shifted(upper=(0.0, 11.0, 0.0)), "amber"),
        (shifted(upper=(0.0, 0.0, 21.0)), "red"), (None, "grey"),
    ],
)  # fmt: skip
def test_shifts_are_judged(measured, light):
    assert str(misalignment_finding(measured).light) == light


def test_the_shift_is_told_by_direction_and_blind_axes_are_named():
    finding = misalignment_finding(Misalignment((1.0, None, -8.0), None, 8.1, (0.0, 0.0, 0.0), {}))
    assert finding.measured == "8.1 mm (CT lies 8.0 feet, 1.0 right); not measurable along y"
    assert finding.details["shift_front_mm"] is None and finding.details["shift_head_mm"] == -8.0
    assert "Nothing was moved" in finding.sentence
    nothing = Misalignment((None, None, None), None, 0.0, (0.0, 0.0, 0.0), {})
    assert str(misalignment_finding(nothing).light) == "grey"
