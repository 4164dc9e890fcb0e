"""More than two methods on the same patients: mean ranks, Friedman's test, and Nemenyi's critical difference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from uptake.core.errors import UsageError

Matrix = npt.NDArray[np.float64]
ALPHA = 0.05


@dataclass(frozen=True)
class Ranking:
    """Methods ranked within each patient.

    Attributes
    ----------
    methods : tuple of str
        As given.
    mean_ranks : tuple of float
        1 is best; ties share their ranks.
    p : float
        Friedman's test that all methods rank alike, by the F distribution of Iman and Davenport.
    chi_squared, f : float
        Friedman's statistic (corrected for ties) and Iman and Davenport's.
    critical_difference : float
        Mean ranks further apart than this differ (Nemenyi, at `alpha`).
    groups : tuple of tuples of int
        Largest sets of methods (indices, best first) whose mean ranks all lie within the critical difference.
    alpha : float
    patients, undefined : int
        Patients ranked, and patients left out because one of the methods has no score.
    """

    methods: tuple[str, ...]
    mean_ranks: tuple[float, ...]
    p: float
    chi_squared: float
    f: float
    critical_difference: float
    groups: tuple[tuple[int, ...], ...]
    alpha: float
    patients: int
    undefined: int


def rank_methods(
    scores: Matrix, methods: Sequence[str], *, higher_is_better: bool = True, alpha: float = ALPHA
) -> Ranking:
    """Return how k methods rank on n patients.

    Parameters
    ----------
    scores : array (n, k)
        One score per patient and method. Patients with a NaN are left out and counted; infinite scores rank last or
        first like any other number.
    methods : sequence of str
        k names, k >= 2.
    higher_is_better : bool
    alpha : float

    Raises
    ------
    UsageError
        If names and columns do not fit, fewer than two methods came, or no patient has all scores.

    Notes
    -----
    F = (n - 1) χ² / (n (k - 1) - χ²) with k - 1 and (k - 1)(n - 1) degrees of freedom.
    CD = q / √2 · sqrt(k (k + 1) / (6 n)), q the studentised range of k means with infinite degrees of freedom.

    References
    ----------
    Friedman M, JASA 32:675 (1937). Iman RL, Davenport JM, Commun Stat A 9:571 (1980). Nemenyi P, thesis, Princeton
    (1963), as given by Demšar J, J Mach Learn Res 7:1 (2006), section 3.2.2.
    """
    scores = np.asarray(scores, dtype=np.float64)
    if scores.ndim != 2 or scores.shape[1] != len(methods) or len(methods) < 2:
        raise UsageError(f"a column of scores for each of two or more methods is needed, came {scores.shape}.")
    if not 0 < alpha < 1:
        raise UsageError(f"0 < alpha < 1 is needed, came {alpha}.")
    defined = ~np.isnan(scores).any(axis=1)
    kept = scores[defined]
    n, k = kept.shape
    if n < 1:
        raise UsageError("there is no patient on whom all methods have a score.")
    from scipy import special, stats

    ranks = stats.rankdata(-kept if higher_is_better else kept, axis=1)
    means = ranks.mean(axis=0)
    # Corrected for ties: the variance of the ranks as they are, instead of that of 1 to k.
    variance = float(((ranks - (k + 1) / 2.0) ** 2).sum()) / (n * (k - 1))
    chi_squared = n * float(((means - (k + 1) / 2.0) ** 2).sum()) / variance if variance > 0 else 0.0
    rest = n * (k - 1) - chi_squared
    if rest > 1e-12 * n:
        f = (n - 1) * chi_squared / rest
        p = float(special.fdtrc(k - 1, (k - 1) * (n - 1), f)) if n > 1 else 1.0
    else:
        # Every patient ranks the methods alike: the chance of that is exact, and F has no value.
        f, p = math.inf, float(math.factorial(k)) ** (1 - n)
    critical = float(stats.studentized_range.ppf(1.0 - alpha, k, np.inf)) * math.sqrt(k * (k + 1) / (12.0 * n))
    return Ranking(
        tuple(methods),
        tuple(float(mean) for mean in means),
        p,
        chi_squared,
        f,
        critical,
        _groups(means, critical),
        alpha,
        n,
        int((~defined).sum()),
    )


def _groups(means: Matrix, critical: float) -> tuple[tuple[int, ...], ...]:
    order = np.argsort(means, kind="stable")
    found: list[tuple[int, ...]] = []
    reached = 0
    for first in range(len(order)):
        last = first
        while last + 1 < len(order) and means[order[last + 1]] - means[order[first]] <= critical:
            last += 1
        # A set inside the one before says nothing new.
        if last > first and last + 1 > reached:
            found.append(tuple(int(i) for i in order[first : last + 1]))
            reached = last + 1
    return tuple(found)
