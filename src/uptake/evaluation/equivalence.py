"""Are two methods equally good? Two one-sided tests against a margin; not to show a difference is no proof of that."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from uptake.core.errors import UsageError
from uptake.evaluation.intervals import DRAWS, bootstrap_means

Vector = npt.NDArray[np.float64]
EquivalenceMethod = Literal["t", "wilcoxon", "bootstrap"]
"""Of the two one-sided tests: paired t, Wilcoxon signed rank, or percentile bootstrap of the mean difference."""

ALPHA = 0.05


@dataclass(frozen=True)
class Equivalence:
    """Outcome of two one-sided tests (TOST).

    Attributes
    ----------
    method : str
        See `EquivalenceMethod`.
    margin : float
        Differences smaller than this, either way, are said not to matter; in the unit of the score.
    p : float
        Larger of the two one-sided p-values; below `alpha` the methods are equivalent within the margin.
    low, high : float
        1 - 2·alpha interval of the mean difference (of the pseudo-median for "wilcoxon": NaN). For "t" and "bootstrap"
        it lies inside the margin exactly where p <= alpha.
    alpha : float
    equivalent : bool
    patients : int
    """

    method: str
    margin: float
    p: float
    low: float
    high: float
    alpha: float
    equivalent: bool
    patients: int


def equivalence(
    differences: Vector,
    margin: float,
    *,
    method: EquivalenceMethod = "t",
    alpha: float = ALPHA,
    draws: int = DRAWS,
    seed: int = 0,
) -> Equivalence:
    """Return whether the mean difference lies within ± `margin`, by two one-sided tests.

    Parameters
    ----------
    differences : array (n,)
        One per patient, finite.
    margin : float
        > 0, in the unit of the score, and chosen before looking: 0.02 is usual for Dice.
    method : {"t", "wilcoxon", "bootstrap"}
    alpha : float
        Level of each one-sided test.
    draws, seed
        Of the bootstrap.

    Raises
    ------
    UsageError
        If the margin is not positive, alpha not between 0 and 0.5, or the method unknown.

    Notes
    -----
    p = max(P(mean <= -margin), P(mean >= margin)). With fewer than two patients p is NaN and nothing is equivalent.

    References
    ----------
    Schuirmann DJ, J Pharmacokinet Biopharm 15:657 (1987). Lakens D, Soc Psychol Personal Sci 8:355 (2017).
    """
    if method not in get_args(EquivalenceMethod):
        raise UsageError(f"{method!r} is no equivalence test; known are {', '.join(get_args(EquivalenceMethod))}.")
    if not (math.isfinite(margin) and margin > 0) or not 0 < alpha < 0.5:
        raise UsageError(f"an equivalence margin > 0 and 0 < alpha < 0.5 are needed, came {margin} and {alpha}.")
    differences = np.asarray(differences, dtype=np.float64)
    n = len(differences)
    low = high = p = math.nan
    if n >= 2:
        if method == "t":
            p, low, high = _t(differences, margin, alpha)
        elif method == "bootstrap":
            p, low, high = _bootstrap(differences, margin, alpha, draws, seed)
        else:
            p = _wilcoxon(differences, margin)
    return Equivalence(method, margin, p, low, high, alpha, bool(p <= alpha), n)


def _t(differences: Vector, margin: float, alpha: float) -> tuple[float, float, float]:
    from scipy import special

    n = len(differences)
    mean = float(differences.mean())
    error = float(differences.std(ddof=1)) / math.sqrt(n)
    if error == 0.0:
        return float(abs(mean) >= margin), mean, mean
    # One-sided p-values by the distribution function of Student's t with n - 1 degrees of freedom.
    above_low = float(special.stdtr(n - 1, -(mean + margin) / error))
    below_high = float(special.stdtr(n - 1, (mean - margin) / error))
    reach = float(special.stdtrit(n - 1, 1.0 - alpha)) * error
    return max(above_low, below_high), mean - reach, mean + reach


def _bootstrap(differences: Vector, margin: float, alpha: float, draws: int, seed: int) -> tuple[float, float, float]:
    means = bootstrap_means(differences, draws=draws, seed=seed)
    beyond = max(int((means <= -margin).sum()), int((means >= margin).sum()))
    low, high = np.quantile(means, [alpha, 1.0 - alpha])
    return (beyond + 1) / (draws + 1), float(low), float(high)


def _wilcoxon(differences: Vector, margin: float) -> float:
    from scipy import stats

    def one_sided(shifted: Vector, side: Literal["greater", "less"]) -> float:
        nonzero = shifted[shifted != 0]
        return float(stats.wilcoxon(nonzero, alternative=side).pvalue) if nonzero.size else 1.0

    return max(one_sided(differences + margin, "greater"), one_sided(differences - margin, "less"))
