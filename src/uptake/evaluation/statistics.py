"""From scores per scan to statements about a cohort: means with intervals, for all patients and for subgroups."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from uptake.core.errors import InputError
from uptake.evaluation.catalogue import metric_of
from uptake.evaluation.intervals import CONFIDENCE, DRAWS, INTERVAL, IntervalMethod, mean_interval

NOT_STATED = "not stated"
"""Level of the scans whose field is empty."""


@dataclass(frozen=True)
class Summary:
    """One score over a cohort.

    Attributes
    ----------
    metric : str
    mean, median : float
        Over the scans where the score is defined; NaN if there is none.
    low, high : float
        Bootstrap interval of the mean, patients drawn with replacement; NaN below two patients.
    confidence : float
    interval : str
        Which bootstrap interval; see `intervals.IntervalMethod`.
    n : int
        Scans where the score is defined.
    undefined : int
        Scans where it is not (NaN or infinite), e.g. Dice of lesion-free scans. They are counted, never dropped in
        silence.
    patients : int
        Patients with at least one defined score.
    """

    metric: str
    mean: float
    median: float
    low: float
    high: float
    confidence: float
    interval: str
    n: int
    undefined: int
    patients: int


@dataclass(frozen=True)
class Subgroup:
    """One score over a part of a cohort.

    Attributes
    ----------
    column, level : str
        What the cohort was divided by, e.g. "tracer", and the part, e.g. "FDG".
    summary : Summary
    """

    column: str
    level: str
    summary: Summary


def summarise(
    rows: Sequence[Mapping[str, object]],
    *,
    metrics: Iterable[str] | None = None,
    patient: str | None = None,
    interval: IntervalMethod = INTERVAL,
    draws: int = DRAWS,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> dict[str, Summary]:
    """Return mean, median and a bootstrap interval of the mean for each score.

    Parameters
    ----------
    rows : sequence of mappings
        One per scan, e.g. `PairScores.row()` with the case added.
    metrics : iterable of str, or None
        Which columns; None: all that hold floats in the first row.
    patient : str or None
        Column that says whose scan it is. Scans of one patient are drawn together, for they are not independent.
        None: every row is another patient.
    interval, draws, confidence, seed
        See `intervals.mean_interval`. The same rows and seed give the same interval; it is cut at the range that
        `catalogue` gives for the score.

    Raises
    ------
    InputError
        If a column is missing or holds no numbers.
    """
    if not rows:
        return {}
    names = [k for k, v in rows[0].items() if isinstance(v, float)] if metrics is None else list(metrics)
    groups = group_numbers([row.get(patient) for row in rows] if patient else list(range(len(rows))), patient)
    result = {}
    for name in names:
        values = column(rows, name)
        defined = np.isfinite(values)
        kept, owners = values[defined], groups[defined]
        found = mean_interval(
            kept,
            owners,
            method=interval,
            draws=draws,
            confidence=confidence,
            seed=seed,
            bounds=metric_of(name).bounds,
        )
        result[name] = Summary(
            metric=name,
            mean=float(kept.mean()) if kept.size else math.nan,
            median=float(np.median(kept)) if kept.size else math.nan,
            low=found.low,
            high=found.high,
            confidence=confidence,
            interval=interval,
            n=int(kept.size),
            undefined=int((~defined).sum()),
            patients=found.patients,
        )
    return result


def by_subgroup(
    rows: Sequence[Mapping[str, object]],
    columns: Iterable[str],
    *,
    metrics: Iterable[str],
    patient: str | None = None,
    interval: IntervalMethod = INTERVAL,
    draws: int = DRAWS,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> tuple[Subgroup, ...]:
    """Return every score within every level of every column: per tracer, site, scanner, dose, ...

    Rows in which a column is missing or empty form a level of their own, "not stated": the parts add up to the whole.
    Levels are sorted, those that begin with a number by size. Parameters are those of `summarise`.

    Raises
    ------
    InputError
        As `summarise`.
    """
    wanted = list(metrics)
    found = []
    for name in columns:
        levels: dict[str, list[Mapping[str, object]]] = {}
        for row in rows:
            value = row.get(name)
            levels.setdefault(NOT_STATED if value is None or value == "" else str(value), []).append(row)
        for level in sorted(levels, key=_by_size):
            summaries = summarise(
                levels[level],
                metrics=wanted,
                patient=patient,
                interval=interval,
                draws=draws,
                confidence=confidence,
                seed=seed,
            )
            found += [Subgroup(name, level, summary) for summary in summaries.values()]
    return tuple(found)


def volume_level(reference_ml: float, bounds_ml: Sequence[float]) -> str:
    """Return which class of lesion volume a reference falls into: "none", "0 to 10 mL", "10 to 100 mL", "above 100 mL".

    Parameters
    ----------
    reference_ml : float
        Lesion volume of the reference, mL.
    bounds_ml : sequence of float
        Upper ends of the classes but the last, increasing; a volume on a bound belongs below it.
    """
    if not reference_ml > 0:
        return "none"
    place = int(np.searchsorted(np.asarray(bounds_ml, dtype=np.float64), reference_ml, side="left"))
    if place == len(bounds_ml):
        return f"above {bounds_ml[-1]:g} mL" if bounds_ml else "any"
    return f"{bounds_ml[place - 1] if place else 0:g} to {bounds_ml[place]:g} mL"


def group_numbers(keys: Sequence[object], name: str | None) -> npt.NDArray[np.int64]:
    """Return a number for each distinct key, in order of appearance, (n,).

    Raises
    ------
    InputError
        If a key is missing.
    """
    if any(key is None for key in keys):
        raise InputError(f"the column {name!r}, which names the patient, is missing in some rows.")
    numbers: dict[object, int] = {}
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64)


def column(rows: Sequence[Mapping[str, object]], name: str) -> npt.NDArray[np.float64]:
    """Return a column of a table as float64 (n,); None and empty fields are NaN.

    Raises
    ------
    InputError
        If the column is missing in a row or holds no numbers.
    """
    try:
        return np.array([math.nan if row[name] in (None, "") else float(row[name]) for row in rows])  # type: ignore[arg-type]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"the column {name!r} is missing or holds no numbers in some rows.") from error


def _by_size(level: str) -> tuple[int, float, str]:
    """Sort "none", then what begins with a number (also "above 5") by that, then words, then what is not stated."""
    if level in ("none", NOT_STATED):
        return -1 if level == "none" else 2, 0.0, level
    begins = re.match(r"(?:above )?([-+]?\d+(?:\.\d+)?)", level)
    return (0, float(begins[1]), level) if begins else (1, 0.0, level)
