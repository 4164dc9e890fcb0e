"""A PET that was made of another one -> a derived DICOM series on the slices of its source, in SUV."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from uptake.core.errors import OutputError, UnitError
from uptake.geometry.grid import same_grid
from uptake.geometry.volume import Volume
from uptake.io.archive import Files
from uptake.io.dicom import read_dicom
from uptake.io.dicom_examination import decimal_string
from uptake.io.dicom_images import LARGEST_STORED, PET_CLASS
from uptake.io.dicom_reference import Identity, Reference, safe_text, uid_of
from uptake.io.dicom_result import NOTICE, Maker, equipment, quiet_writing, series_description, stamp
from uptake.io.dicom_seg import fingerprint

SERIES_NUMBER = 7701
"""Series Number (0020,0011) of series made of the PET."""

_SOURCE = (
    "SeriesType", "CountsSource", "CorrectedImage", "DecayCorrection", "CollimatorType", "RandomsCorrectionMethod",
    "AttenuationCorrectionMethod", "ScatterCorrectionMethod", "AcquisitionDate", "AcquisitionTime",
    "FrameReferenceTime", "ActualFrameDuration", "PatientPosition", "RadiopharmaceuticalInformationSequence",
)  # fmt: skip
"""What the PET modules need and who reads the series may want to know; none of it says who the patient is."""

_TRACER = ("RadiopharmaceuticalStartTime", "RadiopharmaceuticalStartDateTime", "RadionuclideTotalDose",
           "RadionuclideHalfLife", "RadionuclidePositronFraction", "RadionuclideCodeSequence",
           "RadiopharmaceuticalCodeSequence")  # fmt: skip

_DEFAULTS = {"SeriesType": ["WHOLE BODY", "IMAGE"], "CountsSource": "EMISSION", "CorrectedImage": ["ATTN", "DECY"],
             "DecayCorrection": "START", "CollimatorType": "NONE"}  # fmt: skip
"""Attributes that the standard asks for, where a source (or its multi-frame form) lacks them."""

_PATIENT = (
    "SpecificCharacterSet", "PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex",
    "PatientAge", "PatientSize", "PatientWeight", "StudyInstanceUID", "StudyDate", "StudyTime", "StudyID",
    "StudyDescription", "AccessionNumber", "ReferringPhysicianName", "FrameOfReferenceUID",
    "PositionReferenceIndicator",
)  # fmt: skip


def write_pet_result(
    pet: Volume,
    reference: Reference,
    files: tuple[Path, ...],
    folder: Path,
    *,
    maker: Maker,
    identity: Identity,
    content: str,
    derivation: str,
) -> tuple[Path, ...]:
    """Write an image made of a PET as a series of single slices, and return the files in the order of the slices.

    Parameters
    ----------
    pet : Volume
        SUV by body weight, g/mL, not negative, on the grid of the source and in its voxel order.
    reference : Reference
        The slices of the source.
    files : tuple of Path
        Its files, for what their headers say about the acquisition.
    folder : Path
        Made where needed; holds nothing else.
    maker, identity
        Who made the image, and whether the patient's identifiers are copied.
    content : str
        What the series is called: "PET denoised".
    derivation : str
        Derivation Description (0008,2111): how it was made.

    Raises
    ------
    UnitError
        If a value is negative or not finite.
    OutputError
        If the system refuses, or the series does not read back to the same image.

    Notes
    -----
    Units (0054,1001) are GML with SUV Type (0054,1006) BW whatever those of the source: SUV needs neither weight nor
    dose then, and the patient's weight stays out of the file. One slope serves the series; a value comes back within
    half of it, 1/65534 of the maximum. Image Type says DERIVED, so that readers, ours too, take the original where both
    lie in one study.

    References
    ----------
    DICOM PS3.3 A.21 PET Image IOD, C.8.9.1 PET Series, C.8.9.4 PET Image, C.7.6.1.1.3 Derivation Description,
    C.12.4 Source Image Sequence.
    """
    if not np.isfinite(pet.array).all() or float(pet.array.min()) < 0:
        raise UnitError("an image that is negative or not finite somewhere cannot be written as SUV.")
    key = (fingerprint(pet.array), maker, identity, content, derivation, reference.series_uid)
    series_uid = uid_of("PET result", *key)
    slope = decimal_string(float(pet.array.max()) / LARGEST_STORED or 1.0)
    facts, stand_ins = _source_facts(files), reference.stand_ins(identity)
    paths = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with quiet_writing():
            for k, entry in enumerate(reference.slices):
                number = k if len(stand_ins) > 1 else 0
                dataset = _slice(reference, stand_ins[number], facts.get(entry.sop_instance_uid, {}), identity)
                dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = uid_of("PET slice", k, *key)
                dataset.SeriesInstanceUID, dataset.SeriesNumber = series_uid, SERIES_NUMBER
                dataset.SeriesDescription = series_description(content)
                dataset.DerivationDescription = f"{safe_text(derivation, 1000)}; {NOTICE}"
                dataset.InstanceNumber = dataset.ImageIndex = k + 1
                dataset.NumberOfSlices = len(reference.slices)
                names = equipment(maker)
                dataset.Manufacturer, dataset.ManufacturerModelName = (
                    names["manufacturer"],
                    names["manufacturer_model_name"],
                )
                dataset.SoftwareVersions, dataset.DeviceSerialNumber = (
                    names["software_versions"],
                    names["device_serial_number"],
                )
                _place(dataset, pet, reference, k)
                _pixels(dataset, pet.array[:, :, k], slope)
                dataset.InstanceCreationDate = dataset.InstanceCreationTime = ""
                stamp(dataset, reference, identity)
                path = folder / f"PT{k + 1:05d}.dcm"
                dataset.save_as(path, enforce_file_format=True)
                paths.append(path)
    except OSError as error:
        raise OutputError(
            f"{folder}: the DICOM series cannot be written: {error.strerror or error}. Free space, or choose another "
            "folder."
        ) from error
    _require_same(folder, pet, float(slope))
    return tuple(paths)


def _source_facts(files: tuple[Path, ...]) -> dict[str, dict[str, Any]]:
    """Return SOP Instance UID -> attributes of `_SOURCE` of each file."""
    from pydicom import dcmread

    found = {}
    with Files() as source:
        for path in files:
            with source.stream(path) as stream, quiet_writing():
                header = dcmread(
                    stream, stop_before_pixels=True, specific_tags=["SOPInstanceUID", *_SOURCE], force=True
                )
            values = {name: header[name].value for name in _SOURCE if name in header}
            found[str(header.get("SOPInstanceUID", ""))] = values
    return found


def _slice(reference: Reference, stand_in: Any, facts: dict[str, Any], identity: Identity) -> Any:
    """Return a slice without geometry and pixels: patient, study, what is known of the acquisition, its source."""
    from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
    from pydicom.sequence import Sequence as Items
    from pydicom.uid import UID, ExplicitVRLittleEndian

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = UID(PET_CLASS), ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    for keyword in _PATIENT:
        if keyword in stand_in:
            setattr(dataset, keyword, stand_in[keyword].value)
    for keyword in _SOURCE:
        value = facts.get(keyword, _DEFAULTS.get(keyword))
        if value is not None and keyword != "RadiopharmaceuticalInformationSequence":
            setattr(dataset, keyword, value)
    injections = []
    for given in facts.get("RadiopharmaceuticalInformationSequence") or ():
        kept = Dataset()
        for keyword in _TRACER:
            # What tells an injection tells when the patient was there: it goes with the other dates of the study.
            if keyword in given:
                setattr(kept, keyword, given[keyword].value)
        injections.append(kept)
    dataset.RadiopharmaceuticalInformationSequence = Items(injections)
    dataset.PatientOrientationCodeSequence = dataset.PatientGantryRelationshipCodeSequence = Items([])
    dataset.SOPClassUID, dataset.Modality = PET_CLASS, "PT"
    dataset.ImageType = ["DERIVED", "PRIMARY"]
    dataset.Units, dataset.SUVType = "GML", "BW"
    dataset.ContentDate = dataset.ContentTime = ""
    dataset.LossyImageCompression, dataset.BurnedInAnnotation = "00", "NO"
    return dataset


def _place(dataset: Any, pet: Volume, reference: Reference, k: int) -> None:
    """Fill in where a slice lies and what it was made of: PS3.3 C.7.6.2, C.12.4.1."""
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence as Items

    entry = reference.slices[k]
    dataset.ImagePositionPatient = [decimal_string(round(value, 6)) for value in entry.position_lps]
    dataset.ImageOrientationPatient = [decimal_string(float(x)) for x in (*reference.row, *reference.column)]
    # Between rows first: along the second array axis.
    dataset.PixelSpacing = [decimal_string(round(pet.spacing_mm[axis], 9)) for axis in (1, 0)]
    dataset.SliceThickness = decimal_string(round(pet.spacing_mm[2], 6))
    source = Dataset()
    source.ReferencedSOPClassUID, source.ReferencedSOPInstanceUID = entry.sop_class_uid, entry.sop_instance_uid
    if entry.frame is not None:
        source.ReferencedFrameNumber = entry.frame
    dataset.SourceImageSequence = Items([source])


def _pixels(dataset: Any, values: np.ndarray[Any, Any], slope: str) -> None:
    stored = np.rint(values.astype(np.float64) / float(slope)).clip(0, LARGEST_STORED).astype("<i2")
    dataset.Columns, dataset.Rows = values.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 1
    dataset.RescaleSlope, dataset.RescaleIntercept = slope, "0"
    dataset.SmallestImagePixelValue, dataset.LargestImagePixelValue = int(stored.min()), int(stored.max())
    # Rows of the file run along our first axis: (columns, rows) -> (rows, columns).
    dataset.PixelData = np.ascontiguousarray(stored.T).tobytes()
    dataset["PixelData"].VR = "OW"


def _require_same(folder: Path, pet: Volume, slope: float) -> None:
    """Read the series back and compare: a slice in the wrong place would be worse than none."""
    found = read_dicom(folder, with_ct=False, least_slices=1).pet
    if not same_grid(found, pet) or float(np.abs(found.array - pet.array).max()) > 0.51 * slope:
        raise OutputError(f"{folder}: the series did not read back as it was meant; it is not to be used.")
