"""The whole DICOM road on a patient who does not exist: written, inspected, converted, exported, read back."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from uptake.core.errors import UsageError
from uptake.geometry import Volume
from uptake.io.dicom import read_dicom
from uptake.io.dicom_dialects import DIALECTS
from uptake.io.dicom_images import write_ct_series, write_pet_series
from uptake.io.image import read_image, read_labels
from uptake.simulation.site import Site
from uptake.workflows import simulate as workflow
from uptake.workflows.simulate import simulate
from uptake.workflows.simulated import SimulationSettings, simulated
from uptake.workflows.simulated_dicom import DicomStyle, examination_of

COARSE = SimulationSettings(spacing_mm=(12.0, 12.0, 12.0), n_lesions=2, doses=(0.1,))
VENDORS = {"ge": "D690", "siemens": "mCT", "philips": "Vereos", "uih": "uMI 550"}


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    """One truth, scanned once, written by every vendor: vendor -> folder."""
    patient = simulated(7, COARSE)

    def scanned(seed, settings, **_):
        site = settings.site_of(seed)
        return replace(patient, site=site)

    out = tmp_path_factory.mktemp("dicom")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workflow, "simulated", scanned)
        for vendor, scanner in VENDORS.items():
            (made,) = simulate(
                out / vendor, seed=7, settings=replace(COARSE, scanner=scanner), dicom=DicomStyle(vendor)
            )
            assert (made.lesions, made.kept) == (2, False)
    return patient, {vendor: out / vendor / "sim_00007" for vendor in VENDORS}


@pytest.mark.parametrize("vendor", VENDORS)
def test_every_vendor_gives_back_the_pet_and_the_ct(vendor, studies):
    patient, folders = studies
    study = read_dicom(folders[vendor])
    assert study.warnings == ()
    truth = patient.scan.pet[1.0]
    # Half a slope of int16 slices: the hottest voxel of a slice over 32767, halved.
    half = truth.array.max() / 32767 / 2
    np.testing.assert_allclose(study.pet.array, truth.array, atol=half + 1e-6)
    assert study.ct is not None
    np.testing.assert_array_equal(study.ct.array, patient.scan.ct.array)
    assert study.acquisition["tracer"] == "FDG"
    assert study.acquisition["patient_weight_kg"] == pytest.approx(patient.truth.weight_kg, abs=0.051)
    protocol = patient.scan.parameters["protocol"]
    assert study.acquisition["uptake_time_min"] == pytest.approx(protocol["uptake_min"], abs=0.01)


def test_the_low_dose_series_is_derived_and_can_be_named(studies):
    patient, folders = studies
    whole = read_dicom(folders["uih"])
    roles = {verdict.series.uid: verdict.role for verdict in whole.choice.verdicts}
    assert sorted(roles.values()) == ["ct", "left", "pet"]
    other = next(uid for uid, role in roles.items() if role == "left")
    low = read_dicom(folders["uih"], pet_series=other)
    np.testing.assert_allclose(low.pet.array, patient.scan.pet[0.1].array, atol=low.pet.array.max() / 32767)


def test_convert_and_export_go_the_whole_way(cli, studies, tmp_path):
    patient, folders = studies
    study = folders["philips"]
    ran = cli("convert", study, "-o", tmp_path / "nifti")
    assert ran.code == 0, ran.err
    (case,) = (tmp_path / "nifti").iterdir()
    assert case.name == "sim_00007"
    pet, _ = read_image(case / "pet_suv.nii.gz")
    np.testing.assert_allclose(pet.array, patient.scan.pet[1.0].array, atol=pet.array.max() / 32767)
    np.testing.assert_allclose(pet.affine, patient.scan.pet[1.0].affine, atol=1e-4)
    assert json.loads((case / "convert.json").read_text(encoding="utf-8"))["warnings"] == []
    ran = cli("inspect", study)
    assert ran.code == 0
    assert "an original and not derived image" in ran.out
    ran = cli("export", study / "truth" / "lesion.nii.gz", "-s", study, "-o", tmp_path / "out", "--no-sr")
    assert ran.code == 0, ran.err
    ran = cli("regions", tmp_path / "out" / "lesions.seg.dcm", "-s", study)
    assert "lesion 2" in ran.out


def test_segment_writes_its_dicom_results_onto_the_study(cli, studies, tiny_bundle, plain_pictures, tmp_path):
    patient, _ = studies
    facts = examination_of(patient, DIALECTS["siemens"], request={})
    part = slice(44, 52)
    for write, volume, name in (
        (write_pet_series, patient.scan.pet[1.0], "PT"),
        (write_ct_series, patient.scan.ct, "CT"),
    ):
        affine = volume.affine @ np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, part.start], [0, 0, 0, 1]])
        write(Volume(volume.array[:, :, part], affine), tmp_path / "study" / name, facts, DIALECTS["siemens"])
    ran = cli(
        "segment", tmp_path / "study", "-o", tmp_path / "out", "-m", tiny_bundle, "--no-mirror", "--device", "cpu"
    )
    assert ran.code == 0, ran.err
    written = {path.name for path in (tmp_path / "out" / "study").iterdir()}
    assert {"lesions.nii.gz", "lesions.csv", "run.json"} <= written
    run = json.loads((tmp_path / "out" / "study" / "run.json").read_text(encoding="utf-8"))
    assert run["acquisition"]["suv_rule"] == "BQML/START"
    table = (tmp_path / "out" / "study" / "lesions.csv").read_text(encoding="utf-8").splitlines()
    # Random weights find what they find; what they find goes out as DICOM.
    assert ("lesions.seg.dcm" in written) == (len(table) > 1)


def test_masks_lie_beside_and_fit(studies):
    patient, folders = studies
    study = read_dicom(folders["ge"])
    lesions, _ = read_labels(folders["ge"] / "truth" / "lesion.nii.gz")
    np.testing.assert_array_equal(lesions.array > 0, patient.truth.lesions.array > 0)
    np.testing.assert_allclose(lesions.affine, study.pet.affine, atol=1e-4)


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy is not installed")
@pytest.mark.parametrize("vendor", VENDORS)
def test_the_files_are_valid(vendor, studies):
    for series in sorted(studies[1][vendor].iterdir()):
        files = sorted(series.glob("*.dcm")) if series.is_dir() else []
        for path in files[:: max(len(files) - 1, 1)]:
            ran = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False)
            assert "Error" not in ran.stdout + ran.stderr, ran.stderr


def test_two_vendors_are_two_studies(studies):
    import pydicom

    uids = {pydicom.dcmread(next((folder / "PT").iterdir())).StudyInstanceUID for folder in studies[1].values()}
    assert len(uids) == 4


def test_a_vendor_has_its_scanner():
    assert DicomStyle("ge").scanner(None) == "D690"
    assert DicomStyle("ge").scanner("dmi") == "DMI"
    assert DicomStyle().scanner("DMI") == "DMI"
    assert DicomStyle("generic").scanner(None) is None
    assert DicomStyle().dialect(Site()).name == "siemens"
    assert DicomStyle("siemens", "GML").dialect(Site()).units == "GML"
    with pytest.raises(UsageError, match="by siemens, not by ge"):
        DicomStyle("ge").scanner("mCT")


@pytest.mark.parametrize(
    ("style", "message"),
    [
        (("acme",), "no vendor is called"),
        (("ge", "CNTS"), "only headers of Philips"),
        ((None, "GML"), "go with a vendor"),
        (("uih", None, "LATER"), "START, ADMIN, NONE"),
    ],
)
def test_styles_that_nobody_writes_are_refused(style, message):
    with pytest.raises(UsageError, match=message):
        DicomStyle(*style)


def test_the_same_call_keeps_the_study(studies, tmp_path, monkeypatch):
    _, folders = studies
    place = tmp_path / "ge"
    shutil.copytree(folders["ge"].parent, place)
    before = {path: path.stat().st_mtime_ns for path in place.rglob("*.dcm")}
    monkeypatch.setattr(workflow, "simulated", lambda *_, **__: pytest.fail("made again"))
    (made,) = simulate(place, seed=7, settings=replace(COARSE, scanner="D690"), dicom=DicomStyle("ge"))
    assert (made.kept, made.lesions, made.folder) == (True, 2, Path(place / "sim_00007"))
    assert {path: path.stat().st_mtime_ns for path in place.rglob("*.dcm")} == before
