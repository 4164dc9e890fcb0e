"""Anything a user has -> a `Case`: checked, in SUV and HU, every repair and oddity on record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from uptake.cases import Case, SourceFile
from uptake.core.errors import GeometryError, InputError, UsageError
from uptake.geometry.grid import overlap_fraction, require_same_frame, require_same_grid
from uptake.geometry.volume import Volume
from uptake.io.find import CaseFiles, case_name, find_cases, with_overrides
from uptake.io.image import image_parts, read_image, read_labels
from uptake.io.write import sha256_of, sha256_of_files
from uptake.physics.plausibility import pet_objection, require_hu, require_suv
from uptake.physics.suv import SuppliedValues

__all__ = ["CaseFiles", "find_cases", "read", "read_case"]

LABELS = ("lesions", "organs")

LEAST_ACTIVITY_SHARE = 0.5
"""Less of the PET's activity than this inside the CT is reported; models that use CT see only part of the patient."""

MOST_SAMPLES = 500_000
"""Voxels looked at for that share; larger images are thinned."""


def read(
    path: Path | str | None = None,
    *,
    pet: Path | str | None = None,
    ct: Path | str | None = None,
    lesions: Path | str | None = None,
    case_id: str | None = None,
    assume_suv: bool = False,
    labels: bool | Sequence[str] = True,
    supplied: SuppliedValues | None = None,
    pet_series: str | None = None,
    ct_series: str | None = None,
) -> Case:
    """Return one examination from a study folder, a file, a DICOM folder, or files named one by one.

    Parameters
    ----------
    path : Path or str, optional
        Study folder (NIfTI, MetaImage, NRRD; names as in `io.find`), a PET file, or a DICOM study: a folder of any
        nesting, a zip archive, or a multi-frame file.
    pet, ct, lesions : Path or str, optional
        Files by role; they take the place of what `path` holds. `pet` may be a DICOM folder, `lesions` a DICOM SEG or
        RTSTRUCT (of several regions, those called lesion; see `uptake.read_regions`).
    case_id : str, optional
        Name of the case; the folder's or file's name by default.
    assume_suv : bool
        Take the PET as SUV even where its values say otherwise (`physics.plausibility`).
    labels : bool or sequence of str
        Read the masks that lie beside the images: all, none (they are left alone, whatever grid they are on), or those
        named: "lesions", "organs".
    supplied : SuppliedValues, optional
        Weight, dose, times and the like, for a DICOM header that lacks them.
    pet_series, ct_series : str, optional
        End of a Series Instance UID, where a DICOM study holds several PETs or CTs.

    Returns
    -------
    Case
        PET in SUV and CT in HU, float32; label maps uint8 or uint16. The CT keeps its own grid.

    Raises
    ------
    UsageError
        If neither `path` nor `pet` is given, or `path` holds several studies.
    InputError
        Of the kind that fits, naming the file and what to do.
    """
    chosen_pet, chosen_ct, chosen_lesions = (None if file is None else Path(file) for file in (pet, ct, lesions))
    if path is not None:
        found = find_cases(path, pet=chosen_pet, ct=chosen_ct, lesions=chosen_lesions)
        if len(found) > 1:
            names = ", ".join(files.id for files in found[:5])
            raise UsageError(
                f"{path}: holds {len(found)} studies ({names}{', …' if len(found) > 5 else ''}); read one of them, "
                "or go "
                "through io.read.find_cases."
            )
        files = found[0]
    elif chosen_pet is not None:
        files = with_overrides(CaseFiles(case_name(chosen_pet)), pet=chosen_pet, ct=chosen_ct, lesions=chosen_lesions)
    else:
        raise UsageError("give a study folder, or a PET file with pet=… (--pet FILE).")
    files = replace(files, id=case_id or files.id, pet_series=pet_series, ct_series=ct_series)
    return read_case(files, assume_suv=assume_suv, labels=labels, supplied=supplied)


