"""The table that says which scan comes from which site, and what else is known of it."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from uptake.core.errors import InputError
from uptake.io.find import CaseFiles
from uptake.sampling.splits import subject_of

SITE = "site"
FWHM = "fwhm_mm"
RESERVED = ("case", "patient", SITE, FWHM)
NAMED = 10


@dataclass(frozen=True)
class SiteRow:
    """A line of the table of sites.

    Attributes
    ----------
    case, patient, site : str
    fwhm_mm : float
        Effective resolution of the PET, mm; NaN where the table does not say.
    others : mapping of str to str
        Every other column: possible confounds.
    """

    case: str
    patient: str
    site: str
    fwhm_mm: float
    others: Mapping[str, str]


def read_sites(path: Path, files: Sequence[CaseFiles]) -> tuple[list[SiteRow], tuple[str, ...]]:
    """Return a row for each study that the table assigns to a site, and notes on those it does not.

    Raises
    ------
    InputError
        If the file cannot be read, lacks a column, contradicts itself, or names fewer than two sites of these studies.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            lines = [{k: (v or "").strip() for k, v in line.items() if k} for line in csv.DictReader(stream)]
    except (OSError, UnicodeDecodeError, csv.Error, AttributeError) as error:
        raise InputError(f"{path}: cannot be read as CSV: {error}.") from error
    if not lines or SITE not in lines[0] or not {"case", "patient"} & set(lines[0]):
        raise InputError(f"{path}: a column 'site', and a column 'case' or 'patient', are needed.")
    key = "case" if "case" in lines[0] else "patient"
    by_key: dict[str, dict[str, str]] = {}
    for line in lines:
        if line[key] in by_key and by_key[line[key]] != line:
            raise InputError(f"{path}: has two lines about {key} {line[key]!r} that differ.")
        by_key[line[key]] = line
    rows, missing = [], []
    for one in files:
        patient = one.subject or subject_of(one.id)
        line = by_key.get(one.id if key == "case" else patient)
        if line is None or not line[SITE]:
            missing.append(one.id)
            continue
        others = {name: value for name, value in line.items() if name not in RESERVED}
        rows.append(SiteRow(one.id, line.get("patient") or patient, line[SITE], _millimetres(path, line), others))
    names = {row.site for row in rows}
    if len(names) < 2:
        raise InputError(
            f"{path}: assigns {len(rows)} of {len(files)} studies to {len(names)} sites; two sites are needed. Studies "
            f"are called {', '.join(one.id for one in files[:3])}."
        )
    more = f" and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
    note = f"{len(missing)} of {len(files)} studies have no site in {path.name} and were left out: "
    return rows, (note + ", ".join(missing[:NAMED]) + more + ".",) if missing else ()


def _millimetres(path: Path, line: Mapping[str, str]) -> float:
    text = line.get(FWHM, "")
    try:
        value = float(text) if text else math.nan
    except ValueError:
        value = -1.0
    if value <= 0:
        raise InputError(f"{path}: {FWHM} is a resolution in mm, came {text!r}.")
    return value
