from __future__ import annotations

import pytest

from uptake.io.identifiers import REMOVED, Identifiers

HEADER = {
    "PatientName": "Müller^Anna Lena",
    "PatientID": "AB-1234",
    "PatientBirthDate": "19500101",
    "AccessionNumber": "77001",
    "StudyID": "7",
    "InstitutionName": "Clinic",
}


@pytest.fixture
def known() -> Identifiers:
    return Identifiers.of([HEADER])


@pytest.mark.parametrize(
    "name", ["Mueller", "study7", "adobe", "12345", "patient_annal", "PT", "scan_1950", "7", "AB-12345x"[:5]]
)
def test_names_that_tell_nobody(known, name):
    assert not known.in_name(name)


@pytest.mark.parametrize(
    "name",
    ["müller", "MÜLLER_2", "anna", "Scan Lena 3", "ab1234", "x_AB-1234_y", "p19500101", "77001", "müllerannalena",
     "LenaAnnaMüller", "ab_1234"],
)  # fmt: skip
def test_names_that_give_the_patient_away(known, name):
    assert known.in_name(name)


def test_a_pseudonym_may_be_shown():
    header = {**HEADER, "PatientIdentityRemoved": "YES"}
    assert not Identifiers.of([header]).in_name("AB-1234")
    assert Identifiers.of([header, HEADER]).in_name("AB-1234")


@pytest.mark.parametrize("name", ["Anonymous^Patient", "PHANTOM", "", "Test^Study"])
def test_words_in_the_place_of_a_name_identify_nobody(name):
    known = Identifiers.of([{"PatientName": name, "PatientID": "anonymous"}])
    for folder in ("phantom_3", "study_test", "anonymous", "patient_12"):
        assert not known.in_name(folder)


def test_values_of_headers_lose_dates_text_and_names(known):
    value = {
        "tags": [
            {"tag": "(0008,0021)", "name": "Series Date", "value": "20240102"},
            {"tag": "(0008,0031)", "name": "Series Time", "value": "110000.00"},
            {"tag": "(0018,1078)", "name": "Radiopharmaceutical Start DateTime", "value": "20240102100000.00"},
            {"tag": "(0018,0031)", "name": "Radiopharmaceutical", "value": "FDG"},
            {"tag": "(0008,103E)", "name": "Series Description", "value": "free text"},
            {"tag": "(0008,0070)", "name": "Manufacturer", "value": "Anna's scanner"},
            {"tag": "(0009,100D)", "name": "GE scan DateTime", "value": "20240102110000"},
            {"tag": "(0010,1030)", "name": "Patient's Weight", "value": "70"},
            {"tag": "(0020,000E)", "name": "Series Instance UID", "value": "1.2.3"},
        ],
        "reference_time": "2024-01-02T11:00:00",
        "factor": 2.5e-4,
        "dose": 388777472.0,
        "none": None,
        "flags": ("ATTN", "DECY"),
    }
    shown = known.scrubbed(value)
    assert [entry["value"] for entry in shown["tags"]] == [
        REMOVED, "110000.00", "100000.00", "FDG", REMOVED, REMOVED, "110000", "70", REMOVED
    ]  # fmt: skip
    assert [entry["name"] for entry in shown["tags"]] == [entry["name"] for entry in value["tags"]]
    assert shown["reference_time"] == "11:00:00"
    assert (shown["factor"], shown["dose"], shown["none"]) == (2.5e-4, 388777472.0, None)
    assert shown["flags"] == ["ATTN", "DECY"]


def test_sentences_lose_dates_and_are_removed_where_they_quote_a_number(known):
    assert known.message("Patient's Weight (0010,1030) is 0.") == "Patient's Weight (0010,1030) is 0."
    assert known.message("injected at 2024-01-02T10:00:00, scan 20240102") == "injected at 10:00:00, scan "
    assert known.message("PT series …1.2.20240102 (4 slices)") == "PT series …1.2.20240102 (4 slices)"
    assert REMOVED in known.message("folder AB-1234 is odd")
