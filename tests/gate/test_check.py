from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from uptake.cases import Case
from uptake.gate import Light, Organs, check
from uptake.geometry.volume import Volume
from uptake.simulation import ORGAN_NAMES

CT_RULES = {"frame_of_reference", "overlap", "misalignment", "ct_scale"}


@pytest.fixture(scope="module")
def report(patient):
    return check(patient)


def test_a_sound_patient_is_green_but_for_what_cannot_be_known(report):
    assert report.light is Light.GREEN
    assert {finding.check for finding in report.of(Light.GREY)} == {"uptake_time", "frame_of_reference"}
    assert report.line().startswith("input gate GREEN (")


def test_every_finding_speaks(report):
    names = [finding.check for finding in report.findings]
    assert len(names) == len(set(names)) == 18 and set(names) >= CT_RULES
    for finding in report.findings:
        assert finding.title and finding.sentence.endswith(".")
        assert finding.measured or finding.light is Light.GREY
        json.dumps(finding.as_json(), allow_nan=False)


def test_the_same_case_gives_the_same_report_and_is_left_alone(patient, report):
    before = (patient.pet.array.copy(), patient.ct.array.copy())
    assert json.dumps(check(patient).as_json()) == json.dumps(report.as_json())
    assert np.array_equal(before[0], patient.pet.array) and np.array_equal(before[1], patient.ct.array)


def test_without_a_ct_its_rules_are_left_out(patient):
    found = check(replace(patient, ct=None))
    assert {finding.check for finding in found.findings}.isdisjoint(CT_RULES)
    assert found.light is Light.GREEN


def test_faults_are_named_and_the_worst_decides(patient, flip):
    faulty = replace(
        patient,
        pet=patient.pet.with_array(patient.pet.array * np.float32(0.5)),
        ct=Volume(patient.ct.array, patient.ct.affine + np.outer([0, 0, 1, 0], [0, 0, 0, 10.0])),
        acquisition={"tracer": "FDG", "uptake_time_min": 30.0},
        lesions=None, organs=None,
    )  # fmt: skip
    found = check(faulty)
    assert found.light is Light.RED
    assert {finding.check for finding in found.of(Light.RED)} == {"uptake_time"}
    assert {"mass_balance", "liver", "misalignment"} <= {finding.check for finding in found.of(Light.AMBER)}
    assert "red: uptake time" in found.line()


def test_organ_labels_join_in(patient):
    found = check(patient, organs=Organs(patient.organs, ORGAN_NAMES))
    assert "organ labels" in found.finding("left_right").measured
    assert found.finding("liver").details["source"] == "organ label"


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 2, 5), (24, 20, 28)])
def test_tiny_and_empty_images_are_judged_without_a_crash(shape):
    rng = np.random.default_rng(0)
    pet = Volume(rng.random(shape).astype(np.float32), np.diag([4.0, 4.0, 4.0, 1.0]))
    for case in (Case("a", pet), Case("a", pet, pet), Case("a", pet.with_array(pet.array * 0), pet)):
        found = check(case)
        json.dumps(found.as_json(), allow_nan=False)
        assert found.finding("head_foot").light is Light.GREY
