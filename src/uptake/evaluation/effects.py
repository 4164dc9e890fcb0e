"""How large is a difference, without a unit: paired standardised mean, rank-biserial correlation, Cliff's delta."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]


def cohens_dz(differences: Vector) -> float:
    """Return the mean of paired differences (n,) over their standard deviation (n - 1).

    0 where all differences are zero, infinite where they are all the same number, NaN below two patients. Not
    comparable with the d of two independent groups, whose spread it does not contain.

    References
    ----------
    Cohen J, Statistical Power Analysis (1988), section 2.3.5. Lakens D, Front Psychol 4:863 (2013), eq. 6.
    """
    if len(differences) < 2:
        return math.nan
    mean, spread = float(differences.mean()), float(differences.std(ddof=1))
    # Equal differences leave a spread of rounding errors.
    if spread <= 1e-12 * abs(mean):
        return 0.0 if mean == 0 else math.copysign(math.inf, mean)
    return mean / spread if spread else 0.0


def rank_biserial(differences: Vector) -> float:
    """Return the matched-pairs rank-biserial correlation of differences (n,): (W+ - W-) / (W+ + W-), -1 to 1.

    W+ and W- are Wilcoxon's sums of ranks of positive and negative differences, zeros left out. 0 where all are zero,
    NaN without any.

    References
    ----------
    Kerby DS, Comprehensive Psychology 3:1 (2014).
    """
    if not len(differences):
        return math.nan
    nonzero = differences[differences != 0]
    if not nonzero.size:
        return 0.0
    from scipy.stats import rankdata

    ranks = rankdata(np.abs(nonzero))
    return float((ranks * np.sign(nonzero)).sum() / ranks.sum())


def cliffs_delta(a: Vector, b: Vector) -> float:
    """Return P(a > b) - P(a < b) over all pairs of a score of `a` (n,) and one of `b` (m,), -1 to 1; pairing ignored.

    NaN where one of them is empty.

    References
    ----------
    Cliff N, Psychol Bull 114:494 (1993).
    """
    if not len(a) or not len(b):
        return math.nan
    others = np.sort(b)
    below = np.searchsorted(others, a, side="left")
    not_above = np.searchsorted(others, a, side="right")
    return float((below - (len(b) - not_above)).sum() / (len(a) * len(b)))
