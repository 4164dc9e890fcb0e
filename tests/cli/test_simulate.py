"""`uptake simulate` and `uptake demo`: patients, cohorts, low dose; and the main job on a patient with known truth."""

from __future__ import annotations

import json

import numpy as np
import pytest

from uptake.io.image import read_image, read_labels

COARSE = ("--spacing-mm", "12")


@pytest.fixture(scope="module", autouse=True)
def simulated_once():
    """Simulate each patient once for this module: what is tested here is the way from the command to the files."""
    from uptake.workflows import simulate, simulate_cohort

    known, real = {}, simulate.simulated

    def remembered(seed, settings, **options):
        if (seed, settings) not in known:
            known[seed, settings] = real(seed, settings, **options)
        return known[seed, settings]

    with pytest.MonkeyPatch.context() as patch:
        for module in (simulate, simulate_cohort):
            patch.setattr(module, "simulated", remembered)
        yield


@pytest.fixture(scope="module")
def patients(tmp_path_factory):
    """Two simulated patients on a 12 mm grid, each at a second dose."""
    from uptake.cli.main import run

    out = tmp_path_factory.mktemp("patients")
    command = [
        "simulate",
        "patient",
        "-o",
        str(out),
        "-n",
        "2",
        "--seed",
        "3",
        "--lesions",
        "2",
        "--dose",
        "0.1",
        *COARSE,
    ]
    assert run(command) == 0
    return out


def test_patient_writes_study_folders_with_the_truth(patients):
    assert sorted(f.name for f in patients.iterdir()) == ["sim_00003", "sim_00004"]
    study = patients / "sim_00003"
    assert {f.name for f in study.iterdir()} == {
        "pet.nii.gz",
        "ct.nii.gz",
        "lesion.nii.gz",
        "organs.nii.gz",
        "organ_labels.json",
        "dose_0.1",
        "truth.json",
    }
    truth = json.loads((study / "truth.json").read_text(encoding="utf-8"))
    assert "no such person exists" in truth["notice"]
    assert len(truth["lesions"]) == 2
    assert truth["counts"]["0.1"]["trues"] == pytest.approx(truth["counts"]["1"]["trues"] / 10)
    pet, _ = read_image(study / "pet.nii.gz")
    low, _ = read_image(study / "dose_0.1" / "pet.nii.gz")
    mask, _ = read_labels(study / "lesion.nii.gz")
    np.testing.assert_allclose(pet.spacing_mm, 12.0, rtol=1e-6)
    assert mask.array.any()
    assert low.array.sum() == pytest.approx(pet.array.sum(), rel=0.05)


def test_the_same_command_keeps_what_is_there_and_another_makes_it_anew(cli, patients, tmp_path):
    command = ("simulate", "-o", tmp_path, "--seed", "3", "--lesions", "2", "--dose", "0.1")
    assert "sim_00003: 2 lesions" in cli(*command, *COARSE).out
    study = tmp_path / "sim_00003"
    files = [f for f in study.rglob("*") if f.is_file()]
    first = {f.relative_to(study): (f.read_bytes(), f.stat().st_mtime_ns) for f in files}
    theirs = patients / "sim_00003"
    assert {name: content for name, (content, _) in first.items()} == {
        f.relative_to(theirs): f.read_bytes() for f in theirs.rglob("*") if f.is_file()
    }
    assert "(kept)" in cli(*command, *COARSE).out
    assert {f.relative_to(study): (f.read_bytes(), f.stat().st_mtime_ns) for f in files} == first
    assert cli("simulate", "-o", tmp_path, "--seed", "3", "--lesions", "2", "--spacing-mm", "11,11,12").code == 0
    np.testing.assert_allclose(read_image(study / "pet.nii.gz")[0].spacing_mm, (11.0, 11.0, 12.0), rtol=1e-6)
    assert not (study / "dose_0.1").exists()


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--spacing-mm", "40"), 4, "1.5 to 12 mm"),
        (("--spacing-mm", "4,4"), 2, "one number or three"),
        (("--spacing-mm", "fine"), 2, "--spacing-mm takes numbers"),
        (("--tracers", "FDX"), 2, "tracer must be one of FDG, PSMA-11"),
        (("--tracers", "FDG=much"), 2, "--tracers takes numbers"),
        (("--scanner", "Acme 5"), 2, "known are mCT, Vision 600"),
        (("--dose", "0"), 2, "above 0 and at most at 1"),
        (("--dose", "5"), 2, "write 5 % as 0.05"),
        (("--dose", "nan"), 2, "above 0 and at most at 1"),
        (("--misalignment", "much"), 2, "'drawn', 'none' or a shift"),
        (("--lesions", "99"), 2, "n_lesions"),
        (("--bmi", "90"), 2, "bmi must lie between 16 and 45"),
        (("--vendor", "ge"), 2, "go with --as dicom"),
        (("--as", "dicom", "--vendor", "acme"), 2, "known are ge, siemens, philips, uih"),
        (("--as", "dicom", "--vendor", "ge", "--scanner", "mCT"), 2, "by siemens, not by ge"),
        (("--as", "dicom", "--vendor", "ge", "--units", "CNTS"), 2, "only headers of Philips"),
        (("--patients", "0"), 2, "1 or more"),
        (("--seed", "-1"), 2, "0 or more"),
    ],
)
def test_what_cannot_be_simulated_is_refused(cli, tmp_path, options, code, message):
    ran = cli("simulate", "patient", "-o", tmp_path / "out", *options)
    assert ran.code == code
    assert message in ran.err
    assert not list(tmp_path.rglob("*.*"))


