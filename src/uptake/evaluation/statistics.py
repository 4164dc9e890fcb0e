"""From scores per scan to statements: means with patient-level bootstrap intervals, and paired comparisons."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from uptake.core.errors import InputError, UsageError

DRAWS = 10_000
CONFIDENCE = 0.95
DRAWN_AT_ONCE = 2_000_000
"""Indices held in memory at a time while bootstrapping."""


@dataclass(frozen=True)
class Summary:
    """One score over a cohort.

    Attributes
    ----------
    metric : str
    mean, median : float
        Over the scans where the score is defined; NaN if there is none.
    low, high : float
        Percentile bootstrap interval of the mean, patients drawn with replacement; NaN below two patients.
    confidence : float
    n : int
        Scans where the score is defined.
    undefined : int
        Scans where it is not (NaN), e.g. Dice of lesion-free scans. They are counted, never dropped in silence.
    patients : int
        Patients with at least one defined score.
    """

    metric: str
    mean: float
    median: float
    low: float
    high: float
    confidence: float
    n: int
    undefined: int
    patients: int


@dataclass(frozen=True)
class Comparison:
    """A paired comparison of two methods on the same scans.

    Attributes
    ----------
    mean_a, mean_b : float
        Over the scans where both are defined.
    difference : float
        Mean over patients of a - b; positive: a is larger.
    low, high : float
        Percentile bootstrap interval of the difference, patients drawn with replacement.
    confidence : float
    p : float
        Wilcoxon signed-rank test of the patients' differences, two-sided; 1 if all are zero.
    n, undefined, patients : int
        Scans compared, scans left out because one of the two scores is NaN, patients.
    """

    mean_a: float
    mean_b: float
    difference: float
    low: float
    high: float
    confidence: float
    p: float
    n: int
    undefined: int
    patients: int


def summarise(
    rows: Sequence[Mapping[str, object]],
    *,
    metrics: Iterable[str] | None = None,
    patient: str | None = None,
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
    draws, confidence, seed
        Of the percentile bootstrap. The same rows and seed give the same interval.

    Raises
    ------
    InputError
        If a column is missing or holds no numbers.
    """
    if not rows:
        return {}
    names = [k for k, v in rows[0].items() if isinstance(v, float)] if metrics is None else list(metrics)
    groups = _group_numbers([row.get(patient) for row in rows] if patient else list(range(len(rows))), patient)
    result = {}
    for name in names:
        values = _column(rows, name)
        defined = np.isfinite(values)
        kept, owners = values[defined], groups[defined]
        low, high = bootstrap_mean(kept, owners, draws=draws, confidence=confidence, seed=seed)
        result[name] = Summary(
            metric=name,
            mean=float(kept.mean()) if kept.size else math.nan,
            median=float(np.median(kept)) if kept.size else math.nan,
            low=low,
            high=high,
            confidence=confidence,
            n=int(kept.size),
            undefined=int((~defined).sum()),
            patients=len(np.unique(owners)),
        )
    return result


def compare_paired(
    a: Sequence[float] | npt.NDArray[np.floating[Any]],
    b: Sequence[float] | npt.NDArray[np.floating[Any]],
    *,
    patients: Sequence[Hashable] | None = None,
    draws: int = DRAWS,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Comparison:
    """Return the mean difference a - b of two methods on the same scans, its interval and a Wilcoxon p-value.

    Parameters
    ----------
    a, b : sequences of float, same length
        Scores of the two methods, scan by scan. A pair with a NaN is left out and counted.
    patients : sequence or None
        Whose scan each is; differences of one patient are averaged first. None: every scan is another patient.
    draws, confidence, seed
        Of the percentile bootstrap over patients.

    Raises
    ------
    UsageError
        If the lengths differ or no pair is left.

    References
    ----------
    Wilcoxon F, Biometrics Bulletin 1:80 (1945), as in `scipy.stats.wilcoxon`.
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.shape != second.shape or first.ndim != 1:
        raise UsageError(f"a paired comparison needs two lists of one length, came {first.shape} and {second.shape}.")
    if patients is not None and len(patients) != len(first):
        raise UsageError(f"{len(patients)} patients were named for {len(first)} pairs.")
    defined = np.isfinite(first) & np.isfinite(second)
    if not defined.any():
        raise UsageError("there is no scan on which both methods have a score.")
    groups = _group_numbers(list(range(len(first))) if patients is None else list(patients), None)[defined]
    _, owners = np.unique(groups, return_inverse=True)
    differences = np.bincount(owners, (first - second)[defined]) / np.bincount(owners)
    low, high = bootstrap_mean(differences, np.arange(len(differences)), draws=draws, confidence=confidence, seed=seed)
    return Comparison(
        mean_a=float(first[defined].mean()),
        mean_b=float(second[defined].mean()),
        difference=float(differences.mean()),
        low=low,
        high=high,
        confidence=confidence,
        p=_wilcoxon(differences),
        n=int(defined.sum()),
        undefined=int((~defined).sum()),
        patients=len(differences),
    )


def bootstrap_mean(
    values: npt.NDArray[np.float64],
    groups: npt.NDArray[np.int64],
    *,
    draws: int = DRAWS,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of the mean of `values` (n,) with whole groups drawn with replacement.

    Parameters
    ----------
    values : array (n,)
        Finite.
    groups : array (n,) int
        Whose value each is. The statistic is the mean over all values of the drawn groups.

    Returns
    -------
    low, high : float
        NaN with fewer than two groups: one patient says nothing about others.

    References
    ----------
    Efron B, Tibshirani RJ, An Introduction to the Bootstrap (1993), section 13.3, percentile interval.
    """
    if draws < 1 or not 0 < confidence < 1:
        raise UsageError(f"draws >= 1 and 0 < confidence < 1 are needed, came {draws} and {confidence}.")
    _, owners = np.unique(groups, return_inverse=True)
    if values.size == 0 or owners.max() < 1:
        return math.nan, math.nan
    sizes = np.bincount(owners).astype(np.float64)
    sums = np.bincount(owners, values)
    count = len(sizes)
    rng = np.random.default_rng(seed)
    means = np.empty(draws)
    step = max(1, DRAWN_AT_ONCE // count)
    for first in range(0, draws, step):
        chosen = rng.integers(0, count, (min(step, draws - first), count))
        means[first : first + len(chosen)] = sums[chosen].sum(axis=1) / sizes[chosen].sum(axis=1)
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


def _wilcoxon(differences: npt.NDArray[np.float64]) -> float:
    # Wilcoxon's own treatment of zeros: they are left out. Where nothing is left there is no evidence of a difference.
    differences = differences[differences != 0]
    if not differences.size:
        return 1.0
    from scipy import stats

    return float(stats.wilcoxon(differences).pvalue)


def _group_numbers(keys: Sequence[object], column: str | None) -> npt.NDArray[np.int64]:
    if any(key is None for key in keys):
        raise InputError(f"the column {column!r}, which names the patient, is missing in some rows.")
    numbers: dict[object, int] = {}
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64)


def _column(rows: Sequence[Mapping[str, object]], name: str) -> npt.NDArray[np.float64]:
    try:
        return np.array([math.nan if row[name] is None else float(row[name]) for row in rows])  # type: ignore[arg-type]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"the column {name!r} is missing or holds no numbers in some rows.") from error
