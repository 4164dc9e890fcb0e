"""uptake export"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from uptake.cli.console import say
from uptake.cli.options import Out, Switch
from uptake.core.errors import UsageError


def export(
    mask: Path,
    /,
    *,
    study: Annotated[Path, Parameter(name=["--study", "-s"])],
    out: Out,
    labels: str | None = None,
    made_by: str | None = None,
    seg: bool = True,
    rtstruct: bool = True,
    sr: bool = True,
    keep_identifiers: Switch = False,
    connectivity: int = 18,
    min_volume_ml: float = 0.0,
    mtv: str = "mask",
    assume_suv: bool = False,
    pet_series: str | None = None,
    ct_series: str | None = None,
) -> None:
    """Bring any mask back onto its DICOM study: SEG, RTSTRUCT, and a report with the lesions' measurements.

    Each file is read back and compared with the mask, voxel by voxel, before it gets its name.

    Parameters
    ----------
    mask
        On the grid of the study's PET or CT: an image file, or a SEG or RTSTRUCT to be written anew.
    study
        The DICOM study that the mask belongs to.
    out
        Folder for the files.
    labels
        Names of the labels: a JSON or CSV file, or 1=liver,2=spleen. Without it all that is not 0 is lesion.
    made_by
        The algorithm that made the mask; without it the files say drawn by hand.
    seg
        Write a DICOM SEG.
    rtstruct
        Write an RTSTRUCT.
    sr
        Write a structured report (of lesions on the PET; refers to the SEG).
    keep_identifiers
        Copy name, ID, birth date, accession number and the like from the study, as an archive wants them.
    connectivity
        Of lesions: 6, 18 or 26.
    min_volume_ml
        Leave smaller lesions out of the measurements.
    mtv
        Which voxels of a lesion count as metabolic volume: mask, 41%, suv2.5, suv4.
    assume_suv
        Take the PET as SUV although its values say otherwise.
    pet_series
        End of the Series Instance UID of the PET to use, where the study holds several; see uptake inspect.
    ct_series
        End of the Series Instance UID of the CT to use.
    """
    kinds = tuple(name for name, wanted in (("seg", seg), ("rtstruct", rtstruct), ("sr", sr and seg)) if wanted)
    if not kinds:
        raise UsageError("there is nothing to write; leave --seg or --rtstruct on.")
    from uptake.io.write import require_writable

    require_writable(out)
    from uptake.workflows.export import export as run
    from uptake.workflows.label_table import find_labels

    names = None
    if labels is not None:
        given = find_labels(labels, mask, mask).names or {}
        names = {value: name for value, name in given.items() if isinstance(value, int)}
    paths = run(
        mask,
        study,
        out,
        names=names,
        kinds=kinds,
        made_by=made_by,
        keep_identifiers=keep_identifiers,
        connectivity=connectivity,
        min_volume_ml=min_volume_ml,
        mtv_method=mtv,
        assume_suv=assume_suv,
        pet_series=pet_series,
        ct_series=ct_series,
    )
    for path in paths.values():
        say(f"  {path}")
    if "sr" in kinds and "sr" not in paths:
        say(
            "  ! No report: it holds measurements of lesions on the PET, and this mask is of other labels or on the CT."
        )
