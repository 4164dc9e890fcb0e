"""The DICOM images that our own objects refer to: where each slice lies, and what of its header may be passed on.

Segmentations, structure sets and reports belong to a study, a frame of reference and to slices of a series. All of it
is taken from the headers of the PET, read once without pixels; single slices and multi-frame images look alike here.
"""

from __future__ import annotations

import hashlib
import io
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from uptake.core.errors import FileFormatError, GeometryError, MissingAttributeError
from uptake.core.types import FloatArray, Vector3
from uptake.geometry.volume import Volume
from uptake.io.archive import Files
from uptake.io.dicom_header import SharedHeaders
from uptake.io.dicom_series import quiet_headers
from uptake.io.identifiers import IDENTIFYING, Identifiers

IN_PLANE_MM = 0.5
"""A slice of the files and the same slice of the volume may lie this far apart within the plane."""

OF_A_STEP = 0.5
"""And this share of the distance between slices along the stack; bed borders make it a tenth."""

NO_DATE = "19000101"
"""Stands where a date is required and the source has none: the convention of anonymisers."""

IDENTIFIERS = (
    "PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientAge", "PatientSize", "PatientWeight",
    "EthnicGroup", "AccessionNumber", "StudyID", "StudyDescription", "ReferringPhysicianName",
)  # fmt: skip
"""Of the patient and study modules; copied only when asked. Nothing outside this list and `_PLAIN` is ever copied."""

_PLAIN = (
    "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "Modality", "InstanceNumber",
    "PatientSex", "StudyDate", "StudyTime", "SeriesDate", "SeriesTime", "FrameOfReferenceUID", "Rows", "Columns",
    "NumberOfFrames", "PixelSpacing", "ImageOrientationPatient", "ImagePositionPatient", "SliceThickness",
    "SpacingBetweenSlices", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
)  # fmt: skip

_GROUPS = ("PixelMeasuresSequence", "PlaneOrientationSequence", "PlanePositionSequence", "FrameContentSequence")
"""Functional groups of a multi-frame source that are passed on; others may hold free text."""

_EMPTY = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate",
    "StudyTime", "ReferringPhysicianName",
)  # fmt: skip
"""Type 2 attributes of every object: present, if need be empty (PS3.3 C.7.1.1, C.7.2.1)."""


@dataclass(frozen=True)
class Identity:
    """Whose results these are, in the eyes of whoever receives the files.

    Attributes
    ----------
    case_id : str
        Stands in Patient's Name and Patient ID unless `keep`, or a pseudonym if it tells who the patient is.
    keep : bool
        Copy `IDENTIFIERS` from the source. An archive files an object under Patient ID: to go back into the archive
        that the study came from, its own identifiers have to stand in it.
    """

    case_id: str
    keep: bool = False


@dataclass(frozen=True)
class Slice:
    """One image that can be referred to: its UIDs, its frame (counted from 1; None for a single slice), its position.

    `position_lps` is Image Position (Patient) (0020,0032), mm, LPS.
    """

    sop_class_uid: str
    sop_instance_uid: str
    frame: int | None
    position_lps: Vector3


@dataclass(frozen=True, eq=False)
class Reference:
    """The slices of a PET in the order of its third array axis.

    Attributes
    ----------
    study_uid, series_uid, frame_of_reference : str
    modality : str
    slices : tuple of Slice
    row, column : array (3,)
        Directions of increasing column and row index, LPS: Image Orientation (Patient) (0020,0037).
    headers : tuple of pydicom.Dataset
        One per file, in the order of the slices; without pixels.
    """

    study_uid: str
    series_uid: str
    frame_of_reference: str
    modality: str
    slices: tuple[Slice, ...]
    row: FloatArray
    column: FloatArray
    headers: tuple[Any, ...]

    @property
    def normal(self) -> FloatArray:
        """Direction across the slices, LPS."""
        return np.cross(self.row, self.column)

    @cached_property
    def depths_mm(self) -> FloatArray:
        """Where each slice lies along `normal`, mm, as the headers say (a volume spaces its slices evenly)."""
        return np.array([entry.position_lps for entry in self.slices]) @ self.normal

    @cached_property
    def index_of(self) -> dict[tuple[str, int | None], int]:
        """Array index of each image, by SOP Instance UID and frame number."""
        return {(entry.sop_instance_uid, entry.frame): k for k, entry in enumerate(self.slices)}

    def pseudonym(self, case_id: str) -> str:
        """Return the case's id, or a made-up one if that id is the patient's own name or number.

        The same study and id give the same pseudonym; who does not have the study cannot guess back.
        """
        if not Identifiers.of(self.headers[:1]).in_name(case_id):
            return case_id
        return f"case-{hashlib.sha256(f'{self.study_uid}/{case_id}'.encode()).hexdigest()[:10]}"

    def stand_ins(self, identity: Identity) -> list[Any]:
        """Return a header per file that holds geometry, UIDs, dates and sex, and identifiers only if they are kept."""
        from pydicom.dataset import Dataset

        result = []
        for header in self.headers:
            copy = Dataset()
            for keyword in (*_PLAIN, *(IDENTIFIERS if identity.keep else ())):
                if header.get(keyword) is not None:
                    setattr(copy, keyword, _plain_groups(keyword, header.get(keyword)))
            copy.SpecificCharacterSet = "ISO_IR 192"
            for keyword in _EMPTY:
                if keyword not in copy:
                    setattr(copy, keyword, "")
            if copy.get("SliceThickness") is None and "SharedFunctionalGroupsSequence" not in copy:
                # Type 2 in a slice, type 1 in what refers to it; the distance between slices is the next best.
                copy.SliceThickness = f"{float(np.median(np.abs(np.diff(self.depths_mm)))):.6f}"[:16]
            if str(copy.PatientSex) not in ("M", "F", "O"):
                copy.PatientSex = ""
            if not identity.keep:
                copy.PatientID = safe_text(self.pseudonym(identity.case_id))
                copy.PatientName = f"{copy.PatientID}^"  # the caret says that one component is all there is
            # Type 2, and a free text in some sources ("Orbital Meatal Line" is harmless, a note is not).
            copy.PositionReferenceIndicator = ""
            result.append(copy)
        return result


