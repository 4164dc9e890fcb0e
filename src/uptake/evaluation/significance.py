"""Is a paired difference more than chance? Wilcoxon's signed ranks, sign flips, and Holm's correction for many tests.

All of them take one difference per patient: scans of one patient are averaged before they get here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from uptake.core.errors import UsageError

Vector = npt.NDArray[np.float64]

FLIPS = 10_000
"""Random sign patterns where there are too many to try them all."""

ALL_PATTERNS_UP_TO = 16
"""Patients up to which every sign pattern is tried (2^16 = 65,536): the test is then exact."""

AS_EXTREME = 1.0 - 1e-12
"""A sum of differences within rounding of the observed one counts as equally extreme."""


def wilcoxon(differences: Vector) -> float:
    """Return the two-sided p-value of Wilcoxon's signed-rank test of differences (n,), one per patient.

    Zeros are left out (Wilcoxon's own treatment); p is 1 where nothing else is left. Tests whether the differences are
    spread symmetrically about zero, so it answers for the typical patient and not for the mean.

    References
    ----------
    Wilcoxon F, Biometrics Bulletin 1:80 (1945), by `scipy.stats.wilcoxon`: exact for small samples.
    """
    nonzero = differences[differences != 0]
    if not nonzero.size:
        return 1.0
    from scipy import stats

    return float(stats.wilcoxon(nonzero).pvalue)


def sign_flip(differences: Vector, *, flips: int = FLIPS, seed: int = 0) -> float:
    """Return the two-sided p-value of the sign-flip permutation test of the mean of differences (n,).

    Were the two methods exchangeable, each patient's difference could as well have had the other sign. p is the share
    of sign patterns whose mean is at least as far from zero as the observed one: over all 2^n patterns for up to
    `ALL_PATTERNS_UP_TO` patients, else over `flips` random ones and the observed one.

    Parameters
    ----------
    differences : array (n,)
        One per patient.
    flips : int
    seed : int

    Raises
    ------
    UsageError
        If `flips` is below 1.

    References
    ----------
    Fisher RA, The Design of Experiments (1935), section 21. Phipson B, Smyth GK, Stat Appl Genet Mol Biol 9:39 (2010),
    on counting the observed pattern.
    """
    if flips < 1:
        raise UsageError(f"at least one sign pattern is needed, came flips={flips}.")
    n = len(differences)
    if not n or not np.any(differences):
        return 1.0
    observed = abs(float(differences.sum())) * AS_EXTREME
    if n <= ALL_PATTERNS_UP_TO:
        # The first sign is fixed: a pattern and its mirror image are equally extreme.
        bits = np.arange(2 ** (n - 1))[:, None] >> np.arange(n)[None, :] & 1
        return float((np.abs((1.0 - 2.0 * bits) @ differences) >= observed).mean())
    rng = np.random.default_rng(seed)
    signs = rng.integers(0, 2, (flips, n), dtype=np.int8) * 2.0 - 1.0
    extreme = int((np.abs(signs @ differences) >= observed).sum())
    return (extreme + 1) / (flips + 1)


def holm(p: Sequence[float] | Vector) -> Vector:
    """Return p-values (m,) adjusted for m tests by Holm's step-down method; NaN stay NaN and are no tests.

    References
    ----------
    Holm S, Scand J Stat 6:65 (1979): adjusted p(i) = max over j <= i of min(1, (m - j + 1) p(j)), p sorted upwards.
    """
    given = np.asarray(p, dtype=np.float64)
    result = np.full(given.shape, math.nan)
    tests = np.flatnonzero(~np.isnan(given))
    order = tests[np.argsort(given[tests], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    result[order] = np.minimum(1.0, np.maximum.accumulate(factors * given[order]))
    return result
