"""Which series does a DICOM study hold? Headers only, no pixels; each file is looked at once."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

from uptake.core.errors import FileFormatError
from uptake.io.archive import Files
from uptake.io.dicom_header import DEFLATED, SharedHeaders
from uptake.io.dicom_multiframe import flat_headers

UID_TAIL = 12
"""Characters of a UID by which messages name a series; enough to find it, and no description that may hold a name."""

PET_IMAGE = "1.2.840.10008.5.1.4.1.1.128"
ENHANCED_PET = "1.2.840.10008.5.1.4.1.1.130"
LEGACY_ENHANCED_PET = "1.2.840.10008.5.1.4.1.1.128.1"
CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"
LEGACY_ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.2"
RTSTRUCT = "1.2.840.10008.5.1.4.1.1.481.3"
SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
MEDIA_DIRECTORY = "1.2.840.10008.1.3.10"
"""SOP Class UIDs (0008,0016), DICOM PS3.4 annex B.5; the last is that of a DICOMDIR, PS3.10 section 8."""

PET_CLASSES = frozenset({PET_IMAGE, ENHANCED_PET, LEGACY_ENHANCED_PET})
CT_CLASSES = frozenset({CT_IMAGE, ENHANCED_CT, LEGACY_ENHANCED_CT})
MULTI_FRAME = frozenset({ENHANCED_PET, LEGACY_ENHANCED_PET, ENHANCED_CT, LEGACY_ENHANCED_CT})

NOT_SLICES = frozenset({"LOCALIZER", "MIP", "REPROJECTION", "SCREEN SAVE", "MAXIMUM INTENSITY PROJECTION"})
"""Values of Image Type (0008,0008) and Series Type (0054,1000) of scouts and projections."""

DICOM_SUFFIXES = (".dcm", ".ima", ".dicom")

_LIGHT_TAGS = ("StudyInstanceUID", "Modality", "SOPClassUID")

_PREFIX = b"DICM"
_PREAMBLE = 128
_NO_PREAMBLE = (b"\x08\x00", b"\x02\x00")
"""First bytes of a data set that was stored without the preamble: group 0008 or 0002, little endian."""


@dataclass(frozen=True, eq=False)
class Image:
    """One image of a series: a slice, or one frame of a multi-frame file.

    Attributes
    ----------
    path : Path
        Its file; it may lie in an archive (`io.archive`).
    header : pydicom.Dataset
        Everything before the pixels; of a frame, what holds for that frame (`dicom_multiframe`).
    pixels_at : int
        Byte at which the pixel element begins.
    syntax : str
        Transfer Syntax UID (0002,0010).
    frame : int
        Counted from 0.
    """

    path: Path
    header: Any
    pixels_at: int
    syntax: str = ""
    frame: int = 0


@dataclass(frozen=True, eq=False)
class Series:
    """The files of one series, of one kind.

    Attributes
    ----------
    uid, study_uid : str
        Series and Study Instance UID (0020,000E), (0020,000D).
    modality : str
        Modality (0008,0060).
    sop_class : str
        SOP Class UID (0008,0016).
    images : tuple of Image
        One per slice or frame, by path.
    projection : bool
        Scouts, projections and screen shots, which a scanner may put into the series of the slices.
    """

    uid: str
    study_uid: str
    modality: str
    sop_class: str
    images: tuple[Image, ...]
    projection: bool = False

    @property
    def header(self) -> Any:
        """Of the first slice."""
        return self.images[0].header

    @cached_property
    def files(self) -> tuple[Path, ...]:
        """By path; one file may hold many frames."""
        return tuple(dict.fromkeys(image.path for image in self.images))

    @property
    def multi_frame(self) -> bool:
        return self.sop_class in MULTI_FRAME

    @property
    def frame_of_reference(self) -> str | None:
        """Frame of Reference UID (0020,0052)."""
        return str(self.header.get("FrameOfReferenceUID", "") or "") or None

    @cached_property
    def image_type(self) -> tuple[str, ...]:
        """Image Type (0008,0008), upper case."""
        return tuple(str(word).upper() for word in values_of(self.header, "ImageType"))

    @cached_property
    def series_type(self) -> tuple[str, ...]:
        """Series Type (0054,1000), upper case."""
        return tuple(str(word).upper() for word in values_of(self.header, "SeriesType"))

    @property
    def tail(self) -> str:
        """End of the Series Instance UID, as messages give it."""
        return f"…{self.uid[-UID_TAIL:]}"

    @property
    def label(self) -> str:
        """How messages name the series: modality, tail of the UID, number of slices."""
        unit = "frame" if self.multi_frame else "slice"
        return f"{self.modality} series {self.tail} ({len(self.images)} {unit}{'s' if len(self.images) != 1 else ''})"


@dataclass(frozen=True, eq=False)
class Scan:
    """What a folder or archive holds.

    Attributes
    ----------
    place : Path
        As given.
    series : tuple of Series
        By UID.
    damaged : tuple of (Path, str)
        Files that are, or claim to be, DICOM and cannot be read, with the reason.
    other_files : int
        Files that are no DICOM.
    """

    place: Path
    series: tuple[Series, ...]
    damaged: tuple[tuple[Path, str], ...] = ()
    other_files: int = 0


@contextmanager
def quiet_headers() -> Iterator[None]:
    """Keep pydicom's remarks on over-long or odd text values to itself: they quote values, which may be a name."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module=r"pydicom(\..*)?")
        yield


