"""Hand-made images and DICOM series."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from uptake.geometry import Volume

PET_IMAGE = "1.2.840.10008.5.1.4.1.1.128"
CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"


@pytest.fixture
def oblique() -> np.ndarray:
    """(4, 4): 30 degrees about z, anisotropic, second axis flipped."""
    c, s = np.cos(np.pi / 6), np.sin(np.pi / 6)
    turn = np.array([[c, s, 0.0], [s, -c, 0.0], [0.0, 0.0, 1.0]])
    affine = np.eye(4)
    affine[:3, :3] = turn * [2.0, 3.0, 5.0]
    affine[:3, 3] = [-40.0, 12.5, -700.0]
    return affine


@pytest.fixture
def suv(oblique: np.ndarray) -> Volume:
    """A (6, 5, 4) PET that passes for SUV: 0 to 11.9."""
    return Volume((np.arange(120, dtype=np.float32) / 10).reshape(6, 5, 4), oblique)


@pytest.fixture
def hu(suv: Volume) -> Volume:
    """A CT on the grid of `suv`, -1000 to 190 HU."""
    return suv.with_array(np.arange(120, dtype=np.float32).reshape(6, 5, 4) * 10 - 1000)


def pet_header() -> dict[str, Any]:
    """F-18, 60 min uptake, 70 kg, 350 MBq: factor 70000 / (350e6 * 2**(-3600/6586.2)) = 2.921e-4 g/Bq."""
    return {
        "Modality": "PT",
        "SOPClassUID": PET_IMAGE,
        "Units": "BQML",
        "DecayCorrection": "START",
        "CorrectedImage": ["ATTN", "DECY", "SCAT"],
        "SeriesType": ["WHOLE BODY", "IMAGE"],
        "PatientWeight": "70",
        "SeriesDate": "20240102",
        "SeriesTime": "110000",
        "AcquisitionDate": "20240102",
        "AcquisitionTime": "110000",
        "Manufacturer": "Anyone",
        "ManufacturerModelName": "Any Model",
        "PatientName": "Secret^Person",
        "PatientID": "SECRET-ID",
        "PatientBirthDate": "19500101",
        "tracer": {
            "Radiopharmaceutical": "FDG",
            "RadiopharmaceuticalStartTime": "100000",
            "RadionuclideTotalDose": "350000000",
            "RadionuclideHalfLife": "6586.2",
            "codes": ("C-111A1",),
        },
    }


@pytest.fixture
def pet_series() -> Callable[..., Path]:
    """Return a function that writes a PET (or CT) series of a few slices and returns its folder.

    ``pet_series(folder, slices=4, stored=array, positions=[(x, y, z)], tracer={...}, each=callback, **attributes)``;
    an attribute of None is left out.
    """

    def write(
        folder: Path,
        *,
        slices: int = 4,
        stored: np.ndarray | None = None,
        positions: list[tuple[float, float, float]] | None = None,
        orientation: tuple[float, ...] = (1, 0, 0, 0, 1, 0),
        slopes: list[float] | None = None,
        tracer: dict[str, Any] | None = None,
        injections: int = 1,
        series: str = "1",
        each: Callable[[Any, int], None] | None = None,
        **attributes: Any,
    ) -> Path:
        from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
        from pydicom.uid import ExplicitVRLittleEndian

        folder.mkdir(parents=True, exist_ok=True)
        header = {**pet_header(), **attributes}
        item = {**header.pop("tracer"), **(tracer or {})}
        if stored is None:
            stored = (np.arange(slices * 12).reshape(slices, 3, 4) * 600).astype(np.int16)
        for n in range(slices):
            meta = FileMetaDataset()
            meta.MediaStorageSOPClassUID = header["SOPClassUID"]
            meta.MediaStorageSOPInstanceUID = f"1.2.3.{series}.{n + 1}"
            meta.TransferSyntaxUID = ExplicitVRLittleEndian
            ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
            ds.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
            ds.StudyInstanceUID = "1.2.3"
            ds.SeriesInstanceUID = f"1.2.3.{series}"
            ds.FrameOfReferenceUID = "1.2.3.99"
            for keyword, value in header.items():
                if value is not None:
                    setattr(ds, keyword, value)
            if header["Modality"] == "PT" and injections:
                tracers = []
                for _ in range(injections):
                    one = Dataset()
                    for keyword, value in item.items():
                        if keyword != "codes" and value is not None:
                            setattr(one, keyword, value)
                    if item.get("codes"):
                        code = Dataset()
                        code.CodeValue = item["codes"][0]
                        code.CodingSchemeDesignator = "SRT"
                        one.RadionuclideCodeSequence = [code]
                    tracers.append(one)
                ds.RadiopharmaceuticalInformationSequence = tracers
            ds.Rows, ds.Columns = stored.shape[1:]
            ds.PixelSpacing = [3.0, 2.0]  # between rows, between columns
            ds.ImageOrientationPatient = list(orientation)
            ds.ImagePositionPatient = list(positions[n] if positions else (10.0, 20.0, 30.0 + 5.0 * n))
            ds.RescaleSlope = str(slopes[n] if slopes else 2.0)
            ds.RescaleIntercept = "0"
            ds.SamplesPerPixel = 1
            ds.PhotometricInterpretation = "MONOCHROME2"
            ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
            ds.PixelData = stored[n].tobytes()
            for keyword, value in header.items():
                # Also attributes set above may be overridden or left out.
                if value is None and keyword in ds:
                    delattr(ds, keyword)
                elif value is not None:
                    setattr(ds, keyword, value)
            if each is not None:
                each(ds, n)
            # Written in an order that is not that of the stack.
            ds.save_as(folder / f"{(n * 7) % 11:03d}_{n}.dcm", enforce_file_format=True)
        return folder

    return write


@pytest.fixture
def ct_series(pet_series: Callable[..., Path]) -> Callable[..., Path]:
    """As `pet_series`, for a CT of -1000 to 460 HU in the same frame of reference."""

    def write(folder: Path, *, slices: int = 4, **attributes: Any) -> Path:
        defaults: dict[str, Any] = {
            "Modality": "CT",
            "SOPClassUID": CT_IMAGE,
            "series": "2",
            "stored": (np.arange(slices * 12).reshape(slices, 3, 4) * 15 + 24).astype(np.int16),
            "slopes": [1.0] * slices,
            "RescaleIntercept": "-1024",
            **dict.fromkeys(("Units", "DecayCorrection", "CorrectedImage", "SeriesType", "PatientWeight")),
        }
        return pet_series(folder, slices=slices, **{**defaults, **attributes})

    return write
