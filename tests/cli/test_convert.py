"""`uptake convert`: what is written, what it tells about the patient, what is kept, what is refused."""

from __future__ import annotations

import csv
import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

nib = pytest.importorskip("nibabel")
pytest.importorskip("pydicom")

FACTOR = 70000 / (350e6 * 2 ** (-3600 / 6586.2))
"""Of the header in conftest, by hand."""


def record_of(folder: Path) -> dict:
    return json.loads((folder / "convert.json").read_text(encoding="utf-8"))


def everything_in(folder: Path) -> str:
    """Return all that was written, images unpacked, as one string, with the names of the files."""
    import gzip

    parts = [str(path.relative_to(folder)) for path in folder.rglob("*")]
    for path in folder.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            parts.append((gzip.decompress(content) if path.suffix == ".gz" else content).decode("utf-8", "replace"))
    return "\n".join(parts)


@pytest.fixture
def study(tmp_path, pet_series, ct_series) -> Path:
    pet_series(tmp_path / "in" / "visit_3" / "PT")
    ct_series(tmp_path / "in" / "visit_3" / "CT")
    return tmp_path / "in" / "visit_3"


@pytest.fixture
def refused(cli, tmp_path):
    """Return a function that converts, asserts exit code 4 and that nothing was written, and returns the message."""

    def call(*arguments):
        out = tmp_path / "out"
        ran = cli("convert", *arguments, "-o", out)
        assert ran.code == 4, ran
        assert (ran.out, ran.err[:8]) == ("", "uptake: ")
        assert "Traceback" not in ran.err
        assert not out.exists() or list(out.iterdir()) == []
        for secret in ("Secret^Person", "SECRET-ID", "19500101"):
            assert secret not in ran.err
        return ran.err

    return call


def test_suv_hu_and_the_record(cli, study, tmp_path):
    ran = cli("convert", study, "-o", tmp_path / "out")
    assert ran.code == 0, ran.err
    folder = tmp_path / "out" / "visit_3"
    names = {"pet_suv.nii.gz", "ct.nii.gz", "ct_on_pet.nii.gz", "convert.json"}
    assert {path.name for path in folder.iterdir()} == names
    pet, ct, on_pet = (nib.load(folder / name) for name in ("pet_suv.nii.gz", "ct.nii.gz", "ct_on_pet.nii.gz"))
    stored = (np.arange(48).reshape(4, 3, 4) * 600).astype(np.int16)
    assert pet.get_fdata()[1, 2, 3] == pytest.approx(stored[3, 2, 1] * 2.0 * FACTOR, rel=1e-6)
    assert nib.aff2axcodes(pet.affine) == ("L", "P", "S")
    np.testing.assert_allclose(pet.affine @ [1, 1, 1, 1], [-12, -23, 35, 1])
    assert ct.get_data_dtype() == np.int16
    assert ct.get_fdata()[3, 2, 3] == 47 * 15 + 24 - 1024
    np.testing.assert_allclose(on_pet.get_fdata(), ct.get_fdata(), atol=1e-3)  # one grid here
    for image in (pet, ct, on_pet):
        assert b"research use only" in image.header["descrip"].item()
    for shown in ("SUV factor 0.0002921", "rule BQML/START", "uptake time 60.0 min", str(folder / "ct.nii.gz")):
        assert shown in ran.out


def test_suv_can_be_repeated_from_the_record(cli, study, tmp_path):
    assert cli("convert", study, "-o", tmp_path / "out").code == 0
    record = record_of(tmp_path / "out" / "visit_3")
    suv = record["suv"]
    grams = suv["patient_weight_kg"] * 1000
    decayed = suv["injected_dose_bq"] * 2 ** (-suv["uptake_time_s"] / suv["half_life_s"])
    assert suv["factor"] == pytest.approx(grams / decayed, rel=1e-12)
    assert suv["factor"] == pytest.approx(FACTOR, rel=1e-9)
    assert (suv["rule"], suv["slice_factors"], suv["uptake_time_s"]) == ("BQML/START", None, 3600.0)
    assert [(s["role"], s["why"]) for s in record["series"]] == [("pet", "the only one"), ("ct", "the only one")]
    assert [i["files"] for i in record["inputs"]] == [4, 4]
    assert record["geometry"]["pet"]["shape"] == [4, 3, 4]
    assert any(tag["tag"] == "(0010,1030)" and tag["value"].startswith("70") for tag in suv["tags"])


