"""From rows of scores to what is said about them: means with intervals, other rules, subgroups, agreement."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from uptake.core.errors import InputError, UsageError
from uptake.evaluation.agreement import QUANTITIES, Agreement, agreement
from uptake.evaluation.conventions import RULES, depends_on_rule, under_rule
from uptake.evaluation.intervals import CONFIDENCE, DRAWS, INTERVAL, IntervalMethod, mean_interval
from uptake.evaluation.statistics import Subgroup, Summary, by_subgroup, column, summarise, volume_level
from uptake.workflows.evaluate import Evaluation

NO_SCORES = (
    "case", "patient", "label", "label_number", "connectivity", "empty", "empty_distance", "fold", "resampled",
)  # fmt: skip
"""Columns of a row that are no scores."""

VOLUME = "reference volume"
VOLUME_BOUNDS_ML = (10.0, 100.0)
MOST_LEVELS = 12
"""A column of numbers with more different values than this is divided into thirds."""

SUBGROUP_METRICS = (
    "dice", "hd95_mm", "fp_volume_ml", "fn_volume_ml", "lesion_f1_iou0.1_many_to_one", "psnr_db", "ssim", "nrmse",
    "suv_bias_percent",
)  # fmt: skip
RATIO_QUANTITIES = ("mtv_ml", "tlg_g")
"""Compared as ratios too: they spread over decades."""


@dataclass(frozen=True)
class StatisticsSettings:
    """How intervals are made; see `evaluation.intervals`."""

    interval: IntervalMethod = INTERVAL
    confidence: float = CONFIDENCE
    draws: int = DRAWS
    seed: int = 0

    def check(self) -> None:
        """Check the settings before any work is done.

        Raises
        ------
        UsageError
            If the method is unknown, or draws or confidence out of range.
        """
        mean_interval(np.zeros(1), method=self.interval, draws=self.draws, confidence=self.confidence)


@dataclass(frozen=True)
class Groups:
    """What the cohort is divided by.

    Attributes
    ----------
    values : mapping
        Column -> case -> level.
    patients : mapping of str to str
        Case -> patient, where the table says so.
    notes : tuple of str
    """

    values: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    patients: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Results:
    """What the rows say.

    Attributes
    ----------
    rows : tuple of dict
        The scores, patients as the table of groups names them.
    summaries : mapping
        Label -> metric -> Summary, under the rule of the evaluation.
    other_rules : mapping
        Label -> rule -> metric -> Summary, for the metrics that depend on it, where a reference is empty.
    subgroups : mapping
        Label -> subgroups.
    agreement : mapping
        Label -> (quantity, scale) -> Agreement; empty without PET.
    statistics : StatisticsSettings
    """

    rows: tuple[dict[str, Any], ...]
    summaries: Mapping[str, Mapping[str, Summary]]
    other_rules: Mapping[str, Mapping[str, Mapping[str, Summary]]]
    subgroups: Mapping[str, tuple[Subgroup, ...]]
    agreement: Mapping[str, Mapping[tuple[str, str], Agreement]]
    statistics: StatisticsSettings


def results_of(
    found: Evaluation,
    *,
    statistics: StatisticsSettings | None = None,
    groups: Groups | None = None,
    volume_bounds_ml: Sequence[float] = VOLUME_BOUNDS_ML,
) -> Results:
    """Return means with intervals per label, under every rule for the empty, per subgroup, and the agreement of SUV.

    Parameters
    ----------
    found : Evaluation
    statistics : StatisticsSettings or None
    groups : Groups or None
        From `read_groups`.
    volume_bounds_ml : sequence of float
        Classes of the reference's volume, a subgroup of its own where scans are scored by one label.
    """
    statistics = statistics or StatisticsSettings()
    groups = groups or Groups()
    taken = sorted({*groups.values} & {name for row in found.rows for name in row})
    if taken:
        raise InputError(f"the table of subgroups has a column {taken[0]!r}, which is that of a score; rename it.")
    rows = tuple(_grouped(row, groups, found.labels, volume_bounds_ml) for row in found.rows)
    options = vars(statistics)
    summaries, other_rules, subgroups, agreements = {}, {}, {}, {}
    columns = [*groups.values, *([VOLUME] if any(VOLUME in row for row in rows) else [])]
    for label in found.labels:
        own = [row for row in rows if row["label"] == label]
        metrics = metric_columns(own)
        summaries[label] = summarise(own, metrics=metrics, patient="patient", **options)
        other_rules[label] = _other_rules(own, metrics, found.settings.empty, options)
        wanted = [name for name in SUBGROUP_METRICS if name in metrics]
        subgroups[label] = by_subgroup(own, columns, metrics=wanted, patient="patient", **options)
        agreements[label] = _agreement(own)
    plain = tuple({name: value for name, value in row.items() if name not in columns} for row in rows)
    return Results(plain, summaries, other_rules, subgroups, agreements, statistics)


def metric_columns(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the columns that hold scores, in order; a column that only some rows have counts too."""
    names = dict.fromkeys(name for row in rows for name in row)
    measured = {f"{side}_{name}" for name in QUANTITIES for side in ("reference", "prediction")}
    return [
        name
        for name in names
        if name not in NO_SCORES
        and name not in measured
        and all(isinstance(row.get(name, 0), int | float) for row in rows)
    ]