@quiet_headers()
def read_reference(files: Sequence[Path], pet: Volume, *, name: str = "the PET") -> Reference:
    """Return what the DICOM files of a PET say about its slices.

    Parameters
    ----------
    files : sequence of Path
        The slices in any order, or one multi-frame file; as `Case.pet_files`.
    pet : Volume
        What was read from them, on its own grid.
    name : str
        How errors name it.

    Raises
    ------
    FileFormatError
        If a file cannot be read.
    MissingAttributeError
        If a UID or the position of a slice is absent.
    GeometryError
        If the volume does not lie on the slices of the files.
    """
    shared = SharedHeaders()
    with Files() as source:
        headers = [read_header(Path(path), source, shared) for path in files]
    entries: list[tuple[float, Slice, Any]] = []
    for header in headers:
        for frame, position, cosines in _planes(header, name):
            index = pet.index_of(_ras(position))
            entry = Slice(
                _uid(header, "SOPClassUID", name), _uid(header, "SOPInstanceUID", name), frame, _vector(position)
            )
            entries.append((float(index[2]), entry, (header, cosines)))
    entries.sort(key=lambda each: each[0])
    _require_same_planes(entries, pet, name)
    first, cosines = entries[0][2]
    frame_of_reference = _uid(first, "FrameOfReferenceUID", name)
    ordered = tuple({id(each[2][0]): each[2][0] for each in entries}.values())
    return Reference(
        study_uid=_uid(first, "StudyInstanceUID", name),
        series_uid=_uid(first, "SeriesInstanceUID", name),
        frame_of_reference=frame_of_reference,
        modality=str(first.get("Modality", "PT")),
        slices=tuple(each[1] for each in entries),
        row=cosines[:3],
        column=cosines[3:],
        headers=ordered,
    )


def uid_of(*parts: object) -> str:
    """Return the UID that belongs to these parts: equal parts, equal UID, so that a repeated run names equal objects.

    References
    ----------
    DICOM PS3.5 B.2 (UUID derived UID), RFC 9562 5.5 (name-based UUID).
    """
    digest = hashlib.sha256("\x1f".join(str(part) for part in parts).encode("utf-8")).hexdigest()
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, digest).int}"


def safe_text(text: str, longest: int = 64) -> str:
    """Return a text that DICOM's short strings can hold: no control characters, separators or carets, cut to length."""
    return "".join("_" if letter in "\\^=\r\n\t" else letter for letter in text).strip()[:longest]


def read_header(path: Path, source: Files, shared: SharedHeaders | None = None) -> Any:
    """Return the header of one file, without pixels: geometry, UIDs, and what tells who the patient is.

    Raises
    ------
    FileFormatError
        If the file cannot be read any more.
    """
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    wanted = list(dict.fromkeys((*_PLAIN, *IDENTIFIERS, *IDENTIFYING, "PatientIdentityRemoved")))
    try:
        with source.stream(path) as stream:
            quick = shared.read(stream.getvalue()) if shared is not None and isinstance(stream, io.BytesIO) else None
            header = quick[0] if quick else dcmread(stream, stop_before_pixels=True, specific_tags=wanted, force=True)
        if "SOPClassUID" not in header:
            raise InvalidDicomError
    except (InvalidDicomError, OSError, EOFError, ValueError) as error:
        raise FileFormatError(f"{path}: cannot be read as DICOM any more; the study has changed or moved.") from error
    return header


