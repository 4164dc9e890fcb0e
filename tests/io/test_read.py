from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

import uptake
from uptake.core.errors import FileFormatError, GeometryError, InputError, UnitError, UsageError
from uptake.geometry import Volume
from uptake.io.read import CaseFiles, find_cases, read_case
from uptake.io.write import sha256_of, write_volume


@pytest.fixture
def study(tmp_path, suv, hu):
    folder = tmp_path / "study"
    folder.mkdir()
    write_volume(suv, folder / "pet.nii.gz")
    write_volume(hu, folder / "CT.nii.gz")
    write_volume(suv.with_array((suv.array > 9).astype(np.uint8)), folder / "lesion.nii.gz")
    write_volume(suv.with_array(np.full(suv.shape, 5, np.uint8)), folder / "organs.nii.gz")
    return folder


def test_a_study_folder(study, suv, hu):
    case = uptake.read(study)
    assert case.id == "study"
    np.testing.assert_array_equal(case.pet.array, suv.array)
    np.testing.assert_array_equal(case.ct.array, hu.array)
    assert (case.pet.array.dtype, case.ct.array.dtype) == (np.float32, np.float32)
    assert case.lesions.array.dtype == case.organs.array.dtype == np.uint8
    assert [source.role for source in case.sources] == ["pet", "ct", "lesions", "organs"]
    assert case.sources[0].path == str(study / "pet.nii.gz")
    assert case.sources[0].sha256 == sha256_of(study / "pet.nii.gz")
    assert case.warnings == ()
    json.dumps(dict(case.acquisition))


def test_files_by_role(study, suv):
    case = uptake.read(pet=study / "pet.nii.gz", ct=str(study / "CT.nii.gz"))
    assert (case.id, case.lesions) == ("study", None)
    assert case.ct is not None
    assert uptake.read(study / "pet.nii.gz", case_id="mine").id == "mine"
    write_volume(suv.with_array(suv.array * 2), study / "other.nii.gz")
    case = uptake.read(study, pet=study / "other.nii.gz")
    assert case.pet.array.max() == pytest.approx(2 * suv.array.max())
    assert case.lesions is not None


def test_a_dicom_pet_with_a_ct_file(tmp_path, pet_series):
    pet_series(tmp_path / "PT")
    pet = uptake.read(tmp_path / "PT").pet
    write_volume(pet.with_array(np.linspace(-1000, 500, pet.array.size).reshape(pet.shape)), tmp_path / "ct.nii")
    case = uptake.read(pet=tmp_path / "PT", ct=tmp_path / "ct.nii")
    assert case.ct is not None
    assert [source.role for source in case.sources] == ["pet", "ct"]
    with pytest.raises(UsageError, match="one image file"):
        uptake.read(pet=tmp_path / "PT", ct=tmp_path / "PT")


def test_wrong_calls(tmp_path, study):
    with pytest.raises(UsageError, match="give a study folder"):
        uptake.read()
    (tmp_path / "second").mkdir()
    (tmp_path / "second" / "pet.nii").touch()
    with pytest.raises(UsageError, match=r"holds 2 studies \(second, study\)"):
        uptake.read(tmp_path)


def test_a_bad_study_of_a_cohort_raises_when_it_is_read(tmp_path, study):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "CT.nii").touch()
    bad, good = find_cases(tmp_path)
    assert read_case(good).id == "study"
    with pytest.raises(InputError, match="no PET among"):
        read_case(bad)
    with pytest.raises(InputError, match="no PET was given"):
        read_case(CaseFiles("nothing"))


def test_pet_in_bqml_is_refused_unless_it_is_vouched_for(study, suv):
    write_volume(suv.with_array(suv.array * 4000), study / "pet.nii.gz")
    with pytest.raises(UnitError, match=r"pet\.nii\.gz: the PET is plainly not in SUV.*--assume-suv"):
        uptake.read(study)
    case = uptake.read(study, assume_suv=True)
    assert "taken as SUV as asked, although mean" in case.warnings[0]


