"""How well two ways of measuring the same patients agree: bias, limits of agreement, ICC and concordance.

For MTV, TLG, SUVmax, SUVmean and SUVpeak from a predicted against a reference mask, or any other pair of numbers. A
correlation is no agreement: twice the true volume everywhere correlates perfectly.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from uptake.core.errors import InputError, UsageError

QUANTITIES = ("mtv_ml", "tlg_g", "suv_max", "suv_mean", "suv_peak")
"""What is compared between a predicted and a reference mask. A mask without lesion has MTV and TLG 0, which are numbers
and count; its SUVs are undefined (NaN) and are counted as such."""

LIMITS_Z = 1.959963984540054
"""97.5 % quantile of the normal distribution: the limits hold 95 % of the differences."""

ROUNDING = 1.0e-12
"""Relative. What is this small next to what it was taken from is 0; its square, next to a square."""

LARGEST_F = 1.0e12
"""Quantiles of F beyond this, infinity too, change an interval in the twelfth digit."""

Scale = Literal["absolute", "percent", "ratio"]
"""On which scale differences are taken. "absolute": measured - reference, in their unit. "percent": that in per cent of
the mean of the two. "ratio": measured / reference through logarithms, for numbers that spread over decades, as MTV and
TLG do; bias and limits are ratios, 1 is perfect."""

Values = npt.ArrayLike


@dataclass(frozen=True)
class Agreement:
    """Agreement of two measurements of the same cases.

    Attributes
    ----------
    n : int
        Pairs that entered.
    undefined : int
        Pairs left out because one of the two is NaN (or, for "ratio", not positive; for "percent", both 0).
    scale : {"absolute", "percent", "ratio"}
        Of bias, limits and their intervals, see `Scale`.
    bias : float
        Mean difference, measured minus reference.
    bias_low, bias_high : float
        95 % interval of the bias (t distribution); NaN below two pairs.
    sd : float
        Standard deviation of the differences (n - 1); of the natural logarithms for "ratio".
    lower, upper : float
        Limits of agreement, bias -+ 1.96 SD.
    lower_low, lower_high, upper_low, upper_high : float
        Their 95 % intervals after Bland and Altman (1999), approximate.
    icc_a1, icc_c1 : Icc
        Intraclass correlation of absolute agreement ICC(A,1) and of consistency ICC(C,1), on the values themselves.
    ccc : float
        Lin's concordance correlation coefficient, with variances over n.
    """

    n: int
    undefined: int
    scale: Scale
    bias: float
    bias_low: float
    bias_high: float
    sd: float
    lower: float
    upper: float
    lower_low: float
    lower_high: float
    upper_low: float
    upper_high: float
    icc_a1: Icc
    icc_c1: Icc
    ccc: float

    def row(self) -> dict[str, object]:
        """Return the numbers as one flat row of a table."""
        row: dict[str, object] = {k: v for k, v in vars(self).items() if not isinstance(v, Icc)}
        for name, icc in (("icc_a1", self.icc_a1), ("icc_c1", self.icc_c1)):
            row |= {name: icc.value, f"{name}_low": icc.low, f"{name}_high": icc.high}
        return row


@dataclass(frozen=True)
class Icc:
    """An intraclass correlation coefficient with its 95 % interval; NaN where undefined."""

    value: float
    low: float
    high: float


def agreement(measured: Values, reference: Values, *, scale: Scale = "absolute") -> Agreement:
    """Return how well measured values agree with reference values of the same cases.

    Parameters
    ----------
    measured, reference : arrays (n,)
        In one unit. Several scans of one patient are taken as independent; average them first if they are not.
    scale : {"absolute", "percent", "ratio"}
        See `Scale`.

    Raises
    ------
    InputError
        If the lengths differ or a value is infinite.
    UsageError
        If the scale is unknown.

    References
    ----------
    Bland JM, Altman DG, Lancet 1:307 (1986) and Stat Methods Med Res 8:135 (1999). Lin LI, Biometrics 45:255 (1989).
    """
    first, second, undefined = _pairs(measured, reference, scale)
    differences = _differences(first, second, scale)
    n = len(differences)
    bias = float(differences.mean()) if n else math.nan
    sd = float(differences.std(ddof=1)) if n > 1 else math.nan
    half = limit_half = math.nan
    if n > 1:
        from scipy import stats

        t = float(stats.t.ppf(0.975, n - 1))
        half = t * sd / math.sqrt(n)
        # Variance of a limit: s²/n of the bias plus z² s² / (2 (n - 1)) of the standard deviation.
        limit_half = t * sd * math.sqrt(1 / n + LIMITS_Z**2 / (2 * (n - 1)))
    lower, upper = bias - LIMITS_Z * sd, bias + LIMITS_Z * sd
    numbers = {
        "bias": bias,
        "bias_low": bias - half,
        "bias_high": bias + half,
        "lower": lower,
        "upper": upper,
        "lower_low": lower - limit_half,
        "lower_high": lower + limit_half,
        "upper_low": upper - limit_half,
        "upper_high": upper + limit_half,
    }
    if scale == "ratio":
        numbers = {name: math.exp(value) for name, value in numbers.items()}
    absolute, consistent = intraclass_correlations(np.stack([first, second], axis=1))
    return Agreement(
        n=n,
        undefined=undefined,
        scale=scale,
        sd=sd,
        icc_a1=absolute,
        icc_c1=consistent,
        ccc=concordance(first, second),
        **numbers,
    )


def agreement_of(
    measured: Mapping[str, Values],
    reference: Mapping[str, Values],
    *,
    quantities: Iterable[str] = QUANTITIES,
    scale: Scale = "absolute",
) -> dict[str, Agreement]:
    """Return quantity -> agreement for columns of numbers, case by case in the same order.

    Raises
    ------
    InputError
        If a column is missing in one of the two.
    """
    names = list(quantities)
    missing = [name for name in names if name not in measured or name not in reference]
    if missing:
        raise InputError(f"no values of {', '.join(missing)} to compare; there are {', '.join(measured)}.")
    return {name: agreement(measured[name], reference[name], scale=scale) for name in names}


def bland_altman(
    measured: Values, reference: Values, *, scale: Scale = "absolute"
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the points of a Bland-Altman picture: mean of each pair (geometric for "ratio"), and its difference.

    Pairs that `agreement` leaves out are left out here too.
    """
    first, second, _ = _pairs(measured, reference, scale)
    differences = _differences(first, second, scale)
    if scale == "ratio":
        return np.sqrt(first * second), np.exp(differences)
    return (first + second) / 2, differences


