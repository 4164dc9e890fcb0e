"""DICOM series of patients who do not exist: what is written comes back, whatever the vendor's habits."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from datetime import datetime

import numpy as np
import pytest

from uptake.core.errors import GeometryError, OutputError, UnitError, UsageError
from uptake.geometry import Volume
from uptake.io.dicom_dialects import DIALECTS, Dialect, dialect_named
from uptake.io.dicom_examination import Examination, decimal_string
from uptake.io.dicom_images import write_ct_series, write_pet_series
from uptake.io.read import read

FACTS = Examination(
    key="test",
    case_id="SIM-1",
    sex="female",
    age_years=55.2,
    weight_kg=81.234,
    height_m=1.683,
    tracer="FDG",
    nuclide="F-18",
    injected_mbq=283.21,
    injection=datetime(2021, 3, 4, 10, 20, 11),
    start=datetime(2021, 3, 4, 11, 21, 40),
    bed_step_mm=20.0,
)

AFFINE = np.array([[-4.0, 0, 0, 38], [0, -4, 0, 30], [0, 0, 5, -400], [0, 0, 0, 1]])

WAYS = [
    ("ge", None, None), ("siemens", None, None), ("philips", None, None), ("uih", None, None), ("generic", None, None),
    ("ge", "BQML", "ADMIN"), ("siemens", "BQML", "NONE"), ("siemens", "GML", None), ("philips", "BQML", "START"),
    ("philips", "CNTS", "NONE"), ("philips", "CNTS", "ADMIN"), ("uih", "GML", "ADMIN"), ("generic", "BQML", "NONE"),
    ("ge", "BQML", "NONE"),
]  # fmt: skip


@pytest.fixture(scope="module")
def pet():
    """SUV from 0 to about 9, a slice without any, and a few negative values."""
    array = np.random.default_rng(1).gamma(1.0, 1.0, (7, 6, 9)).astype(np.float32)
    array[:, :, 3] = 0.0
    array[2, 2, 5] = -0.25
    return Volume(array, AFFINE)


@pytest.fixture(scope="module")
def ct():
    """HU on a finer grid than the PET's."""
    array = np.random.default_rng(2).uniform(-1024, 2000, (9, 8, 12)).astype(np.float32)
    affine = np.diag([-3.0, -3.0, 4.0, 1.0])
    affine[:3, 3] = (38, 30, -401)
    return Volume(array, affine)


def headers(paths):
    import pydicom

    return [pydicom.dcmread(path) for path in paths]


@pytest.mark.parametrize(("vendor", "units", "correction"), WAYS)
def test_suv_comes_back_within_half_a_slope(vendor, units, correction, pet, ct, tmp_path):
    dialect = dialect_named(vendor).storing(units, correction)
    paths = write_pet_series(pet, tmp_path / "study" / "PT", FACTS, dialect)
    write_ct_series(ct, tmp_path / "study" / "CT", FACTS, dialect)
    case = read(tmp_path / "study")
    assert case.warnings == ()
    assert case.acquisition["suv_rule"].startswith(dialect.units)
    assert case.acquisition["uptake_time_min"] == pytest.approx(61 + 29 / 60)
    factors = case.acquisition["suv_slice_factors"] or [case.acquisition["suv_factor"]] * 9
    half = np.array([float(ds.RescaleSlope) for ds in headers(paths)]) * factors / 2
    assert (np.abs(case.pet.array - pet.array).max(axis=(0, 1)) <= half * 1.0001 + 1e-6).all()
    assert half.max() < 3e-4
    np.testing.assert_allclose(case.pet.affine, pet.affine, atol=1e-6)
    assert case.ct is not None
    np.testing.assert_array_equal(case.ct.array, np.rint(ct.array))
    np.testing.assert_allclose(case.ct.affine, ct.affine, atol=1e-6)
    assert case.pet.frame_of_reference == case.ct.frame_of_reference


def test_oblique_and_mirrored_grids_come_back(pet, turned, tmp_path):
    for number, affine in enumerate((turned, turned @ np.diag([-1.0, 1, 1, 1]), np.diag([3.0, 3, 3, 1]))):
        folder = tmp_path / str(number)
        write_pet_series(Volume(pet.array, affine), folder, FACTS, DIALECTS["generic"])
        case = read(folder)
        # A mirrored stack is read from its other end: compare in the patient.
        index = np.argwhere(np.ones(pet.shape, bool))[::17].astype(float)
        there = np.rint(case.pet.index_of(Volume(pet.array, affine).world_of(index))).astype(int)
        np.testing.assert_allclose(
            case.pet.array[tuple(there.T)], pet.array[tuple(index.astype(int).T)], atol=3e-4, err_msg=str(number)
        )


