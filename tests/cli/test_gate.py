"""The input gate from the outside: one line, run.json, the report, and the way to leave it out."""

from __future__ import annotations

import json

import numpy as np
import pytest

FAST = ("--no-mirror", "--precision", "float32", "--device", "cpu", "--engine", "torch")

pytestmark = pytest.mark.usefixtures("plain_pictures")


@pytest.fixture
def study(make_study, tmp_path):
    return make_study(tmp_path / "studies" / "patient_7")


def gate_of(folder):
    return json.loads((folder / "run.json").read_text(encoding="utf-8"))["gate"]


def test_segment_prints_keeps_and_shows_the_light(cli, tiny_bundle, study, tmp_path):
    ran = cli("segment", study, "-o", tmp_path, "-m", tiny_bundle, *FAST)
    assert ran.code == 0, ran.err
    gate = gate_of(tmp_path / "patient_7")
    assert gate["schema"] == "uptake-gate/1" and gate["light"] in ("green", "amber", "red", "grey")
    assert gate["line"] in ran.out and ran.out.count("input gate") == 1
    assert {"units", "misalignment", "left_right"} <= {finding["check"] for finding in gate["findings"]}
    page = (tmp_path / "patient_7" / "report.html").read_text(encoding="utf-8")
    assert f"<strong>{gate['light']}</strong>" in page
    for finding in gate["findings"]:
        assert finding["sentence"].split("<")[0][:30] in page
    run = json.loads((tmp_path / "patient_7" / "run.json").read_text(encoding="utf-8"))
    assert 0 < run["timings_s"]["gate"] < 60


def test_no_gate_leaves_it_out_and_asking_for_it_later_does_the_case_anew(cli, tiny_bundle, study, tmp_path):
    ran = cli("segment", study, "-o", tmp_path, "-m", tiny_bundle, *FAST, "--no-gate")
    assert ran.code == 0 and "input gate" not in ran.out
    assert gate_of(tmp_path / "patient_7") is None
    assert "not run" in (tmp_path / "patient_7" / "report.html").read_text(encoding="utf-8")
    again = cli("segment", study, "-o", tmp_path, "-m", tiny_bundle, *FAST, "--no-gate")
    assert "complete already" in again.out
    asked = cli("segment", study, "-o", tmp_path, "-m", tiny_bundle, *FAST)
    assert "complete already" not in asked.out and gate_of(tmp_path / "patient_7") is not None
    assert "complete already" in cli("segment", study, "-o", tmp_path, "-m", tiny_bundle, *FAST).out


def test_a_red_light_stops_nothing(cli, tiny_bundle, make_study, tiny_arrays, tmp_path):
    doubled = tiny_arrays["pet"].copy()
    doubled[:, :, 12] = doubled[:, :, 11]
    study = make_study(tmp_path / "studies" / "doubled", pet=doubled)
    ran = cli("segment", study, "-o", tmp_path, "-m", tiny_bundle, *FAST)
    assert ran.code == 0 and "input gate RED (red: slices" in ran.out
    assert (tmp_path / "doubled" / "lesions.nii.gz").is_file()


def test_quantify_has_it_too(cli, study, tmp_path):
    ran = cli("quantify", study / "pet.nii.gz", study / "lesion.nii.gz", "-o", tmp_path)
    assert ran.code == 0, ran.err
    (run,) = tmp_path.glob("*/run.json")
    assert gate_of(run.parent)["line"] in ran.out
    ran = cli("quantify", study / "pet.nii.gz", study / "lesion.nii.gz", "-o", tmp_path, "--no-gate")
    assert "input gate" not in ran.out and gate_of(run.parent) is None


def test_the_same_input_gives_the_same_bytes_with_the_gate(cli, tiny_bundle, study, tmp_path):
    pages = []
    for name in ("a", "b"):
        assert cli("segment", study, "-o", tmp_path / name, "-m", tiny_bundle, *FAST).code == 0
        pages.append((tmp_path / name / "patient_7" / "report.html").read_bytes())
    assert pages[0] == pages[1]
    assert np.array_equal(gate_of(tmp_path / "a" / "patient_7"), gate_of(tmp_path / "b" / "patient_7"))
