"""Which DICOM studies lie below a folder? From one file of each sub-folder, so that a cohort is listed at once."""

from __future__ import annotations

from pathlib import Path

from uptake.core.errors import InputError
from uptake.io.archive import Files, is_archive
from uptake.io.dicom_series import DICOM_SUFFIXES, MULTI_FRAME, first_headers, is_dicom, light_header, quiet_headers

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
    uids = sorted(set(uid_of.values()))
    if len(uids) == 1:
        return [None]
    homes: dict[str, set[Path]] = {}
    with_pet: set[Path] = set()
    for folder, header in headers.items():
        home = _child_towards(place, folder)
        homes.setdefault(uid_of[folder], set()).add(home)
        if str(header.get("Modality", "")) == "PT":
            with_pet.add(home)
    # A sub-folder without PET whose study lies in another sub-folder too is a series, not a study.
    by_series = any(len(places) > 1 and places - with_pet for places in homes.values())
    return list(uids) if by_series or is_archive(place) else None


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


def _child_towards(place: Path, folder: Path) -> Path:
    parts = folder.relative_to(place).parts
    return place / parts[0] if parts else place
