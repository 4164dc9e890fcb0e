"""Which files of a DICOM folder belong to the PET, and which to its CT? Headers only, no pixels."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uptake.core.errors import FileFormatError, InputError, UnitError

UID_TAIL = 12
"""Characters of a UID by which messages name a series; enough to find it, and no description that may hold a name."""

PET_IMAGE = "1.2.840.10008.5.1.4.1.1.128"
ENHANCED_PET = "1.2.840.10008.5.1.4.1.1.130"
LEGACY_ENHANCED_PET = "1.2.840.10008.5.1.4.1.1.128.1"
CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
ENHANCED_CT = ("1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2")
"""SOP Class UIDs (0008,0016), DICOM PS3.4 annex B.5."""

NOT_SLICES = frozenset({"LOCALIZER", "MIP", "REPROJECTION", "SCREEN SAVE", "MAXIMUM INTENSITY PROJECTION"})
"""Values of Image Type (0008,0008) and Series Type (0054,1000) of scouts and projections."""

FEWEST_SLICES = 2

_HEADER_TAGS = [
    "SOPClassUID", "StudyInstanceUID", "SeriesInstanceUID", "Modality", "ImageType", "SeriesType",
    "FrameOfReferenceUID", "CorrectedImage", "NumberOfFrames",
]  # fmt: skip


@dataclass(frozen=True)
class Series:
    """The files of one series and what chooses it.

    Attributes
    ----------
    uid, study_uid : str
        Series and Study Instance UID (0020,000E), (0020,000D).
    modality : str
        Modality (0008,0060).
    sop_class : str
    frame_of_reference : str or None
    corrected : frozenset of str
        Corrected Image (0028,0051).
    files : tuple of Path
        Sorted by name; slices only.
    """

    uid: str
    study_uid: str
    modality: str
    sop_class: str
    frame_of_reference: str | None
    corrected: frozenset[str]
    files: tuple[Path, ...]

    @property
    def label(self) -> str:
        """How messages name the series: modality, tail of the UID, number of slices."""
        return f"{self.modality} series …{self.uid[-UID_TAIL:]} ({len(self.files)} slices)"


@contextmanager
def quiet_headers() -> Iterator[None]:
    """Keep pydicom's remarks on over-long or odd text values to itself: they quote values, which may be a name."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module=r"pydicom(\..*)?")
        yield


def study_uids(folder: Path) -> frozenset[str]:
    """Return the Study Instance UIDs below a folder, from the first DICOM file of each sub-folder (light)."""
    uids = set()
    for place in [folder, *sorted(entry for entry in folder.rglob("*") if entry.is_dir())]:
        for path in _files(place):
            header = _header(path, ["StudyInstanceUID"])
            if header is not None:
                uids.add(str(header.get("StudyInstanceUID", "")))
                break
    return frozenset(uids)


def scan(folder: Path) -> list[Series]:
    """Return the image series of slices below a folder; other files and other kinds of DICOM objects are passed over.

    Raises
    ------
    FileFormatError
        If there is no DICOM file at all.
    """
    groups: dict[tuple[str, str, str], list[tuple[Path, Any]]] = {}
    seen = 0
    for path in sorted(entry for entry in folder.rglob("*") if entry.is_file() and not entry.name.startswith(".")):
        header = _header(path, _HEADER_TAGS)
        if header is None:
            continue
        seen += 1
        words = {str(word).upper() for name in ("ImageType", "SeriesType") for word in values_of(header, name)}
        if words & NOT_SLICES:
            continue
        key = (
            str(header.get("SeriesInstanceUID", "")),
            str(header.get("SOPClassUID", "")),
            str(header.get("Modality", "")),
        )
        groups.setdefault(key, []).append((path, header))
    if not seen:
        raise FileFormatError(f"{folder}: holds no DICOM file.")
    result = []
    for (uid, sop_class, modality), members in sorted(groups.items()):
        first = members[0][1]
        result.append(
            Series(
                uid=uid,
                study_uid=str(first.get("StudyInstanceUID", "")),
                modality=modality,
                sop_class=sop_class,
                frame_of_reference=str(first.get("FrameOfReferenceUID", "")) or None,
                corrected=frozenset(str(word) for word in values_of(first, "CorrectedImage")),
                files=tuple(path for path, _ in members),
            )
        )
    return result