@pytest.mark.parametrize("packed", [False, True])
def test_nothing_that_is_written_tells_who_the_patient_is(cli, tmp_path, pet_series, ct_series, packed):
    secrets = {
        "PatientName": "Doe^Jane", "PatientID": "ID-4711", "PatientBirthDate": "19490228", "AccessionNumber": "ACC99",
        "InstitutionName": "Sunny Clinic", "ReferringPhysicianName": "House^Gregory", "StudyDescription": "whole Jane",
        "SeriesDescription": "PET of Jane", "StudyDate": "20240102", "StudyID": "SID77", "OperatorsName": "Op^Erator",
        "PatientComments": "likes tea",
    }  # fmt: skip
    place = tmp_path / "Doe_Jane"
    pet_series(place / "PT", **secrets)
    ct_series(place / "CT", **secrets)
    if packed:
        shutil.make_archive(str(place), "zip", place)
        shutil.rmtree(place)
        place = tmp_path / "Doe_Jane.zip"
    ran = cli("convert", place, "-o", tmp_path / "out")
    assert ran.code == 0, ran.err
    (folder,) = (tmp_path / "out").iterdir()
    assert folder.name.startswith("case-")
    assert f"Doe_Jane is the patient's name or number: the results are called {folder.name}" in ran.out
    text = everything_in(tmp_path / "out")
    for secret in ("Doe", "Jane", "4711", "19490228", "ACC99", "Sunny", "House", "20240102", "2024-01-02", "SID77",
                   "Erator", "likes tea", str(tmp_path), "1.2.3.99"):  # fmt: skip
        assert secret not in text, secret
    before = folder.name
    assert cli("convert", place, "-o", tmp_path / "out").code == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == [before]  # the same name in every run
    assert record_of(folder)["identifiers"] == "removed"


def test_identifiers_are_kept_where_that_is_asked_for(cli, tmp_path, pet_series):
    pet_series(tmp_path / "SECRET-ID", SeriesDescription="head first")
    assert cli("convert", tmp_path / "SECRET-ID", "-o", tmp_path / "out", "--keep-identifiers").code == 0
    record = record_of(tmp_path / "out" / "SECRET-ID")
    assert record["patient"]["PatientName"] == "Secret^Person"
    assert record["path"] == str(tmp_path / "SECRET-ID")
    assert record["series"][0]["description"] == "head first"
    assert record["series"][0]["series"] == "1.2.3.1"
    assert record["suv"]["reference_time"] == "2024-01-02T11:00:00"