def first_headers(place: Path, *, tags: Sequence[str] = ()) -> dict[Path, Any]:
    """Return, of the first DICOM file in each folder and archive below a place, study, modality and class (light).

    `tags` are the keywords of further attributes.
    """
    found: dict[Path, Any] = {}
    with Files() as files, quiet_headers():
        for path in files.below(place):
            if path.parent not in found:
                header = light_header(path, files, tags=tags)
                if header is not None:
                    found[path.parent] = header
    return found


def is_dicom(path: Path) -> bool:
    """Return whether a file is a DICOM object by its first bytes."""
    try:
        with path.open("rb") as stream:
            start = stream.read(_PREAMBLE + len(_PREFIX))
    except OSError:
        return False
    return start[_PREAMBLE:] == _PREFIX


def scan(place: Path, files: Files, *, study_uid: str | None = None) -> Scan:
    """Return every series below a folder, in an archive, or of one file.

    Parameters
    ----------
    place : Path
    files : Files
        Opens them.
    study_uid : str, optional
        Leave other studies out.

    Raises
    ------
    FileFormatError
        If there is no DICOM file at all, or an archive cannot be opened.
    """
    groups: dict[tuple[str, str, str, str, bool], list[Image]] = {}
    damaged: list[tuple[Path, str]] = []
    other = 0
    shared = SharedHeaders()
    with quiet_headers():
        for path in files.below(place):
            found, problem = _look_at(path, files, shared)
            if problem:
                damaged.append((path, problem))
            if not found:
                other += not problem
                continue
            header = found[0].header
            words = {str(word).upper() for name in ("ImageType", "SeriesType") for word in values_of(header, name)}
            uids = [
                str(header.get(name, "") or "") for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPClassUID")
            ]
            if study_uid is None or uids[0] == study_uid:
                key = (uids[1], uids[0], str(header.get("Modality", "") or ""), uids[2], bool(words & NOT_SLICES))
                groups.setdefault(key, []).extend(found)
    if not groups:
        if damaged:
            raise FileFormatError(f"{damaged[0][0]}: {damaged[0][1]}.")
        raise FileFormatError(f"{place}: holds no DICOM file. Give the folder or zip archive of a DICOM study.")
    series = tuple(
        Series(uid, study, modality, sop_class, tuple(images), projection)
        for (uid, study, modality, sop_class, projection), images in sorted(groups.items())
    )
    return Scan(place, series, tuple(damaged), other)