def choose_pet(folder: Path, series: list[Series]) -> tuple[Series, tuple[str, ...]]:
    """Return the one PET series, and warnings about those passed over.

    A series without attenuation correction gives way to one that has it.

    Raises
    ------
    InputError
        If there is no PET, or several remain.
    UnitError
        If the PET is an Enhanced (multi-frame) object.
    """
    pets = [entry for entry in series if entry.modality == "PT"]
    slices = [entry for entry in pets if entry.sop_class == PET_IMAGE and len(entry.files) >= FEWEST_SLICES]
    if not slices:
        for sop_class, name in ((ENHANCED_PET, "Enhanced PET"), (LEGACY_ENHANCED_PET, "Legacy Converted Enhanced PET")):
            if any(entry.sop_class == sop_class for entry in pets):
                raise UnitError(
                    f"{folder}: {name} Image Storage (multi-frame): not supported yet. Export single-frame PET slices."
                )
        found = Counter(entry.modality or "unknown" for entry in series)
        inventory = ", ".join(f"{count} {modality}" for modality, count in sorted(found.items())) or "none"
        short = f"; {pets[0].label} is too short" if pets and pets[0].sop_class == PET_IMAGE else ""
        raise InputError(f"{folder}: no PET series of slices (series found: {inventory}{short}). Give the whole study.")
    notes: tuple[str, ...] = ()
    attenuated = [entry for entry in slices if "ATTN" in entry.corrected]
    if attenuated and len(attenuated) < len(slices):
        passed = [entry.label for entry in slices if entry not in attenuated]
        notes = (f"{folder}: not attenuation corrected and left out: {', '.join(passed)}.",)
        slices = attenuated
    if len(slices) > 1:
        raise InputError(_several(folder, "PET", slices))
    return slices[0], notes


def choose_ct(folder: Path, series: list[Series], pet: Series) -> tuple[Series | None, tuple[str, ...]]:
    """Return the CT series that goes with a PET, or None, and warnings.

    A CT in the PET's frame of reference is preferred over others.

    Raises
    ------
    InputError
        If several remain.
    """
    slices = [
        entry
        for entry in series
        if entry.modality == "CT" and entry.sop_class == CT_IMAGE and len(entry.files) >= FEWEST_SLICES
    ]
    notes: list[str] = []
    if not slices and any(entry.sop_class in ENHANCED_CT for entry in series):
        notes.append(f"{folder}: a multi-frame Enhanced CT is not supported yet and was left out.")
    together = [
        entry for entry in slices if pet.frame_of_reference and entry.frame_of_reference == pet.frame_of_reference
    ]
    if together and len(together) < len(slices):
        passed = [entry.label for entry in slices if entry not in together]
        notes.append(f"{folder}: not in the PET's frame of reference and left out: {', '.join(passed)}.")
        slices = together
    if len(slices) > 1:
        raise InputError(_several(folder, "CT", slices))
    return (slices[0] if slices else None), tuple(notes)


def _several(folder: Path, kind: str, series: list[Series]) -> str:
    names = "; ".join(entry.label for entry in series[:8])
    return (
        f"{folder}: {len(series)} {kind} series could be meant: {names}. Leave one of them in the folder, or give "
        "its own "
        "folder or file."
    )


def _header(path: Path, tags: list[str]) -> Any:
    """Return the header of a DICOM file, or None if the file is not DICOM (or a directory of media)."""
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    try:
        with quiet_headers():
            header = dcmread(path, stop_before_pixels=True, specific_tags=list(tags))
            # Converted here: pydicom validates on access.
            return header if path.name.upper() != "DICOMDIR" else None
    except (InvalidDicomError, OSError, EOFError, ValueError):
        return None


def _files(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if entry.is_file() and not entry.name.startswith("."))


def values_of(header: Any, name: str) -> list[object]:
    """Return the values of an attribute as a list, whether it holds none, one or several."""
    value = header.get(name)
    if value is None or value == "":
        return []
    return [value] if isinstance(value, (str, float, int)) else list(value)
