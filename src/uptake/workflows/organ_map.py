"""An organ map from anywhere, with the names of its labels, on the grid of a PET."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from uptake.cases import SourceFile
from uptake.core.anatomy import GROUPINGS, TOTAL_NAMES
from uptake.core.errors import GeometryError, InputError, UsageError
from uptake.geometry.grid import Grid, overlap_fraction, require_same_frame, same_grid
from uptake.geometry.orientation import reorient
from uptake.geometry.volume import Volume
from uptake.harmonise.resample import to_grid
from uptake.io.dicom_labels import is_dicom_labels, read_dicom_labels, slices_of
from uptake.io.image import read_labels
from uptake.io.write import sha256_of, sha256_of_files
from uptake.workflows.export import label_map
from uptake.workflows.label_table import DATASET, find_labels
from uptake.workflows.map_labels import NAMES, merged_masks, numbering
from uptake.workflows.mask_grids import grid_text

NUMBERINGS = ("total", "autopet", *GROUPINGS)
"""Numberings that are known by name."""


@dataclass(frozen=True, eq=False)
class OrganMap:
    """An organ map.

    Attributes
    ----------
    labels : Volume
        Whole numbers on the grid of the PET.
    names : mapping of int to str
        Label -> organ.
    source : SourceFile
        Role "organs".
    warnings : tuple of str
        Of reading; of resampling, where it was allowed.
    """

    labels: Volume
    names: Mapping[int, str]
    source: SourceFile
    warnings: tuple[str, ...] = ()


def read_organ_map(
    path: Path,
    pet: Volume,
    *,
    labels: str | None = None,
    pet_files: Sequence[Path] = (),
    resample: bool = False,
) -> OrganMap:
    """Return an organ map on the grid of a PET.

    Parameters
    ----------
    path : Path
        A label image, in any orientation of its axes; a folder with a mask per organ, as TotalSegmentator writes; or a
        DICOM SEG or RTSTRUCT of the PET's study, which names its regions itself.
    pet : Volume
    labels : str or None
        What the numbers mean: one of `NUMBERINGS`, a JSON or CSV file, or ``1=liver,2=spleen``. By default the
        organ_labels.json or dataset.json beside the image.
    pet_files : sequence of Path
        The PET's DICOM files, where it came as DICOM.
    resample : bool
        Allow an image on another grid, such as the CT's: each PET voxel takes the label nearest to its centre.

    Raises
    ------
    GeometryError
        If the map is on another grid and may not be resampled, or does not meet the PET.
    InputError
        Of the kind that fits.
    UsageError
        If nobody says what the numbers mean.
    """
    if is_dicom_labels(path):
        if labels is not None:
            raise UsageError(f"{path}: a DICOM file names its regions itself; leave --organ-labels out.")
        found = read_dicom_labels(path, pet, reference=slices_of(pet, pet_files))
        volume, names = label_map(found, pet)
        return OrganMap(volume, names, SourceFile("organs", str(path), sha256_of(path)), found.warnings)
    if path.is_dir():
        if labels not in (None, "total"):
            raise UsageError(f"{path}: in a folder of masks the files name the organs; leave --organ-labels out.")
        volume, names, notes = merged_masks(path), dict(TOTAL_NAMES), ()
        checksum = sha256_of_files(sorted(file for file in path.iterdir() if file.is_file()))
    else:
        volume, notes = read_labels(path)
        names = _names(path, labels)
        checksum = sha256_of(path)
    placed, how = _placed(reorient(volume, pet.orientation), pet, resample=resample, path=path)
    warnings = (*notes, *((f"Organ map: {how}.",) if how else ()))
    placed = Volume(placed.array, pet.affine, frame_of_reference=pet.frame_of_reference)
    if not (placed.array != 0).any():
        raise InputError(f"{path}: the organ map holds no organ on the grid of the PET.")
    return OrganMap(placed, names, SourceFile("organs", str(path), checksum), warnings)


def _placed(labels: Volume, pet: Volume, *, resample: bool, path: Path) -> tuple[Volume, str]:
    """Return the labels on the PET's grid, and what had to be done for it in words ("" if they were there)."""
    require_same_frame(pet, labels, names=("the PET", str(path)))
    if same_grid(labels, pet):
        return labels, ""
    grids = f"Organ map: {grid_text(labels)}. PET: {grid_text(pet)}."
    if overlap_fraction(pet, labels) == 0.0 and overlap_fraction(labels, pet) == 0.0:
        raise GeometryError(f"{path}: the organ map and the PET do not meet in space: another patient's, or a header "
                            f"that has lost its origin. {grids}")  # fmt: skip
    if not resample:
        raise GeometryError(
            f"{path}: the organ map is on another grid than the PET. Allow resampling with --resample-organs (nearest "
            f"neighbour, on record), or segment organs on the PET's grid. {grids}"
        )
    moved = to_grid(labels, Grid.of(pet), order=0, fill=0.0)
    return moved.with_array(moved.array.astype(labels.array.dtype)), (
        f"resampled to the grid of the PET, nearest neighbour, from {grid_text(labels)}"
    )


def _names(path: Path, labels: str | None) -> dict[int, str]:
    """Return label -> organ, as the user says, else as a table beside the image does."""
    if labels is not None:
        if labels in NUMBERINGS:
            return dict(numbering(labels).names)
        return _single(find_labels(labels, path, path).numbers(), labels)
    beside = path.parent / NAMES
    if beside.is_file():
        return dict(numbering(beside).names)
    found = find_labels(None, path, path)
    if found.names is None:
        raise UsageError(
            f"{path}: nobody says what its labels mean. Name the numbering with --organ-labels: "
            f"{', '.join(NUMBERINGS)}, a JSON or CSV file, or 1=liver,2=spleen. ({NAMES} or {DATASET} beside the file "
            "are found by themselves.)"
        )
    return _single(found.numbers(), found.source)


def _single(names: Mapping[int, str] | None, source: str) -> dict[int, str]:
    if not names:
        raise UsageError(f"{source}: names no single labels; an organ map needs number -> organ.")
    return dict(names)