def concordance(measured: Values, reference: Values) -> float:
    """Return Lin's concordance correlation coefficient, -1 to 1; NaN if all values are one number or there is none.

    2 s_xy / (s_x² + s_y² + (x̄ - ȳ)²), with variances and covariance divided by n as in Lin's paper.
    """
    first, second = np.asarray(measured, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    if len(first) == 0:
        return math.nan
    # A shift of both changes nothing; counted from the first value, equal numbers differ by 0, not by a rounding error.
    first, second = first - first[0], second - first[0]
    a, b = first - first.mean(), second - second.mean()
    below = float((a * a).mean() + (b * b).mean() + (first.mean() - second.mean()) ** 2)
    return 2 * float((a * b).mean()) / below if below > 0 else math.nan


def intraclass_correlations(ratings: npt.NDArray[Any], *, confidence: float = 0.95) -> tuple[Icc, Icc]:
    """Return ICC(A,1), absolute agreement, and ICC(C,1), consistency, of single measurements.

    Parameters
    ----------
    ratings : array (n, k)
        n cases measured by the same k methods or readers, without NaN.
    confidence : float
        Of the intervals.

    Returns
    -------
    absolute, consistent : Icc
        NaN below two cases, or if all values are one number.

    References
    ----------
    McGraw KO, Wong SP, Psychol Methods 1:30 (1996), tables 4 and 7, two-way models: ICC(A,1) is the ICC(2,1) and
    ICC(C,1) the ICC(3,1) of Shrout PE, Fleiss JL, Psychol Bull 86:420 (1979).
    """
    n, k = ratings.shape
    undefined = Icc(math.nan, math.nan, math.nan)
    if n < 2 or k < 2:
        return undefined, undefined
    values = np.asarray(ratings, dtype=np.float64)
    values = values - values[0, 0]  # equal numbers now differ by 0, not by a rounding error
    grand = values.mean()
    rows, columns = values.mean(axis=1), values.mean(axis=0)
    # Mean squares of cases, of methods, and of what neither explains.
    ms_r = k * float(((rows - grand) ** 2).sum()) / (n - 1)
    ms_c = n * float(((columns - grand) ** 2).sum()) / (k - 1)
    rest = values - rows[:, None] - columns[None] + grand
    ms_e = float((rest**2).sum()) / ((n - 1) * (k - 1))
    ms_c, ms_e = (0.0 if square <= ROUNDING**2 * ms_r else square for square in (ms_c, ms_e))
    below = ms_r + (k - 1) * ms_e
    if below <= 0:
        return undefined, undefined
    consistent = Icc((ms_r - ms_e) / below, *_consistent_interval(ms_r, ms_e, n, k, confidence))
    total = below + k * (ms_c - ms_e) / n
    if total <= ROUNDING * below:  # two cases that two methods swap: no variance is left to divide by
        return undefined, consistent
    absolute = (ms_r - ms_e) / total
    return Icc(absolute, *_absolute_interval(ms_r, ms_c, ms_e, n, k, confidence)), consistent


def _consistent_interval(ms_r: float, ms_e: float, n: int, k: int, confidence: float) -> tuple[float, float]:
    if ms_e == 0:
        return 1.0, 1.0
    from scipy import stats

    tail, rest = 1 - (1 - confidence) / 2, (n - 1) * (k - 1)
    f = ms_r / ms_e
    low, high = f / stats.f.ppf(tail, n - 1, rest), f * stats.f.ppf(tail, rest, n - 1)
    return float((low - 1) / (low + k - 1)), float((high - 1) / (high + k - 1))


def _absolute_interval(ms_r: float, ms_c: float, ms_e: float, n: int, k: int, confidence: float) -> tuple[float, float]:
    if ms_e == 0 and ms_c == 0:
        return 1.0, 1.0
    from scipy import stats

    # ICC / (1 - ICC), without the difference that vanishes near 1.
    odds = (ms_r - ms_e) / (k * ms_e + k * (ms_c - ms_e) / n)
    a, b = k * odds / n, 1 + k * odds * (n - 1) / n
    # Satterthwaite's degrees of freedom of a·MSC + b·MSE; none where cases do not differ at all.
    parts = a * ms_c, b * ms_e
    if parts == (0.0, 0.0):
        return math.nan, math.nan
    v = (parts[0] + parts[1]) ** 2 / (parts[0] ** 2 / (k - 1) + parts[1] ** 2 / ((n - 1) * (k - 1)))
    tail = 1 - (1 - confidence) / 2
    lower_f, upper_f = (min(float(stats.f.ppf(tail, *freedom)), LARGEST_F) for freedom in ((n - 1, v), (v, n - 1)))
    spread = k * ms_c + (k * n - k - n) * ms_e
    low = n * (ms_r - lower_f * ms_e) / (lower_f * spread + n * ms_r)
    high = n * (upper_f * ms_r - ms_e) / (spread + n * upper_f * ms_r)
    return low, high


def _pairs(
    measured: Values, reference: Values, scale: Scale
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], int]:
    """Return the pairs on which a difference is defined, and how many are not."""
    if scale not in get_args(Scale):
        raise UsageError(f"differences are {', '.join(get_args(Scale))}; came {scale!r}.")
    first, second = np.asarray(measured, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    if first.shape != second.shape or first.ndim != 1:
        raise InputError(f"agreement needs two lists of one length, came {first.shape} and {second.shape}.")
    if np.isinf(first).any() or np.isinf(second).any():
        raise InputError("infinite values cannot be compared; NaN stands for an undefined one.")
    defined = ~(np.isnan(first) | np.isnan(second))
    if scale == "ratio":
        defined &= (first > 0) & (second > 0)
    elif scale == "percent":
        defined &= first + second != 0
    return first[defined], second[defined], int((~defined).sum())


def _differences(
    first: npt.NDArray[np.float64], second: npt.NDArray[np.float64], scale: Scale
) -> npt.NDArray[np.float64]:
    """Return the difference of each pair: natural logarithms of the ratio for "ratio"."""
    if scale == "ratio":
        return np.asarray(np.log(first / second))
    return first - second if scale == "absolute" else 200.0 * (first - second) / (first + second)
