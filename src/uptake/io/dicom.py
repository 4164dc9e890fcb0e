"""A DICOM study folder -> PET in SUV, CT in HU, and the record of how that was done."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uptake.cases import SourceFile
from uptake.core.errors import UnitError
from uptake.geometry.volume import Volume
from uptake.io.dicom_series import choose_ct, choose_pet, quiet_headers, scan
from uptake.io.dicom_stack import read_stack
from uptake.io.dicom_suv import suv_of_headers
from uptake.io.write import sha256_of_files
from uptake.physics.suv import SuppliedValues


@dataclass(frozen=True, eq=False)
class DicomStudy:
    """PET (SUV) and CT (HU) of one study as `Case` wants them; the files in the order of the third array axis."""

    pet: Volume
    ct: Volume | None
    sources: tuple[SourceFile, ...]
    warnings: tuple[str, ...]
    acquisition: dict[str, object]
    pet_files: tuple[Path, ...] = ()
    ct_files: tuple[Path, ...] = ()


@quiet_headers()
def read_dicom(folder: Path, *, with_ct: bool = True, supplied: SuppliedValues | None = None) -> DicomStudy:
    """Return the PET of a DICOM study as SUV and its CT, whatever the nesting below `folder`.

    PET is converted to SUV by body weight (`physics.suv`); what has no rule is refused by its name. RTSTRUCT and other
    modalities are passed over.

    Parameters
    ----------
    folder : Path
    with_ct : bool
        Whether to look for a CT.
    supplied : SuppliedValues or None
        Weight, dose, times and the like, for a header that lacks them.

    Raises
    ------
    InputError
        Of the kind that fits: nothing or too much found, geometry, units, missing attributes, damaged files.
    """
    folder = Path(folder)
    series = scan(folder)
    chosen, notes = choose_pet(folder, series)
    name = f"{folder}: {chosen.label}"
    rescaled, headers, stack_notes = read_stack(chosen, name=name)
    conversion, acquisition, suv_notes = suv_of_headers(headers, name, supplied=supplied)
    pet = rescaled.with_array(conversion.applied_to(rescaled.array))
    warnings = [*notes, *stack_notes, *suv_notes, *_incomplete(headers[0], len(headers), name)]
    sources = [SourceFile("pet", str(folder), sha256_of_files(chosen.files))]
    ct = None
    ct_files: tuple[Path, ...] = ()
    if with_ct:
        beside, ct_notes = choose_ct(folder, series, chosen)
        warnings += ct_notes
        if beside is not None:
            ct_name = f"{folder}: {beside.label}"
            ct, ct_headers, stack_notes = read_stack(beside, name=ct_name)
            warnings += stack_notes
            _require_hu_type(ct_headers[0], ct_name)
            sources.append(SourceFile("ct", str(folder), sha256_of_files(beside.files)))
            ct_files = _files_of(ct_headers)
    return DicomStudy(pet, ct, tuple(sources), tuple(warnings), acquisition, _files_of(headers), ct_files)


def _files_of(headers: list[Any]) -> tuple[Path, ...]:
    return tuple(Path(header.filename) for header in headers)


def _incomplete(header: Any, slices: int, name: str) -> tuple[str, ...]:
    """Compare with Number of Slices (0054,0081), the only witness of slices that are missing at an end of the stack."""
    promised = int(header.get("NumberOfSlices") or 0)
    if promised > slices:
        return (f"{name}: Number of Slices (0054,0081) is {promised}; the series was cropped or is incomplete.",)
    return ()


def _require_hu_type(header: Any, name: str) -> None:
    kind = str(header.get("RescaleType") or "HU").upper()
    if kind not in ("HU", "US"):  # US is "unspecified", which scanners write for CT in HU too
        raise UnitError(f"{name}: Rescale Type (0028,1054) is {kind}; expected HU. Give the original CT series.")