def test_a_zip_archive_gives_the_same_bytes_and_nothing_is_left_behind(cli, study, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    shutil.make_archive(str(tmp_path / "visit_3"), "zip", study)
    before = sorted(tmp_path.rglob("*"))
    assert cli("convert", study, "-o", tmp_path / "a").code == 0
    assert cli("convert", tmp_path / "visit_3.zip", "-o", tmp_path / "b").code == 0
    for name in ("pet_suv.nii.gz", "ct.nii.gz", "ct_on_pet.nii.gz", "convert.json"):
        assert (tmp_path / "a" / "visit_3" / name).read_bytes() == (tmp_path / "b" / "visit_3" / name).read_bytes()
    after = {path for path in tmp_path.rglob("*") if not {"a", "b"} & set(path.relative_to(tmp_path).parts)}
    assert sorted(after) == before


def test_a_complete_result_is_kept_until_something_differs(cli, study, tmp_path):
    command = ("convert", study, "-o", tmp_path / "out")
    assert cli(*command).code == 0
    pet = tmp_path / "out" / "visit_3" / "pet_suv.nii.gz"
    first = pet.stat().st_mtime_ns
    ran = cli(*command)
    assert "complete already with the same input and settings; kept" in ran.out
    assert pet.stat().st_mtime_ns == first
    content = pet.read_bytes()
    pet.write_bytes(content[:-1])  # damaged since
    assert cli(*command).code == 0
    assert pet.read_bytes() == content
    for changed in (("--again",), ("--no-ct",)):
        before = pet.stat().st_mtime_ns
        assert cli(*command, *changed).code == 0
        assert pet.stat().st_mtime_ns != before
    assert not (tmp_path / "out" / "visit_3" / "ct.nii.gz").exists()


def test_results_never_take_the_place_of_other_files(cli, study, tmp_path):
    (tmp_path / "out" / "visit_3").mkdir(parents=True)
    (tmp_path / "out" / "visit_3" / "notes.txt").write_text("mine", encoding="utf-8")
    ran = cli("convert", study, "-o", tmp_path / "out")
    assert ran.code == 4
    assert "holds files that are none: notes.txt" in ran.err
    ran = cli("convert", study, "-o", study.parent)
    assert ran.code == 4
    assert (study / "PT").is_dir()


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_cohort_with_a_bad_study(cli, tmp_path, pet_series, ct_series, jobs):
    cohort = tmp_path / "cohort"
    pet_series(cohort / "a" / "PT")
    ct_series(cohort / "a" / "CT")
    pet_series(cohort / "Secret_Person" / "PT", StudyInstanceUID="1.2.4", PatientWeight=None)
    pet_series(cohort / "site" / "c", StudyInstanceUID="1.2.5")
    with zipfile.ZipFile(cohort / "d.zip", "w") as archive:
        for path in pet_series(tmp_path / "d", StudyInstanceUID="1.2.6").iterdir():
            archive.write(path, path.name)
    ran = cli("convert", cohort, "-o", tmp_path / "out", "--jobs", jobs)
    assert ran.code == 3, ran.err
    assert "3 written, 0 kept, 1 failed" in ran.out
    assert "Patient's Weight (0010,1030)" in ran.err
    (failure,) = csv.DictReader((tmp_path / "out" / "failures.csv").read_text(encoding="utf-8").splitlines())
    assert failure["case"].startswith("case-")
    assert failure["exit_code"] == "4"
    assert "Secret" not in (tmp_path / "out" / "failures.csv").read_text(encoding="utf-8")
    done = {path.name for path in (tmp_path / "out").iterdir()}
    assert done == {"a", "site", "d", "failures.csv"}
    shutil.rmtree(cohort / "Secret_Person")
    ran = cli("convert", cohort / "a", cohort / "site", cohort / "d.zip", "-o", tmp_path / "out", "--jobs", jobs)
    assert ran.code == 0, ran.err
    assert "kept" in ran.out
    assert not (tmp_path / "out" / "failures.csv").exists()


def test_series_of_several_studies_side_by_side(cli, tmp_path, pet_series, ct_series):
    for number, uid in enumerate(("1.2.111111", "1.2.222222")):
        pet_series(tmp_path / "p" / f"PT_{number}", series=f"1{number}", StudyInstanceUID=uid)
        ct_series(tmp_path / "p" / f"CT_{number}", series=f"2{number}", StudyInstanceUID=uid)
    assert cli("convert", tmp_path / "p", "-o", tmp_path / "out").code == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"p_111111", "p_222222"}
    assert (tmp_path / "out" / "p_111111" / "ct.nii.gz").exists()


def test_values_that_the_header_lacks_are_supplied(cli, refused, tmp_path, pet_series):
    folder = pet_series(
        tmp_path / "s", PatientWeight=None,
        tracer={"RadionuclideTotalDose": None, "RadiopharmaceuticalStartTime": None},
    )  # fmt: skip
    assert "Patient's Weight (0010,1030)" in refused(folder)
    given = ("--weight-kg", "70", "--dose-mbq", "350", "--injection", "2024-01-02T10:00:00")
    assert cli("convert", folder, "-o", tmp_path / "o", *given).code == 0
    record = record_of(tmp_path / "o" / "s")
    assert record["suv"]["factor"] == pytest.approx(FACTOR, rel=1e-9)
    assert record["suv"]["supplied"] == {"weight_kg": 70.0, "dose_mbq": 350.0, "injection": "10:00:00"}


