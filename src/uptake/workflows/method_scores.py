"""The scores of each method of a comparison, from their tables or measured here, and whether they can be compared."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uptake.core.errors import InputError, UsageError
from uptake.evaluation.statistics import column
from uptake.workflows.evaluate import evaluate_cohort
from uptake.workflows.evaluation_results import NO_SCORES
from uptake.workflows.label_table import LabelTable
from uptake.workflows.pairing import holds_masks
from uptake.workflows.scoring import EvaluateSettings

SCORE_FILES = ("scores.csv", "cases.csv")
"""Tables of scores in a folder: of `uptake evaluate`, of `uptake train`."""

RULE_COLUMNS = ("empty", "empty_distance", "connectivity")
SAME_VOLUME = 1e-6
"""Volumes of a reference that differ by more than this share are those of two references."""

NAMED = 10


@dataclass(frozen=True)
class Method:
    """One method's table of scores.

    Attributes
    ----------
    name : str
    rows : mapping
        (case, label) -> row.
    """

    name: str
    rows: Mapping[tuple[str, str], Mapping[str, Any]]


def read_methods(
    paths: Sequence[Path],
    *,
    names: Sequence[str] | None = None,
    reference: Path | None = None,
    table: LabelTable | None = None,
    settings: EvaluateSettings | None = None,
    out: Path | None = None,
    jobs: int | None = 1,
    on_case: Callable[[int, int], None] | None = None,
) -> list[Method]:
    """Return the scores of each method: read from its table, or measured where masks and a reference were given.

    Parameters
    ----------
    paths : sequence of Path
        Each a folder of `uptake evaluate` or `uptake train`, a CSV file of scores, or, with `reference`, masks (which
        are scored even where a table lies beside them).
    names : sequence of str, optional
        By default the parts of the paths that tell them apart.
    reference : Path, optional
        See `pairing.find_pairs`.
    table, settings, jobs, on_case
        As for `evaluate_cohort`.
    out : Path, optional
        Where rows of masks scored here are kept, in a folder per method.

    Raises
    ------
    InputError
        If a path holds neither scores nor masks, or its table is no table of scores.
    UsageError
        If fewer than two methods were given, or names are missing or not distinct.
    """
    if len(paths) < 2:
        raise UsageError(f"a comparison needs two methods or more, came {len(paths)}.")
    named = list(names) if names else method_names(paths)
    if len(named) != len(paths) or len(set(named)) != len(named) or not all(named):
        raise UsageError(f"{len(paths)} methods need as many different names, came {', '.join(named)}.")
    methods = []
    for name, path in zip(named, paths, strict=True):
        file = _score_file(path)
        # With a reference, masks are scored anew, so that all methods are scored by the same rules.
        if file is not None and (reference is None or not holds_masks(path)):
            methods.append(Method(name, _read_scores(file)))
            continue
        if reference is None:
            raise InputError(
                f"{path}: holds no table of scores ({' or '.join(SCORE_FILES)}). Give the folder that "
                "`uptake evaluate` wrote, or masks together with --reference."
            )
        kept = None if out is None else out / "evaluations" / _file_word(name)
        found = evaluate_cohort(
            path, reference, table=table, settings=settings, out=kept, jobs=jobs, complete=True, on_case=on_case
        )
        methods.append(Method(name, {(str(row["case"]), str(row["label"])): row for row in found.rows}))
    return methods


def method_names(paths: Sequence[Path]) -> list[str]:
    """Return names for methods: the last parts of their paths, as many as it takes to tell them apart."""
    # A table under its usual name stands for its folder.
    places = [path.parent if path.name in SCORE_FILES else path for path in map(Path.resolve, paths)]
    places = [place.with_suffix("") if place.suffix == ".csv" else place for place in places]
    parts = [[part for part in place.parts if part != place.anchor] for place in places]
    for depth in range(1, max(len(p) for p in parts) + 1):
        names = ["/".join(p[-depth:]) for p in parts]
        if len(set(names)) == len(names):
            # What is the same at the end of all of them says nothing.
            tails = [name.split("/") for name in names]
            while len({tuple(t[-1:]) for t in tails}) == 1 and min(len(t) for t in tails) > 1:
                tails = [t[:-1] for t in tails]
            return ["/".join(t) for t in tails]
    raise UsageError("the same results were given twice; a method cannot be compared with itself.")


def _score_file(path: Path) -> Path | None:
    if not path.exists():
        raise InputError(f"{path}: does not exist.")
    if path.is_file():
        return path if path.suffix.lower() == ".csv" else None
    return next((path / name for name in SCORE_FILES if (path / name).is_file()), None)


def _read_scores(path: Path) -> dict[tuple[str, str], dict[str, Any]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            lines = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as CSV: {error}.") from error
    if not lines or "case" not in lines[0]:
        raise InputError(f"{path}: is no table of scores; a row per case and label with a column 'case' is expected.")
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for line in lines:
        key = str(line["case"]), str(line.get("label") or "lesion")
        if key in rows:
            raise InputError(f"{path}: has two rows of case {key[0]!r}, label {key[1]!r}.")
        rows[key] = {**line, "patient": line.get("patient") or line["case"], "label": key[1]}
    return rows


def shared_keys(methods: Sequence[Method], *, common: bool) -> tuple[list[tuple[str, str]], tuple[str, ...]]:
    """Return the (case, label) pairs that all methods have, and notes on what was left out.

    Raises
    ------
    InputError
        If the methods have different ones and `common` is not set, or none in common.
    """
    everywhere = set.intersection(*(set(method.rows) for method in methods))
    anywhere = set.union(*(set(method.rows) for method in methods))
    lacking = {m.name: sorted({case for case, _ in anywhere - set(m.rows)}) for m in methods}
    text = "; ".join(f"{name} lacks {len(cases)} ({listed(cases)})" for name, cases in lacking.items() if cases)
    if text and not common:
        raise InputError(
            f"the methods were scored on different scans or labels: {text}. A comparison on different patients "
            "compares the patients. Score the missing ones, or compare what all have with --common."
        )
    if not everywhere:
        raise InputError("the methods share no scan; give results on the same cases, with the same names.")
    notes = (f"Compared on what all methods have: {text}.",) if text else ()
    return [key for key in methods[0].rows if key in everywhere], notes


def require_comparable(methods: Sequence[Method], keys: Sequence[tuple[str, str]]) -> None:
    """Check that scores are by one rule, against one reference, of the same patients.

    Raises
    ------
    InputError
        Naming the methods, the case and what differs.
    """
    first = methods[0]
    for method in methods[1:]:
        for key in keys:
            ours, theirs = first.rows[key], method.rows[key]
            for name in RULE_COLUMNS:
                if name in ours and name in theirs and str(ours[name]) != str(theirs[name]):
                    raise InputError(
                        f"{first.name} was scored with {name} = {ours[name]}, {method.name} with {theirs[name]}; "
                        "score both by one rule."
                    )
            if str(ours["patient"]) != str(theirs["patient"]):
                raise InputError(f"case {key[0]!r} is of different patients in {first.name} and {method.name}.")
            volumes = [float(row.get("reference_ml") or "nan") for row in (ours, theirs)]
            if abs(volumes[0] - volumes[1]) > SAME_VOLUME * max(volumes):
                raise InputError(
                    f"{first.name} and {method.name} were scored against different references: case {key[0]!r}, "
                    f"{key[1]}, {volumes[0]:.4g} and {volumes[1]:.4g} mL."
                )


def numeric_columns(method: Method) -> list[str]:
    """Return the columns of a table that hold numbers only."""
    row = next(iter(method.rows.values()))
    found = []
    for name in row:
        if name in NO_SCORES:
            continue
        try:
            column(list(method.rows.values()), name)
        except InputError:
            continue
        found.append(name)
    return found


def listed(names: Sequence[str], most: int = NAMED) -> str:
    """Return the first few names and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _file_word(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in name)