def read_groups(path: Path, patients: Mapping[str, str]) -> Groups:
    """Return the subgroups that a CSV file divides the cases into.

    Parameters
    ----------
    path : Path
        A column `case` or `patient` says whom a line is about; with both, `patient` names the patient of the case.
        Every other column divides: tracer, site, scanner, dose, ... Numbers with many values are divided into thirds.
    patients : mapping of str to str
        Case id -> patient, of the evaluation.

    Raises
    ------
    InputError
        If the file cannot be read, has neither column, names a case twice, or none of the cases.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            lines = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as CSV: {error}.") from error
    if not lines or not {"case", "patient"} & set(lines[0]):
        raise InputError(f"{path}: a column 'case' or 'patient' has to say whom each line is about.")
    cases = list(patients)
    key = "case" if "case" in lines[0] else "patient"
    by_key: dict[str, dict[str, str]] = {}
    for line in lines:
        name = (line[key] or "").strip()
        if name in by_key and by_key[name] != line:
            raise InputError(f"{path}: has two lines about {key} {name!r} that differ.")
        by_key[name] = line
    of_case = {case: by_key.get(case if key == "case" else patients[case]) for case in cases}
    known = {case: line for case, line in of_case.items() if line is not None}
    if not known:
        raise InputError(
            f"{path}: names none of the cases: first there {next(iter(by_key))!r}, first here {cases[0]!r}."
        )
    notes = []
    if len(known) < len(cases):
        missing = [case for case in cases if case not in known]
        notes.append(f"{path.name} says nothing about {len(missing)} of {len(cases)} cases, first {missing[0]}.")
    names = [name for name in lines[0] if name not in ("case", "patient") and name]
    values = {name: _levels({case: (line[name] or "").strip() for case, line in known.items()}) for name in names}
    named = {case: line["patient"].strip() for case, line in known.items() if (line.get("patient") or "").strip()}
    return Groups(values, named, tuple(notes))


def parse_bounds(text: str) -> tuple[float, ...]:
    """Return the bounds of volume classes, mL, from "10,100".

    Raises
    ------
    UsageError
        If they are not positive and increasing.
    """
    try:
        bounds = tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError:
        bounds = (-1.0,)
    if any(b <= 0 for b in bounds) or list(bounds) != sorted(set(bounds)):
        raise UsageError(f"{text!r} are no bounds of volume classes; write increasing mL, e.g. 10,100.")
    return bounds


def _levels(values: Mapping[str, str]) -> dict[str, str]:
    """Return case -> level; numbers with many values become thirds."""
    try:
        numbers = {case: float(value) for case, value in values.items() if value}
    except ValueError:
        return dict(values)
    if len(set(numbers.values())) <= MOST_LEVELS:
        return dict(values)
    cuts = np.quantile(list(numbers.values()), [0, 1 / 3, 2 / 3, 1])
    names = [f"{cuts[n]:g} to {cuts[n + 1]:g}" for n in range(3)]
    place = {case: int(np.searchsorted(cuts[1:3], number, side="left")) for case, number in numbers.items()}
    return {case: names[place[case]] if case in place else "" for case in values}


def _grouped(row: Mapping[str, Any], groups: Groups, labels: Sequence[str], bounds: Sequence[float]) -> dict[str, Any]:
    case = str(row["case"])
    changed = {**row, "patient": groups.patients.get(case, row["patient"])}
    for name, values in groups.values.items():
        changed[name] = values.get(case, "")
    if "reference_ml" in row and (len(labels) == 1 or row["label"] == "lesion") and bounds:
        changed[VOLUME] = volume_level(float(row["reference_ml"]), bounds)
    return changed


def _other_rules(
    rows: Sequence[Mapping[str, Any]], metrics: Sequence[str], rule: str, options: Mapping[str, Any]
) -> dict[str, dict[str, Summary]]:
    if not {"reference_ml", "prediction_ml"} <= set(metrics) or all(row["reference_ml"] > 0 for row in rows):
        return {}
    dependent = [name for name in metrics if depends_on_rule(name)]
    return {
        other: summarise([under_rule(row, other) for row in rows], metrics=dependent, patient="patient", **options)
        for other in RULES
        if other != rule
    }


def _agreement(rows: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], Agreement]:
    measured = [row for row in rows if "prediction_mtv_ml" in row]
    if not measured:
        return {}
    found = {}
    for name in QUANTITIES:
        values = column(measured, f"prediction_{name}"), column(measured, f"reference_{name}")
        found[name, "absolute"] = agreement(*values)
        if name in RATIO_QUANTITIES:
            found[name, "ratio"] = agreement(*values, scale="ratio")
    return found