def read_case(
    files: CaseFiles,
    *,
    assume_suv: bool = False,
    labels: bool | Sequence[str] = True,
    supplied: SuppliedValues | None = None,
) -> Case:
    """Return the case that these files make up, after all checks.

    Parameters
    ----------
    files : CaseFiles
        From `find_cases`.
    assume_suv, labels, supplied
        As in `read`.

    Raises
    ------
    FileFormatError
        A file is absent, empty, truncated, of another kind, or holds NaN.
    GeometryError
        An image is not three-dimensional, CT and PET do not overlap, or labels are on another grid than the PET.
    UnitError
        The PET is plainly not SUV, the CT plainly not HU, or a DICOM rule is not supported yet.
    MissingAttributeError
        A DICOM attribute that SUV needs is absent.
    InputError
        The study was found unusable already (`CaseFiles.problem`).
    """
    if files.problem is not None:
        raise InputError(files.problem)
    sources: list[SourceFile] = []
    warnings: list[str] = []
    acquisition: dict[str, object] = {}
    pet_files: tuple[Path, ...] = ()
    ct_files: tuple[Path, ...] = ()
    ct = None
    if files.dicom is not None:
        from uptake.io.dicom import read_dicom

        study = read_dicom(
            files.dicom,
            with_ct=files.ct is None,
            supplied=supplied,
            pet_series=files.pet_series,
            ct_series=files.ct_series,
            study_uid=files.study_uid,
        )
        pet, ct, acquisition, pet_name = study.pet, study.ct, study.acquisition, str(files.dicom)
        pet_files, ct_files = study.pet_files, study.ct_files
        sources += study.sources
        warnings += study.warnings
    elif files.pet is not None:
        pet = _image("pet", files.pet, sources, warnings)
        pet_name = str(files.pet)
    else:
        raise InputError(f"{files.id}: no PET was given.")
    if assume_suv:
        objection = pet_objection(pet.array, pet.voxel_volume_ml)
        if objection is not None:
            warnings.append(f"{pet_name}: taken as SUV as asked, although {objection}.")
    else:
        require_suv(pet.array, pet.voxel_volume_ml, name=pet_name)
    ct_name = str(files.ct or files.dicom)
    if files.ct is not None:
        ct = _image("ct", files.ct, sources, warnings)
    if ct is not None:
        warnings += require_hu(ct.array, ct.voxel_volume_ml, name=ct_name)
        warnings += overlap_warnings(pet, ct, pet_name=pet_name, ct_name=ct_name)
    wanted = LABELS if labels is True else labels or ()
    masks: dict[str, Volume | None] = {}
    for role, file in (("lesions", files.lesions), ("organs", files.organs)):
        masks[role] = (
            None
            if file is None or role not in wanted
            else _labels(role, file, pet, pet_name, sources, warnings, pet_files)
        )
    return Case(
        id=files.id,
        pet=pet,
        ct=ct,
        **masks,
        sources=tuple(sources),
        warnings=tuple(warnings),
        acquisition=acquisition,
        pet_files=pet_files,
        ct_files=ct_files,
    )


def _image(role: str, file: Path, sources: list[SourceFile], warnings: list[str]) -> Volume:
    volume, notes = read_image(file)
    sources.append(_source(role, file))
    warnings += notes
    return volume


def _source(role: str, file: Path) -> SourceFile:
    parts = image_parts(file)
    return SourceFile(role, str(file), sha256_of(file) if len(parts) == 1 else sha256_of_files(parts))


def _labels(
    role: str,
    file: Path,
    pet: Volume,
    pet_name: str,
    sources: list[SourceFile],
    warnings: list[str],
    pet_files: Sequence[Path],
) -> Volume:
    from uptake.io.dicom_labels import is_dicom_labels, read_lesions

    if role == "lesions" and is_dicom_labels(file):
        volume, notes = read_lesions(file, pet, pet_files)
        sources.append(SourceFile(role, str(file), sha256_of(file)))
        warnings += notes
        return volume
    volume, notes = read_labels(file)
    require_same_grid(
        pet,
        volume,
        names=(pet_name, str(file)),
        remedy=f"Resample the {role} to the PET's grid, or leave them out.",
    )
    sources.append(_source(role, file))
    warnings += notes
    return volume


def overlap_warnings(pet: Volume, ct: Volume, *, pet_name: str, ct_name: str) -> tuple[str, ...]:
    """Refuse a CT that lies elsewhere, and report one that holds little of what the PET shows.

    Raises
    ------
    GeometryError
        If the two lie in different frames of reference, or do not overlap.
    """
    require_same_frame(pet, ct, names=(pet_name, ct_name))
    pet_in_ct, ct_in_pet = overlap_fraction(pet, ct), overlap_fraction(ct, pet)
    if max(pet_in_ct, ct_in_pet) == 0.0:
        apart = np.linalg.norm(_centre(pet) - _centre(ct))
        raise GeometryError(
            f"{pet_name} and {ct_name} do not overlap in space: 0 % of the PET lies inside the CT, their centres are "
            f"{apart:.0f} mm apart. They are of two examinations, or one header has lost its origin; give a CT that "
            "fits, "
            "or leave it out."
        )
    share = _activity_share(pet, ct)
    if share >= LEAST_ACTIVITY_SHARE:
        return ()
    return (
        f"{ct_name}: covers {share:.0%} of the activity and {pet_in_ct:.0%} of the field of view of {pet_name}; "
        "the rest has no CT.",
    )


def _activity_share(pet: Volume, ct: Volume) -> float:
    """Return the share of summed SUV whose voxels lie inside the CT: air around the patient does not count."""
    step = max(1, int(np.ceil((pet.array.size / MOST_SAMPLES) ** (1 / 3))))
    axes = [np.arange(0, n, step) for n in pet.shape]
    index = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    inside = ct.index_of(pet.world_of(index.astype(np.float64)))
    low, high = -0.5 - 1e-6, np.array(ct.shape) - 0.5 + 1e-6
    within = ((inside >= low) & (inside <= high)).all(axis=-1)
    suv = np.clip(pet.array[::step, ::step, ::step], 0, None).astype(np.float64)
    total = float(suv.sum())
    return float(suv[within].sum() / total) if total > 0 else 1.0


def _centre(volume: Volume) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return np.asarray(volume.world_of((np.array(volume.shape) - 1) / 2), dtype=np.float64)
