"""PET and CT volumes -> DICOM series as scanners write them: single slices, int16 with a slope, times by bed position.

The inverse of `dicom.read_dicom` for patients who do not exist: SUV becomes what the scanner would have stored, in the
units, with the decay correction and with the attributes of a vendor (`dicom_dialects`).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from uptake.core.errors import GeometryError, OutputError, UnitError
from uptake.core.types import FloatArray
from uptake.core.units import GRAMS_PER_KG, MILLISECONDS_PER_SECOND
from uptake.geometry.volume import Volume
from uptake.io.dicom_dialects import GE_SCAN, PHILIPS, SIEMENS, Dialect
from uptake.io.dicom_examination import (
    CT_BEFORE_PET,
    Examination,
    decimal_string,
    orientation_sequences,
    study_modules,
    time_string,
    tracer_sequence,
)
from uptake.io.dicom_result import NOTICE, quiet_writing
from uptake.io.dicom_stack import LPS_TO_RAS
from uptake.physics.decay import decay_factor, decay_within_frame, mean_count_rate_time_s

PET_CLASS, CT_CLASS = "1.2.840.10008.5.1.4.1.1.128", "1.2.840.10008.5.1.4.1.1.2"

LARGEST_STORED = 32767
"""Of signed 16-bit pixels."""

CT_INTERCEPT = -1024
"""Rescale Intercept (0028,1052) of the CT, with slope 1."""

COUNTS_PER_BQML = 0.61
"""Of the simulated Philips scanner: 1 / Activity Concentration Scale Factor (7053,1009)."""

PERPENDICULAR = 1e-4
"""Largest cosine between the axes of a grid that can be written: DICOM slices have right angles."""


def write_pet_series(
    pet: Volume,
    folder: Path,
    facts: Examination,
    dialect: Dialect,
    *,
    series: str = "PET",
    number: int = 2,
    derived: bool = False,
) -> tuple[Path, ...]:
    """Write a PET as a series of slices, and return the files in the order of the third array axis.

    Parameters
    ----------
    pet : Volume
        SUV by body weight, g/mL; axes perpendicular. Each slice is one file; its first array axis runs along the rows.
    folder : Path
        Made where needed; its files have to be few enough to be meant for this series alone.
    facts : Examination
    dialect : Dialect
    series : str
        Tells apart several PETs of a study; part of the UIDs and of Series Description.
    number : int
        Series Number (0020,0011).
    derived : bool
        Image Type (0008,0008) DERIVED: made of another series of the study, from which readers can then tell it.

    Raises
    ------
    UnitError
        If the values are not finite.
    GeometryError
        If the axes are not perpendicular.
    OutputError
        If the system refuses.

    Notes
    -----
    With weight W, injected activity D and the time t from the injection to the reference, the activity concentration
    is SUV * D * 2^(-t / T_half) / W. Without decay correction it is the mean over the frame, smaller by
    ``decay_within_frame``. A stored value is the nearest multiple of the slope: SUV comes back within half a slope.

    References
    ----------
    DICOM PS3.3 C.8.9.1 PET Series, C.8.9.2 PET Isotope, C.8.9.4 PET Image.
    """
    if not np.isfinite(pet.array).all():
        raise UnitError("a PET with values that are not finite cannot be written as DICOM.")
    starts = facts.bed_starts(_towards_head_mm(pet))
    scale = [_stored_per_suv(facts, dialect, moment) for moment in starts]
    peaks = np.abs(pet.array).max(axis=(0, 1)).astype(np.float64) * scale
    whole = float(peaks.max()) / LARGEST_STORED or 1.0

    def slices() -> Iterator[tuple[Any, npt.NDArray[np.int16]]]:
        ds = _series(pet, facts, dialect, PET_CLASS, series)
        ds.SeriesNumber, ds.SeriesDescription = number, f"{series} {dialect.reconstruction} - {NOTICE}"
        _pet_series_module(ds, pet, facts, dialect)
        ds.Modality, ds.ImageType = "PT", ["DERIVED" if derived else "ORIGINAL", "PRIMARY"]
        _private(ds, facts, dialect)
        for k in range(pet.shape[2]):
            slope = decimal_string(peaks[k] / LARGEST_STORED if dialect.slope_per_slice and peaks[k] > 0 else whole)
            _place(ds, pet, k, facts, dialect, series)
            _pet_image_module(ds, facts, dialect, starts[k])
            ds.RescaleSlope, ds.RescaleIntercept = slope, "0"
            stored = np.rint(pet.array[:, :, k].astype(np.float64) * (scale[k] / float(slope)))
            yield ds, np.clip(stored, -LARGEST_STORED, LARGEST_STORED).astype(np.int16)

    return _write(slices(), folder, "PT")


def write_ct_series(
    ct: Volume, folder: Path, facts: Examination, dialect: Dialect, *, number: int = 1
) -> tuple[Path, ...]:
    """Write a CT as a series of slices, and return the files in the order of the third array axis.

    Parameters
    ----------
    ct : Volume
        HU; rounded to whole numbers. On any grid with perpendicular axes.
    folder, facts, dialect, number
        As for `write_pet_series`.

    Raises
    ------
    UnitError
        If values do not fit into 16 bits, or are not finite.
    GeometryError, OutputError
        As for `write_pet_series`.

    References
    ----------
    DICOM PS3.3 A.3 CT Image, C.8.2.1.
    """
    if not np.isfinite(ct.array).all() or np.abs(ct.array).max() > LARGEST_STORED + CT_INTERCEPT:
        raise UnitError("a CT has to be finite and in HU to be written as DICOM.")
    begin = facts.start - CT_BEFORE_PET

    def slices() -> Iterator[tuple[Any, npt.NDArray[np.int16]]]:
        ds = _series(ct, facts, dialect, CT_CLASS, "CT")
        ds.SeriesNumber, ds.SeriesDescription = number, f"CT {dialect.ct_kernel} - {NOTICE}"
        ds.Modality, ds.ImageType, ds.PatientPosition = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"], "HFS"
        ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = begin.strftime("%Y%m%d")
        ds.SeriesTime = ds.AcquisitionTime = ds.ContentTime = time_string(begin)
        ds.KVP, ds.ConvolutionKernel, ds.AcquisitionNumber = str(facts.kvp), dialect.ct_kernel, "1"
        ds.ScanOptions, ds.GantryDetectorTilt = "HELICAL MODE", "0"
        if facts.ct_slice_mm is not None:
            ds.SliceThickness = decimal_string(facts.ct_slice_mm)
        ds.RescaleSlope, ds.RescaleIntercept, ds.RescaleType = "1", str(CT_INTERCEPT), "HU"
        for k in range(ct.shape[2]):
            _place(ds, ct, k, facts, dialect, "CT")
            yield ds, (np.rint(ct.array[:, :, k]) - CT_INTERCEPT).astype(np.int16)

    return _write(slices(), folder, "CT")


def _stored_per_suv(facts: Examination, dialect: Dialect, bed_start: datetime) -> float:
    """Return the value, after Rescale Slope, of SUV 1 in a slice whose bed position was started then."""
    if dialect.units == "GML":
        return 1.0
    per_suv = facts.written_dose_bq / (facts.written_weight_kg * GRAMS_PER_KG)
    half_life = facts.radionuclide.half_life_s
    if dialect.decay_correction == "START":
        per_suv *= decay_factor((facts.start - facts.injection).total_seconds(), half_life)
    elif dialect.decay_correction == "NONE":
        elapsed = (bed_start - facts.injection).total_seconds()
        per_suv *= decay_factor(elapsed, half_life) / decay_within_frame(facts.frame_s, half_life)
    return per_suv * COUNTS_PER_BQML if dialect.units == "CNTS" else per_suv


def _pet_series_module(ds: Any, pet: Volume, facts: Examination, dialect: Dialect) -> None:
    shown = facts.start + timedelta(seconds=dialect.series_delay_s)
    ds.SeriesDate, ds.SeriesTime = shown.strftime("%Y%m%d"), time_string(shown)
    ds.Units, ds.CountsSource, ds.SeriesType = dialect.units, "EMISSION", ["WHOLE BODY", "IMAGE"]
    if dialect.units == "GML":
        ds.SUVType = "BW"
    ds.NumberOfSlices = pet.shape[2]
    decayed = dialect.decay_correction != "NONE"
    ds.CorrectedImage = [*dialect.corrected_image, *(("DECY",) if decayed else ())]
    ds.DecayCorrection = dialect.decay_correction
    ds.RandomsCorrectionMethod, ds.AttenuationCorrectionMethod = dialect.randoms, dialect.attenuation
    ds.ScatterCorrectionMethod = dialect.scatter
    ds.ReconstructionMethod = " ".join(filter(None, (dialect.reconstruction, facts.reconstruction)))
    ds.ConvolutionKernel = f"XYZ Gauss{facts.filter_fwhm_mm:.2f}"
    ds.CollimatorType, ds.GantryDetectorTilt, ds.DoseCalibrationFactor = "NONE", "0", "1"
    ds.ReconstructionDiameter = decimal_string(round(pet.shape[0] * pet.spacing_mm[0], 3))
    ds.RadiopharmaceuticalInformationSequence = tracer_sequence(facts, dialect)
    orientation_sequences(ds)


def _pet_image_module(ds: Any, facts: Examination, dialect: Dialect, bed_start: datetime) -> None:
    half_life = facts.radionuclide.half_life_s
    since_s = (bed_start - facts.start).total_seconds()
    within_s = 0.0 if dialect.frame_reference_at_start else mean_count_rate_time_s(facts.frame_s, half_life)
    written = bed_start if dialect.bed_times else facts.start
    ds.AcquisitionDate = ds.ContentDate = written.strftime("%Y%m%d")
    ds.AcquisitionTime = ds.ContentTime = time_string(written)
    ds.FrameReferenceTime = decimal_string((since_s + within_s) * MILLISECONDS_PER_SECOND)
    ds.ActualFrameDuration = str(round(facts.frame_s * MILLISECONDS_PER_SECOND))
    if dialect.decay_correction != "NONE":
        to = facts.start if dialect.decay_correction == "START" else facts.injection
        grown = decay_within_frame(facts.frame_s, half_life) / decay_factor((bed_start - to).total_seconds(), half_life)
        ds.DecayFactor = decimal_string(grown)
    ds.ImageIndex = ds.InstanceNumber


def _private(ds: Any, facts: Examination, dialect: Dialect) -> None:
    """Write what the vendor says in attributes of its own."""
    start, injection = (moment.strftime("%Y%m%d%H%M%S.%f") for moment in (facts.start, facts.injection))
    if dialect.private == GE_SCAN:
        block = ds.private_block(0x0009, GE_SCAN, create=True)
        block.add_new(0x0D, "DT", start)
        block.add_new(0x36, "LO", facts.tracer)
        # Measured dose and residual: their difference is the dose that was injected.
        block.add_new(0x38, "FL", facts.written_dose_bq)
        block.add_new(0x39, "DT", injection)
        block.add_new(0x3B, "DT", injection)
        block.add_new(0x3C, "FL", 0.0)
        block.add_new(0x3D, "DT", injection)
        block.add_new(0x3E, "SH", facts.nuclide)
        block.add_new(0x3F, "FL", facts.radionuclide.half_life_s)
    elif dialect.private == SIEMENS:
        ds.private_block(0x0071, SIEMENS, create=True).add_new(0x22, "DT", start)
    elif dialect.private == PHILIPS:
        block = ds.private_block(0x7053, PHILIPS, create=True)
        activity = 1.0 / COUNTS_PER_BQML if dialect.units == "CNTS" else 1.0
        elapsed_s = (facts.start - facts.injection).total_seconds()
        dose = facts.written_dose_bq
        if dialect.decay_correction != "ADMIN":
            dose *= decay_factor(elapsed_s, facts.radionuclide.half_life_s)
        suv = activity * facts.written_weight_kg * GRAMS_PER_KG / dose
        if dialect.suv_factor:
            block.add_new(0x00, "DS", decimal_string(float(f"{suv:.9g}")))
        if dialect.activity_factor:
            block.add_new(0x09, "DS", decimal_string(activity))


def _series(volume: Volume, facts: Examination, dialect: Dialect, sop_class: str, series: str) -> Any:
    """Return a dataset with what all slices of a series share; `_place` and the caller fill in the rest.

    One dataset serves them all: building it takes longer than writing it.
    """
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import UID, ExplicitVRLittleEndian

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = UID(sop_class), ExplicitVRLittleEndian
    ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    study_modules(ds, facts, dialect)
    ds.SOPClassUID, ds.SeriesInstanceUID = sop_class, facts.uid("series", series)
    ds.Columns, ds.Rows = volume.shape[:2]
    row, column = _directions(volume)
    ds.ImageOrientationPatient = [decimal_string(x) for x in (*row, *column)]
    # Between rows first: along the second array axis.
    ds.PixelSpacing = [decimal_string(round(volume.spacing_mm[axis], 9)) for axis in (1, 0)]
    ds.SliceThickness = decimal_string(round(volume.spacing_mm[2], 6))
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
    return ds


def _place(ds: Any, volume: Volume, k: int, facts: Examination, dialect: Dialect, series: str) -> None:
    """Fill in which slice it is, and where it lies: PS3.3 C.7.6.2."""
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = facts.uid(series, k)
    lps = LPS_TO_RAS @ volume.affine
    corner = lps[:3, 2] * k + lps[:3, 3]
    ds.ImagePositionPatient = [decimal_string(round(float(x), 6)) for x in corner]
    ds.SliceLocation = decimal_string(round(float(corner @ np.cross(*_directions(volume))), 6))
    # Instance Number counts from the head or from the feet.
    up = volume.affine[2, 2] > 0
    ds.InstanceNumber = volume.shape[2] - k if up == dialect.first_at_head else k + 1


def _directions(volume: Volume) -> tuple[FloatArray, FloatArray]:
    """Return the directions of growing column and row numbers, LPS.

    Raises
    ------
    GeometryError
        If the grid's axes are not perpendicular.
    """
    axes = LPS_TO_RAS[:3, :3] @ volume.direction
    if np.abs(axes.T @ axes - np.eye(3)).max() > PERPENDICULAR:
        raise GeometryError("only grids with perpendicular axes can be written as DICOM slices; resample first.")
    return axes[:, 0], axes[:, 1]


def _towards_head_mm(volume: Volume) -> FloatArray:
    """Return the positions of the slices along the patient, mm, growing towards the head (or along the stack)."""
    step = volume.affine[:3, 2]
    along = float(step[2]) if abs(step[2]) > 1e-3 else float(np.linalg.norm(step))
    return np.asarray(np.arange(volume.shape[2]) * along, dtype=np.float64)


def _write(slices: Iterator[tuple[Any, npt.NDArray[np.int16]]], folder: Path, prefix: str) -> tuple[Path, ...]:
    paths = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with quiet_writing():
            for ds, stored in slices:
                # Rows of the file run along our first axis: (columns, rows) -> (rows, columns).
                ds.PixelData = np.ascontiguousarray(stored.T).astype("<i2").tobytes()
                ds["PixelData"].VR = "OW"
                ds.SmallestImagePixelValue, ds.LargestImagePixelValue = int(stored.min()), int(stored.max())
                path = folder / f"{prefix}{int(ds.InstanceNumber):05d}.dcm"
                ds.save_as(path, enforce_file_format=True)
                paths.append(path)
    except OSError as error:
        raise OutputError(
            f"{folder}: the DICOM series cannot be written: {error.strerror or error}. Free space, or choose another "
            "folder."
        ) from error
    return tuple(paths)