def test_numbers_of_the_header_by_hand(pet, tmp_path):
    """Two-minute beds of 20 mm: slices 0-3 at the start, 4-7 two minutes and 4 s later, 8 another such step on."""
    found = headers(write_pet_series(pet, tmp_path, FACTS, DIALECTS["siemens"]))
    assert [ds.AcquisitionTime for ds in found] == ["112140.000000"] * 4 + ["112344.000000"] * 4 + ["112548.000000"]
    half_life = 6586.2
    exponent = np.log(2) * 120 / half_life
    average = half_life / np.log(2) * np.log(exponent / (1 - np.exp(-exponent)))
    assert float(found[4].FrameReferenceTime) == pytest.approx(1000 * (124 + average), rel=1e-9)
    assert float(found[4].DecayFactor) == pytest.approx(exponent / (1 - np.exp(-exponent)) * 2 ** (124 / half_life))
    assert (found[0].SeriesTime, found[0].PatientWeight, found[0].PatientSize) == ("112140.000000", 81.2, 1.68)
    hottest = float(pet.array.max())
    stored = max(float(ds.RescaleSlope) * int(ds.pixel_array.max()) for ds in found)
    assert stored == pytest.approx(hottest * 283.21e6 * 2 ** (-3689 / half_life) / 81200, rel=1e-6)
    ge = headers(write_pet_series(pet, tmp_path / "ge", FACTS, DIALECTS["ge"]))
    assert float(ge[4].FrameReferenceTime) == 124_000
    assert ge[0][0x0009, 0x100D].value == "20210304112140.000000"
    assert {ds.InstanceNumber for ds in ge} == set(range(1, 10))
    assert ge[-1].InstanceNumber == 1  # at the head


def test_philips_scales_counts_in_attributes_of_its_own(pet, tmp_path):
    (ds, *_) = headers(write_pet_series(pet, tmp_path, FACTS, DIALECTS["philips"]))
    activity, suv = float(ds[0x7053, 0x1009].value), float(ds[0x7053, 0x1000].value)
    assert ds.Units == "CNTS"
    assert suv / activity == pytest.approx(81200 / (283.21e6 * 2 ** (-3689 / 6586.2)), rel=1e-6)
    only = replace(DIALECTS["philips"], activity_factor=False)
    write_pet_series(pet, tmp_path / "suv", FACTS, only)
    case = read(tmp_path / "suv")
    assert case.acquisition["suv_rule"] == "CNTS/(7053,1000)"
    np.testing.assert_allclose(case.pet.array, pet.array, atol=3e-4)


@pytest.mark.parametrize(
    ("dialect", "source"),
    [
        (replace(DIALECTS["ge"], series_delay_s=1800.0), "GE Scan DateTime"),
        (replace(DIALECTS["siemens"], series_delay_s=1800.0), "Siemens Decay Correction DateTime"),
        (replace(DIALECTS["generic"], series_delay_s=1800.0), "Frame Reference Time"),
        (replace(DIALECTS["generic"], bed_times=False), "Series Time"),
    ],
)
def test_habits_that_mislead_do_not_change_the_suv(dialect, source, pet, tmp_path):
    write_pet_series(pet, tmp_path, FACTS, dialect)
    case = read(tmp_path)
    assert source in case.acquisition["reference_time_source"]
    np.testing.assert_allclose(case.pet.array, pet.array, atol=3e-4)


def test_a_scan_after_midnight_and_another_nuclide(pet, tmp_path):
    facts = replace(
        FACTS,
        nuclide="Ga-68",
        tracer="PSMA-11",
        injection=datetime(2021, 3, 4, 23, 30),
        start=datetime(2021, 3, 5, 0, 30),
    )
    for vendor in ("siemens", "philips"):
        paths = write_pet_series(pet, tmp_path / vendor, facts, DIALECTS[vendor])
        case = read(tmp_path / vendor)
        assert case.acquisition["radionuclide"] == "Ga-68"
        assert case.acquisition["uptake_time_min"] == 60
        np.testing.assert_allclose(case.pet.array, pet.array, atol=3e-4)
    item = headers(paths)[0].RadiopharmaceuticalInformationSequence[0]
    assert item.RadionuclideCodeSequence[0].CodeMeaning == "^68^Gallium"
    assert item.RadiopharmaceuticalCodeSequence[0].CodeValue == "C118961"
    bare = headers(write_pet_series(pet, tmp_path / "fapi", replace(facts, tracer="FAPI-04"), DIALECTS["ge"]))[0]
    assert "RadiopharmaceuticalCodeSequence" not in bare.RadiopharmaceuticalInformationSequence[0]


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy is not installed")
@pytest.mark.parametrize(("vendor", "units", "correction"), WAYS)
def test_the_files_are_valid(vendor, units, correction, pet, ct, tmp_path):
    dialect = dialect_named(vendor).storing(units, correction)
    files = (
        write_pet_series(pet, tmp_path / "PT", FACTS, dialect)[4],
        write_ct_series(ct, tmp_path / "CT", FACTS, dialect)[4],
    )
    for path in files:
        ran = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False)
        assert "Error" not in ran.stdout + ran.stderr, ran.stderr


