"""What is asked for a simulated patient, and what is drawn from his seed."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from uptake.core.errors import UsageError
from uptake.simulation.person import PatientConfig
from uptake.workflows.simulated import SimulationSettings, case_name, flat, simulated

COARSE = SimulationSettings(spacing_mm=(12.0, 12.0, 12.0), n_lesions=2)


@pytest.fixture(scope="module")
def patient():
    """A patient at two doses, from one of three sites."""
    return simulated(11, replace(COARSE, doses=(0.1,), sites=3, tracers=(("PSMA-11", 1.0),)))


def test_a_tracer_is_drawn_by_its_share():
    settings = SimulationSettings(tracers=(("fdg", 3.0), ("psma1007", 1.0)))
    assert settings.tracers == (("FDG", 3.0), ("PSMA-1007", 1.0))
    found = Counter(settings.tracer_of(seed) for seed in range(800))
    assert found["FDG"] / 800 == pytest.approx(0.75, abs=0.06)


def test_a_seed_has_its_site_and_a_site_is_the_same_for_all():
    settings = replace(COARSE, sites=4, site_seed=9)
    sites = [settings.site_of(seed) for seed in range(60)]
    assert {site.name for site in sites} == {f"site_{n:02d}" for n in range(1, 5)}
    for site in sites:
        assert next(other for other in sites if other.name == site.name) == site
    assert replace(settings, site_seed=10).site_of(0) != settings.site_of(0)
    assert {replace(settings, scanner="vereos").site_of(seed).scanner.name for seed in range(20)} == {"Vereos"}


def test_without_sites_there_is_one_without_errors():
    site = replace(COARSE, scanner="DMI").site_of(3)
    assert (site.scanner.name, site.calibration, site.clock_error_s) == ("DMI", 1.0, 0.0)


def test_misalignment_can_be_drawn_left_out_or_set():
    site = COARSE.site_of(0)
    drawn, none, fixed = (replace(COARSE, misalignment=value).motion_of(5, site) for value in ("drawn", "none", -7.5))
    assert drawn.moves_ct
    assert not none.moves_ct
    assert (fixed.ct_shift_mm, fixed.rigid_mm) == (-7.5, (0.0, 0.0, 0.0))
    assert drawn.amplitude_mm == none.amplitude_mm == fixed.amplitude_mm > 0


def test_the_scan_of_a_patient(patient):
    assert patient.id == case_name(11) == "sim_00011"
    assert set(patient.scan.pet) == {1.0, 0.1}
    assert patient.truth.tracer == "PSMA-11"
    assert patient.scan.liver_cov[0.1] > patient.scan.liver_cov[1.0]
    assert len(patient.truth.lesion_table) == 2


def test_every_drawn_number_is_a_cell_of_a_table(patient):
    row = patient.parameters
    assert json.loads(json.dumps(row)) == row
    assert all(isinstance(value, str | int | float | bool | None) for value in row.values())
    assert row["site_scanner"] == patient.site.scanner.name
    assert row["contrast"] == patient.site.ct.phase
    assert row["seed"] == 11
    assert row["counts_nec_per_litre"] == pytest.approx(patient.scan.counts.nec_per_litre)
    assert row["weight_kg"] == pytest.approx(patient.truth.weight_kg)


def test_another_dose_changes_nothing_else(patient):
    alone = simulated(11, replace(COARSE, sites=3, tracers=(("PSMA-11", 1.0),)))
    np.testing.assert_array_equal(alone.scan.pet[1.0].array, patient.scan.pet[1.0].array)
    np.testing.assert_array_equal(alone.scan.ct.array, patient.scan.ct.array)


def test_facts_of_the_person_are_kept():
    fixed = simulated(2, replace(COARSE, person=PatientConfig(sex="female", bmi=31.0, contrast="portal-venous")))
    assert fixed.parameters["sex"] == "female"
    assert fixed.parameters["bmi"] == 31.0
    # Contrast medium is given by the site alone; it must not be there twice.
    assert fixed.parameters["contrast"] == "none"


def test_flat_names():
    assert flat({"a": {"b": 1, "c": [1.0, 2.0]}, "d": None}) == {"a_b": 1, "a_c_0": 1.0, "a_c_1": 2.0, "d": None}


def test_doses_are_sorted_and_the_full_one_is_always_there():
    assert SimulationSettings(doses=(0.05, 1.0, 0.5, 0.05)).doses == (0.5, 0.05)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tracers": (("FDX", 1.0),)}, "tracer must be one of"),
        ({"tracers": (("FDG", 0.0),)}, "shares above 0"),
        ({"tracers": (("FDG", 1.0), ("fdg", 1.0))}, "each its own name"),
        ({"tracers": ()}, "shares above 0"),
        ({"scanner": "Acme 5"}, "no scanner is called"),
        ({"doses": (0.0,)}, "dose fraction"),
        ({"doses": (1.5,)}, "dose fraction"),
        ({"sites": -1}, "number of sites"),
        ({"site_seed": -1}, "seed of the sites"),
        ({"misalignment": "some"}, "drawn"),
        ({"misalignment": 90.0}, "40 mm"),
        ({"misalignment": float("nan")}, "40 mm"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings, message):
    with pytest.raises(UsageError, match=message):
        SimulationSettings(**settings)