def test_a_label_map_becomes_a_patient_or_is_refused(cli, patients, tmp_path):
    organs = patients / "sim_00003" / "organs.nii.gz"
    names = patients / "sim_00003" / "organ_labels.json"
    command = ("simulate", "-o", tmp_path / "out", "--seed", "8", *COARSE, "--lesions", "1")
    assert cli(*command, "--anatomy", organs, "--anatomy-labels", names).code == 0
    there, _ = read_labels(tmp_path / "out" / "sim_00008" / "organs.nii.gz")
    given, _ = read_labels(organs)
    middle = [m.world_of(np.argwhere(m.array == 5).astype(float)).mean(axis=0) for m in (there, given)]
    np.testing.assert_allclose(middle[0], middle[1], atol=10.0)
    for options, code, message in (
        (("--anatomy", organs), 4, "have no name in this numbering"),
        (("--anatomy", tmp_path / "absent.nii.gz"), 4, "no such file"),
        (("--anatomy", organs, "--anatomy-labels", "mine"), 2, "the numbering 'mine'"),
        (("--anatomy-labels", "autopet"), 2, "goes with --anatomy"),
    ):
        ran = cli("simulate", "-o", tmp_path / "none", *options)
        assert ran.code == code
        assert message in ran.err
    assert not (tmp_path / "none").exists()


def test_a_folder_with_other_files_is_not_replaced(cli, tmp_path):
    (tmp_path / "sim_00003").mkdir()
    (tmp_path / "sim_00003" / "thesis.docx").write_bytes(b"years")
    ran = cli("simulate", "-o", tmp_path, "--seed", "3", *COARSE)
    assert ran.code == 4
    assert "thesis.docx" in ran.err
    assert (tmp_path / "sim_00003" / "thesis.docx").read_bytes() == b"years"


def test_a_full_disk_is_an_output_error_and_finished_patients_stay(cli, tmp_path, monkeypatch):
    from uptake.workflows import simulate as workflow

    real = workflow.write_volume

    def full(volume, path):
        if "sim_00004" in str(path.parent) and path.name == "ct.nii.gz":
            raise OSError(28, "No space left on device")
        real(volume, path)

    monkeypatch.setattr(workflow, "write_volume", full)
    ran = cli("simulate", "-o", tmp_path, "-n", "2", "--seed", "3", "--lesions", "2", "--dose", "0.1", *COARSE)
    assert ran.code == 4
    assert "No space left" in ran.err
    assert [f.name for f in tmp_path.iterdir()] == ["sim_00003"]


