"""Labels out: a DICOM RT Structure Set of the PET, read back before it gets its name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from uptake import __version__
from uptake.core.types import FloatArray, Mask
from uptake.geometry.components import Box
from uptake.geometry.contours import outlines
from uptake.geometry.volume import Volume
from uptake.io.dicom_reference import Identity, Reference, safe_text, uid_of
from uptake.io.dicom_result import (
    MANUFACTURER,
    NOTICE,
    Maker,
    Segment,
    Written,
    equipment,
    quiet_writing,
    save_checked,
    series_description,
    stamp,
)
from uptake.io.dicom_seg import coded, fingerprint, numbered, require_equal
from uptake.io.rtstruct_read import read_rtstruct
from uptake.io.terminology import ABNORMALITY, meaning_of

SERIES_NUMBER = 9002

RT_STRUCTURE_SET = "1.2.840.10008.5.1.4.1.1.481.3"

STUDY_CLASS = "1.2.840.10008.3.1.2.3.1"
"""Detached Study Management, retired: what RT Referenced Study Sequence (3006,0012) has named since 1997."""

DECIMALS = 4
"""Of contour coordinates, mm: a hundredth of the distance that contours keep from voxel edges on fine grids."""


@quiet_writing()
def write_rtstruct(
    labels: Volume,
    segments: Sequence[Segment],
    reference: Reference,
    path: Path,
    *,
    maker: Maker,
    identity: Identity,
    content: str = "labels",
) -> Written:
    """Write a label map as an RT Structure Set with one ROI per label.

    Parameters
    ----------
    labels, segments, reference, path, maker, identity, content
        As `dicom_seg.write_seg`.

    Raises
    ------
    UsageError, GeometryError, OutputError
        As `dicom_seg.write_seg`.

    Notes
    -----
    Contours run along the voxel edges of each slice, at the slice's own position. Pieces are contours of their own;
    holes are joined to the outside by a keyhole, which CLOSED_PLANAR contours need: readers that unite the contours of
    a slice, fill each, or take them by even-odd then find the same voxels (`geometry.contours.Outline.keyhole`).
    The transfer syntax is Implicit VR Little Endian: a contour can be longer than the 64 KiB that an explicit DS holds.

    References
    ----------
    DICOM PS3.3 A.19 (RT Structure Set IOD), C.8.8.5 (Structure Set), C.8.8.6 (ROI Contour), C.8.8.8 (Observations).
    """
    from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
    from pydicom.sequence import Sequence as Items
    from pydicom.uid import UID, ImplicitVRLittleEndian
    from scipy.ndimage import find_objects

    array = numbered(labels, segments, reference)
    key = (fingerprint(array), *segments, maker, identity, __version__, reference.series_uid)
    sop_uid, series_uid = uid_of("RTSTRUCT", *key), uid_of("RTSTRUCT series", *key)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = UID(RT_STRUCTURE_SET), UID(sop_uid)
    meta.TransferSyntaxUID = ImplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    source = reference.stand_ins(identity)[0]
    for keyword in (
        "SpecificCharacterSet", "PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex",
        "PatientAge", "PatientSize", "PatientWeight", "StudyInstanceUID", "StudyDate", "StudyTime", "StudyID",
        "StudyDescription", "AccessionNumber", "ReferringPhysicianName", "FrameOfReferenceUID",
        "PositionReferenceIndicator",
    ):  # fmt: skip
        if keyword in source:
            setattr(dataset, keyword, source[keyword].value)
    dataset.SOPClassUID, dataset.SOPInstanceUID = RT_STRUCTURE_SET, sop_uid
    dataset.SeriesInstanceUID, dataset.SeriesNumber = series_uid, SERIES_NUMBER
    dataset.InstanceNumber = 1
    dataset.Modality = "RTSTRUCT"
    dataset.SeriesDescription = series_description(content)
    dataset.OperatorsName = ""
    names = equipment(maker)
    dataset.Manufacturer, dataset.ManufacturerModelName = names["manufacturer"], names["manufacturer_model_name"]
    dataset.SoftwareVersions, dataset.DeviceSerialNumber = names["software_versions"], names["device_serial_number"]
    dataset.StructureSetLabel = MANUFACTURER
    dataset.StructureSetName = safe_text(content)
    dataset.StructureSetDescription = f"{safe_text(content)}, {NOTICE}"
    dataset.StructureSetDate = dataset.StructureSetTime = ""
    dataset.InstanceCreationDate = dataset.InstanceCreationTime = ""
    dataset.ApprovalStatus = "UNAPPROVED"
    dataset.ReferencedFrameOfReferenceSequence = Items([_referenced(reference)])
    boxes = find_objects(array, max_label=len(segments))
    parts: list[tuple[Dataset, Dataset, Dataset]] = [
        _roi(number, segment, array, box, labels.voxel_volume_ml, reference, maker)
        for number, (segment, box) in enumerate(zip(segments, boxes, strict=True), start=1)
    ]
    dataset.StructureSetROISequence = Items(roi for roi, _, _ in parts)
    dataset.ROIContourSequence = Items(contours for _, contours, _ in parts)
    dataset.RTROIObservationsSequence = Items(observation for _, _, observation in parts)
    stamp(dataset, reference, identity)

    def check(file: Path) -> None:
        require_equal(file, read_rtstruct(file, labels, reference=reference), array, count=len(segments))

    save_checked(dataset, path, check)
    numbers = {segment.value: number for number, segment in enumerate(segments, start=1)}
    return Written(path, RT_STRUCTURE_SET, sop_uid, series_uid, numbers)


def _roi(
    number: int,
    segment: Segment,
    array: np.ndarray[Any, Any],
    box: Box | None,
    voxel_ml: float,
    reference: Reference,
    maker: Maker,
) -> tuple[Any, Any, Any]:
    """Return the items of one region in the three sequences that describe it."""
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence as Items

    meaning = meaning_of(segment.name)
    voxels = np.zeros((0, 0, 0), bool) if box is None else array[box] == number
    roi = Dataset()
    roi.ROINumber = number
    roi.ReferencedFrameOfReferenceUID = reference.frame_of_reference
    roi.ROIName = safe_text(segment.name)
    roi.ROIVolume = f"{np.count_nonzero(voxels) * voxel_ml:.4f}"  # cm³, which is mL
    roi.ROIGenerationAlgorithm = maker.type
    if maker.name:
        roi.ROIGenerationDescription = safe_text(f"{maker.name} {maker.version}")
    contours = Dataset()
    contours.ROIDisplayColor = list(meaning.colour)
    contours.ReferencedROINumber = number
    drawn = [] if box is None else _contours(voxels, box, reference)
    if drawn:
        contours.ContourSequence = Items(drawn)
    observation = Dataset()
    observation.ObservationNumber = observation.ReferencedROINumber = number
    observation.RTROIIdentificationCodeSequence = Items([coded(meaning.type)])
    # A lesion found by a program is no GTV before somebody has said so.
    observation.RTROIInterpretedType = "" if meaning.category == ABNORMALITY else "ORGAN"
    observation.ROIInterpreter = ""
    return roi, contours, observation


def _contours(voxels: Mask, box: Box, reference: Reference) -> list[Any]:
    """Return the items of the Contour Sequence (3006,0040) of the voxels in a box: one per slice and piece."""
    from pydicom.charset import default_encoding
    from pydicom.dataelem import RawDataElement
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence as Items
    from pydicom.tag import Tag

    header = reference.headers[0]
    between_rows, between_columns = (float(value) for value in _pixel_spacing(header))
    result: list[Any] = []
    for n, entry in enumerate(reference.slices[box[2]]):
        for piece in outlines(voxels[:, :, n]):
            ring = piece.keyhole() + np.array([box[0].start, box[1].start])
            points = (
                np.array(entry.position_lps)
                + ring[:, :1] * between_columns * reference.row
                + ring[:, 1:] * between_rows * reference.column
            )
            text = _decimal_text(points)
            item = Dataset()
            item.ContourImageSequence = Items([_image_item(entry)])
            item.ContourGeometricType = "CLOSED_PLANAR"
            item.NumberOfContourPoints = len(points)
            item.ContourNumber = len(result) + 1
            # Written as it stands: pydicom would make an object of each of a million numbers, and text of it again.
            tag = Tag(0x3006, 0x0050)
            item[tag] = RawDataElement(tag, "DS", len(text), text, 0, True, True)
            item.set_original_encoding(True, True, default_encoding)
            result.append(item)
    return result


def _decimal_text(points: FloatArray) -> bytes:
    """Return points (n, 3) as the value of Contour Data (3006,0050): decimal strings of at most 16 characters."""
    text = "\\".join(f"{value:.{DECIMALS}f}" for value in np.round(points, DECIMALS).ravel().tolist())
    return (text + " " * (len(text) % 2)).encode("ascii")


def _pixel_spacing(header: Any) -> Any:
    groups = header.get("SharedFunctionalGroupsSequence")
    for place in (header, *(groups or ()), *(header.get("PerFrameFunctionalGroupsSequence") or ())[:1]):
        if place.get("PixelSpacing"):
            return place.PixelSpacing
        if place.get("PixelMeasuresSequence"):
            return place.PixelMeasuresSequence[0].PixelSpacing
    raise AssertionError("a Reference has spacings")


def _image_item(entry: Any) -> Any:
    from pydicom.dataset import Dataset

    item = Dataset()
    item.ReferencedSOPClassUID = entry.sop_class_uid
    item.ReferencedSOPInstanceUID = entry.sop_instance_uid
    if entry.frame is not None:
        item.ReferencedFrameNumber = entry.frame
    return item


def _referenced(reference: Reference) -> Any:
    """Return the item of Referenced Frame of Reference Sequence (3006,0010): study, series and all its images."""
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence as Items

    images = []
    for uid in dict.fromkeys(entry.sop_instance_uid for entry in reference.slices):
        image = Dataset()
        image.ReferencedSOPClassUID = reference.slices[0].sop_class_uid
        image.ReferencedSOPInstanceUID = uid
        images.append(image)
    series = Dataset()
    series.SeriesInstanceUID = reference.series_uid
    series.ContourImageSequence = Items(images)
    study = Dataset()
    study.ReferencedSOPClassUID = STUDY_CLASS
    study.ReferencedSOPInstanceUID = reference.study_uid
    study.RTReferencedSeriesSequence = Items([series])
    frame = Dataset()
    frame.FrameOfReferenceUID = reference.frame_of_reference
    frame.RTReferencedStudySequence = Items([study])
    return frame
