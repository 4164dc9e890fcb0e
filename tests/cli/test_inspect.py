"""`uptake inspect`: what is there, what would be taken and why, and whether SUV can be known."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("pydicom")

FACTOR = 70000 / (350e6 * 2 ** (-3600 / 6586.2))


@pytest.fixture
def study(tmp_path, pet_series, ct_series):
    place = tmp_path / "visit_3"
    pet_series(place / "PT")
    pet_series(place / "NAC", series="8", CorrectedImage=["DECY"], SeriesDescription="not corrected, Secret Person")
    ct_series(place / "CT")
    ct_series(place / "scout", series="3", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    ct_series(place / "rt", series="4", Modality="RTSTRUCT", SOPClassUID="1.2.840.10008.5.1.4.1.1.481.3")
    return place


def test_the_table_and_the_reasons(cli, study):
    ran = cli("inspect", study)
    assert ran.code == 0
    assert ran.err == ""
    lines = ran.out.splitlines()
    assert lines[0] == "visit_3: 5 series"
    (pet,) = (line for line in lines if line.startswith("PET "))
    assert pet.split() == ["PET", "…1.2.3.1", "PT", "4×3×4", "2.00×3.00×5.00", "BQML", "START", f"{FACTOR:.6g}"]
    for text in (
        "…1.2.3.1 PET: attenuation corrected",
        "…1.2.3.8 left: not attenuation corrected",
        "…1.2.3.2 CT: the only one",
        "…1.2.3.3 left: a scout, projection or screen shot",
        "…1.2.3.4 labels: contours (RTSTRUCT)",
        f"SUV: factor {FACTOR:.7g} by rule BQML/START, uptake time 60.0 min",
        "! visit_3: not attenuation corrected and left out: PT series …1.2.3.8 (4 slices).",
    ):
        assert text in ran.out, text
    for secret in ("Secret", "SECRET", "19500101", "20240102"):
        assert secret not in ran.out


def test_the_same_as_json(cli, study):
    ran = cli("inspect", study, "--json")
    (found,) = json.loads(ran.out)
    rows = {row["series"]: row for row in found["series"]}
    assert {series: row["role"] for series, row in rows.items()} == {
        "…1.2.3.1": "pet", "…1.2.3.8": "left", "…1.2.3.2": "ct", "…1.2.3.3": "left", "…1.2.3.4": "labels",
    }  # fmt: skip
    assert rows["…1.2.3.1"]["suv"]["factor"] == pytest.approx(FACTOR, rel=1e-9)
    assert rows["…1.2.3.8"]["suv"]["known"] is False
    assert "lacks ATTN" in rows["…1.2.3.8"]["suv"]["refusal"]
    assert rows["…1.2.3.1"]["extent_mm"] == 15.0
    assert rows["…1.2.3.1"]["transfer_syntax"] == "Explicit VR Little Endian"
    assert found["suv"]["factor"] == pytest.approx(FACTOR, rel=1e-9)
    assert (found["problems"], found["patient"], found["schema"]) == ([], {}, "uptake-inspect/1")
    assert "Secret" not in ran.out
    kept = json.loads(cli("inspect", study, "--json", "--keep-identifiers").out)[0]
    assert kept["patient"]["PatientName"] == "Secret^Person"
    assert "not corrected, Secret Person" in [row["description"] for row in kept["series"]]
    assert "1.2.3.1" in [row["series"] for row in kept["series"]]


def test_inspect_and_convert_decide_alike(cli, study, tmp_path):
    (found,) = json.loads(cli("inspect", study, "--json").out)
    assert cli("convert", study, "-o", tmp_path / "out").code == 0
    record = json.loads((tmp_path / "out" / "visit_3" / "convert.json").read_text(encoding="utf-8"))
    said = [(row["series"], row["role"], row["why"]) for row in record["series"]]
    assert said == [(row["series"], row["role"], row["why"]) for row in found["series"]]
    assert record["suv"]["factor"] == found["suv"]["factor"]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"PatientWeight": None}, "Patient's Weight (0010,1030)"),
        ({"Units": "PROPCPS"}, "(0054,1001) is PROPCPS"),
        ({"SeriesType": ["DYNAMIC", "IMAGE"]}, "Series Type (0054,1000) is DYNAMIC"),
    ],
)
def test_a_pet_whose_suv_cannot_be_known_is_no_error(cli, tmp_path, pet_series, change, problem):
    ran = cli("inspect", pet_series(tmp_path / "s", **change))
    assert ran.code == 0
    assert problem in ran.out
    assert "✗ s: PT series" in ran.out


def test_stored_suv_needs_no_times(cli, tmp_path, pet_series):
    tracer = {"RadiopharmaceuticalStartTime": None, "RadionuclideTotalDose": None}
    folder = pet_series(tmp_path / "s", Units="GML", SUVType="BW", slopes=[1e-3] * 4, tracer=tracer)
    ran = cli("inspect", folder)
    assert (ran.code, ran.err) == (0, "")
    assert "SUV: factor 1 by rule GML/BW" in ran.out
    ran = cli("convert", folder, "-o", tmp_path / "out")
    assert (ran.code, ran.err) == (0, "")
    assert "SUV factor 1 by rule GML/BW" in ran.out


def test_geometry_that_cannot_be_used_is_shown(cli, tmp_path, pet_series):
    positions = [(10, 20, 30.0), (10, 20, 35.0), (10, 20, 45.0), (10, 20, 50.0)]
    ran = cli("inspect", pet_series(tmp_path / "s", positions=positions))
    assert ran.code == 0
    assert "1 gaps where slices are missing" in ran.out


def test_a_study_without_pet_and_one_with_two(cli, tmp_path, pet_series, ct_series):
    ct_series(tmp_path / "a")
    ran = cli("inspect", tmp_path / "a")
    assert ran.code == 0
    assert "no PET series of slices" in ran.out
    pet_series(tmp_path / "b" / "x", series="11")
    pet_series(tmp_path / "b" / "y", series="12")
    ran = cli("inspect", tmp_path / "b")
    assert ran.code == 0
    assert "choose" in ran.out
    assert "one of 2 that no rule tells apart; name it with --pet-series" in ran.out
    ran = cli("inspect", tmp_path / "b", "--pet-series", "12")
    assert "…1.2.3.12 PET: named with --pet-series" in ran.out


def test_a_cohort_and_its_damaged_archive(cli, tmp_path, pet_series):
    pet_series(tmp_path / "c" / "a")
    pet_series(tmp_path / "c" / "b", StudyInstanceUID="1.2.4")
    (tmp_path / "c" / "x.zip").write_bytes(b"PK")
    ran = cli("inspect", tmp_path / "c")
    assert ran.code == 0
    assert "a: 1 series" in ran.out
    assert "b: 1 series" in ran.out
    assert "x.zip: the zip archive is truncated or damaged" in ran.out
    assert len(json.loads(cli("inspect", tmp_path / "c", "--json").out)) == 2
    assert cli("inspect", tmp_path / "c", "--pet-series", "1").code == 2


def test_a_truncated_file_is_reported(cli, tmp_path, pet_series):
    folder = pet_series(tmp_path / "s")
    path = sorted(folder.iterdir())[1]
    path.write_bytes(path.read_bytes()[:500])
    ran = cli("inspect", folder)
    assert ran.code == 0
    assert path.name in ran.out
    assert "truncated" in ran.out


def test_nothing_is_written_and_no_pixel_is_read(cli, study, monkeypatch):
    from uptake.io import dicom_pixels

    monkeypatch.setattr(dicom_pixels, "voxels", None)
    before = sorted((p, p.stat().st_mtime_ns) for p in study.rglob("*"))
    assert cli("inspect", study).code == 0
    assert sorted((p, p.stat().st_mtime_ns) for p in study.rglob("*")) == before


def test_what_is_no_dicom_is_refused(cli, make_study, tmp_path):
    ran = cli("inspect", make_study(tmp_path / "nifti"))
    assert ran.code == 4
    assert "holds no DICOM study" in ran.err


def test_public_studies(cli, shared_data):
    found = json.loads(cli("inspect", shared_data / "dicom" / "sts_cropped", "--json").out)
    assert [one["case"] for one in found] == ["STS_002", "STS_041", "STS_042"]
    for one in found:
        assert sorted(row["role"] for row in one["series"]) == ["ct", "labels", "labels", "pet"]
        assert one["problems"] == []
        assert one["suv"]["rule"] == "GML/BW"
    (slice_,) = json.loads(cli("inspect", shared_data / "dicom" / "acrin_flt", "--json").out)
    np.testing.assert_allclose(slice_["suv"]["factor"], 5.942485e-04, rtol=1e-6)
    assert slice_["suv"]["uptake_time_min"] == pytest.approx(3976.9 / 60, abs=0.01)
    (untagged,) = json.loads(cli("inspect", shared_data / "phantom" / "nema_iq" / "dicom_no_suv_tags", "--json").out)
    assert untagged["suv"]["known"] is False
    assert "Units (0054,1001)" in untagged["suv"]["refusal"]
