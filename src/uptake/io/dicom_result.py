"""What all our DICOM objects have in common: who made them, what their parts are called, dates, and the way to disk."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uptake import __version__
from uptake.core.errors import OutputError, UptakeError, UsageError
from uptake.io.dicom_reference import NO_DATE, Identity, Reference, safe_text
from uptake.io.dicom_series import quiet_headers
from uptake.io.write import atomic_path

MANUFACTURER = "uptake"

NOTICE = "research use only"
"""Ends every Series Description (0008,103E)."""

MAKER_TYPES = ("AUTOMATIC", "SEMIAUTOMATIC", "MANUAL")
"""Segment Algorithm Type (0062,0008)."""

DEIDENTIFIED = ("uptake: no name, ID, birth date, physician, free text", "UIDs and dates of study and series kept")
"""De-identification Method (0012,0063) of objects without identifiers; what stays is the link to the images."""


@dataclass(frozen=True)
class Maker:
    """Who drew the labels.

    Attributes
    ----------
    type : str
        "AUTOMATIC", "SEMIAUTOMATIC" or "MANUAL".
    name, version : str
        Of the algorithm or model; needed unless "MANUAL".
    checksum : str
        Over the weights, where there are any: the serial number of this device.
    """

    type: str = "MANUAL"
    name: str = ""
    version: str = ""
    checksum: str = ""

    def __post_init__(self) -> None:
        if self.type not in MAKER_TYPES:
            raise UsageError(f"labels are made {', '.join(MAKER_TYPES)}; came {self.type!r}.")
        if self.type != "MANUAL" and not self.name:
            raise UsageError(f"labels made {self.type} need the name of the algorithm that made them.")


@dataclass(frozen=True)
class Segment:
    """One part of a label map: its value there, and its name (a class name, or "lesion 3")."""

    value: int
    name: str


@dataclass(frozen=True)
class Written:
    """An object on disk, for those that refer to it, and the number of each segment or region in it by its value."""

    path: Path
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    numbers: dict[int, int]


@contextmanager
def quiet_writing() -> Iterator[None]:
    """Keep highdicom's and pydicom's remarks on values to themselves: they quote them, and one may be a name."""
    with quiet_headers(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module=r"highdicom(\..*)?")
        yield


def series_description(content: str) -> str:
    """Return a Series Description (0008,103E): what it is, and that it is for research."""
    return f"{safe_text(f'{MANUFACTURER} {content}', 64 - len(NOTICE) - 3)} - {NOTICE}"


def equipment(maker: Maker) -> dict[str, Any]:
    """Return the attributes of PS3.3 C.7.5.2 (Enhanced General Equipment) as highdicom's constructors name them."""
    return {
        "manufacturer": MANUFACTURER,
        "manufacturer_model_name": safe_text(maker.name) or MANUFACTURER,
        "software_versions": __version__,
        "device_serial_number": maker.checksum[:16] or __version__,
    }


def stamp(dataset: Any, reference: Reference, identity: Identity) -> None:
    """Set dates and the de-identification marks of an object.

    Notes
    -----
    Dates and times are those of the PET series: with UIDs made from the content, the same input gives the same bytes,
    and an archive that gets them twice knows them for one. When the files were made stands in run.json.
    """
    source = reference.headers[0]
    day = str(source.get("SeriesDate") or source.get("StudyDate") or NO_DATE)
    clock = str(source.get("SeriesTime") or source.get("StudyTime") or "000000")
    for keyword in ("InstanceCreationDate", "ContentDate", "StructureSetDate", "SeriesDate"):
        if keyword in dataset or keyword == "SeriesDate":
            setattr(dataset, keyword, day)
    for keyword in ("InstanceCreationTime", "ContentTime", "StructureSetTime", "SeriesTime"):
        if keyword in dataset or keyword == "SeriesTime":
            setattr(dataset, keyword, clock)
    for item in dataset.get("ContributingEquipmentSequence") or ():
        if "ContributionDateTime" in item:
            del item.ContributionDateTime
    if not identity.keep:
        dataset.PatientIdentityRemoved = "YES"
        dataset.DeidentificationMethod = list(DEIDENTIFIED)


def replace_uids(dataset: Any, keyword: str, fresh: str) -> None:
    """Put one UID in the place of every value of an attribute, however deep: highdicom draws it at random."""
    for element in dataset.iterall():
        if element.keyword == keyword:
            element.value = fresh


def save_checked(dataset: Any, path: Path, check: Callable[[Path], None]) -> None:
    """Write a dataset under a temporary name, check what was written, and only then give it its name.

    Parameters
    ----------
    dataset : pydicom.Dataset
    path : Path
    check : callable
        Reads the file anew and raises if it does not hold what it should.

    Raises
    ------
    OutputError
        If the system refuses, or the file read back differs; nothing is left under `path` but what was there.
    """
    with atomic_path(path) as temporary:
        dataset.save_as(temporary, enforce_file_format=True)
        try:
            check(temporary)
        except UptakeError as error:
            told = str(error).replace(str(temporary), str(path))
            raise OutputError(f"{path}: not kept, for it did not read back as it was meant: {told}") from error