def test_ct_not_in_hu_is_refused(study, suv):
    write_volume(suv, study / "CT.nii.gz")
    with pytest.raises(UnitError, match=r"CT\.nii\.gz: the CT is plainly not in Hounsfield units"):
        uptake.read(study)


def test_ct_somewhere_else_is_refused_with_the_distance(study, hu):
    away = hu.affine.copy()
    away[2, 3] += 500
    write_volume(Volume(hu.array, away), study / "CT.nii.gz")
    with pytest.raises(GeometryError, match=r"pet\.nii\.gz and \S+CT\.nii\.gz do not overlap .* 0 % .* 500 mm apart"):
        uptake.read(study)


def test_partial_overlap_is_reported(study, hu, suv):
    away = hu.affine.copy()
    away[2, 3] -= 15  # three of the four slices
    write_volume(Volume(hu.array, away), study / "CT.nii.gz")
    (warning,) = uptake.read(study).warnings
    assert "covers 24% of the activity and 24% of the field of view" in warning


def test_air_around_the_patient_does_not_count_as_uncovered(study, suv, hu):
    # A PET field of view three times as wide as the CT's, with nothing but air outside.
    wide = np.zeros((18, 5, 4), np.float32)
    wide[6:12] = suv.array
    affine = suv.affine.copy()
    affine[:3, 3] -= 6 * affine[:3, 0]
    pet = Volume(wide, affine)
    write_volume(pet, study / "pet.nii.gz")
    for name in ("lesion", "organs"):
        (study / f"{name}.nii.gz").unlink()
    assert uptake.read(study).warnings == ()


@pytest.mark.parametrize("role", ["lesion", "organs"])
def test_labels_on_another_grid_are_refused(study, suv, role):
    moved = suv.affine.copy()
    moved[0, 3] += 1.0
    write_volume(Volume(np.ones(suv.shape, np.uint8), moved), study / f"{role}.nii.gz")
    with pytest.raises(GeometryError, match=rf"{role}\.nii\.gz have the same shape but lie up to 1\.00 mm apart"):
        uptake.read(study)
    write_volume(Volume(np.ones((2, 2, 2), np.uint8), suv.affine), study / f"{role}.nii.gz")
    with pytest.raises(GeometryError, match=r"has shape \(6, 5, 4\).*has shape \(2, 2, 2\).*leave them out"):
        uptake.read(study)


def test_every_file_is_checked(study):
    (study / "organs.nii.gz").write_bytes(b"")
    with pytest.raises(FileFormatError, match=r"organs\.nii\.gz: the file is empty"):
        uptake.read(study)


def test_warnings_of_all_files_are_kept(study, hu):
    nib = pytest.importorskip("nibabel")
    nib.Nifti1Image(hu.array[..., None], hu.affine).to_filename(study / "CT.nii.gz")
    assert any("fourth axis" in text for text in uptake.read(study).warnings)


def test_importing_the_reader_loads_no_format(tmp_path):
    code = (
        "import sys, uptake, uptake.io.read, uptake.io.write, uptake.io.dicom\n"
        "print([m for m in ('nibabel', 'pydicom', 'SimpleITK', 'torch', 'scipy') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_real_patients(shared_data):
    cases = [read_case(files) for files in find_cases(shared_data / "sts")]
    assert len(cases) == 41
    assert all(case.warnings == () for case in cases)
    case = cases[0]
    assert case.pet.orientation == "LPS"
    assert case.lesions.array.sum() * case.pet.voxel_volume_ml == pytest.approx(366.1, abs=0.1)
    assert case.pet.array[case.lesions.array > 0].max() == pytest.approx(7.91, abs=0.01)


def test_ct_of_a_crop_on_the_whole_body_is_reported(shared_data):
    case = uptake.read(shared_data / "wholebody" / "STS_001", ct=shared_data / "sts" / "STS_001" / "ct.nii.gz")
    assert any("covers 11% of the activity" in text for text in case.warnings)
    assert case.ct.shape == (198, 202, 59)  # on its own grid


def test_a_phantom_in_scanner_units_is_refused(shared_data):
    with pytest.raises(UnitError, match="Bq/mL"):
        uptake.read(shared_data / "phantom" / "nema_iq" / "recon_1.nii.gz")
