from __future__ import annotations

import numpy as np
import pytest

from uptake.gate import Light, Organs
from uptake.gate.landmarks import Organ, liver_in_pet
from uptake.gate.overview import ct_overview, pet_overview
from uptake.gate.pairing import patient_litres
from uptake.gate.tracers import tracer_of
from uptake.gate.uptake_values import liver_finding, mass_finding, range_findings, unit_finding, weight_of
from uptake.geometry.volume import Volume
from uptake.simulation import ORGAN_NAMES


@pytest.fixture(scope="module")
def view(patient):
    return pet_overview(patient.pet)


def scaled(volume: Volume, factor: float) -> Volume:
    return volume.with_array(volume.array * np.float32(factor))


def test_bqml_taken_as_suv_is_red(patient):
    assert unit_finding(patient.pet).light is Light.GREEN
    finding = unit_finding(scaled(patient.pet, 4000))
    assert finding.light is Light.RED and "Bq/mL" in finding.measured and "--assume-suv" in finding.sentence


def test_a_uniform_body_holds_its_own_mass_and_mean_one():
    pet = np.zeros((80, 60, 120), np.float32)
    pet[20:60, 15:45, 10:110] = 1.0  # 40 x 30 x 100 voxels of 0.216 mL: 25.92 L
    volume = Volume(pet, np.diag([6.0, 6.0, 6.0, 1.0]))
    finding = mass_finding(volume, patient_litres(pet_overview(volume), None), 80.0)
    assert finding.light is Light.GREEN
    assert finding.details["dose_in_field_kg"] == pytest.approx(25.92)
    assert finding.details["share_of_weight"] == pytest.approx(0.324)


@pytest.mark.parametrize(("factor", "light"), [(1.0, "green"), (0.55, "amber"), (0.2, "red"), (1.7, "amber"),
                                               (4.0, "red")])  # fmt: skip
def test_a_wrong_scale_shows_in_the_mass_balance(patient, factor, light):
    pet = scaled(patient.pet, factor)
    weight = float(patient.acquisition["weight_kg"]) * 2
    litres = patient_litres(pet_overview(pet), ct_overview(patient.ct))
    assert str(mass_finding(pet, litres, weight).light) == light


def test_more_dose_than_was_injected_is_red_even_in_a_small_field(patient, cut):
    case = cut(patient, z=(0.0, 0.15))
    litres = patient_litres(pet_overview(case.pet), None)
    assert mass_finding(case.pet, litres, None).light is Light.GREY
    finding = mass_finding(case.pet, litres, 2.0)
    assert finding.light is Light.RED and "% of 2 kg" in finding.measured


def test_no_patient_at_all_is_not_judged():
    volume = Volume(np.zeros((20, 20, 20), np.float32), np.diag([6.0, 6.0, 6.0, 1.0]))
    assert mass_finding(volume, patient_litres(pet_overview(volume), None), None).light is Light.GREY


def test_the_liver_is_found_and_its_mean_is_that_of_its_label(patient, view):
    found = liver_in_pet(view)
    by_image = liver_finding(patient.pet, found, None, tracer_of("FDG"))
    by_label = liver_finding(patient.pet, found, Organs(patient.organs, ORGAN_NAMES), tracer_of("FDG"))
    assert by_image.light is by_label.light is Light.GREEN
    assert by_label.details["source"] == "organ label"
    assert by_image.details["liver_suv_mean"] == pytest.approx(by_label.details["liver_suv_mean"], rel=0.05)


def liver(value: float) -> Organ:
    return Organ((60.0, 0.0, 0.0), 1500.0, value)


@pytest.mark.parametrize(
    ("value", "tracer", "light"),
    [
        (2.1, "F-18 FDG", "green"), (4.0, "FDG", "amber"), (0.9, "FDG", "amber"), (9.0, "FDG", "red"),
        (0.3, "FDG", "red"), (2.1, "", "green"), (9.0, "", "grey"), (5.0, "68Ga-PSMA-11", "green"),
        (12.0, "18F-PSMA-1007", "green"), (1.1, "68Ga-FAPI-04", "grey"),
    ],
)  # fmt: skip
def test_the_liver_is_judged_by_its_tracer(patient, value, tracer, light):
    assert str(liver_finding(patient.pet, liver(value), None, tracer_of(tracer)).light) == light


def test_no_liver_is_no_judgement(patient):
    assert liver_finding(patient.pet, None, None, tracer_of("FDG")).light is Light.GREY


@pytest.mark.parametrize(("negative", "light"), [(0.0, "green"), (0.02, "amber"), (0.2, "red")])
def test_negative_values_are_measured_as_a_share(negative, light):
    array = np.full((10, 10, 10), 3.0, np.float32)
    array[0] = -3.0 * negative / (1 - negative) * 9.0  # 900 voxels of 3 against 100 below zero
    finding = range_findings(Volume(array, np.eye(4)))[0]
    assert str(finding.light) == light
    assert finding.details["negative_share"] == pytest.approx(negative, abs=1e-5)


@pytest.mark.parametrize(("top", "light"), [(30.0, "green"), (1.5, "amber"), (300.0, "amber"), (900.0, "red")])
def test_the_largest_value_is_judged(top, light):
    array = np.full((4, 4, 4), 1.0, np.float32)
    array[2, 2, 2] = top
    finding = range_findings(Volume(array, np.eye(4)))[1]
    assert str(finding.light) == light and f"{top:.1f}" in finding.measured


def test_the_weight_is_taken_from_the_header_or_the_simulation():
    assert weight_of({"patient_weight_kg": 71.0}) == 71.0 and weight_of({"weight_kg": 80}) == 80.0
    assert weight_of({"patient_weight_kg": 0}) is None and weight_of({"patient_weight_kg": "71"}) is None
    assert weight_of({}) is None
