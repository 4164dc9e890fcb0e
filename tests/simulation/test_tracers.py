"""What is drawn for the organs of a tracer against the published means, correlations and limits."""

from __future__ import annotations

import numpy as np
import pytest

from uptake.core.errors import UsageError
from uptake.simulation.ct_numbers import draw_tissues
from uptake.simulation.person import TRACERS, PatientConfig, draw_person, known_tracer
from uptake.simulation.tracers import FDG_LIVER_RANGE, HEART_PATTERNS, RADIONUCLIDES, draw_uptake, tumour_sink

PUBLISHED = {
    # tracer: organ -> (mean, tolerance), the table of the recipe
    "FDG": {"liver": (2.17, 0.2), "blood": (1.55, 0.2), "muscle": (0.75, 0.12), "marrow": (1.6, 0.25)},
    "PSMA-11": {"liver": (5.4, 0.7), "parotid": (14.5, 1.5), "spleen": (8.1, 1.2), "prostate": (2.4, 0.4)},
    "PSMA-1007": {"liver": (11.7, 1.4), "parotid": (18.6, 2.0), "gallbladder": (40.0, 8.0), "spleen": (11.2, 1.3)},
    "FAPI-04": {"blood": (1.6, 0.2), "muscle": (1.2, 0.2), "pancreas": (2.0, 0.25), "liver": (1.1, 0.15)},
    "DOTATATE": {"spleen": (17.3, 2.0), "liver": (4.8, 0.7), "adrenal": (12.6, 1.6), "pituitary": (8.0, 1.2)},
}


def draws(tracer: str, count: int = 300, **fixed):
    config = PatientConfig(tracer=tracer, **fixed)
    people = [draw_person(np.random.default_rng([n, 0]), config) for n in range(count)]
    return people, [draw_uptake(np.random.default_rng([n, 1]), p, config.tracer) for n, p in enumerate(people)]


@pytest.fixture(scope="module")
def fdg():
    return draws("FDG")


@pytest.mark.parametrize("tracer", TRACERS)
def test_means_are_the_published_ones(tracer):
    _, uptakes = draws(tracer)
    for organ, (mean, tolerance) in PUBLISHED[tracer].items():
        assert np.mean([u.suv[organ] for u in uptakes]) == pytest.approx(mean, abs=tolerance), organ
    assert all(value >= 0 and np.isfinite(value) for u in uptakes for value in u.suv.values())
    assert {u.heart_pattern for u in uptakes} == (set(HEART_PATTERNS) if tracer == "FDG" else {"even"})


def test_liver_and_blood_of_fdg_go_together(fdg):
    people, uptakes = fdg
    liver, blood, muscle, fat = (np.array([u.suv[n] for u in uptakes]) for n in ("liver", "blood", "muscle", "fat"))
    assert 0.7 < np.corrcoef(np.log(liver), np.log(blood))[0, 1] < 0.92
    assert liver.min() >= FDG_LIVER_RANGE[0] and liver.max() <= FDG_LIVER_RANGE[1]
    assert (liver > blood).all() and (blood > muscle).all() and (muscle > fat).all()
    heavy = np.array([p.bmi > 30 for p in people])
    assert 1.08 < liver[heavy].mean() / liver[~heavy].mean() < 1.35


def test_brains_starve_when_the_blood_is_sweet(fdg):
    glucose = np.array([u.drawn["glucose_mmol_l"] for u in fdg[1]])
    brain = np.array([u.suv["grey_matter"] for u in fdg[1]])
    assert np.corrcoef(np.log(glucose), np.log(brain))[0, 1] < -0.3
    assert all(u.suv["colon"] >= 3.0 for u in fdg[1] if u.drawn["metformin"])


def test_hearts_after_a_short_fast(fdg):
    short = [u for u in fdg[1] if u.drawn["fast"] == "hours"]
    share = np.mean([u.heart_pattern == "homogeneous" for u in short])
    assert share == pytest.approx(0.51, abs=0.12)
    for u in fdg[1]:
        low, high = {"none": (0.5, 4.0), "patchy": (2.0, 5.0), "homogeneous": (4.0, 13.0)}[u.heart_pattern]
        assert low <= u.suv["myocardium"] <= high


def test_the_tumour_sink_is_weak_and_of_psma_alone():
    assert tumour_sink("PSMA-11", 100.0) == tumour_sink("FDG", 1e5) == 1.0
    assert tumour_sink("PSMA-1007", 1e5) == pytest.approx(0.7)
    assert 0.7 < tumour_sink("PSMA-11", 3000.0) < 1.0


def test_contrast_medium_brightens_what_it_reaches():
    rng = np.random.default_rng
    person = draw_person(rng(0), PatientConfig())
    uptake = draw_uptake(rng(1), person, "FDG")
    (plain, none), (filled, phase) = (draw_tissues(rng(2), person, uptake, c) for c in ("none", "portal-venous"))
    assert (none, phase) == ("none", "portal-venous")
    for tissue, least in (("blood", 70), ("liver", 30), ("kidney_cortex", 90)):
        assert filled[tissue].hu > plain[tissue].hu + least
    assert filled["cortical_bone"] == plain["cortical_bone"]


def test_names_of_tracers_are_found_whatever_their_hyphens():
    assert [known_tracer(n) for n in ("fdg", "psma1007", "Dotatate", "fapi 04")] == [
        "FDG", "PSMA-1007", "DOTATATE", "FAPI-04",
    ]  # fmt: skip
    assert set(RADIONUCLIDES) == set(TRACERS)
    for bad in ("FLT", "", None, 7):
        with pytest.raises(UsageError, match="FAPI-04"):
            PatientConfig(tracer=bad)
