"""Which DICOM studies lie below a folder? From one file of each sub-folder, so that a cohort is listed at once."""

from __future__ import annotations

from pathlib import Path

from uptake.core.errors import InputError
from uptake.io.archive import Files, is_archive
from uptake.io.dicom_series import DICOM_SUFFIXES, MULTI_FRAME, first_headers, is_dicom, light_header, quiet_headers
from uptake.io.identifiers import IDENTIFYING, Identifiers

NAME_TAIL = 6
"""Characters of the Study Instance UID that tell apart the studies of one folder."""


def studies_in(place: Path) -> list[str | None] | None:
    """Return the studies that a folder or archive itself holds, as a list with one entry per study.

    Parameters
    ----------
    place : Path

    Returns
    -------
    list or None
        ``[None]``: everything below is one study. Several Study Instance UIDs: the studies are mixed in sub-folders
        by series. None: there is no DICOM, or each study has a sub-folder of its own.
    """
    headers = first_headers(place)
    if not headers:
        return None
    uid_of = {folder: str(header.get("StudyInstanceUID", "") or "") for folder, header in headers.items()}
    homes: dict[str, set[Path]] = {}
    modalities: dict[Path, set[str]] = {}
    for folder, header in headers.items():
        home = _child_towards(place, folder)
        homes.setdefault(uid_of[folder], set()).add(home)
        modalities.setdefault(home, set()).add(str(header.get("Modality", "") or ""))
    with_pet = {home for home, kinds in modalities.items() if "PT" in kinds}
    # Test objects and copies may share a UID: archives, and folders that each hold a PET and more, are studies.
    whole = {home for home in with_pet if is_archive(home) or len(modalities[home]) > 1}
    if len(whole - {place}) > 1:
        return None
    if len(homes) == 1:
        return [None]
    # A sub-folder without PET whose study lies in another sub-folder too is a series, not a study.
    by_series = any(len(places) > 1 and places - with_pet for places in homes.values())
    return [*sorted(homes)] if by_series or is_archive(place) else None


def require_dicom_file(path: Path) -> bool:
    """Return whether a file is a DICOM object that is a study by itself: a zip archive or a multi-frame image.

    Raises
    ------
    InputError
        If it is one slice.
    """
    if is_archive(path):
        return True
    if not is_dicom(path) and path.suffix.lower() not in DICOM_SUFFIXES:
        return False
    with Files() as files, quiet_headers():
        header = light_header(path, files)
    if header is None or str(header.get("SOPClassUID", "")) not in MULTI_FRAME:
        raise InputError(f"{path}: one DICOM file is one slice; give the folder that holds the whole series.")
    return True


@quiet_headers()
def identifiers_in(place: Path, study_uid: str | None = None) -> tuple[Identifiers, str]:
    """Return the identifying values of a study and its Study Instance UID, from one file of each sub-folder (light)."""
    found = [
        header
        for header in first_headers(place, tags=("PatientIdentityRemoved", *IDENTIFYING)).values()
        if study_uid is None or str(header.get("StudyInstanceUID", "") or "") == study_uid
    ]
    uids = sorted(str(header.get("StudyInstanceUID", "") or "") for header in found)
    return Identifiers.of(found), study_uid or (uids[0] if uids else str(place))


def _child_towards(place: Path, folder: Path) -> Path:
    parts = folder.relative_to(place).parts
    return place / parts[0] if parts else place