def _planes(header: Any, name: str) -> list[tuple[int | None, FloatArray, FloatArray]]:
    """Return frame number, position (3,) and cosines (6,) of each image of a file, LPS."""
    groups = header.get("PerFrameFunctionalGroupsSequence")
    if groups is None:
        position = _numbers(header, "ImagePositionPatient", 3, name)
        return [(None, position, _numbers(header, "ImageOrientationPatient", 6, name))]
    shared = (header.get("SharedFunctionalGroupsSequence") or [None])[0]
    result: list[tuple[int | None, FloatArray, FloatArray]] = []
    for number, frame in enumerate(groups, start=1):
        position, cosines = (
            _numbers(_group(shared, frame, word), keyword, count, name)
            for word, keyword, count in (
                ("PlanePositionSequence", "ImagePositionPatient", 3),
                ("PlaneOrientationSequence", "ImageOrientationPatient", 6),
            )
        )
        result.append((number, position, cosines))
    return result


def _group(shared: Any, frame: Any, keyword: str) -> Any:
    """Return the first item of a functional group: the frame's own, else the shared one, else an empty mapping."""
    for place in (frame, shared):
        items = place.get(keyword) if place is not None else None
        if items:
            return items[0]
    return {}


def _require_same_planes(entries: list[tuple[float, Slice, Any]], pet: Volume, name: str) -> None:
    """Check that the volume's slices are those of the files, one by one."""
    if len(entries) != pet.shape[2]:
        raise GeometryError(
            f"{name}: {len(entries)} DICOM slices, but the image has {pet.shape[2]}; it is no longer on the grid of "
            "its files. Results can be written as DICOM on the original grid only."
        )
    step = pet.spacing_mm[2]
    for k, (_, entry, (header, cosines)) in enumerate(entries):
        rows, columns = int(header.get("Rows", 0)), int(header.get("Columns", 0))
        offset = pet.index_of(_ras(np.array(entry.position_lps))) - [0, 0, k]
        aside = float(np.hypot(offset[0] * pet.spacing_mm[0], offset[1] * pet.spacing_mm[1]))
        turned = np.abs(pet.direction[:, :2].T.ravel() - np.concatenate([_ras(cosines[:3]), _ras(cosines[3:])])).max()
        if (
            (columns, rows) != pet.shape[:2]
            or aside > IN_PLANE_MM
            or abs(offset[2]) > OF_A_STEP
            or turned * max(pet.shape) * max(pet.spacing_mm) > 2 * max(IN_PLANE_MM, 0.01 * step)
        ):
            raise GeometryError(
                f"{name}: slice {k} of the image does not lie where its DICOM slice …{entry.sop_instance_uid[-12:]} "
                f"does ({aside:.2f} mm aside, {abs(offset[2]) * step:.2f} mm along the stack). Results can be written "
                "as DICOM on the original grid only."
            )


def _plain_groups(keyword: str, value: Any) -> Any:
    """Return functional groups with what says where the frames are and nothing else; other values as they are."""
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence as Items

    if not keyword.endswith("FunctionalGroupsSequence"):
        return str(value) if keyword in ("PatientName", "ReferringPhysicianName") else value
    groups = []
    for item in value:
        kept = Dataset()
        for word in _GROUPS:
            if word in item:
                setattr(kept, word, item[word].value)
        groups.append(kept)
    return Items(groups)


def _uid(header: Any, keyword: str, name: str) -> str:
    value = str(header.get(keyword) or "").strip()
    if not value:
        raise MissingAttributeError(
            f"{name}: {_attribute(keyword)} is absent; DICOM results cannot refer to the image."
        )
    return value


def _numbers(header: Any, keyword: str, count: int, name: str) -> FloatArray:
    values = header.get(keyword)
    numbers = np.array([float(value) for value in values] if values else [], dtype=np.float64)
    if numbers.shape != (count,) or not np.isfinite(numbers).all():
        raise MissingAttributeError(
            f"{name}: {_attribute(keyword)} is absent or incomplete; DICOM results cannot refer to the image."
        )
    return numbers


def _attribute(keyword: str) -> str:
    from pydicom.datadict import dictionary_description, tag_for_keyword

    tag = tag_for_keyword(keyword) or 0
    return f"{dictionary_description(tag)} ({tag >> 16:04X},{tag & 0xFFFF:04X})"


def _ras(point: FloatArray) -> FloatArray:
    return np.asarray(point) * np.array([-1.0, -1.0, 1.0])


def _vector(point: FloatArray) -> Vector3:
    x, y, z = (float(value) for value in point)
    return x, y, z
