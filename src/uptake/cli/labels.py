"""uptake labels map"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from uptake.cli.cohorts import require_no_failure
from uptake.cli.console import say
from uptake.cli.options import Out, Quiet

labels = App(name="labels")


@labels.command(name="map")
def map_(
    source: Path,
    /,
    *,
    out: Out,
    to: Literal["ldos", "lesiontracer", "lesiontracer-published"],
    from_: Annotated[str | None, Parameter(name="--from")] = None,
    unknown: Literal["refuse", "background"] = "refuse",
    quiet: Quiet = False,
) -> None:
    """Merge the classes of organ maps into those of a method; grid and affine stay.

    Parameters
    ----------
    source
        An organ map, a folder of them, a folder of TotalSegmentator's masks, or a folder of studies with organ maps.
    out
        Folder for <case>.nii.gz, organ_labels.json, mapping.csv and cases.csv.
    to
        Whose classes: ldos has 18, lesiontracer 10.
    from_
        Numbering of the maps: total (TotalSegmentator, version 2), autopet, ldos, lesiontracer, or a JSON file
        {number: name}; by default organ_labels.json beside the maps if it is there, else total.
    unknown
        What becomes of numbers that this numbering does not name.
    """
    from uptake.workflows.map_labels import map_labels

    result = map_labels(source, out, to=to, from_numbering=from_, unknown=unknown)
    if not quiet:
        say(f"{len(result.written)} written, {len(result.failures)} failed; see {out}")
    require_no_failure(result.failures, len(result.written) + len(result.failures), out, what="maps")
