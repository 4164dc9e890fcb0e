"""`uptake segment`: every kind of input, the files that come out, and what a second run does."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from uptake.geometry import Volume
from uptake.io.image import read_image, read_labels
from uptake.io.write import write_volume

nib = pytest.importorskip("nibabel")

FILES = {"lesions.nii.gz", "lesions.csv", "lesions.json", "mip.png", "report.html", "run.json"}
FAST = ("--no-mirror", "--precision", "float32", "--device", "cpu", "--engine", "torch")


@pytest.fixture
def segment(cli, tiny_bundle):
    """Return a function that runs `uptake segment` with the tiny model."""
    return lambda *arguments: cli("segment", *arguments, "-m", tiny_bundle, *FAST)


@pytest.fixture
def study(make_study, tmp_path):
    return make_study(tmp_path / "studies" / "patient_7")


def run_json(folder):
    return json.loads((folder / "run.json").read_text(encoding="utf-8"))


def table(path):
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def hashes(folder):
    return {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in folder.iterdir()}


def times(folder):
    return {f.name: f.stat().st_mtime_ns for f in folder.iterdir()}


def test_a_study_folder_gives_every_file_on_the_grid_of_the_pet(segment, study, tmp_path):
    out = tmp_path / "out"
    ran = segment(study, "-o", out)
    assert (ran.code, ran.err) == (0, "")
    folder = out / "patient_7"
    assert {f.name for f in folder.iterdir()} == FILES
    assert [f.name for f in out.iterdir()] == ["patient_7"]
    mask, pet = nib.load(folder / "lesions.nii.gz"), nib.load(study / "pet.nii.gz")
    assert mask.shape == pet.shape
    np.testing.assert_array_equal(mask.affine, pet.affine)
    np.testing.assert_array_equal(mask.header.get_sform(), pet.header.get_sform())
    assert mask.get_data_dtype() == np.uint8
    assert set(np.unique(np.asarray(mask.dataobj))) == {0, 1}
    rows = table(folder / "lesions.csv")
    lesions = json.loads((folder / "lesions.json").read_text(encoding="utf-8"))
    assert len(rows) == len(lesions["lesions"]) > 0
    # With 18-connectivity and no smallest volume the table holds every voxel of the mask.
    voxel_ml = 0.512
    total = sum(float(row["volume_ml"]) for row in rows)
    assert total == pytest.approx(voxel_ml * np.asarray(mask.dataobj).sum(), rel=1e-3)
    report = (folder / "report.html").read_text(encoding="utf-8")
    assert "patient_7" in report
    assert "esearch use only" in report
    assert (folder / "mip.png").read_bytes().startswith(b"\x89PNG")
    assert str(folder / "report.html") in ran.out
    assert "total: MTV" in ran.out


def test_run_json_holds_inputs_model_settings_versions_warnings_and_outputs(
    segment, study, tmp_path, tiny_bundle, plain_pictures
):
    segment(study, "-o", tmp_path / "out", "--connectivity", "26", "--min-volume-ml", "1.5")
    folder = tmp_path / "out" / "patient_7"
    run = run_json(folder)
    assert run["case"] == "patient_7"
    assert "esearch use only" in run["notice"]
    for source in run["inputs"]:
        assert hashlib.sha256(Path(source["path"]).read_bytes()).hexdigest() == source["sha256"]
    assert [source["role"] for source in run["inputs"]] == ["ct", "pet"]
    card = json.loads((tiny_bundle / "card.json").read_text(encoding="utf-8"))
    assert run["bundle"]["name"] == "tiny"
    assert run["bundle"]["checksums"].items() > card["files"].items()
    assert "card.json" in run["bundle"]["checksums"]
    assert run["settings"]["connectivity"] == 26
    assert run["settings"]["min_volume_ml"] == 1.5
    assert run["settings"]["mirror"] is False
    assert run["settings"]["precision"] == "float32"
    assert {"uptake", "python", "numpy", "torch"} <= set(run["versions"])
    assert run["warnings"] == ["tiny: It has learnt nothing."]
    assert {"read", "harmonise", "network", "restore"} <= set(run["timings_s"])
    found = hashes(folder)
    assert {output["name"] for output in run["outputs"]} == FILES - {"run.json"}
    assert all(found[output["name"]] == output["sha256"] for output in run["outputs"])


def test_what_is_left_out_stands_in_run_json_and_in_the_report(cli, study, tmp_path, tiny_bundle, plain_pictures):
    options = ("-m", tiny_bundle, "--precision", "float32", "--device", "cpu", "--engine", "torch")
    assert cli("segment", study, "-o", tmp_path / "a", *options, "--preset", "fast").code == 0
    run = run_json(tmp_path / "a" / "patient_7")
    assert (run["settings"]["tile_step"], run["settings"]["mirror"], run["settings"]["focus"]) == (0.6, False, True)
    assert run["settings"]["ensemble"]["flips"] == {"0": []}
    assert run["settings"]["ensemble"]["dropped"] == []
    # Ample time and memory leave nothing out.
    ample = ("--max-seconds", "1e6", "--max-ram-gb", "1000")
    assert cli("segment", study, "-o", tmp_path / "b", *options, *ample).code == 0
    run = run_json(tmp_path / "b" / "patient_7")
    ensemble = run["settings"]["ensemble"]
    assert (ensemble["dropped"], ensemble["flips"], ensemble["tile_step"]) == ([], {"0": ["left-right"]}, 0.5)
    assert ensemble["measured"]["window_s"] > 0
    assert cli("segment", study, "-o", tmp_path / "c", *options).code == 0
    masks = [read_labels(tmp_path / name / "patient_7" / "lesions.nii.gz")[0].array for name in "bc"]
    np.testing.assert_array_equal(*masks)
    # One byte of memory or a microsecond does not suffice for anything, and nothing is written.
    for limit, least in (("--max-ram-gb", r"The least is"), ("--max-seconds", r"The least for this case is")):
        ran = cli("segment", study, "-o", tmp_path / "d", *options, limit, "1e-9")
        assert ran.code == 4
        assert least in ran.err
        assert not (tmp_path / "d" / "patient_7").exists()
    assert cli("segment", study, "-o", tmp_path / "d", *options, "--max-seconds", "0").code == 2


def test_the_same_run_twice_gives_the_same_bytes(segment, study, tmp_path):
    segment(study, "-o", tmp_path / "one")
    segment(study, "-o", tmp_path / "two")
    one, two = hashes(tmp_path / "one" / "patient_7"), hashes(tmp_path / "two" / "patient_7")
    one.pop("run.json")
    two.pop("run.json")
    assert one == two


def test_the_same_command_again_keeps_the_result(segment, study, tmp_path, plain_pictures):
    segment(study, "-o", tmp_path)
    before = times(tmp_path / "patient_7")
    again = segment(study, "-o", tmp_path)
    assert again.code == 0
    assert "kept" in again.out
    assert times(tmp_path / "patient_7") == before


@pytest.mark.parametrize("change", [("--again",), ("--connectivity", "6"), ("--tile-step", "1"), "input", "output"])
def test_the_result_is_made_anew_when_asked_or_when_anything_changed(
    segment, study, tmp_path, plain_pictures, make_study, tiny_arrays, change
):
    out = tmp_path / "out"
    segment(study, "-o", out)
    folder = out / "patient_7"
    before = times(folder)
    if change == "input":
        make_study(study, pet=tiny_arrays["pet"] * 1.01)
    elif change == "output":
        (folder / "lesions.csv").write_text("edited", encoding="utf-8")
    ran = segment(study, "-o", out, *(change if isinstance(change, tuple) else ()))
    assert ran.code == 0
    assert "kept" not in ran.out
    after = times(folder)
    assert after.keys() == before.keys()
    assert all(after[name] > before[name] for name in before)
    assert [f.name for f in out.iterdir()] == ["patient_7"], "neither the old folder nor a part is left behind"


def test_another_model_of_the_same_name_makes_it_anew(cli, study, tmp_path, make_bundle, plain_pictures):
    one, two = make_bundle(tmp_path / "a" / "m"), make_bundle(tmp_path / "b" / "m", seed=3)
    cli("segment", study, "-o", tmp_path / "out", "-m", one, *FAST)
    before = (tmp_path / "out" / "patient_7" / "lesions.nii.gz").read_bytes()
    ran = cli("segment", study, "-o", tmp_path / "out", "-m", two, *FAST)
    assert "kept" not in ran.out
    assert (tmp_path / "out" / "patient_7" / "lesions.nii.gz").read_bytes() != before


@pytest.mark.parametrize("suffix", [".mha", ".nrrd", ".nii"])
def test_other_formats_give_the_mask_that_nifti_gives(segment, study, make_study, tmp_path, plain_pictures, suffix):
    other = make_study(tmp_path / "other" / "patient_7", suffix=suffix)
    assert segment(other, "-o", tmp_path / "a").code == 0
    assert segment(study, "-o", tmp_path / "b").code == 0
    one, _ = read_labels(tmp_path / "a" / "patient_7" / "lesions.nii.gz")
    two, _ = read_labels(tmp_path / "b" / "patient_7" / "lesions.nii.gz")
    np.testing.assert_allclose(one.affine, two.affine, atol=1e-4)
    # The axes of a file may be stored with other last digits; a handful of voxels on the border may then differ.
    assert (one.array != two.array).mean() < 0.001
    assert one.array.any()


@pytest.mark.parametrize("code", ["RAS", "LPS", "LAS", "SRP", "PIL"])
def test_a_permuted_or_flipped_grid_moves_no_lesion(segment, study, tmp_path, plain_pictures, code):
    from uptake.geometry.orientation import reorient

    straight = np.diag([8.0, 8.0, 8.0, 1.0])
    images = {role: Volume(read_image(study / f"{role}.nii.gz")[0].array, straight) for role in ("pet", "ct")}
    masks = {}
    for orientation in ("RAS", code):
        folder = tmp_path / orientation / "patient_7"
        folder.mkdir(parents=True, exist_ok=True)
        for role, image in images.items():
            write_volume(reorient(image, orientation), folder / f"{role}.nii.gz")
        assert segment(folder, "-o", tmp_path / f"out_{orientation}").code == 0
        masks[orientation], _ = read_labels(tmp_path / f"out_{orientation}" / "patient_7" / "lesions.nii.gz")
    assert masks[code].orientation == code
    np.testing.assert_array_equal(reorient(masks[code], "RAS").array, masks["RAS"].array)


def test_files_named_one_by_one(segment, study, tmp_path, plain_pictures):
    assert segment("--pet", study / "pet.nii.gz", "--ct", study / "ct.nii.gz", "-o", tmp_path / "a").code == 0
    (case,) = (tmp_path / "a").iterdir()
    assert segment("-i", study, "-o", tmp_path / "b").code == 0
    assert hashes(case)["lesions.nii.gz"] == hashes(tmp_path / "b" / "patient_7")["lesions.nii.gz"]


def test_pet_alone_is_accepted_and_the_report_says_so(segment, study, tmp_path, plain_pictures):
    ran = segment(study / "pet.nii.gz", "-o", tmp_path / "a")
    assert ran.code == 0
    assert "! No CT" in ran.out
    (case,) = (tmp_path / "a").iterdir()
    assert "No CT" in run_json(case)["warnings"][0]
    assert "No CT" in (case / "report.html").read_text(encoding="utf-8")


def test_a_tracer_that_the_model_never_saw_is_warned_about_and_reported(
    cli, study, tmp_path, make_bundle, plain_pictures
):
    model = make_bundle(tmp_path / "fdg-model", training={"data": "none", "tracers": ["FDG"]})
    ran = cli("segment", study, "-o", tmp_path / "a", "-m", model, *FAST, "--tracer", "68Ga-PSMA-11")
    assert ran.code == 0
    assert "! The tracer is PSMA-11; fdg-model was trained on FDG alone." in ran.out
    run = run_json(tmp_path / "a" / "patient_7")
    assert run["settings"]["tracer"] == "68Ga-PSMA-11" and run["acquisition"]["tracer"] == "PSMA-11"
    assert "SUV as given in the file" in (tmp_path / "a" / "patient_7" / "report.html").read_text(encoding="utf-8")
    lesions = json.loads((tmp_path / "a" / "patient_7" / "lesions.json").read_text(encoding="utf-8"))
    assert lesions["assessment"]["patient"]["tracer"] == "PSMA-11"
    known = cli("segment", study, "-o", tmp_path / "a", "-m", model, *FAST, "--tracer", "FDG")
    assert known.code == 0 and "The tracer is" not in known.out and "kept" not in known.out


def test_an_unknown_tracer_is_refused_before_any_work(segment, study, tmp_path):
    ran = segment(study, "-o", tmp_path / "a", "--tracer", "water")
    assert ran.code == 2 and "'water' is not known; known are FDG, PSMA-1007" in ran.err
    assert not (tmp_path / "a" / "patient_7").exists()


def test_what_auto_means_is_part_of_the_request(cli, study, tmp_path, tiny_bundle, plain_pictures, monkeypatch):
    from uptake.workflows import segment as workflow

    command = ("segment", study, "-o", tmp_path, "-m", tiny_bundle, "--no-mirror", "--device", "cpu")
    command = (*command, "--engine", "torch")
    monkeypatch.setattr(workflow, "bf16_pays", lambda device: False)
    assert cli(*command).code == 0
    assert run_json(tmp_path / "patient_7")["request"]["settings"]["precision"] == "float32"
    assert "kept" in cli(*command).out
    # The same command where bfloat16 pays would give other numbers.
    monkeypatch.setattr(workflow, "bf16_pays", lambda device: True)
    assert "kept" not in cli(*command).out
    assert run_json(tmp_path / "patient_7")["request"]["settings"]["precision"] == "bfloat16"


def test_a_mask_beside_the_images_is_not_needed_and_not_read(segment, study, tmp_path, plain_pictures):
    (study / "lesion.nii.gz").write_bytes(b"not an image")
    assert segment(study, "-o", tmp_path / "a").code == 0


def test_an_nnunet_images_folder_is_a_cohort(segment, study, tmp_path, plain_pictures):
    images = tmp_path / "Dataset" / "imagesTs"
    images.mkdir(parents=True)
    for case in ("p_001", "p_002"):
        shutil.copy(study / "ct.nii.gz", images / f"{case}_0000.nii.gz")
        shutil.copy(study / "pet.nii.gz", images / f"{case}_0001.nii.gz")
    ran = segment(images, "-o", tmp_path / "out")
    assert ran.code == 0
    assert {f.name for f in (tmp_path / "out").iterdir()} == {"p_001", "p_002"}
    run = run_json(tmp_path / "out" / "p_002")
    assert {source["role"]: source["path"] for source in run["inputs"]} == {
        "ct": str(images / "p_002_0000.nii.gz"),
        "pet": str(images / "p_002_0001.nii.gz"),
    }


def test_one_broken_study_of_three_stops_no_other(segment, make_study, tmp_path, plain_pictures):
    cohort = tmp_path / "cohort"
    for name in ("a", "b", "c"):
        make_study(cohort / name)
    pet = cohort / "b" / "pet.nii.gz"
    pet.write_bytes(pet.read_bytes()[:3000])
    out = tmp_path / "out"
    ran = segment(cohort, "-o", out)
    assert ran.code == 3
    assert "1 of 3 cases failed" in ran.err
    assert len(ran.err.splitlines()) == 2, "one line for the case, one for the sum"
    assert ran.out.splitlines()[:3] == ["a: written", "b: failed", "c: written"]
    assert str(pet) in ran.err
    rows = table(out / "failures.csv")
    assert [(row["case"], row["error"], row["exit_code"]) for row in rows] == [("b", "FileFormatError", "4")]
    assert "truncated" in rows[0]["message"]
    assert {f.name for f in out.iterdir()} == {"a", "c", "failures.csv"}
    assert all({f.name for f in (out / case).iterdir()} == FILES for case in ("a", "c"))
    # Mended, the same command does what is left, and the list of failures goes.
    make_study(cohort / "b")
    before = times(out / "a")
    ran = segment(cohort, "-o", out)
    assert ran.code == 0
    assert "1 written, 2 kept, 0 failed" in ran.out
    assert {f.name for f in out.iterdir()} == {"a", "b", "c"}
    assert times(out / "a") == before


def test_a_study_that_is_no_image_at_all_is_listed_too(segment, make_study, tmp_path, plain_pictures):
    make_study(tmp_path / "cohort" / "a")
    make_study(tmp_path / "cohort" / "only_ct", roles=("ct",))
    ran = segment(tmp_path / "cohort", "-o", tmp_path / "out")
    assert ran.code == 3
    assert "Accepted:" not in ran.err
    assert "Accepted:" in (tmp_path / "out" / "failures.csv").read_text(encoding="utf-8")
    assert "only_ct" in (tmp_path / "out" / "failures.csv").read_text(encoding="utf-8")


def test_results_among_the_studies_are_no_studies(segment, make_study, tmp_path, plain_pictures):
    cohort = tmp_path / "cohort"
    for name in ("a", "b"):
        make_study(cohort / name)
    assert segment(cohort, "-o", cohort / "results").code == 0
    again = segment(cohort, "-o", cohort / "results")
    assert (again.code, again.err) == (0, "")
    assert "0 written, 2 kept, 0 failed" in again.out


def test_studies_whose_results_would_have_one_name_are_refused(segment, make_study, tmp_path):
    make_study(tmp_path / "cohort" / "a" / "b_c")
    make_study(tmp_path / "cohort" / "a_b" / "c")
    ran = segment(tmp_path / "cohort", "-o", tmp_path / "out")
    assert ran.code == 2
    assert "several studies would be named 'a_b_c'" in ran.err


def test_a_bug_in_one_case_stops_no_other_and_shows_its_traceback(
    segment, make_study, tmp_path, plain_pictures, monkeypatch, caplog
):
    from uptake.workflows import cohort

    real = cohort.segment_case

    def broken(case, bundle, **options):
        if case.id == "a":
            raise ZeroDivisionError("a bug")
        return real(case, bundle, **options)

    monkeypatch.setattr(cohort, "segment_case", broken)
    for name in ("a", "b"):
        make_study(tmp_path / "cohort" / name)
    ran = segment(tmp_path / "cohort", "-o", tmp_path / "out")
    assert ran.code == 3
    (row,) = table(tmp_path / "out" / "failures.csv")
    assert (row["case"], row["error"], row["exit_code"]) == ("a", "ZeroDivisionError", "1")
    assert "Traceback" in caplog.text
    assert (tmp_path / "out" / "b" / "report.html").exists()


def test_quiet_prints_nothing(segment, study, tmp_path, plain_pictures):
    ran = segment(study, "-o", tmp_path, "-q")
    assert (ran.code, ran.out, ran.err) == (0, "", "")


def test_no_lesion_is_a_result_and_not_a_failure(cli, study, tmp_path, make_bundle):
    def nothing(state):
        bias = state["decoder.seg_layers.0.bias"].clone()
        bias[0], bias[1] = 100.0, -100.0
        return {**state, "decoder.seg_layers.0.bias": bias}

    bundle = make_bundle(tmp_path / "blind", change=nothing)
    ran = cli("segment", study, "-o", tmp_path / "out", "-m", bundle, *FAST)
    assert ran.code == 0
    assert "No lesion was found" in ran.out
    folder = tmp_path / "out" / "patient_7"
    assert not read_labels(folder / "lesions.nii.gz")[0].array.any()
    assert table(folder / "lesions.csv") == []
    assert "no lesion" in (folder / "report.html").read_text(encoding="utf-8").lower()


def test_a_dicom_study_with_two_pets_and_the_one_that_is_named(segment, pet_series, tmp_path, plain_pictures):
    stored = np.random.default_rng(4).integers(1000, 9000, (20, 24, 24)).astype(np.int16)
    for series in ("11", "12"):
        pet_series(tmp_path / "visit" / series, series=series, slices=20, stored=stored)
    ran = segment(tmp_path / "visit", "-o", tmp_path / "out")
    assert ran.code == 4
    assert "PT series …1.2.3.11 (20 slices); PT series …1.2.3.12 (20 slices)" in ran.err
    assert "--pet-series" in ran.err
    ran = segment(tmp_path / "visit", "-o", tmp_path / "out", "--pet-series", "12")
    assert (ran.code, ran.err) == (0, "")
    assert (tmp_path / "out" / "visit" / "lesions.nii.gz").is_file()
