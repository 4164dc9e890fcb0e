"""Labels in: the regions of a DICOM SEG or RTSTRUCT as masks on the PET's grid."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from uptake import RESEARCH_USE_ONLY, __version__
from uptake.cases import Case, SourceFile
from uptake.core.errors import UsageError
from uptake.geometry.volume import Volume
from uptake.io.dicom_labels import is_dicom_labels, read_dicom_labels, read_lesions, slices_of
from uptake.io.dicom_regions import Region, Regions
from uptake.io.read import read
from uptake.io.write import require_writable, sha256_of, write_json, write_volume
from uptake.physics.supplied import SuppliedValues

SCHEMA = "uptake-regions/1"
RECORD = "regions.json"


def read_regions(
    path: Path | str,
    study: Path | str | Case,
    *,
    roi: str | Sequence[str] | None = None,
    threshold: float = 0.5,
    pet_series: str | None = None,
) -> Regions:
    """Return the regions of a DICOM SEG or RTSTRUCT on the grid of a study's PET.

    Parameters
    ----------
    path : path
        The SEG (binary, fractional, label map) or RTSTRUCT.
    study : path or Case
        The PET's DICOM study, or an image file of the PET.
    roi : str or sequence of str, optional
        Names or numbers of the regions wanted; all by default.
    threshold : float
        Of a fractional SEG, share of its maximum.
    pet_series : str, optional
        End of the PET's Series Instance UID, where the study holds several.

    Raises
    ------
    GeometryError
        If the file belongs to another study or frame of reference.
    InputError
        Of the kind that fits.

    Examples
    --------
    >>> read_regions("RS.dcm", "study/", roi="GTV").regions[0].mask().sum()
    """
    if isinstance(study, Case) and pet_series is not None:
        raise UsageError("pet_series chooses among the PETs of a DICOM study; this is a Case, read already.")
    case = study if isinstance(study, Case) else read(study, labels=False, assume_suv=True, pet_series=pet_series)
    names = (roi,) if isinstance(roi, str) else roi
    return read_dicom_labels(
        Path(path), case.pet, reference=slices_of(case.pet, case.pet_files), names=names, threshold=threshold
    )


def write_regions(found: Regions, pet: Volume, out: Path) -> list[dict[str, object]]:
    """Write each region as NAME.nii.gz (uint8, 1 inside) and regions.json, and return a row per region."""
    require_writable(out)
    rows: list[dict[str, object]] = []
    used: set[str] = {RECORD}
    for region in found.regions:
        file = _file_name(region, used)
        write_volume(pet.with_array(region.mask().astype(np.uint8)), out / file)
        rows.append({**region_row(region, pet), "file": file})
    record = {
        "schema": SCHEMA,
        "notice": RESEARCH_USE_ONLY,
        "source": {"path": str(found.path), "sha256": sha256_of(found.path), "kind": found.kind},
        "regions": rows,
        "warnings": list(found.warnings),
        "version": __version__,
    }
    write_json(record, out / RECORD)
    return rows


def region_row(region: Region, pet: Volume) -> dict[str, object]:
    """Return number, name, code, voxels and volume of a region."""
    return {
        "number": region.number,
        "name": region.name,
        "code": region.code,
        "voxels": region.voxels,
        "volume_ml": round(region.voxels * pet.voxel_volume_ml, 4),
    }


def read_with_mask(
    pet: Path,
    mask: Path,
    *,
    ct: Path | None = None,
    assume_suv: bool = False,
    rois: Sequence[str] | None = None,
    pet_series: str | None = None,
    ct_series: str | None = None,
    supplied: SuppliedValues | None = None,
) -> Case:
    """Return a case whose lesions are a mask file: an image on the PET's grid, or a DICOM SEG or RTSTRUCT.

    `pet_series`, `ct_series` and `supplied` go to `uptake.read`.

    Raises
    ------
    InputError
        Of the kind that fits; if a DICOM file holds several regions and none is called lesion, with their names.
    UsageError
        If regions are chosen of an image.
    """
    if not is_dicom_labels(mask):
        if rois:
            raise UsageError(f"{mask}: no DICOM SEG or RTSTRUCT; regions can be chosen of these alone.")
        return read(
            pet, ct=ct, lesions=mask, assume_suv=assume_suv, labels=("lesions",), pet_series=pet_series,
            ct_series=ct_series, supplied=supplied,
        )  # fmt: skip
    case = read(
        pet, ct=ct, assume_suv=assume_suv, labels=False, pet_series=pet_series, ct_series=ct_series, supplied=supplied
    )
    lesions, warnings = read_lesions(mask, case.pet, case.pet_files, names=rois)
    return replace(
        case,
        lesions=lesions,
        sources=(*case.sources, SourceFile("lesions", str(mask), sha256_of(mask))),
        warnings=(*case.warnings, *warnings),
    )


def _file_name(region: Region, used: set[str]) -> str:
    """Return a file name for a region that no other region has: its name, made fit for any system."""
    stem = re.sub(r"[^\w\-+.]+", "_", region.name).strip("._") or f"region_{region.number}"
    name = f"{stem[:80]}.nii.gz"
    if name.lower() in {other.lower() for other in used}:
        name = f"{stem[:80]}_{region.number}.nii.gz"
    used.add(name)
    return name
