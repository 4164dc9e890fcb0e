"""uptake regions"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from uptake.cli.console import say, table
from uptake.cli.options import OptionalOut


def regions(
    file: Path,
    /,
    *,
    study: Annotated[Path, Parameter(name=["--study", "-s"])],
    out: OptionalOut = None,
    roi: Annotated[tuple[str, ...], Parameter(name=["--roi"], consume_multiple=True)] = (),
    threshold: float = 0.5,
    pet_series: str | None = None,
) -> None:
    """List the regions of a DICOM SEG or RTSTRUCT, and write each as a mask on the PET's grid.

    Parameters
    ----------
    file
        The SEG or RTSTRUCT.
    study
        The DICOM study that it belongs to, or an image file of the PET.
    out
        Folder for a mask per region and regions.json; without it they are listed only.
    roi
        Names or numbers of the regions wanted; all by default.
    threshold
        For a fractional SEG: share of its maximum from which a voxel is inside.
    pet_series
        End of the Series Instance UID of the PET to use, where the study holds several; see uptake inspect.
    """
    from uptake.io.read import read
    from uptake.io.write import require_writable
    from uptake.workflows.regions import read_regions, region_row, write_regions

    if out is not None:
        require_writable(out)
    case = read(study, labels=False, assume_suv=True, pet_series=pet_series)
    found = read_regions(file, case, roi=roi or None, threshold=threshold)
    columns = {"number": "number", "name": "name", "code": "code", "voxels": "voxels", "volume_ml": "volume mL"}
    if out is None:
        rows = [region_row(region, case.pet) for region in found.regions]
    else:
        rows = write_regions(found, case.pet, out)
        columns |= {"file": "file"}
    table(rows, columns)
    for warning in found.warnings:
        say(f"  ! {warning}")
    if out is not None:
        say(f"  {out}")
