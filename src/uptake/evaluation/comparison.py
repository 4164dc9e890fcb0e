"""Is B better than A on the same scans? Mean difference, interval, two tests, effect sizes, equivalence."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from uptake.core.errors import UsageError
from uptake.evaluation.effects import cliffs_delta, cohens_dz, rank_biserial
from uptake.evaluation.intervals import CONFIDENCE, DRAWS, INTERVAL, IntervalMethod, mean_interval
from uptake.evaluation.significance import sign_flip, wilcoxon
from uptake.evaluation.statistics import group_numbers

Vector = npt.NDArray[np.float64]


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
        Bootstrap interval of the difference, patients drawn with replacement.
    confidence : float
    interval : str
        See `intervals.IntervalMethod`.
    p : float
        Wilcoxon signed-rank test of the patients' differences, two-sided; 1 if all are zero.
    p_sign_flip : float
        Sign-flip permutation test of their mean, two-sided.
    cohens_dz, rank_biserial, cliffs_delta : float
        Effect sizes, positive where a is larger; see `effects`.
    larger, equal, smaller : int
        Patients whose score by a is larger than, equal to, smaller than by b.
    n, undefined, patients : int
        Scans compared, scans left out because one of the two scores is NaN or infinite, patients.
    """

    mean_a: float
    mean_b: float
    difference: float
    low: float
    high: float
    confidence: float
    interval: str
    p: float
    p_sign_flip: float
    cohens_dz: float
    rank_biserial: float
    cliffs_delta: float
    larger: int
    equal: int
    smaller: int
    n: int
    undefined: int
    patients: int


def compare_paired(
    a: Sequence[float] | npt.NDArray[np.floating[Any]],
    b: Sequence[float] | npt.NDArray[np.floating[Any]],
    *,
    patients: Sequence[Hashable] | None = None,
    interval: IntervalMethod = INTERVAL,
    draws: int = DRAWS,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Comparison:
    """Return the mean difference a - b of two methods on the same scans, its interval, two p-values and effect sizes.

    Parameters
    ----------
    a, b : sequences of float, same length
        Scores of the two methods, scan by scan. A pair with a NaN is left out and counted.
    patients : sequence or None
        Whose scan each is; differences of one patient are averaged first. None: every scan is another patient.
    interval, draws, confidence, seed
        Of the bootstrap over patients; `draws` and `seed` of the random sign flips too.

    Raises
    ------
    UsageError
        If the lengths differ or no pair is left.
    """
    first, second, owners, undefined = _paired(a, b, patients)
    counts = np.bincount(owners)
    means_a, means_b = np.bincount(owners, first) / counts, np.bincount(owners, second) / counts
    differences = np.bincount(owners, first - second) / counts
    found = mean_interval(differences, method=interval, draws=draws, confidence=confidence, seed=seed)
    return Comparison(
        mean_a=float(first.mean()),
        mean_b=float(second.mean()),
        difference=float(differences.mean()),
        low=found.low,
        high=found.high,
        confidence=confidence,
        interval=interval,
        p=wilcoxon(differences),
        p_sign_flip=sign_flip(differences, flips=draws, seed=seed),
        cohens_dz=cohens_dz(differences),
        rank_biserial=rank_biserial(differences),
        cliffs_delta=cliffs_delta(means_a, means_b),
        larger=int((differences > 0).sum()),
        equal=int((differences == 0).sum()),
        smaller=int((differences < 0).sum()),
        n=len(first),
        undefined=undefined,
        patients=len(differences),
    )


def patient_differences(
    a: Sequence[float] | npt.NDArray[np.floating[Any]],
    b: Sequence[float] | npt.NDArray[np.floating[Any]],
    *,
    patients: Sequence[Hashable] | None = None,
) -> Vector:
    """Return a - b averaged over the scans of each patient, (patients,); parameters as for `compare_paired`."""
    first, second, owners, _ = _paired(a, b, patients)
    return np.asarray(np.bincount(owners, first - second) / np.bincount(owners))


def patient_means(scores: npt.NDArray[np.float64], patients: Sequence[Hashable]) -> npt.NDArray[np.float64]:
    """Return scores (scans, methods) averaged over the scans of each patient, (patients, methods).

    A scan where any method's score is NaN is left out for all of them; a patient without other scans has NaN.
    """
    owners = group_numbers(list(patients), None)
    defined = ~np.isnan(scores).any(axis=1)
    result = np.full((int(owners.max(initial=-1)) + 1, scores.shape[1]), math.nan)
    for patient in np.unique(owners[defined]):
        result[patient] = scores[defined & (owners == patient)].mean(axis=0)
    return result


def _paired(
    a: Sequence[float] | npt.NDArray[np.floating[Any]],
    b: Sequence[float] | npt.NDArray[np.floating[Any]],
    patients: Sequence[Hashable] | None,
) -> tuple[Vector, Vector, npt.NDArray[np.int64], int]:
    """Return the defined scores, whose they are (0, 1, ...), and how many pairs were left out."""
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.shape != second.shape or first.ndim != 1:
        raise UsageError(f"a paired comparison needs two lists of one length, came {first.shape} and {second.shape}.")
    if patients is not None and len(patients) != len(first):
        raise UsageError(f"{len(patients)} patients were named for {len(first)} pairs.")
    defined = np.isfinite(first) & np.isfinite(second)
    if not defined.any():
        raise UsageError("there is no scan on which both methods have a score.")
    groups = group_numbers(list(range(len(first))) if patients is None else list(patients), None)[defined]
    _, owners = np.unique(groups, return_inverse=True)
    return first[defined], second[defined], owners, int((~defined).sum())
