"""What is in a DICOM study, what would be taken from it, and can its SUV be known? Headers only, nothing is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uptake.core.errors import InputError
from uptake.core.units import SECONDS_PER_MINUTE
from uptake.io.archive import Files
from uptake.io.dicom import pet_stack
from uptake.io.dicom_choice import Choice, Verdict, choose, extent_mm
from uptake.io.dicom_series import CT_CLASSES, PET_CLASSES, Scan, Series, quiet_headers, scan
from uptake.io.dicom_stack import Stack, stacked
from uptake.io.dicom_suv import suv_of_headers
from uptake.io.find import CaseFiles
from uptake.io.identifiers import IDENTIFYING, Identifiers
from uptake.physics.suv import SuppliedValues
from uptake.workflows.convert import series_row
from uptake.workflows.privacy import named_safely

SCHEMA = "uptake-inspect/1"


@dataclass(frozen=True)
class Inspection:
    """What was found in one study.

    Attributes
    ----------
    case : str
    series : tuple of mappings
        One per series: role ("pet", "ct", "labels", "candidate", "left"), why, size, spacing, geometry problem, and for
        PET whether SUV can be known. Plain JSON values.
    suv : mapping or None
        Of the chosen PET: factor, rule and the record of every attribute used, or the refusal.
    problems : tuple of str
        Why `convert` would refuse the study; empty if it would not.
    warnings : tuple of str
    patient : mapping
        Empty unless identifiers are asked for.
    """

    case: str
    series: tuple[Mapping[str, Any], ...]
    suv: Mapping[str, Any] | None
    problems: tuple[str, ...]
    warnings: tuple[str, ...]
    patient: Mapping[str, str]

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "schema": SCHEMA,
            "case": self.case,
            "series": [dict(row) for row in self.series],
            "suv": None if self.suv is None else dict(self.suv),
            "problems": list(self.problems),
            "warnings": list(self.warnings),
            "patient": dict(self.patient),
        }


@quiet_headers()
def inspect(
    files: CaseFiles,
    *,
    supplied: SuppliedValues | None = None,
    keep_identifiers: bool = False,
) -> Inspection:
    """Return what a DICOM study holds and what `convert` would make of it.

    Parameters
    ----------
    files : CaseFiles
        Of a DICOM study, from `io.find.find_cases`.
    supplied : SuppliedValues, optional
        As for `convert`.
    keep_identifiers : bool
        Show descriptions, whole UIDs, dates and the patient.

    Raises
    ------
    InputError
        If there is no DICOM at all. A study without PET, or whose SUV cannot be known, is no error here.
    UsageError
        If a series is named that is not there.
    """
    if files.problem is not None or files.dicom is None:
        raise InputError(files.problem or f"{files.pet or files.id}: no DICOM study.")
    place = files.dicom
    with Files() as opened:
        found = scan(place, opened, study_uid=files.study_uid)
        choice = choose(found, pet_series=files.pet_series, ct_series=files.ct_series)
        problems = [f"{path}: {problem}." for path, problem in found.damaged]
        problems += [text for text in (choice.pet_problem, choice.ct_problem) if text]
        warnings = list(choice.warnings)
        rows, suv = [], None
        for verdict in choice.verdicts:
            row, chosen_suv = _row(verdict, place, opened, supplied, problems, warnings, keep_identifiers)
            rows.append(row)
            suv = chosen_suv if verdict.role == "pet" else suv
    return _shown(files, found, choice, rows, suv, problems, warnings, keep_identifiers)


def _row(
    verdict: Verdict,
    place: Path,
    opened: Files,
    supplied: SuppliedValues | None,
    problems: list[str],
    warnings: list[str],
    keep_identifiers: bool,
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Return what is said about one series, and for the PET the record of its SUV; add problems and warnings."""
    series = verdict.series
    row = series_row(verdict, keep_identifiers=keep_identifiers)
    row |= _technical(series)
    if series.sop_class not in PET_CLASSES | CT_CLASSES or series.projection:
        return row, None
    chosen = verdict.role in ("pet", "ct")
    name = f"{place}: {series.label}"
    stack: Stack | None = None
    try:
        stack = (pet_stack if series.modality == "PT" else stacked)(series, opened, name=name)
        row |= {"spacing_mm": [round(mm, 4) for mm in _spacing(stack)], "geometry": "even"}
        warnings += stack.warnings if chosen else ()
    except InputError as error:
        row["geometry"] = _without(name, error)
        problems += [str(error)] if chosen else []
    if series.modality != "PT":
        return row, None
    headers = stack.headers if stack else [image.header for image in series.images]
    try:
        conversion, acquisition, notes = suv_of_headers(headers, name, supplied=supplied)
    except InputError as error:
        row["suv"] = {"known": False, "refusal": _without(name, error)}
        problems += [str(error)] if chosen else []
        return row, dict(row["suv"])
    row["suv"] = {
        "known": True,
        "factor": conversion.factor,
        "rule": conversion.rule,
        "uptake_time_min": None if conversion.uptake_time_s is None else conversion.uptake_time_s / SECONDS_PER_MINUTE,
    }
    warnings += notes if chosen else ()
    return row, {**acquisition, **row["suv"], "warnings": list(conversion.warnings)}


def _technical(series: Series) -> dict[str, Any]:
    """Return size and storage of a series, none of which can hold a name."""
    from pydicom.uid import UID

    header = series.header
    kind = UID(series.sop_class).name if series.sop_class else "unknown"
    syntax = series.images[0].syntax
    return {
        "kind": kind,
        "columns": _integer(header.get("Columns")),
        "rows": _integer(header.get("Rows")),
        "extent_mm": round(extent_mm(series), 2),
        "spacing_mm": None,
        "geometry": None,
        "series_type": list(series.series_type),
        "transfer_syntax": UID(syntax).name if syntax else "unknown",
        "manufacturer": str(header.get("Manufacturer", "") or ""),
        "suv": None,
    }


def _shown(
    files: CaseFiles,
    found: Scan,
    choice: Choice,
    rows: list[dict[str, Any]],
    suv: dict[str, Any] | None,
    problems: list[str],
    warnings: list[str],
    keep_identifiers: bool,
) -> Inspection:
    if keep_identifiers:
        header = (choice.pet or found.series[0]).header
        patient = {word: str(header.get(word, "") or "") for word in (*IDENTIFYING, "StudyDate", "StudyDescription")}
        shown = {word: value for word, value in patient.items() if value}
        return Inspection(files.id, tuple(rows), suv, tuple(problems), tuple(warnings), shown)
    identifiers = Identifiers.of([entry.header for entry in found.series])
    case = named_safely(files).id
    place = str(found.place)
    return Inspection(
        case=case,
        series=tuple(identifiers.scrubbed(row) for row in rows),
        suv=None if suv is None else identifiers.scrubbed(suv),
        problems=tuple(identifiers.message(text.replace(place, case)) for text in problems),
        warnings=tuple(identifiers.message(text.replace(place, case)) for text in warnings),
        patient={},
    )


def _spacing(stack: Stack) -> list[float]:
    return [float((stack.affine[:3, axis] ** 2).sum() ** 0.5) for axis in range(3)]


def _without(name: str, error: Exception) -> str:
    return str(error).removeprefix(f"{name}: ")


def _integer(value: Any) -> int | None:
    try:
        return int(value)
    except (TypeError, ValueError):
        return None
