from __future__ import annotations

import json
from pathlib import Path

import pytest

from uptake.io.find import find_cases
from uptake.workflows.privacy import named_safely


@pytest.fixture
def named(dicom_pet, tmp_path):
    """A DICOM study of somebody, in a folder that says who."""
    import pydicom

    folder = tmp_path / "Mustermann_Erika"
    files, _ = dicom_pet(folder)
    for file in files:
        header = pydicom.dcmread(file)
        header.PatientName, header.PatientID, header.PatientBirthDate = "Mustermann^Erika", "ID4711", "19640812"
        header.StudyDescription = "Verlauf nach Frau Dr. Beispiel"
        header.save_as(file)
    return folder


def test_a_telling_folder_gives_way_to_a_hash(named):
    (files,) = find_cases(named)
    safe = named_safely(files)
    assert safe.id.startswith("case-")
    assert safe == named_safely(files)
    assert named_safely(files, keep_identifiers=True).id == "Mustermann_Erika"


def everything(folder: Path) -> str:
    return " ".join(str(path) + path.read_bytes().decode("latin-1") for path in folder.rglob("*") if path.is_file())


def test_results_of_a_dicom_study_do_not_tell_whose_they_are(cli, named, tiny_bundle, tmp_path):
    result = cli("segment", named, "-o", tmp_path / "out", "-m", tiny_bundle, "--assume-suv")
    assert result.code == 0, result.err
    text = everything(tmp_path / "out").casefold()
    for word in ("mustermann", "erika", "4711", "19640812", "1964-08-12", "beispiel"):
        assert word not in text
    (run,) = (tmp_path / "out").glob("*/run.json")
    written = json.loads(run.read_text())
    assert written["acquisition"]["suv_factor"] > 0
    assert written["inputs"][0]["path"] == written["case"]


def test_identifiers_stay_where_they_are_asked_for(cli, named, tiny_bundle, tmp_path):
    result = cli("segment", named, "-o", tmp_path / "out", "-m", tiny_bundle, "--assume-suv", "--keep-identifiers")
    assert result.code == 0, result.err
    assert (tmp_path / "out" / "Mustermann_Erika" / "run.json").is_file()
    assert str(named) in (tmp_path / "out" / "Mustermann_Erika" / "run.json").read_text()
