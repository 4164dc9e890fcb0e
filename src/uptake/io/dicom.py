"""A DICOM study -> PET in SUV, CT in HU, and the record of how that was done."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uptake.cases import SourceFile
from uptake.core.errors import FileFormatError, InputError, UnitError
from uptake.geometry.volume import Volume
from uptake.io.archive import Files
from uptake.io.dicom_choice import Choice, choose, is_dynamic
from uptake.io.dicom_pixels import voxels
from uptake.io.dicom_series import Scan, Series, quiet_headers, scan
from uptake.io.dicom_stack import Stack, stacked
from uptake.io.dicom_suv import suv_of_headers
from uptake.physics.suv import SuppliedValues, SuvConversion


@dataclass(frozen=True, eq=False)
class DicomStudy:
    """PET (SUV) and CT (HU) of one study as `Case` wants them.

    Attributes
    ----------
    pet, ct : Volume
    sources : tuple of SourceFile
    warnings : tuple of str
    acquisition : dict
        See `dicom_suv.suv_of_headers`.
    conversion : SuvConversion
    choice : Choice
        Every series of the study with the reason why it was taken or left.
    header : pydicom.Dataset
        Of the first PET slice, without pixels.
    pet_files, ct_files : tuple of Path
        In the order of the third array axis.
    """

    pet: Volume
    ct: Volume | None
    sources: tuple[SourceFile, ...]
    warnings: tuple[str, ...]
    acquisition: dict[str, object]
    conversion: SuvConversion
    choice: Choice
    header: Any
    pet_files: tuple[Path, ...] = ()
    ct_files: tuple[Path, ...] = ()


@quiet_headers()
def read_dicom(
    place: Path,
    *,
    with_ct: bool = True,
    supplied: SuppliedValues | None = None,
    pet_series: str | None = None,
    ct_series: str | None = None,
    study_uid: str | None = None,
    least_slices: int = 2,
) -> DicomStudy:
    """Return the PET of a DICOM study as SUV and its CT.

    PET is converted to SUV by body weight (`physics.suv`); what has no rule is refused by its name.

    Parameters
    ----------
    place : Path
        A folder of any nesting, a zip archive, or one multi-frame file.
    with_ct : bool
        Whether to look for a CT.
    supplied : SuppliedValues or None
        Weight, dose, times and the like, for a header that lacks them.
    pet_series, ct_series : str, optional
        Series Instance UID or its end, where the user chooses; by default `dicom_choice` does.
    study_uid : str, optional
        Leave other studies below `place` out.
    least_slices : int
        Of the PET. With 1, a lone slice is read with its Slice Thickness (0018,0050) as spacing.

    Raises
    ------
    InputError
        Of the kind that fits: nothing or too much found, geometry, units, missing attributes, damaged files.
    UsageError
        If a named series is not there.
    """
    place = Path(place)
    with Files() as files:
        found = scan(place, files, study_uid=study_uid)
        choice = choose(found, pet_series=pet_series, ct_series=ct_series)
        if choice.pet is None:
            require_whole(found, None)
        pet_entry = choice.required_pet()
        ct_entry = choice.required_ct() if with_ct else None
        warnings = [*choice.warnings, *require_whole(found, pet_entry, *([ct_entry] if ct_entry else []))]
        name = f"{place}: {pet_entry.label}"
        if len(pet_entry.images) < least_slices:
            raise InputError(f"{name} is too short: one slice is no volume. Give the whole series.")
        stack = pet_stack(pet_entry, files, name=name)
        conversion, acquisition, suv_notes = suv_of_headers(stack.headers, name, supplied=supplied)
        factors = conversion.slice_factors
        array, digest, notes = voxels(
            stack, files, name=name, scale=lambda k: conversion.factor if factors is None else factors[k]
        )
        pet = Volume(array, stack.affine, frame_of_reference=pet_entry.frame_of_reference)
        warnings += [*stack.warnings, *suv_notes, *notes]
        sources = [SourceFile("pet", str(place), digest)]
        ct: Volume | None = None
        ct_files: tuple[Path, ...] = ()
        if ct_entry is not None:
            name = f"{place}: {ct_entry.label}"
            ct_stack = stacked(ct_entry, files, name=name)
            _require_hu_type(ct_stack.headers[0], name)
            array, digest, notes = voxels(ct_stack, files, name=name)
            ct = Volume(array, ct_stack.affine, frame_of_reference=ct_entry.frame_of_reference)
            ct_files = ct_stack.files
            warnings += [*ct_stack.warnings, *notes]
            sources.append(SourceFile("ct", str(place), digest))
    return DicomStudy(
        pet=pet,
        ct=ct,
        sources=tuple(sources),
        warnings=tuple(warnings),
        acquisition=acquisition,
        conversion=conversion,
        choice=choice,
        header=stack.headers[0],
        pet_files=stack.files,
        ct_files=ct_files,
    )


def pet_stack(series: Series, files: Files, *, name: str) -> Stack:
    """Return the slices of a PET series in order, if it is one static volume.

    Raises
    ------
    UnitError
        If the series is dynamic or gated.
    InputError
        As `dicom_stack.stacked`.
    """
    dynamic = is_dynamic(series)
    if dynamic:
        raise UnitError(f"{name}: {dynamic}: not supported yet. Give a static or whole-body series.")
    return stacked(series, files, name=name)


def require_whole(found: Scan, *chosen: Series | None) -> tuple[str, ...]:
    """Check that no file of the chosen series is damaged, nor any that may be; return warnings about others.

    A damaged file whose series cannot be told counts if it lies in a folder with files of a chosen series.

    Raises
    ------
    FileFormatError
        Naming the first such file.
    """
    damaged = {path for path, _ in found.damaged}
    # A UID that only damaged files have may have been cut itself.
    series_of = {path: entry for entry in found.series if set(entry.files) - damaged for path in entry.files}
    folders = {path.parent for entry in chosen if entry for path in entry.files}
    others = []
    for path, problem in found.damaged:
        unknown = path not in series_of
        if series_of.get(path) in chosen or (unknown and (path.parent in folders or None in chosen)):
            raise FileFormatError(f"{path}: {problem}.")
        others.append(path.name)
    if not others:
        return ()
    return (f"{found.place}: {len(others)} damaged files of other series were passed over, the first {others[0]}.",)


def _require_hu_type(header: Any, name: str) -> None:
    kind = str(header.get("RescaleType") or "HU").upper()
    if kind not in ("HU", "US"):  # US is "unspecified", which scanners write for CT in HU too
        raise UnitError(f"{name}: Rescale Type (0028,1054) is {kind}; expected HU. Give the original CT series.")
