"""uptake quantify"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from uptake.cli.console import say, show_gate, table


def quantify(
    pet: Path,
    mask: Path,
    /,
    *,
    out: Annotated[Path, Parameter(name=["--out", "-o"])],
    ct: Path | None = None,
    connectivity: int = 18,
    min_volume_ml: float = 0.0,
    mtv: str = "mask",
    assume_suv: bool = False,
    gate: bool = True,
    roi: Annotated[tuple[str, ...], Parameter(name=["--roi"], consume_multiple=True)] = (),
    made_by: str | None = None,
    dicom: bool = True,
    keep_identifiers: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Measure a lesion mask you already have: tables, pictures and report in OUT/<case>/.

    Parameters
    ----------
    pet
        PET in SUV: a file, a study folder or a DICOM folder.
    mask
        Mask on the PET's grid; every voxel that is not 0 is lesion. Or a DICOM SEG or RTSTRUCT of the PET's study.
    out
        Folder for the results.
    ct
        CT in HU for the fused pictures.
    connectivity
        Of lesions: 6, 18 or 26.
    min_volume_ml
        Leave smaller lesions out of the table.
    mtv
        Which voxels of a lesion count as metabolic volume: mask, 41%, suv2.5, suv4.
    assume_suv
        Take the PET as SUV although its values say otherwise.
    gate
        Judge PET and CT and show a traffic light; see uptake segment.
    roi
        Which regions of a SEG or RTSTRUCT are lesions, by name or number; uptake regions lists them.
    made_by
        The algorithm that made the mask, for the DICOM files; without it they say drawn by hand.
    dicom
        For a DICOM PET, write lesions.seg.dcm, lesions.rtstruct.dcm and measurements.sr.dcm too.
    keep_identifiers
        Copy name, ID, birth date, accession number and the like into these files, as an archive wants them.
    """
    import json

    from uptake.io.write import require_writable

    require_writable(out)
    from uptake.quantification.tables import lesion_rows
    from uptake.workflows.dicom_results import KINDS, DicomSettings
    from uptake.workflows.quantify import quantify_to

    found, folder = quantify_to(
        pet,
        mask,
        out,
        ct=ct,
        connectivity=connectivity,
        min_volume_ml=min_volume_ml,
        mtv_method=mtv,
        assume_suv=assume_suv,
        gate=gate,
        roi=roi or None,
        made_by=made_by,
        dicom=DicomSettings(KINDS if dicom else (), keep_identifiers),
    )
    rows = lesion_rows(found)
    columns = {"lesion": "lesion", "volume_ml": "volume mL", "mtv_ml": "MTV mL", "suv_max": "SUVmax"}
    columns |= {"suv_mean": "SUVmean", "suv_peak": "SUVpeak", "tlg_g": "TLG g"}
    if rows:
        table(rows[:15], columns)
        if len(rows) > 15:
            say(f"  … {len(rows) - 15} more in lesions.csv")
        say(f"  total: MTV {found.totals.mtv_ml:.1f} mL, TLG {found.totals.tlg_g:.1f} g")
    else:
        say("  The mask is empty.")
    show_gate(json.loads((folder / "run.json").read_text(encoding="utf-8")))
    for warning in found.warnings:
        say(f"  ! {warning}")
    say(f"  {folder / 'report.html'}")
