from __future__ import annotations

import json
from pathlib import Path

import pytest

from uptake.core.errors import InputError, UsageError
from uptake.io.find import case_name, find_cases


def touch(folder: Path, *files: str) -> Path:
    """Empty files do: nothing here reads a voxel."""
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def roles(case) -> dict[str, str | None]:
    return {
        role: None if getattr(case, role) is None else getattr(case, role).name
        for role in ("pet", "ct", "lesions", "organs")
    }


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["pet.nii.gz"], ("pet.nii.gz", None, None, None)),
        (
            ["SUV.nii.gz", "PET.nii.gz", "CT.nii.gz", "CTres.nii.gz", "SEG.nii.gz"],
            ("SUV.nii.gz", "CTres.nii.gz", "SEG.nii.gz", None),
        ),
        (
            ["pet.nii.gz", "ct.nii.gz", "ct_on_pet.nii.gz", "lesion.nii.gz", "lesion_ct.nii.gz"],
            ("pet.nii.gz", "ct_on_pet.nii.gz", "lesion.nii.gz", None),
        ),
        (["PT_FDG_000001.nii.gz", "CT_000001.nii.gz"], ("PT_FDG_000001.nii.gz", "CT_000001.nii.gz", None, None)),
        (["PT_PSMA_7.nii", "CT_7.nii"], ("PT_PSMA_7.nii", "CT_7.nii", None, None)),
        (["Pt.mha", "Ct.nrrd", "Organs.nii.gz"], ("Pt.mha", "Ct.nrrd", None, "Organs.nii.gz")),
        (["PET_suv_bw.nii", "PET.nii", "gtv.nii"], ("PET_suv_bw.nii", None, "gtv.nii", None)),
        (["X-1__PT.nii.gz", "X-1__CT.nii.gz"], ("X-1__PT.nii.gz", "X-1__CT.nii.gz", None, None)),
        (["pet.nii", "ct_organs.nii", "tumour_mask.nii"], ("pet.nii", None, "tumour_mask.nii", None)),
        (["pet.nii", "notes.txt", ".partial-1-pet.nii"], ("pet.nii", None, None, None)),
    ],
)
def test_names(tmp_path, files, expected):
    (case,) = find_cases(touch(tmp_path / "study", *files))
    assert case.id == "study"
    assert tuple(roles(case).values()) == expected


def test_a_single_file_is_a_pet(tmp_path):
    touch(tmp_path, "anything.nii.gz", "other.txt")
    (case,) = find_cases(tmp_path / "anything.nii.gz")
    assert (case.id, case.pet) == ("anything", tmp_path / "anything.nii.gz")
    with pytest.raises(InputError, match="not an image file"):
        find_cases(tmp_path / "other.txt")


@pytest.mark.parametrize(
    ("files", "role"),
    [(["PT_a.nii", "PT_b.nii"], "pet"), (["pet.nii", "CT_a.nii", "CT_b.nii"], "ct"),
     (["pet.nii", "SEG.nii", "lesion.nii"], "lesions")],
)  # fmt: skip
def test_two_files_for_one_role_are_refused_with_the_way_out(tmp_path, files, role):
    touch(tmp_path, *files)
    with pytest.raises(InputError, match=rf"2 files could be the {role}: \S+ and \S+; .*--{role} FILE"):
        find_cases(tmp_path)
    chosen = tmp_path / files[-1]
    (case,) = find_cases(tmp_path, **{role: chosen})
    assert getattr(case, role) == chosen


def test_a_folder_without_a_pet_lists_what_is_there(tmp_path):
    touch(tmp_path, "CT.nii.gz", "SEG.nii.gz", "mri.nii.gz", *(f"z{n:02d}.nii" for n in range(30)))
    with pytest.raises(InputError) as caught:
        find_cases(tmp_path)
    text = str(caught.value)
    assert "CT.nii.gz: taken as ct" in text
    assert "SEG.nii.gz: taken as lesions" in text
    assert "mri.nii.gz: its name says neither PET nor SUV" in text
    assert "and 13 more images" in text
    assert "Accepted: PET as SUV, PET" in text


def test_nothing_usable_lists_what_is_there(tmp_path):
    with pytest.raises(InputError, match="the folder is empty"):
        find_cases(tmp_path)
    touch(tmp_path, "a.txt", "b/c.csv")
    with pytest.raises(InputError, match=r"(?s)a\.txt: no image.*b: a folder without images or DICOM"):
        find_cases(tmp_path)
    with pytest.raises(InputError, match="no such file or folder"):
        find_cases(tmp_path / "absent")


def test_a_cohort_of_any_nesting(tmp_path):
    touch(
        tmp_path, "b/pet.nii", "a/2001/SUV.nii.gz", "a/2001/CTres.nii.gz", "a/2002/SUV.nii.gz", "readme.txt", "logs/x"
    )
    cases = find_cases(tmp_path)
    assert [case.id for case in cases] == ["a_2001", "a_2002", "b"]
    assert all(case.problem is None for case in cases)
    with pytest.raises(UsageError, match="holds 3 studies"):
        find_cases(tmp_path, pet=tmp_path / "b" / "pet.nii")


