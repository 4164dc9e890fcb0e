"""Radioactive decay."""

from __future__ import annotations

import math

from uptake.core.errors import UnitError


def decay_factor(elapsed_s: float, half_life_s: float) -> float:
    """Return the fraction of activity left after a time.

    Parameters
    ----------
    elapsed_s : float
        Measurement time minus reference time, s. Negative values correct backwards (result > 1).
    half_life_s : float
        Physical half-life, s, > 0; see `physics.radionuclides`.

    Returns
    -------
    float
        Dimensionless, exp(-ln(2) * elapsed_s / half_life_s).

    Raises
    ------
    UnitError
        If `half_life_s` is not finite and positive, or `elapsed_s` is not finite.

    References
    ----------
    DICOM PS3.3 C.8.9.2, Radionuclide Half Life (0018,1075).

    Examples
    --------
    >>> decay_factor(6586.2, 6586.2)
    0.5
    """
    _require_half_life(half_life_s)
    if not math.isfinite(elapsed_s):
        raise UnitError(f"an elapsed time must be finite, came {elapsed_s!r} s.")
    # 2 ** -x instead of exp(-ln 2 * x): exact at whole half-lives.
    return float(2.0 ** (-elapsed_s / half_life_s))


def mean_count_rate_time_s(frame_duration_s: float, half_life_s: float) -> float:
    """Return when, after the start of a frame, the decaying activity equals its mean over the frame.

    Parameters
    ----------
    frame_duration_s : float
        Actual Frame Duration (0018,1242), but in s; >= 0.
    half_life_s : float
        s, > 0.

    Returns
    -------
    float
        s; (1/λ) ln(λT / (1 - exp(-λT))) with λ = ln(2) / half-life. A little less than half of a short frame.

    Raises
    ------
    UnitError
        If an argument is outside its range.

    References
    ----------
    DICOM PS3.3 C.8.9.4.1.5, Frame Reference Time, example 2.
    """
    _require_half_life(half_life_s)
    if not (math.isfinite(frame_duration_s) and frame_duration_s >= 0):
        raise UnitError(f"a frame duration must be finite and not negative, came {frame_duration_s!r} s.")
    exponent = math.log(2.0) * frame_duration_s / half_life_s
    if exponent < 1e-6:
        return frame_duration_s / 2.0  # the limit; the quotient below would be 0/0
    return math.log(exponent / -math.expm1(-exponent)) * half_life_s / math.log(2.0)


def decay_within_frame(frame_duration_s: float, half_life_s: float) -> float:
    """Return activity at the start of a frame over its mean during the frame.

    Parameters
    ----------
    frame_duration_s : float
        Actual Frame Duration (0018,1242), but in s; >= 0.
    half_life_s : float
        s, > 0.

    Returns
    -------
    float
        Dimensionless, >= 1: λT / (1 - exp(-λT)); 1 for a frame without duration.

    Raises
    ------
    UnitError
        If an argument is outside its range.
    """
    return 1.0 / decay_factor(mean_count_rate_time_s(frame_duration_s, half_life_s), half_life_s)


def elapsed_of_decay_factor(applied: float, frame_duration_s: float, half_life_s: float) -> float:
    """Return how long after the decay-correction reference a frame began, read from the factor applied to it.

    Parameters
    ----------
    applied : float
        Decay Factor (0054,1321), > 0: (λT / (1 - exp(-λT))) * exp(λ * elapsed).
    frame_duration_s, half_life_s : float
        s.

    Returns
    -------
    float
        Start of the frame minus reference, s: ln(applied) / λ - T_ave.

    Raises
    ------
    UnitError
        If an argument is outside its range.

    References
    ----------
    DICOM PS3.3 C.8.9.4, Decay Factor (0054,1321); solved for the time.
    """
    if not (math.isfinite(applied) and applied > 0):
        raise UnitError(f"Decay Factor (0054,1321) must be finite and positive, came {applied!r}.")
    average_s = mean_count_rate_time_s(frame_duration_s, half_life_s)
    return math.log2(applied) * half_life_s - average_s


def _require_half_life(half_life_s: float) -> None:
    if not (math.isfinite(half_life_s) and half_life_s > 0):
        raise UnitError(f"a half-life must be finite and positive, came {half_life_s!r} s.")
