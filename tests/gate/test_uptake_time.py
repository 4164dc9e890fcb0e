from __future__ import annotations

import pytest

from uptake.gate.tracers import TRACERS, tracer_of
from uptake.gate.uptake_time import uptake_time_finding


@pytest.mark.parametrize(
    ("name", "tracer"),
    [
        ("FDG", "FDG"), ("F-18 Fluorodeoxyglucose", "FDG"), ("Fludeoxyglucose F^18^", "FDG"),
        ("[18F]PSMA-1007", "PSMA-1007"), ("Ga-68 PSMA-11", "PSMA-11"), ("68Ga-PSMA", "PSMA-11"),
        ("rhPSMA-7.3", "rhPSMA-7.3"), ("Piflufolastat F18", "DCFPyL"), ("68Ga-DOTATATE", "DOTA peptide"),
        ("DOTA-TOC", "DOTA peptide"), ("FAPI-46", "FAPI"), ("18F-FLT", "FLT"),
    ],
)  # fmt: skip
def test_names_of_headers_are_understood(name, tracer):
    assert tracer_of(name).name == tracer


@pytest.mark.parametrize("name", ["", None, "Solution", "N-13 Ammonia", 5])
def test_other_names_are_no_tracer(name):
    assert tracer_of(name) is None


def test_every_range_lies_inside_the_wider_one():
    for tracer in TRACERS:
        pairs = [(tracer.ideal_min, tracer.accepted_min), (tracer.liver_suv, tracer.liver_accepted)]
        for inner, outer in pairs:
            assert (inner is None) == (outer is None)
            if inner and outer:
                assert outer[0] <= inner[0] < inner[1] <= outer[1]


@pytest.mark.parametrize(
    ("minutes", "tracer", "light"),
    [
        (60, "FDG", "green"), (55, "FDG", "green"), (50, "FDG", "amber"), (90, "FDG", "amber"), (40, "FDG", "red"),
        (200, "FDG", "red"), (-1, "FDG", "red"), (100, "PSMA-1007", "green"), (60, "PSMA-1007", "amber"),
        (60, "unheard of", "grey"), (None, "FDG", "grey"), (True, "FDG", "grey"), ("60", "FDG", "grey"),
    ],
)  # fmt: skip
def test_the_uptake_time_is_judged_by_its_tracer(minutes, tracer, light):
    finding = uptake_time_finding({"uptake_time_min": minutes, "tracer": tracer}, tracer_of(tracer))
    assert str(finding.light) == light
    if isinstance(minutes, int) and not isinstance(minutes, bool):
        assert f"{minutes} min" in finding.measured


def test_the_sentence_says_which_way_the_numbers_move():
    early = uptake_time_finding({"uptake_time_min": 47.0}, tracer_of("FDG"))
    late = uptake_time_finding({"uptake_time_min": 100.0}, tracer_of("FDG"))
    assert "tumours read lower" in early.sentence and "tumours read higher" in late.sentence
    assert early.expected == "55 to 75 min (FDG)"