def test_cohort_writes_a_dataset_and_goes_on(cli, tmp_path):
    command = ("simulate", "cohort", "-o", tmp_path / "c", "--tracers", "PSMA-11", *COARSE, "--jobs", "1", "--truth")
    ran = cli(*command, "-n", "1", "--label-noise", "missing=1")
    assert (ran.code, ran.err) == (0, "")
    assert "1 written, 0 kept, 0 failed" in ran.out
    assert read_labels(tmp_path / "c" / "organsTr_clean" / "sim_00000.nii.gz")[0].array.any()
    assert (tmp_path / "c" / "imagesTr_dose_0.05" / "sim_00000_0001.nii.gz").is_file()
    assert (tmp_path / "c" / "truthTr" / "sim_00000" / "activity.nii.gz").is_file()
    assert "0 written, 1 kept" in cli(*command, "-n", "1", "--label-noise", "missing=1").out
    ran = cli(*command, "-n", "1")
    assert ran.code == 2
    assert "other settings (label_noise_missing)" in ran.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--label-noise", "rot=1"), "is no label error"),
        (("--label-noise", "erosion=0.8,missing=0.8"), "1 at most"),
        (("--sites", "-2"), "number of sites"),
        (("--dose", "2"), "dose fraction"),
        (("-n", "0"), "1 patient or more"),
    ],
)
def test_cohorts_that_cannot_be_are_refused(cli, tmp_path, options, message):
    ran = cli("simulate", "cohort", "-o", tmp_path / "out", *options)
    assert ran.code == 2
    assert message in ran.err
    assert not (tmp_path / "out").exists()


def test_a_cohort_with_a_failing_case_says_so(cli, tmp_path, monkeypatch):
    from uptake.workflows import simulate_cohort

    def breaks(*_args, **_options):
        raise ZeroDivisionError("of all things")

    monkeypatch.setattr(simulate_cohort, "simulated", breaks)
    ran = cli("simulate", "cohort", "-o", tmp_path, "-n", "1", "--jobs", "1")
    assert ran.code == 3
    assert "sim_00000: of all things" in ran.err
    assert "failures.csv" in ran.err


def test_lowdose_makes_twins_of_a_study(cli, patients, tmp_path):
    study = patients / "sim_00003"
    ran = cli("simulate", "lowdose", study, "-o", tmp_path, "--dose", "0.5,0.2", "--full-liver-cov", "0.1")
    assert (ran.code, ran.err) == (0, "")
    assert "sim_00003: written" in ran.out
    table = (tmp_path / "lowdose.csv").read_text(encoding="utf-8").splitlines()
    assert len(table) == 3
    pet, _ = read_image(study / "pet.nii.gz")
    low, _ = read_image(tmp_path / "sim_00003" / "dose_0.2" / "pet.nii.gz")
    np.testing.assert_array_equal(low.affine, pet.affine)
    assert low.array.sum() == pytest.approx(pet.array.sum(), rel=0.05)
    assert (
        "sim_00003: kept"
        in cli("simulate", "lowdose", study, "-o", tmp_path, "--dose", "0.5,0.2", "--full-liver-cov", "0.1").out
    )


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--dose", "0"), 2, "dose fraction"),
        (("--dose", "1.5"), 2, "dose fraction"),
        (("--dose", "half"), 2, "--dose takes numbers"),
        (("--scanner", "Acme"), 2, "no scanner is called"),
        (("--full-liver-cov", "12"), 4, "between 0.02 and 0.6"),
        (("--ct", "nothing.nii.gz"), 4, "nothing.nii.gz"),
        (("--liver", "nothing.nii.gz"), 4, "nothing.nii.gz"),
    ],
)
def test_low_doses_that_cannot_be_are_refused(cli, patients, tmp_path, options, code, message):
    ran = cli("simulate", "lowdose", patients / "sim_00003", "-o", tmp_path, *options)
    assert ran.code == code
    assert message in ran.err
    assert not list(tmp_path.rglob("pet.nii.gz"))


def test_low_dose_of_what_is_no_suv_is_refused(cli, patients, tmp_path):
    ran = cli("simulate", "lowdose", "--pet", patients / "sim_00003" / "ct.nii.gz", "-o", tmp_path)
    assert ran.code == 4
    assert "looks like a CT" in ran.err
    ran = cli("simulate", "lowdose", "-o", tmp_path)
    assert ran.code == 2
    assert "--pet FILE" in ran.err


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
