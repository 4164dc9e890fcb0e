"""uptake inspect"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from uptake.cli.console import say
from uptake.cli.options import Switch

if TYPE_CHECKING:
    from uptake.workflows.inspect import Inspection

ROLES = {"pet": "PET", "ct": "CT", "labels": "labels", "candidate": "choose", "left": "left"}
WIDTH_OF_A_PIPE = 160
"""Nothing is cut where there is no screen."""

STYLE = {"pet": "bold green", "ct": "bold cyan", "labels": "magenta", "candidate": "bold yellow", "left": "dim"}


def inspect(
    study: Path,
    /,
    *,
    pet_series: str | None = None,
    ct_series: str | None = None,
    json_output: Annotated[bool, Parameter(name="--json", negative="")] = False,
    keep_identifiers: Switch = False,
) -> None:
    """Show what a DICOM study holds, which series would be taken and why, and whether SUV can be known.

    Only headers are read and nothing is written.

    Parameters
    ----------
    study
        A DICOM study (folder of any nesting, zip archive, multi-frame file), or a folder of studies.
    pet_series
        End of the Series Instance UID of the PET to use.
    ct_series
        End of the Series Instance UID of the CT to use.
    json_output
        Print JSON: a list with one entry per study.
    keep_identifiers
        Show series descriptions, whole UIDs, dates, and who the patient is.
    """
    from dataclasses import replace

    from uptake.core.errors import InputError, UsageError
    from uptake.io.find import find_cases
    from uptake.workflows.inspect import inspect as workflow

    cases = find_cases(study, only_dicom=True)
    if len(cases) > 1 and (pet_series or ct_series):
        raise UsageError(f"{study}: holds {len(cases)} studies; a series can be named for one study only.")
    found = []
    for files in cases:
        try:
            named = replace(files, pet_series=pet_series, ct_series=ct_series)
            found.append(workflow(named, keep_identifiers=keep_identifiers))
        except InputError as error:
            if len(cases) == 1:
                raise
            if not json_output:
                say(f"{files.id}: {error}\n")
            continue
        if not json_output:
            _show(found[-1])
    if json_output:
        print(json.dumps([one.as_json() for one in found], indent=2, sort_keys=True, ensure_ascii=False))


def _show(found: Inspection) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = WIDTH_OF_A_PIPE
    console.print(f"{found.case}: {len(found.series)} series", style="bold", markup=False)
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in ("", "series", "kind", "size", "spacing mm", "units", "factor"):
        table.add_column(heading, no_wrap=True, justify="right" if heading in ("size", "factor") else "left")
    for row in found.series:
        table.add_row(*_cells(row), style=STYLE.get(str(row["role"]), ""))
    console.print(table, soft_wrap=False)
    console.print()
    for row in found.series:
        geometry = row["geometry"] if row["geometry"] not in (None, "even") and row["role"] in ("pet", "ct") else ""
        text = "; ".join(str(part) for part in (row["why"], geometry, row.get("description")) if part)
        console.print(f"  {row['series']} {ROLES[row['role']]}: {text}", markup=False, style=STYLE[row["role"]])
    _tell(console, found)


def _cells(row: Any) -> list[str]:
    suv = row["suv"]
    size = "×".join(str(n) for n in (row["columns"], row["rows"], row["images"]) if n)
    return [
        ROLES[row["role"]],
        str(row["series"]),
        str(row["modality"] or "?"),
        size,
        "×".join(f"{mm:.2f}" for mm in row["spacing_mm"]) if row["spacing_mm"] else "",
        " ".join(part for part in (str(row["units"]), str(row["decay_correction"])) if part),
        "" if suv is None else f"{suv['factor']:.6g}" if suv["known"] else "refused",
    ]


def _tell(console: Any, found: Inspection) -> None:
    """Print whether SUV can be known, problems and warnings."""
    if found.patient:
        console.print("  " + "; ".join(f"{word} {value}" for word, value in found.patient.items()), markup=False)
    suv = found.suv
    if suv is not None and suv["known"]:
        minutes = suv["uptake_time_min"]
        after = "" if minutes is None else f", uptake time {minutes:.1f} min"
        console.print(f"  SUV: factor {suv['factor']:.7g} by rule {suv['rule']}{after}", markup=False)
    elif suv is not None:
        console.print("  SUV: cannot be known", style="bold red", markup=False)
    for problem in found.problems:
        console.print(f"  ✗ {problem}", style="red", markup=False)
    for warning in found.warnings:
        console.print(f"  ! {warning}", style="yellow", markup=False)
    console.print()