def test_one_bad_study_does_not_hide_the_others(tmp_path):
    touch(tmp_path, "good/pet.nii", "bad/CT.nii")
    bad, good = find_cases(tmp_path)
    assert good.problem is None
    assert "no PET among 1 images" in str(bad.problem)


def test_other_images_beside_the_studies_do_no_harm(tmp_path):
    touch(tmp_path, "overview.nii", "a/pet.nii")
    assert [case.id for case in find_cases(tmp_path)] == ["a"]
    touch(tmp_path, "pet_1.nii", "pet_2.nii")
    with pytest.raises(InputError, match="2 files could be the pet"):
        find_cases(tmp_path)


def test_a_cohort_without_any_pet_is_refused(tmp_path):
    touch(tmp_path, "a/CT.nii", "b/CT.nii")
    with pytest.raises(InputError, match=r"(?s)no PET study found.*CT\.nii: taken as ct"):
        find_cases(tmp_path)


@pytest.mark.parametrize("where", ["imagesTr", "."])
def test_nnunet(tmp_path, where):
    touch(
        tmp_path, "imagesTr/p1_0000.nii.gz", "imagesTr/p1_0001.nii.gz", "labelsTr/p1.nii.gz", "imagesTr/p2_0001.nii.gz"
    )
    first, second = find_cases(tmp_path / where)
    assert first.id == "p1"
    assert tuple(roles(first).values()) == ("p1_0001.nii.gz", "p1_0000.nii.gz", "p1.nii.gz", None)
    assert tuple(roles(second).values()) == ("p2_0001.nii.gz", None, None, None)


def test_nnunet_channel_names_are_believed_where_they_are_clear(tmp_path):
    touch(tmp_path, "imagesTs/p1_0000.nii.gz", "imagesTs/p1_0001.nii.gz")
    (tmp_path / "dataset.json").write_text(json.dumps({"channel_names": {"0": "PET", "1": "CT"}}))
    assert roles(find_cases(tmp_path)[0])["pet"] == "p1_0000.nii.gz"
    # A published dataset calls both CT, for the normalisation.
    (tmp_path / "dataset.json").write_text(json.dumps({"channel_names": {"0": "CT", "1": "CT"}}))
    assert roles(find_cases(tmp_path)[0])["pet"] == "p1_0001.nii.gz"


def test_nnunet_without_a_pet_channel(tmp_path):
    touch(tmp_path, "imagesTs/p1_0000.nii.gz", "imagesTs/p2_0000.nii.gz", "imagesTs/p2_0001.nii.gz")
    first, second = find_cases(tmp_path)
    assert "p1 has no p1_0001" in str(first.problem)
    assert second.problem is None
    (tmp_path / "imagesTs" / "p2_0001.nii.gz").unlink()
    with pytest.raises(InputError, match="has no p2_0001"):
        find_cases(tmp_path)


def test_dicom_studies_are_told_apart(tmp_path, pet_series, ct_series):
    for patient in ("a", "b"):
        pet_series(tmp_path / patient / "deep" / "PT", StudyInstanceUID=f"1.2.{patient == 'a'!s:.0}{ord(patient)}")
        ct_series(tmp_path / patient / "CT", StudyInstanceUID=f"1.2.{patient == 'a'!s:.0}{ord(patient)}")
    assert [(case.id, case.dicom) for case in find_cases(tmp_path)] == [("a", tmp_path / "a"), ("b", tmp_path / "b")]
    (one,) = find_cases(tmp_path / "a")
    assert (one.id, one.dicom, one.pet) == ("a", tmp_path / "a", None)


def test_real_folders(shared_data):
    cases = find_cases(shared_data / "sts")
    assert len(cases) == 41
    assert all(case.ct is not None and case.ct.name == "ct_on_pet.nii.gz" for case in cases)
    assert all(case.lesions is not None and case.lesions.name == "lesion.nii.gz" for case in cases)
    assert [case.id for case in find_cases(shared_data / "dicom" / "sts_cropped")] == ["STS_002", "STS_041", "STS_042"]


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("patient7/pet.nii.gz", "patient7"),
        ("patient7/SUV.nii.gz", "patient7"),
        ("patient7/PT_SUV.mha", "patient7"),
        ("patient7/lesion.nii.gz", "patient7"),
        ("images/patient7_pet.nii.gz", "patient7_pet"),
        ("images/patient7.nii.gz", "patient7"),
        ("images/petra.nii.gz", "petra"),
    ],
)
def test_a_file_named_after_its_role_takes_its_folders_name(tmp_path, file, name):
    path = tmp_path / file
    path.parent.mkdir()
    path.touch()
    assert case_name(path) == name


def test_a_folder_is_named_after_itself(tmp_path):
    (tmp_path / "pet").mkdir()
    assert case_name(tmp_path / "pet") == "pet"


def test_studies_in_one_folder_of_a_cohort_are_of_one_patient(tmp_path):
    touch(tmp_path, "p7/visit1/pet.nii.gz", "p7/visit2/pet.nii.gz", "p8/pet.nii.gz")
    assert {files.id: files.subject for files in find_cases(tmp_path)} == {
        "p7_visit1": "p7",
        "p7_visit2": "p7",
        "p8": None,
    }
