"""Contours and segmentations of a study become masks on the grid of its PET."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pytest

nib = pytest.importorskip("nibabel")
pytest.importorskip("pydicom")


def contour_set(folder, rois, *, frame="1.2.826.0.1.3680043.10.99.2", study="1.2.826.0.1.3680043.10.99.1"):
    """Write an RTSTRUCT with one square contour per ROI on the slice at z = -397.75 mm of `dicom_pet`."""
    from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    def item(**values):
        made = Dataset()
        for keyword, value in values.items():
            setattr(made, keyword, value)
        return made

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.481.3", "1.2.3.7.1"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SOPClassUID, ds.SOPInstanceUID, ds.Modality = meta.MediaStorageSOPClassUID, "1.2.3.7.1", "RTSTRUCT"
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.PatientName = study, "1.2.3.7", "Secret^Person"
    ds.StructureSetROISequence = [
        item(ROINumber=n + 1, ROIName=name, ReferencedFrameOfReferenceUID=frame) for n, name in enumerate(rois)
    ]
    x, y, z = -20.25, 30.5, -397.75
    square = [(1.5, 0.5), (4.5, 0.5), (4.5, 3.5), (1.5, 3.5)]  # columns 2 to 4, rows 1 to 3: nine voxels
    points = [float(v) for i, j in square for v in (x + 4 * i, y + 4 * j, z)]
    contour = item(ContourGeometricType="CLOSED_PLANAR", NumberOfContourPoints=4, ContourData=points)
    ds.ROIContourSequence = [item(ReferencedROINumber=n + 1, ContourSequence=[contour]) for n in range(len(rois))]
    folder.mkdir(parents=True, exist_ok=True)
    ds.save_as(folder / "rs.dcm", enforce_file_format=True)


@pytest.fixture
def study(tmp_path, dicom_pet):
    dicom_pet(tmp_path / "visit" / "PT")
    return tmp_path / "visit"


@pytest.mark.parametrize("packed", [False, True])
def test_regions_become_masks_and_a_table(cli, study, tmp_path, packed):
    contour_set(study / "RT", ["GTV 1", "gtv_1", "Secret lesion"])
    place = study
    if packed:
        shutil.make_archive(str(tmp_path / "visit"), "zip", study)
        place = tmp_path / "visit.zip"
    ran = cli("convert", place, "-o", tmp_path / "out")
    assert ran.code == 0, ran.err
    labels = tmp_path / "out" / "visit" / "labels"
    rows = list(csv.DictReader((labels / "segments.csv").read_text(encoding="utf-8").splitlines()))
    assert [row["name"] for row in rows] == ["GTV 1", "gtv_1", "region_3"]
    assert [row["file"] for row in rows] == [
        "labels/GTV_1.nii.gz", "labels/gtv_1_2.nii.gz", "labels/region_3.nii.gz"
    ]  # fmt: skip
    assert {(row["voxels"], row["source"], row["series"]) for row in rows} == {("9", "RTSTRUCT", "…1.2.3.7")}
    mask = nib.load(labels / "GTV_1.nii.gz")
    expected = np.zeros((7, 7, 5), np.uint8)
    expected[2:5, 1:4, 1] = 1
    np.testing.assert_array_equal(np.asarray(mask.dataobj), expected)
    pet = nib.load(tmp_path / "out" / "visit" / "pet_suv.nii.gz")
    np.testing.assert_allclose(mask.affine, pet.affine)
    record = json.loads((tmp_path / "out" / "visit" / "convert.json").read_text(encoding="utf-8"))
    assert [row["voxels"] for row in record["labels"]] == [9, 9, 9]
    text = json.dumps(record)
    assert "Secret" not in text
    assert str(tmp_path) not in text
    assert "uptake-" not in text.replace("uptake-convert/1", "")  # no name of a temporary file


def test_a_contour_set_that_changes_is_converted_anew_and_one_that_goes_takes_its_masks_along(cli, study, tmp_path):
    contour_set(study / "RT", ["GTV"])
    assert cli("convert", study, "-o", tmp_path / "out").code == 0
    contour_set(study / "RT", ["other"])
    assert cli("convert", study, "-o", tmp_path / "out").code == 0
    labels = tmp_path / "out" / "visit" / "labels"
    assert sorted(path.name for path in labels.iterdir()) == ["other.nii.gz", "segments.csv"]
    assert cli("convert", study, "-o", tmp_path / "out", "--no-labels").code == 0
    assert not labels.exists()


def test_contours_of_another_frame_of_reference_are_left_out_and_said(cli, study, tmp_path):
    contour_set(study / "RT", ["GTV"], frame="9.9.9")
    assert cli("convert", study, "-o", tmp_path / "out").code == 0
    record = json.loads((tmp_path / "out" / "visit" / "convert.json").read_text(encoding="utf-8"))
    assert record["labels"] == []
    assert any(text.startswith("RTSTRUCT …1.2.3.7: left out: ") for text in record["warnings"])
    assert not (tmp_path / "out" / "visit" / "labels").exists()


def test_public_contours(cli, shared_data, tmp_path):
    assert cli("convert", shared_data / "dicom" / "ge_raw" / "STS_001", "-o", tmp_path).code == 0
    mask = np.asarray(nib.load(tmp_path / "STS_001" / "labels" / "GTV_Mass.nii.gz").dataobj)
    assert mask.sum() == 5095
    cropped = shared_data / "dicom" / "sts_cropped" / "STS_041"
    assert cli("convert", cropped, "-o", tmp_path).code == 0
    record = json.loads((tmp_path / "STS_041" / "convert.json").read_text(encoding="utf-8"))
    names = {row["name"]: row["voxels"] for row in record["labels"]}
    published = np.asarray(nib.load(shared_data / "sts" / "STS_041" / "lesion.nii.gz").dataobj)
    assert names["GTV_Mass_PET"] == published.astype(bool).sum()
    assert any(
        "position" in text or "not here" in text for text in record["warnings"]
    )  # its image references are stale
