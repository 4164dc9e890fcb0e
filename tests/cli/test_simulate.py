"""`uptake simulate` and `uptake demo`: patients with known truth, and the main job on one of them."""

from __future__ import annotations

import json

import numpy as np
import pytest

from uptake.io.image import read_image, read_labels

COARSE = ("--spacing-mm", "12")


@pytest.fixture(scope="module")
def patients(tmp_path_factory):
    """Two simulated patients on a 12 mm grid."""
    from uptake.cli.main import run

    out = tmp_path_factory.mktemp("patients")
    assert run(["simulate", "-o", str(out), "-n", "2", "--seed", "3", "--lesions", "2", *COARSE]) == 0
    return out


def test_simulate_writes_study_folders_with_the_truth(patients):
    assert sorted(f.name for f in patients.iterdir()) == ["sim_00003", "sim_00004"]
    study = patients / "sim_00003"
    assert {f.name for f in study.iterdir()} == {
        "pet.nii.gz",
        "ct.nii.gz",
        "lesion.nii.gz",
        "organs.nii.gz",
        "truth.json",
    }
    truth = json.loads((study / "truth.json").read_text(encoding="utf-8"))
    assert "no such person exists" in truth["notice"]
    assert len(truth["lesions"]) == 2
    pet, _ = read_image(study / "pet.nii.gz")
    mask, _ = read_labels(study / "lesion.nii.gz")
    np.testing.assert_allclose(pet.spacing_mm, 12.0, rtol=1e-6)
    assert mask.array.any()


def test_the_same_command_keeps_what_is_there_and_another_makes_it_anew(cli, patients, tmp_path):
    command = ("simulate", "-o", tmp_path, "--seed", "3", "--lesions", "2")
    cli(*command, *COARSE)
    study = tmp_path / "sim_00003"
    first = {f.name: (f.read_bytes(), f.stat().st_mtime_ns) for f in study.iterdir()}
    assert {name: content for name, (content, _) in first.items()} == {
        f.name: f.read_bytes() for f in (patients / "sim_00003").iterdir()
    }
    cli(*command, *COARSE)
    assert {f.name: (f.read_bytes(), f.stat().st_mtime_ns) for f in study.iterdir()} == first
    assert cli(*command, "--spacing-mm", "11").code == 0
    np.testing.assert_allclose(read_image(study / "pet.nii.gz")[0].spacing_mm, 11.0, rtol=1e-6)


def test_a_voxel_size_out_of_range_is_refused(cli, tmp_path):
    ran = cli("simulate", "-o", tmp_path, "--spacing-mm", "40")
    assert ran.code == 4
    assert "1.5 to 12 mm" in ran.err
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_other_files_is_not_replaced(cli, tmp_path):
    (tmp_path / "sim_00003").mkdir()
    (tmp_path / "sim_00003" / "thesis.docx").write_bytes(b"years")
    ran = cli("simulate", "-o", tmp_path, "--seed", "3", *COARSE)
    assert ran.code == 4
    assert "thesis.docx" in ran.err
    assert (tmp_path / "sim_00003" / "thesis.docx").read_bytes() == b"years"


def test_the_demo_runs_from_nothing_to_a_report(cli, tiny_bundle, tmp_path):
    ran = cli("demo", "-o", tmp_path / "demo", "-m", tiny_bundle, *COARSE)
    assert (ran.code, ran.err) == (0, "")
    (folder,) = (tmp_path / "demo" / "results").iterdir()
    assert (folder / "report.html").exists()
    assert "no such person exists" in ran.out
    assert "Dice" in ran.out
    assert str(folder / "report.html") in ran.out


def test_the_demo_refuses_an_unknown_model_before_it_simulates(cli, tmp_path):
    ran = cli("demo", "-o", tmp_path / "demo", "-m", "no-such-model", *COARSE)
    assert ran.code == 4
    assert "no model 'no-such-model'" in ran.err
    assert not (tmp_path / "demo").exists()
