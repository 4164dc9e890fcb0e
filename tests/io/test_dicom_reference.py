"""What is taken from the PET's headers: every slice's place, and nobody's name."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from uptake.core.errors import FileFormatError, GeometryError, MissingAttributeError
from uptake.io.dicom_reference import IDENTIFIERS, Identity, read_reference, safe_text, uid_of

ORIENTATIONS = ("axial", "feet first", "sagittal", "coronal", "oblique")


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_slices_stand_in_the_order_of_the_array(tmp_path, dicom_pet, orientation):
    files, pet = dicom_pet(tmp_path, orientation=orientation)
    found = read_reference(files[::-1], pet)
    assert [entry.sop_instance_uid[-1] for entry in found.slices] == list("12345")
    for k, entry in enumerate(found.slices):
        assert np.array(entry.position_lps) * [-1, -1, 1] == pytest.approx(pet.world_of(np.array([0, 0, k])), abs=1e-4)
    assert np.diff(found.depths_mm) == pytest.approx(np.full(4, 3.0), abs=1e-4)
    assert found.index_of["1.2.826.0.1.3680043.10.99.1.1.4", None] == 3


def test_frames_of_one_file_are_slices_too(tmp_path, dicom_pet):
    files, pet = dicom_pet(tmp_path, multi_frame=True)
    found = read_reference(files, pet)
    assert len(files) == len(found.headers) == 1 and len(found.slices) == 5
    heights = [entry.position_lps[2] for entry in found.slices]
    assert heights == sorted(heights)
    assert sorted(entry.frame for entry in found.slices) == [1, 2, 3, 4, 5]


def test_uneven_slices_keep_their_own_positions(tmp_path, dicom_pet):
    files, pet = dicom_pet(tmp_path, uneven=0.1)
    assert np.diff(read_reference(files, pet).depths_mm) == pytest.approx([3.3, 2.7, 3, 3], abs=1e-4)


def test_nothing_but_what_is_listed_is_passed_on(tmp_path, dicom_pet):
    files, pet = dicom_pet(tmp_path, StudyDate="20240103", PositionReferenceIndicator="Secret mark")
    found = read_reference(files, pet)
    (first, *_) = found.stand_ins(Identity("case=7^b"))
    assert "secret" not in str(first).lower() and "1950" not in str(first)
    assert (first.PatientID, str(first.PatientName), first.StudyDate) == ("case_7_b", "case_7_b^", "20240103")
    kept = found.stand_ins(Identity("case 7", keep=True))[0]
    assert (kept.PatientID, str(kept.PatientName)) == ("SECRET-ID", "Secret^Person")
    assert all(kept.get(keyword) for keyword in IDENTIFIERS if keyword not in ("IssuerOfPatientID", "EthnicGroup"))
    for word in ("clinic", "comment", "Operator", "series", "SECRET-ST"):
        assert word not in str(kept)


def test_a_case_named_after_the_patient_gets_a_made_up_name(tmp_path, dicom_pet):
    files, pet = dicom_pet(tmp_path / "a")
    found = read_reference(files, pet)
    for name in ("Secret_Person", "SECRET-ID", "study of person"):
        made_up = found.pseudonym(name)
        assert made_up.startswith("case-") and made_up == found.pseudonym(name)
    assert len({found.pseudonym(name) for name in ("Secret_Person", "SECRET-ID")}) == 2
    assert found.pseudonym("case 7") == "case 7"
    files, pet = dicom_pet(tmp_path / "b", PatientIdentityRemoved="YES")
    assert read_reference(files, pet).pseudonym("SECRET-ID") == "SECRET-ID"


def test_slices_in_an_archive_are_read_there(tmp_path, dicom_pet):
    import zipfile

    files, pet = dicom_pet(tmp_path / "PT")
    with zipfile.ZipFile(tmp_path / "study.zip", "w") as archive:
        for path in files:
            archive.write(path, f"PT/{path.name}")
    found = read_reference([tmp_path / "study.zip" / "PT" / path.name for path in files], pet)
    assert len(found.slices) == 5


def test_frames_of_a_multi_frame_source_bring_no_text_with_them(tmp_path, dicom_pet):
    files, pet = dicom_pet(tmp_path, multi_frame=True)
    assert "secret" not in str(read_reference(files, pet).stand_ins(Identity("case"))[0]).lower()


@pytest.mark.parametrize(
    ("attribute", "message"),
    [
        ("FrameOfReferenceUID", r"Frame of Reference UID \(0020,0052\) is absent"),
        ("StudyInstanceUID", r"Study Instance UID \(0020,000D\) is absent"),
        ("ImagePositionPatient", r"Image Position \(Patient\) \(0020,0032\) is absent"),
    ],
)
def test_what_is_missing_is_named(tmp_path, dicom_pet, attribute, message):
    files, pet = dicom_pet(tmp_path, **{attribute: None})
    with pytest.raises(MissingAttributeError, match=message):
        read_reference(files, pet)


def test_a_volume_that_has_left_its_slices_is_refused(tmp_path, dicom_pet):
    files, pet = dicom_pet(tmp_path)
    with pytest.raises(GeometryError, match="5 DICOM slices, but the image has 4"):
        read_reference(files, replace(pet, array=pet.array[:, :, :4]))
    moved = pet.affine.copy()
    moved[0, 3] += 1.0
    with pytest.raises(GeometryError, match=r"1\.00 mm aside"):
        read_reference(files, replace(pet, affine=moved))
    turned = pet.affine.copy()
    turned[:3, :2] = pet.affine[:3, :2] @ np.array([[0.9, -0.435889], [0.435889, 0.9]])
    with pytest.raises(GeometryError, match="original grid only"):
        read_reference(files, replace(pet, affine=turned))
    (tmp_path / "nothing.dcm").write_bytes(b"no DICOM")
    with pytest.raises(FileFormatError, match="changed or moved"):
        read_reference([tmp_path / "nothing.dcm"], pet)


def test_uids_follow_from_what_they_name():
    assert uid_of("a", 1) == uid_of("a", 1) != uid_of("a1") != uid_of("a", 2)
    assert uid_of("a").startswith("2.25.") and len(uid_of("a")) <= 64


def test_texts_are_made_fit():
    assert safe_text(" a\\b^c\n" + 100 * "x") == "a_b_c_" + 58 * "x"