def test_a_supplied_value_wins_only_when_told(cli, tmp_path, pet_series):
    folder = pet_series(tmp_path / "s")
    assert cli("convert", folder, "-o", tmp_path / "o", "--weight-kg", "140").code == 0
    record = record_of(tmp_path / "o" / "s")
    assert record["suv"]["factor"] == pytest.approx(FACTOR, rel=1e-9)
    assert any("140" in text for text in record["warnings"])
    assert cli("convert", folder, "-o", tmp_path / "o", "--weight-kg", "140", "--replace-header").code == 0
    assert record_of(tmp_path / "o" / "s")["suv"]["factor"] == pytest.approx(2 * FACTOR, rel=1e-9)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "name a DICOM study"),
        (("--weight-kg", "-3"), "--weight-kg is a positive number"),
        (("--sex", "X"), "--sex is M, F or O"),
        (("--replace-header",), "goes with a value"),
        (("--injection", "2024-01-02T10:00:00+01:00"), "without a time zone"),
        (("--jobs", "0"), "jobs is the number of processes"),
        (("--pet-series", "77"), "no PT series ends with '77'"),
    ],
)
def test_wrong_usage(cli, study, tmp_path, arguments, message):
    place = () if arguments == () else (study,)
    ran = cli("convert", *place, "-o", tmp_path / "out", *arguments)
    assert ran.code == 2, ran
    assert message in ran.err


def test_values_that_look_odd_are_reported(cli, tmp_path, pet_series):
    assert cli("convert", pet_series(tmp_path / "s", slopes=[0.001] * 4), "-o", tmp_path / "o").code == 0
    assert any("the SUV looks odd: no voxel is above" in text for text in record_of(tmp_path / "o" / "s")["warnings"])


def test_values_and_series_go_with_one_study(cli, study, tmp_path, pet_series):
    other = pet_series(tmp_path / "other", StudyInstanceUID="1.2.4")
    assert cli("convert", study, other, "-o", tmp_path / "out", "--weight-kg", "70").code == 2
    assert cli("convert", study, other, "-o", tmp_path / "out", "--pet-series", "1").code == 2


def test_a_folder_without_pet(refused, tmp_path, ct_series):
    ct_series(tmp_path / "s")
    message = refused(tmp_path / "s")
    assert "no PET series of slices (series found: 1 CT)" in message
    assert "Give the whole study" in message


def test_two_pets_of_equal_rank(refused, cli, tmp_path, pet_series):
    pet_series(tmp_path / "s" / "a", series="11")
    pet_series(tmp_path / "s" / "b", series="12")
    message = refused(tmp_path / "s")
    assert "PT series …1.2.3.11 (4 slices); PT series …1.2.3.12 (4 slices)" in message
    assert "--pet-series" in message
    assert cli("convert", tmp_path / "s", "-o", tmp_path / "o", "--pet-series", "12").code == 0


def test_one_slice_missing(refused, tmp_path, pet_series):
    folder = pet_series(tmp_path / "s", slices=6)
    next(path for path in folder.iterdir() if path.name.endswith("_3.dcm")).unlink()
    message = refused(folder)
    assert "1 gaps where slices are missing, the first after position 40.00 mm (10.00 mm" in message
    assert "Export the whole series again" in message


