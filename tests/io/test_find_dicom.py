"""Which DICOM studies lie below a folder, told from one file of each sub-folder."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

import uptake
from uptake.core.errors import InputError
from uptake.io.find import find_cases

pytest.importorskip("pydicom")


def found(place, **options):
    return {files.id: (files.dicom, files.study_uid, files.subject) for files in find_cases(place, **options)}


@pytest.fixture
def study(tmp_path, pet_series, ct_series):
    """Return a function that writes a study of two series."""

    def write(folder, uid="1.2.3"):
        pet_series(folder / "PT", StudyInstanceUID=uid)
        ct_series(folder / "deep" / "er" / "CT", StudyInstanceUID=uid)
        return folder

    return write


def test_one_study_however_nested(tmp_path, study):
    place = study(tmp_path / "visit")
    (place / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM")
    (place / "readme.txt").write_text("hello", encoding="utf-8")
    assert found(place) == {"visit": (place, None, None)}
    assert found(tmp_path) == {tmp_path.name: (tmp_path, None, None)}


def test_archives_are_studies_of_their_own(tmp_path, study):
    place = study(tmp_path / "work")
    for name in ("a", "b"):  # copies share the Study Instance UID
        shutil.make_archive(str(tmp_path / "cohort" / name), "zip", place)
    archives = tmp_path / "cohort"
    assert found(archives) == {n: (archives / f"{n}.zip", None, None) for n in ("a", "b")}
    assert found(archives / "a.zip") == {"a": (archives / "a.zip", None, None)}
    case = uptake.read(archives / "a.zip")
    assert case.ct is not None
    np.testing.assert_array_equal(case.pet.array, uptake.read(place).pet.array)
    assert all(".zip" in str(path) for path in case.pet_files)


def test_folders_that_each_hold_a_pet_and_more_are_studies_even_if_they_share_a_uid(tmp_path, study):
    study(tmp_path / "c" / "one")
    study(tmp_path / "c" / "two")
    assert list(found(tmp_path / "c")) == ["one", "two"]


def test_a_second_reconstruction_in_a_folder_of_its_own_is_no_study(tmp_path, study, pet_series):
    place = study(tmp_path / "visit")
    pet_series(place / "PT_2", series="9")
    assert list(found(place)) == ["visit"]


def test_patients_with_several_visits(tmp_path, study):
    study(tmp_path / "c" / "p1" / "v1", "1.2.1")
    study(tmp_path / "c" / "p1" / "v2", "1.2.2")
    study(tmp_path / "c" / "p2", "1.2.3")
    assert {name: subject for name, (_, _, subject) in found(tmp_path / "c").items()} == {
        "p1_v1": "p1", "p1_v2": "p1", "p2": None,
    }  # fmt: skip


def test_series_of_two_studies_side_by_side(tmp_path, pet_series, ct_series):
    place = tmp_path / "p"
    for n, uid in enumerate(("1.2.111111", "1.2.222222")):
        pet_series(place / f"PT{n}", series=f"1{n}", StudyInstanceUID=uid)
        ct_series(place / f"CT{n}", series=f"2{n}", StudyInstanceUID=uid)
    assert found(place) == {f"p_{uid[-6:]}": (place, uid, None) for uid in ("1.2.111111", "1.2.222222")}
    for files in find_cases(place):
        assert uptake.io.read.read_case(files).ct is not None


def test_masks_beside_dicom_belong_to_it(tmp_path, study, make_study):
    place = study(tmp_path / "visit")
    make_study(place, roles=("lesion",))
    (files,) = find_cases(place)
    assert (files.id, files.dicom, files.lesions, files.problem) == ("visit", place, place / "lesion.nii.gz", None)
    (files,) = find_cases(place, only_dicom=True)
    assert files.lesions is None
    make_study(tmp_path / "nifti")
    with pytest.raises(InputError, match="holds no DICOM study"):
        find_cases(tmp_path / "nifti", only_dicom=True)
    make_study(tmp_path / "c", roles=("lesion",))  # a stray image beside two studies is of neither
    study(tmp_path / "c" / "one", "1.2.1")
    study(tmp_path / "c" / "two", "1.2.2")
    assert [(files.id, files.lesions) for files in find_cases(tmp_path / "c")] == [("one", None), ("two", None)]


def test_an_archive_without_dicom_and_a_damaged_one(tmp_path, make_study):
    make_study(tmp_path / "nifti")
    shutil.make_archive(str(tmp_path / "images"), "zip", tmp_path / "nifti")
    with pytest.raises(InputError, match="the archive holds no DICOM file"):
        find_cases(tmp_path / "images.zip")
    (tmp_path / "bad.zip").write_bytes(b"PK\3\4")
    with pytest.raises(InputError, match="truncated or damaged"):
        find_cases(tmp_path / "bad.zip")


def test_files_without_suffix_and_hidden_ones(tmp_path, pet_series):
    folder = pet_series(tmp_path / "s")
    for n, path in enumerate(sorted(folder.iterdir())):
        path.rename(folder / f"IM{n:04d}")
    (folder / ".DS_Store").write_bytes(b"junk")
    assert uptake.read(folder).pet.shape == (4, 3, 4)
