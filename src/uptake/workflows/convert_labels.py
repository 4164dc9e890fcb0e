"""The contours and segmentations of a study -> masks on the grid of its PET, and a table of them."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from uptake.core.errors import GeometryError, InputError, MissingAttributeError
from uptake.io.archive import archive_of, content_of
from uptake.io.dicom import DicomStudy
from uptake.io.dicom_labels import read_dicom_labels
from uptake.io.dicom_reference import Reference, read_reference
from uptake.io.dicom_series import UID_TAIL
from uptake.io.identifiers import Identifiers
from uptake.io.write import write_csv, write_volume

LABELS = "labels"
TABLE = "segments.csv"
COLUMNS = ("file", "source", "series", "number", "name", "code", "voxels", "volume_ml")


def write_labels(
    study: DicomStudy, folder: Path, *, keep_identifiers: bool = False
) -> tuple[list[dict[str, Any]], list[str]]:
    """Write every region of the study's RTSTRUCT and SEG as ``labels/<name>.nii.gz``, and ``labels/segments.csv``.

    Parameters
    ----------
    study : DicomStudy
    folder : Path
        Receives the folder ``labels`` if there are any regions.
    keep_identifiers : bool
        Keep region names that hold the patient's name or number, and whole UIDs.

    Returns
    -------
    rows : list of dict
        One per region: file, source ("RTSTRUCT", "SEG"), series, number, name, code, voxels, volume_ml.
    warnings : list of str
        How regions were placed where that is not plain, and objects that were left out, with the reason.
    """
    rows: list[dict[str, Any]] = []
    warnings: list[str] = []
    if not study.choice.labels:
        return rows, warnings
    reference, notes = _reference(study)
    warnings += notes
    identifiers = Identifiers.of([study.header])
    used: set[str] = set()
    for series in study.choice.labels:
        shown = series.uid if keep_identifiers else f"…{series.uid[-UID_TAIL:]}"
        for path in series.files:
            label = f"{series.modality} {shown}"
            try:
                with _on_disk(path) as plain:
                    found = read_dicom_labels(plain, study.pet, reference=reference)
            except (InputError, GeometryError) as error:
                warnings.append(f"{label}: left out: {_without_path(error, path)}")
                continue
            warnings += [f"{label}: {_without_path(text, path, found.path)}" for text in found.warnings]
            for region in found.regions:
                secret = not keep_identifiers and identifiers.in_name(region.name)
                name = f"region_{region.number}" if secret else region.name
                file = _file_name(name, region.number, used)
                (folder / LABELS).mkdir(exist_ok=True)
                mask = study.pet.with_array(region.mask().astype(np.uint8))
                write_volume(mask, folder / LABELS / file)
                volume_ml = round(region.voxels * study.pet.voxel_volume_ml, 4)
                values = (
                    f"{LABELS}/{file}",
                    found.kind,
                    shown,
                    region.number,
                    name,
                    region.code,
                    region.voxels,
                    volume_ml,
                )
                rows.append(dict(zip(COLUMNS, values, strict=True)))
    if rows:
        write_csv(rows, folder / LABELS / TABLE, columns=COLUMNS)
    return rows, warnings


def _reference(study: DicomStudy) -> tuple[Reference | None, list[str]]:
    """Return the slices of the PET, so that contours go to the slices they name; None where they cannot be named."""
    try:
        return read_reference(study.pet_files, study.pet), []
    except (GeometryError, MissingAttributeError, InputError) as error:
        return None, [f"Regions are placed by position alone: {error}"]


@contextmanager
def _on_disk(path: Path) -> Iterator[Path]:
    """Give a path that readers of one file can open: for a file in an archive, a copy that is removed at once."""
    if archive_of(path) is None:
        yield path
        return
    handle, name = tempfile.mkstemp(prefix="uptake-", suffix=".dcm")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content_of(path))
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


def _without_path(message: Exception | str, *paths: Path) -> str:
    text = str(message)
    for path in paths:
        text = text.replace(f"{path}: ", "").replace(str(path), "the file")
    return re.sub(r"\S*uptake-\w+\.dcm: ", "", text)


def _file_name(name: str, number: int, used: set[str]) -> str:
    """Return a file name made of a region's, fit for any system, that no other region has."""
    stem = re.sub(r"[^\w\-+.]+", "_", name).strip("._")[:80] or f"region_{number}"
    choices = [stem, f"{stem}_{number}", *(f"{stem}_{number}_{n}" for n in range(2, 1000))]
    chosen = next(choice for choice in choices if choice.lower() not in used)
    used.add(chosen.lower())
    return f"{chosen}.nii.gz"