def values_of(header: Any, name: str) -> list[object]:
    """Return the values of an attribute as a list, whether it holds none, one or several."""
    value = header.get(name)
    if value is None or value == "":
        return []
    return [value] if isinstance(value, (str, float, int)) else list(value)


def _look_at(path: Path, files: Files, shared: SharedHeaders) -> tuple[list[Image], str]:
    """Return the images of a file, none for what is no DICOM or of no interest; and what is wrong with it, or ""."""
    try:
        stream = files.stream(path)
    except OSError as error:
        return [], f"cannot be read ({error.strerror or type(error).__name__})"
    with stream:
        start = stream.read(_PREAMBLE + len(_PREFIX))
        stream.seek(0)
        marked = start[_PREAMBLE:] == _PREFIX
        if not marked and not start.startswith(_NO_PREAMBLE):
            named = path.suffix.lower() in DICOM_SUFFIXES
            return [], "named like a DICOM file and none; the copy was cut short or overwritten" if named else ""
        if path.name.upper() == "DICOMDIR":
            return [], ""
        try:
            header, pixels_at, syntax, media_class = _header(stream, marked, shared)
            cut_short = _cut_short(header)  # asked first: an element that was decoded no longer knows its length
            sop_class = str(header.get("SOPClassUID", "") or "")
            if not (marked or sop_class) or media_class == MEDIA_DIRECTORY:
                return [], ""
            image = Image(path, header, pixels_at, syntax)
            if not sop_class or cut_short or (sop_class in PET_CLASSES | CT_CLASSES and not _at_pixels(stream, image)):
                return [image], "the DICOM file is truncated: it ends before its pixels. Export or copy it again"
            if sop_class not in MULTI_FRAME:
                return [image], ""
            flat = flat_headers(header, str(path))
        except FileFormatError as error:
            return [image], str(error).removeprefix(f"{path}: ").rstrip(".")
        except Exception as error:  # pydicom raises many kinds on damaged files
            return [], f"the DICOM header is damaged ({type(error).__name__}). Export or copy the file again"
    return [replace(image, header=frame, frame=number) for number, frame in enumerate(flat)], ""


def _header(stream: BinaryIO, marked: bool, shared: SharedHeaders) -> tuple[Any, int, str, str]:
    """Return header, place of the pixels, transfer syntax and Media Storage SOP Class UID."""
    if marked and isinstance(stream, io.BytesIO):
        quick = shared.read(stream.getvalue())
        if quick is not None:
            return quick
    from pydicom import dcmread

    header = dcmread(stream, stop_before_pixels=True, force=not marked)
    meta = header.file_meta
    syntax, media_class = (str(meta.get(w, "") or "") for w in ("TransferSyntaxUID", "MediaStorageSOPClassUID"))
    return header, stream.tell(), syntax, media_class


def _at_pixels(stream: BinaryIO, image: Image) -> bool:
    """Return whether pixels follow where the header ends."""
    if image.syntax == DEFLATED:  # no way to look ahead
        return True
    stream.seek(image.pixels_at)
    return stream.read(2) in (b"\xe0\x7f", b"\x7f\xe0")


def _cut_short(header: Any) -> bool:
    """Return whether the last element holds fewer bytes than it declares."""
    tags = list(header.keys())
    last = header.get_item(tags[-1]) if tags else None
    length, value = getattr(last, "length", None), getattr(last, "value", None)
    return isinstance(length, int) and isinstance(value, bytes) and length != 0xFFFFFFFF and len(value) < length


def light_header(path: Path, files: Files, *, tags: Sequence[str] = ()) -> Any:
    """Return study, modality and class of a file, or None if it is no DICOM object."""
    from pydicom import dcmread

    try:
        with files.stream(path) as stream:
            start = stream.read(_PREAMBLE + len(_PREFIX))
            if start[_PREAMBLE:] != _PREFIX or path.name.upper() == "DICOMDIR":
                return None
            stream.seek(0)
            return dcmread(stream, stop_before_pixels=True, specific_tags=[*_LIGHT_TAGS, *tags])
    except Exception:  # a damaged file says nothing here; `scan` reports it
        return None
