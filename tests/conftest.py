"""Fixtures that several rooms share."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parents[1]

# A busy machine is no failure, and a run can be repeated.
settings.register_profile("uptake", deadline=None, derandomize=True)
settings.load_profile("uptake")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real development data beside the repository; tests that need it are skipped where it is absent."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("real development data (../shared/data) is not here")
    return folder


SHAPE = (24, 20, 28)
CHANNELS = {"ct": (-800.0, 400.0, 0.0, 200.0), "pet": (0.0, 20.0, 1.0, 1.0)}
"""Lower, upper, mean and standard deviation of the tiny model's normalisation."""


@dataclass(frozen=True)
class Outcome:
    """What a command returned and printed."""

    code: int
    out: str
    err: str


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Return a function that runs the command line in this process: ``cli("segment", path, "-o", out)``."""
    from uptake.cli.main import run

    def call(*arguments: object) -> Outcome:
        capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        return Outcome(code, *capsys.readouterr())

    return call


@pytest.fixture(scope="session")
def fresh() -> Callable[..., Outcome]:
    """Return a function that runs Python code in a fresh interpreter: ``fresh("import uptake")``."""

    def call(code: str, *arguments: object, cwd: Path | None = None) -> Outcome:
        command = [sys.executable, "-c", code, *map(str, arguments)]
        ran = subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False, timeout=300)
        return Outcome(ran.returncode, ran.stdout, ran.stderr)

    return call


@pytest.fixture(scope="session")
def turned() -> np.ndarray:
    """(4, 4): 8 mm voxels turned by 15 degrees about z and 5 about x, first axis flipped, far from the origin."""
    z, x = np.deg2rad([15.0, 5.0])
    about_z = np.array([[np.cos(z), -np.sin(z), 0], [np.sin(z), np.cos(z), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(x), -np.sin(x)], [0, np.sin(x), np.cos(x)]])
    affine = np.eye(4)
    affine[:3, :3] = about_x @ about_z @ np.diag([-8.0, 8.0, 8.0])
    affine[:3, 3] = [90.0, -80.0, -900.0]
    return affine


@pytest.fixture(scope="session")
def tiny_arrays() -> dict[str, np.ndarray]:
    """(24, 20, 28) PET in SUV, CT in HU and mask of a cylinder with two hot balls."""
    i, j, k = np.indices(SHAPE)
    rng = np.random.default_rng(5)
    body = ((i - 11.5) / 11) ** 2 + ((j - 9.5) / 9) ** 2 < 1
    hot = (i - 8) ** 2 + (j - 9) ** 2 + (k - 10) ** 2 < 9
    hot |= (i - 15) ** 2 + (j - 10) ** 2 + (k - 20) ** 2 < 6
    pet = body * (1.0 + rng.normal(0, 0.05, SHAPE)) + 7.0 * hot
    ct = np.where(body, 40.0, -1000.0) + rng.normal(0, 10, SHAPE)
    return {"pet": pet.astype(np.float32), "ct": ct.astype(np.float32), "lesion": hot.astype(np.uint8)}


@pytest.fixture(scope="session")
def make_study(tiny_arrays: dict[str, np.ndarray], turned: np.ndarray) -> Callable[..., Path]:
    """Return a function that writes a study folder: ``make_study(folder, suffix=".mha", roles=("pet",))``."""
    from uptake.geometry import Volume
    from uptake.io.write import write_volume

    def write(
        folder: Path,
        *,
        suffix: str = ".nii.gz",
        roles: tuple[str, ...] = ("pet", "ct", "lesion"),
        affine: np.ndarray | None = None,
        **arrays: np.ndarray,
    ) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        for role in roles:
            array = arrays.get(role, tiny_arrays[role])
            write_volume(Volume(array, turned if affine is None else affine), folder / f"{role}{suffix}")
        return folder

    return write


@pytest.fixture(scope="session")
def make_bundle() -> Callable[..., Path]:
    """Return a function that writes a bundle of random weights, 16³ windows of 8 mm: ``make_bundle(folder)``."""
    from uptake.harmonise.normalise import ChannelRule
    from uptake.harmonise.plan import Plan
    from uptake.methods import lesiontracer
    from uptake.networks.unet import unique_state
    from uptake.zoo.bundle import save_bundle
    from uptake.zoo.cards import Card

    schemes = {"ct": "clip_zscore", "pet": "asinh"}

    def write(
        folder: Path, *, seed: int = 1, change: Callable[[dict], dict] = lambda state: state, **card: Any
    ) -> Path:
        config = replace(
            lesiontracer.Config.small(),
            spacing_mm=(8.0, 8.0, 8.0),
            window=(16, 16, 16),
            features=(4, 8),
            blocks=(1, 1),
            mirror_axes=(2,),
            seed=seed,
        )
        plan = Plan(tuple(ChannelRule(name, schemes[name], *values) for name, values in CHANNELS.items()), (8.0,) * 3)
        facts: dict[str, Any] = {
            "name": folder.name,
            "version": "1",
            "summary": "random weights for tests",
            "method": "lesiontracer",
            "config": config.as_json(),
            "plan": plan.as_json(),
            "labels": ["background", "lesion"],
            "needs": ["pet"],
            "accepts": ["pet", "ct"],
            "suv": "SUV by body weight, g/mL",
            "training": {"data": "none"},
            "scores": [],
            "limits": ["It has learnt nothing."],
            "licence": "Apache-2.0",
            "files": {},
            "stored_as": "float32",
            "package_version": "test",
        }
        network = lesiontracer.build_network(config)
        save_bundle(Card(**{**facts, **card}), {"0": change(unique_state(network))}, folder)
        return folder

    return write


@pytest.fixture(scope="session")
def tiny_bundle(make_bundle: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of random weights: what it finds means nothing, but is always the same."""
    return make_bundle(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def plain_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put one small picture in the place of every drawing, for tests that are not about pictures."""
    from uptake.workflows import cuts, outputs

    png = bytes.fromhex(
        "89504e470d0a1a0a0000000d49484452000000010000000108000000003a7e9b550000000a49444154789c63680000000082008177cd72b6"
        "0000000049454e44ae426082"
    )
    monkeypatch.setattr(outputs, "mip_picture", lambda *_, **__: png)
    monkeypatch.setattr(outputs, "organ_picture", lambda *_, **__: png)
    monkeypatch.setattr(cuts, "fusion_picture", lambda *_, **__: png)


ORIENTATIONS = {
    "axial": (1, 0, 0, 0, 1, 0),
    "feet first": (-1, 0, 0, 0, 1, 0),
    "sagittal": (0, 1, 0, 0, 0, -1),
    "coronal": (1, 0, 0, 0, 0, -1),
    "oblique": (0.866025, 0.5, 0.0, -0.433013, 0.75, 0.5),
}
"""Image Orientation (Patient) (0020,0037): directions of row and column, LPS. All perpendicular."""


@pytest.fixture(scope="session")
def dicom_pet() -> Callable[..., tuple[tuple[Path, ...], Any]]:
    """Return a function that writes a PET of any orientation as DICOM, and gives its files and its `Volume`.

    ``dicom_pet(folder, shape, orientation="sagittal", spacing=(columns, rows, slices), multi_frame=True, Keyword=...)``
    """
    from uptake.geometry import Volume

    def write(
        folder: Path,
        shape: tuple[int, int, int] = (7, 7, 5),
        *,
        orientation: str = "axial",
        spacing: tuple[float, float, float] = (4.0, 4.0, 3.0),
        origin: tuple[float, float, float] = (-20.25, 30.5, -400.75),
        stored: np.ndarray | None = None,
        uneven: float = 0.0,
        multi_frame: bool = False,
        **attributes: Any,
    ) -> tuple[tuple[Path, ...], Any]:
        from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
        from pydicom.uid import ExplicitVRLittleEndian

        folder.mkdir(parents=True, exist_ok=True)
        row, column = np.array(ORIENTATIONS[orientation][:3], float), np.array(ORIENTATIONS[orientation][3:], float)
        normal = np.cross(row, column)
        if stored is None:
            stored = np.arange(np.prod(shape)).reshape(shape)
        slices = []
        for k in range(shape[2]):
            meta = FileMetaDataset()
            meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.128"
            meta.MediaStorageSOPInstanceUID = f"1.2.826.0.1.3680043.10.99.1.1.{k + 1}"
            meta.TransferSyntaxUID = ExplicitVRLittleEndian
            ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
            ds.SOPClassUID, ds.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
            ds.StudyInstanceUID, ds.SeriesInstanceUID = "1.2.826.0.1.3680043.10.99.1", "1.2.826.0.1.3680043.10.99.1.1"
            ds.FrameOfReferenceUID, ds.PositionReferenceIndicator = "1.2.826.0.1.3680043.10.99.2", ""
            ds.PatientName, ds.PatientID, ds.PatientBirthDate, ds.PatientSex = (
                "Secret^Person",
                "SECRET-ID",
                "19500101",
                "F",
            )
            ds.PatientWeight, ds.PatientSize, ds.PatientAge = "70", "1.7", "073Y"
            ds.StudyID, ds.AccessionNumber, ds.ReferringPhysicianName = "SECRET-S", "SECRET-A", "Secret^Doctor"
            ds.StudyDescription, ds.SeriesDescription, ds.OperatorsName = (
                "Secret study",
                "Secret series",
                "Secret^Operator",
            )
            ds.InstitutionName, ds.StationName, ds.PatientComments = "Secret clinic", "SECRET-ST", "Secret comment"
            ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = "20240102"
            ds.StudyTime = ds.SeriesTime = ds.AcquisitionTime = ds.ContentTime = "110000"
            ds.Modality, ds.Manufacturer, ds.ManufacturerModelName = "PT", "Anyone", "Any Model"
            ds.ImageType, ds.SeriesType = ["ORIGINAL", "PRIMARY"], ["WHOLE BODY", "IMAGE"]
            ds.CorrectedImage, ds.DecayCorrection, ds.Units = ["ATTN", "DECY", "SCAT"], "START", "BQML"
            ds.SeriesNumber, ds.InstanceNumber, ds.NumberOfSlices, ds.ImageIndex = 1, k + 1, shape[2], k + 1
            tracer, code = Dataset(), Dataset()
            tracer.Radiopharmaceutical, tracer.RadiopharmaceuticalStartTime = "FDG", "100000"
            tracer.RadionuclideTotalDose, tracer.RadionuclideHalfLife = "350000000", "6586.2"
            code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "C-111A1", "SRT", "^18^Fluorine"
            tracer.RadionuclideCodeSequence = [code]
            ds.RadiopharmaceuticalInformationSequence = [tracer]
            depth = spacing[2] * (k + (uneven if k == 1 else 0.0))
            ds.ImagePositionPatient = [round(float(x), 6) for x in np.array(origin) + depth * normal]
            ds.ImageOrientationPatient = list(ORIENTATIONS[orientation])
            ds.PixelSpacing, ds.SliceThickness = [spacing[1], spacing[0]], spacing[2]
            ds.Columns, ds.Rows = shape[:2]
            ds.RescaleSlope, ds.RescaleIntercept = "2", "0"
            ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
            ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 1
            ds.PixelData = stored[:, :, k].T.astype("<i2").tobytes()
            for keyword, value in attributes.items():
                if value is None:
                    delattr(ds, keyword)
                else:
                    setattr(ds, keyword, value)
            slices.append(ds)
        affine = np.eye(4)
        affine[:3, :3] = np.stack([row, column, normal], axis=1) * spacing
        affine[:3, 3] = origin
        volume = Volume(
            (stored * 2.0).astype(np.float32),
            np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine,
            frame_of_reference="1.2.826.0.1.3680043.10.99.2",
        )
        if multi_frame:
            from highdicom.legacy import LegacyConvertedEnhancedPETImage

            image = LegacyConvertedEnhancedPETImage(
                slices[::-1], "1.2.826.0.1.3680043.10.99.1.3", 3, "1.2.826.0.1.3680043.10.99.1.3.1", 1
            )
            image.save_as(folder / "all.dcm")
            return (folder / "all.dcm",), volume
        for k, ds in enumerate(slices):
            # Names in an order that is not that of the stack.
            ds.save_as(folder / f"{(k * 3) % 7}_{k}.dcm", enforce_file_format=True)
        return tuple(folder / f"{(k * 3) % 7}_{k}.dcm" for k in range(shape[2])), volume

    return write


PET_IMAGE = "1.2.840.10008.5.1.4.1.1.128"
CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"


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