def test_nobody_is_named_and_everybody_is_warned(pet, ct, tmp_path):
    written = write_pet_series(pet, tmp_path / "PT", FACTS, DIALECTS["ge"])[:1]
    written += write_ct_series(ct, tmp_path / "CT", FACTS, DIALECTS["ge"])[:1]
    for ds in headers(written):
        assert str(ds.PatientName) == "SIMULATED^SIM-1"
        assert ds.PatientIdentityRemoved == "YES"
        assert "research use only" in ds.SeriesDescription
        assert "No such person exists" in ds.ImageComments


def test_one_key_one_set_of_bytes(pet, tmp_path):
    one, same, other = (
        write_pet_series(pet, tmp_path / name, replace(FACTS, key=key), DIALECTS["siemens"])
        for name, key in (("a", "k"), ("b", "k"), ("c", "another"))
    )
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in same]
    uids = [{ds.SOPInstanceUID for ds in headers(paths)} for paths in (one, other)]
    assert len(uids[0]) == 9
    assert not uids[0] & uids[1]
    studies = {headers(paths)[0].StudyInstanceUID for paths in (one, same, other)}
    assert len(studies) == 2


def test_several_pets_of_one_study_are_several_series(pet, tmp_path):
    full = headers(write_pet_series(pet, tmp_path / "full", FACTS, DIALECTS["uih"]))[0]
    low = headers(write_pet_series(pet, tmp_path / "low", FACTS, DIALECTS["uih"], series="PET 5 %", number=3))[0]
    assert full.StudyInstanceUID == low.StudyInstanceUID
    assert full.SeriesInstanceUID != low.SeriesInstanceUID
    assert full.SOPInstanceUID != low.SOPInstanceUID


def test_a_study_with_a_derived_pet_is_read_by_its_original(pet, tmp_path):
    write_pet_series(pet, tmp_path / "PT", FACTS, DIALECTS["uih"])
    write_pet_series(
        pet.with_array(pet.array * 2), tmp_path / "half", FACTS, DIALECTS["uih"], series="half", number=3, derived=True
    )
    np.testing.assert_allclose(read(tmp_path).pet.array, pet.array, atol=3e-4)


def test_decimal_strings_hold_sixteen_characters():
    for value in (1 / 3, -1.2345678901234567e-7, 123456789.123456789, 0.1, 6586.2, -1e-300):
        text = decimal_string(value)
        assert len(text) <= 16
        assert float(text) == pytest.approx(value, rel=1e-9)
    assert decimal_string(0.1) == "0.1"


def test_what_cannot_be_written_is_refused(pet, tmp_path):
    sheared = AFFINE.copy()
    sheared[0, 2] = 1.0
    with pytest.raises(GeometryError, match="perpendicular"):
        write_pet_series(Volume(pet.array, sheared), tmp_path, FACTS, DIALECTS["ge"])
    broken = pet.array.copy()
    broken[0, 0, 0] = np.nan
    with pytest.raises(UnitError, match="not finite"):
        write_pet_series(pet.with_array(broken), tmp_path, FACTS, DIALECTS["ge"])
    with pytest.raises(UnitError, match="HU"):
        write_ct_series(pet.with_array(pet.array + 40_000), tmp_path, FACTS, DIALECTS["ge"])
    assert not list(tmp_path.rglob("*.dcm"))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: dialect_named("acme"), "known are ge, siemens"),
        (lambda: DIALECTS["ge"].storing("CNTS"), "only headers of Philips"),
        (lambda: DIALECTS["siemens"].storing("GML", "NONE"), "does not go with NONE"),
        (lambda: replace(DIALECTS["philips"], activity_factor=False, decay_correction="NONE"), "does not go with NONE"),
        (lambda: DIALECTS["ge"].storing("PROPCPS"), "BQML, GML, CNTS"),
        (lambda: DIALECTS["ge"].storing(None, "LATER"), "START, ADMIN, NONE"),
        (lambda: Dialect("x", "x", "x", "1", decay_correction="NONE", bed_times=False), "its own bed"),
        (lambda: replace(FACTS, start=datetime(2021, 3, 4, 9)), "before the injection"),
        (lambda: replace(FACTS, start=datetime(2021, 3, 4, 11, 0, 0, 5)), "to the second"),
        (lambda: replace(FACTS, nuclide="Xx-1"), "unknown radionuclide"),
        (lambda: replace(FACTS, sex="M"), "'male' or 'female'"),
    ],
)
def test_contradictions_are_refused(call, message):
    with pytest.raises(UsageError, match=message):
        call()


@pytest.mark.parametrize(
    ("field", "value"), [("weight_kg", 0.0), ("injected_mbq", -1.0), ("height_m", 170.0), ("bed_step_mm", 0.0)]
)
def test_facts_out_of_range_are_refused(field, value):
    with pytest.raises(UnitError, match=field):
        replace(FACTS, **{field: value})


def test_a_full_disk_is_an_output_error(pet, tmp_path, monkeypatch):
    import pydicom

    def full(*_args, **_options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pydicom.dataset.FileDataset, "save_as", full)
    with pytest.raises(OutputError, match="No space left"):
        write_pet_series(pet, tmp_path, FACTS, DIALECTS["ge"])
