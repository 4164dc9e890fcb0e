"""How far apart the values of two groups of scans are: Wasserstein-1 distance of their distributions.

A scan's distribution is kept as the mean of its distribution function over each bin of a fine grid. Groups are then
means of rows, distances are sums over bins, and a thousand permutations of the groups are one matrix product.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from uptake.core.errors import InputError, UsageError
from uptake.core.types import FloatArray

Vector = npt.NDArray[np.float64]

BINS = 2048
PERMUTATIONS = 999
AT_ONCE = 250
"""Permutations whose differences are in memory at a time."""


@dataclass(frozen=True)
class Distance:
    """Wasserstein-1 distance of two groups.

    Attributes
    ----------
    w1 : float
        In the unit of the values.
    over_mean : float
        Divided by the mean of the two groups' means; NaN unless that is positive.
    over_sd : float
        Divided by the root mean square of the two groups' standard deviations: without unit, comparable before and
        after a normalisation.
    p : float
        Share of permutations of the groups among patients that are at least as far apart, the observed one included.
    patients : tuple of int
        In each group.
    """

    w1: float
    over_mean: float
    over_sd: float
    p: float
    patients: tuple[int, int]


def wasserstein1(a: FloatArray, b: FloatArray) -> float:
    """Return the Wasserstein-1 distance of two samples of any size, in the unit of the values.

    The area between the two distribution functions: a shift by δ gives |δ|, a factor c on values >= 0 gives
    |c - 1| times their mean.

    Raises
    ------
    InputError
        If a sample is empty or holds NaN or infinite values.

    References
    ----------
    Vallender SS, Theory Probab Appl 18:784 (1974), by `scipy.stats.wasserstein_distance` for samples of two sizes.
    """
    first, second = (np.sort(np.asarray(x, dtype=np.float64), axis=None) for x in (a, b))
    if not first.size or not second.size or not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise InputError("two samples of finite values are needed for a distance.")
    if first.size == second.size:
        return float(np.abs(first - second).mean())
    from scipy import stats

    return float(stats.wasserstein_distance(first, second))


def value_edges(scale: float, reach: float, *, bins: int = BINS) -> Vector:
    """Return bin edges (bins + 1,) from -reach to reach, fine near zero and coarse far away (hyperbolic sine).

    Parameters
    ----------
    scale : float
        Value up to which bins have about one width: 0.5 for SUV, 200 for HU.
    reach : float
        Values beyond it fall into the last bin.
    bins : int
    """
    ends = math.asinh(reach / scale)
    return np.asarray(np.sinh(np.linspace(-ends, ends, bins + 1)) * scale, dtype=np.float64)


def cdf_profile(values: FloatArray, edges: Vector) -> Vector:
    """Return the mean of the empirical distribution function of `values` over each bin, (bins,), 0 to 1.

    Not its value at the edges: with means, the distance of two distributions of which one lies above the other
    everywhere (shifted, or scaled) is exact whatever the bins.

    Raises
    ------
    InputError
        If there is no value, or one is not finite.
    """
    values = np.asarray(values, dtype=np.float64).ravel()
    if not values.size or not np.isfinite(values).all():
        raise InputError("finite values are needed for a distribution.")
    values = np.clip(values, edges[0], edges[-1])
    widths = np.diff(edges)
    place = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(widths) - 1)
    counts = np.bincount(place, minlength=len(widths))
    # A value counts in its own bin for the part of the bin above it, and fully in all later ones.
    inside = np.bincount(place, edges[place + 1] - values, minlength=len(widths)) / widths
    return np.asarray((np.concatenate([[0], np.cumsum(counts)[:-1]]) + inside) / values.size, dtype=np.float64)


def profile_distance(a: Vector, b: Vector, edges: Vector) -> float:
    """Return the Wasserstein-1 distance of two profiles on one grid."""
    return float((np.abs(a - b) * np.diff(edges)).sum())


def group_distance(
    profiles: npt.NDArray[np.float64],
    in_first: npt.NDArray[np.bool_],
    edges: Vector,
    *,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> Distance:
    """Return the distance of two groups of patients, each patient weighing the same, with a permutation p-value.

    Parameters
    ----------
    profiles : array (patients, bins)
        From `cdf_profile`.
    in_first : array (patients,) bool
        Who is in the first group.
    edges : array (bins + 1,)
    permutations : int
        Of the groups among patients; 0 leaves p NaN.
    seed : int

    Raises
    ------
    UsageError
        If a group is empty.
    """
    first, second = int(in_first.sum()), int((~in_first).sum())
    if not first or not second:
        raise UsageError("a distance needs two groups with at least one patient each.")
    widths = np.diff(edges)
    a, b = profiles[in_first].mean(axis=0), profiles[~in_first].mean(axis=0)
    observed = profile_distance(a, b, edges)
    means, variances = zip(_moments(a, edges), _moments(b, edges), strict=True)
    mean, sd = float(np.mean(means)), math.sqrt(float(np.mean(variances)))
    p = math.nan
    if permutations > 0:
        rng = np.random.default_rng(seed)
        weights = np.where(in_first, 1.0 / first, -1.0 / second)
        extreme = 0
        scaled = (profiles * widths).astype(np.float32)
        for begun in range(0, permutations, AT_ONCE):
            drawn = rng.permuted(np.tile(weights, (min(AT_ONCE, permutations - begun), 1)), axis=1).astype(np.float32)
            # Single precision: a permutation that is the observed grouping must count as equally extreme.
            extreme += int((np.abs(drawn @ scaled).sum(axis=1) >= observed * (1.0 - 1e-5)).sum())
        p = (extreme + 1) / (permutations + 1)
    return Distance(
        w1=observed,
        over_mean=observed / mean if mean > 0 else math.nan,
        over_sd=observed / sd if sd > 0 else math.nan,
        p=p,
        patients=(first, second),
    )


def _moments(profile: Vector, edges: Vector) -> tuple[float, float]:
    """Return mean and variance of a distribution, the mass around each edge taken at the edge."""
    steps = np.diff(np.concatenate([[0.0], profile, [1.0]]))
    mean = float((steps * edges).sum())
    return mean, max(float((steps * (edges - mean) ** 2).sum()), 0.0)