@pytest.mark.parametrize("length", [140, 500, -5])
def test_a_truncated_file(refused, tmp_path, pet_series, length):
    folder = pet_series(tmp_path / "s")
    path = sorted(folder.iterdir())[1]
    path.write_bytes(path.read_bytes()[:length])
    message = refused(folder)
    assert str(path) in message
    assert "truncated" in message or "cut short" in message
    assert "again" in message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"PatientWeight": "0"}, "Patient's Weight (0010,1030)"),
        ({"tracer": {"RadionuclideTotalDose": None}}, "Radionuclide Total Dose (0018,1074)"),
        ({"tracer": {"RadionuclideTotalDose": "0"}}, "Radionuclide Total Dose (0018,1074)"),
        ({"tracer": {"RadionuclideHalfLife": None, "codes": None}}, "Radionuclide Half Life (0018,1075)"),
        ({"tracer": {"RadiopharmaceuticalStartTime": None}}, "Radiopharmaceutical Start Time (0018,1072)"),
        ({"tracer": {"RadiopharmaceuticalStartTime": "130000"}}, "njection"),
        ({"Units": "PROPCPS"}, "(0054,1001) is PROPCPS"),
        ({"Units": "CPS"}, "(0054,1001) is CPS"),
        ({"Units": "1CM"}, "(0054,1001) is 1CM"),
        ({"injections": 2}, "(0054,0016)"),
        ({"SeriesType": ["DYNAMIC", "IMAGE"]}, "Series Type (0054,1000) is DYNAMIC"),
        ({"positions": [(10, 20 + n, 30 + 5 * n) for n in range(4)]}, "tilted gantry"),
    ],
)
def test_what_cannot_be_suv_is_refused_by_its_name(refused, tmp_path, pet_series, change, message):
    folder = pet_series(tmp_path / "s", **change)
    text = refused(folder)
    assert message in text
    assert str(folder) in text


def test_what_is_no_dicom(refused, make_study, tmp_path):
    assert "holds no DICOM study" in refused(make_study(tmp_path / "nifti"))
    assert "no such file or folder" in refused(tmp_path / "nowhere")
    (tmp_path / "x.zip").write_bytes(b"PK")
    assert "truncated or damaged" in refused(tmp_path / "x.zip")
    (tmp_path / "note.txt").write_text("hello", encoding="utf-8")
    assert "no DICOM study" in refused(tmp_path / "note.txt")


def test_a_full_disk(refused, study, monkeypatch):
    import errno

    from uptake.workflows import convert

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(convert, "write_volume", full)
    assert "cannot be written" in refused(study)


def test_ctrl_c_leaves_nothing_half_written(cli, study, tmp_path, monkeypatch):
    from uptake.workflows import convert

    real = convert.write_volume

    def stop(volume, path):
        real(volume, path)
        if path.name == "ct.nii.gz":
            raise KeyboardInterrupt

    monkeypatch.setattr(convert, "write_volume", stop)
    ran = cli("convert", study, "-o", tmp_path / "out")
    assert ran.code == 130
    assert list((tmp_path / "out").iterdir()) == []
    monkeypatch.undo()
    assert cli("convert", study, "-o", tmp_path / "out").code == 0


def test_the_public_whole_body_series(cli, shared_data, tmp_path):
    place = shared_data / "dicom" / "ge_raw" / "STS_001"
    assert cli("convert", place, "-o", tmp_path).code == 0
    record = record_of(tmp_path / "STS_001")  # Patient Identity Removed is YES: the name may stay
    assert record["suv"]["factor"] == pytest.approx(2.429030e-04, rel=1e-6)
    assert record["geometry"]["pet"]["shape"] == [128, 128, 267]
    ours = nib.load(tmp_path / "STS_001" / "pet_suv.nii.gz")
    theirs = nib.load(shared_data / "wholebody" / "STS_001" / "pet.nii.gz")
    to_theirs = np.linalg.inv(theirs.affine) @ ours.affine
    corner = np.rint(to_theirs @ [0, 0, 0, 1])[:3].astype(int)
    there = np.asarray(theirs.dataobj)
    for axis in range(3):
        if corner[axis]:
            there = np.flip(there, axis)
    # The published image is stored in steps of 0.0025: half a step is the most it can differ, and 0.0003 on average.
    difference = np.abs(np.asarray(ours.dataobj) - there)
    assert difference.max() <= 0.00126
    assert difference.mean() < 1e-3
