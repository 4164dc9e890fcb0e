"""Labels in: whatever DICOM object holds them, on the grid of the PET."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from uptake.core.errors import FileFormatError, GeometryError, InputError, MissingAttributeError
from uptake.geometry.volume import Volume
from uptake.io.dicom_reference import Reference, read_reference
from uptake.io.dicom_regions import Regions
from uptake.io.dicom_seg_read import SEGMENTATIONS, THRESHOLD, read_seg
from uptake.io.dicom_series import quiet_headers
from uptake.io.image import image_suffix
from uptake.io.rtstruct_read import RT_STRUCTURE_SET, read_rtstruct
from uptake.io.terminology import LESION


def is_dicom_labels(path: Path) -> bool:
    """Return whether a file is a DICOM SEG or RTSTRUCT; one header attribute is read."""
    return path.is_file() and not image_suffix(path) and _class_of(path) in (*SEGMENTATIONS, RT_STRUCTURE_SET)


def read_dicom_labels(
    path: Path,
    pet: Volume,
    *,
    reference: Reference | None = None,
    names: Sequence[str] | None = None,
    threshold: float = THRESHOLD,
) -> Regions:
    """Return the regions of a DICOM SEG or RTSTRUCT on the grid of a PET.

    Parameters
    ----------
    path, pet, reference, names
        As `rtstruct_read.read_rtstruct`.
    threshold : float
        As `dicom_seg_read.read_seg`.

    Raises
    ------
    FileFormatError
        If the file is neither.
    InputError, GeometryError
        As the two readers.
    """
    path = Path(path)
    if not path.is_file():
        raise FileFormatError(f"{path}: no such file.")
    kind = _class_of(path)
    if kind == RT_STRUCTURE_SET:
        return read_rtstruct(path, pet, reference=reference, names=names)
    if kind in SEGMENTATIONS:
        found = read_seg(path, pet, reference=reference, threshold=threshold)
        return Regions(path, found.kind, found.chosen(names), found.warnings)
    raise FileFormatError(
        f"{path}: neither a DICOM SEG nor an RTSTRUCT. Give one of these, or an image file of labels."
    )


def read_lesions(
    path: Path, pet: Volume, files: Sequence[Path] = (), *, names: Sequence[str] | None = None
) -> tuple[Volume, tuple[str, ...]]:
    """Return the lesions of a DICOM SEG or RTSTRUCT as one mask (uint8) on the grid of a PET, and warnings.

    Parameters
    ----------
    path : Path
    pet : Volume
    files : sequence of Path
        The PET's DICOM files, where it came as DICOM (`Case.pet_files`).
    names : sequence of str, optional
        Which regions are lesions; by default the only one, or all whose name begins with "lesion".

    Raises
    ------
    InputError
        As `read_dicom_labels`; if nobody says which of several regions are lesions, with their names.
    """
    found = read_dicom_labels(path, pet, reference=slices_of(pet, files), names=names)
    chosen = names or lesion_names(found)
    if chosen is None:
        raise InputError(
            f"{path}: holds {len(found.regions)} regions and none is called lesion; name the lesions with --roi "
            f"(roi=…). It has: {found.listing()}."
        )
    return found.union(pet, chosen), found.warnings


def slices_of(pet: Volume, files: Sequence[Path]) -> Reference | None:
    """Return the DICOM slices of a PET; None where there are none, or where they cannot be referred to."""
    try:
        return read_reference(files, pet) if files else None
    except (GeometryError, MissingAttributeError):
        return None


def lesion_names(found: Regions) -> tuple[str, ...] | None:
    """Return which regions are lesions where nobody says so: the only one, or all called lesion; None if unclear."""
    if len(found.regions) == 1:
        return (found.regions[0].name,)
    lesions = tuple(region.name for region in found.regions if region.name.lower().startswith(LESION))
    return lesions or None


@quiet_headers()
def _class_of(path: Path) -> str:
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    try:
        return str(dcmread(path, stop_before_pixels=True, specific_tags=["SOPClassUID"]).get("SOPClassUID", ""))
    except (InvalidDicomError, OSError, EOFError, ValueError):
        return ""
