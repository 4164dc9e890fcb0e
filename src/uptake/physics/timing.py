"""To which moment was a PET series decay corrected? Headers answer in several ways; this room weighs them.

All datetimes here are naive and in one local time: the reader of the header settles time zones.

What the attributes mean. Frame Reference Time (0054,1300) counts from Series Date/Time, and START means that same
moment (PS3.3 C.8.9.1.1.4, C.8.9.4.1.5). Series Time is therefore the reference, unless post-processing rewrote it,
which makes it later than the acquisition; Frame Reference Time then leads back to it, t_ref = t_acq + T_ave - FRT. That
needs the Acquisition Time of the frame. Scanners of two vendors write that of the first bed into every slice, so that
the way back misses by the time between the beds: it is believed over Series Time only where acquisition times that
differ lead to one moment. Some scanners count Frame Reference Time to the start of the frame, t_ref = t_acq - FRT;
Decay Factor tells which, and so does a value too small to reach the mean count rate of its own frame.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from statistics import median

from uptake.core.errors import MissingAttributeError
from uptake.physics.decay import elapsed_of_decay_factor, mean_count_rate_time_s
from uptake.physics.radionuclides import LONG_LIVED_S

DISAGREEMENT_S = 60.0
"""Two accounts of one moment that differ by more are reported. One minute of F-18 is 0.6 % of SUV."""

CLOCK_STEP_S = 1.0
"""A series that starts this little after its first acquisition is a rounded time: headers cut fractions differently."""

STALE_S = 12 * 3600.0
"""Times of one scan that are further apart have dates that were not shifted alike."""

LONGEST_SCAN_S = 2 * 3600.0
"""A reference that lies further before the first acquisition is believed only if Frame Reference Time confirms it."""

SAME_CONVENTION_S = 30.0
"""Decay Factor and Frame Reference Time within this tell the same time since the reference."""

DECAY_CORRECTION = "Decay Correction DateTime (0018,9701)"

EXPLICIT = (
    ("siemens_decay_correction", "Siemens Decay Correction DateTime (0071,1022)"),
    ("ge_scan", "GE Scan DateTime (0009,100D)"),
    ("decay_correction", DECAY_CORRECTION),
)
"""Attributes that say outright to which moment was corrected, in the order in which they are believed."""

SERIES = "Series Time (0008,0031)"
FRAMES = "Frame Reference Time (0054,1300)"
EARLIEST = "earliest Acquisition Time (0008,0032)"
FACTORS = "Decay Factor (0054,1321)"


@dataclass(frozen=True)
class AcquisitionTimes:
    """What a series says about time, without any DICOM type.

    Attributes
    ----------
    acquisition : tuple of datetime
        Start of the acquisition of each slice, Acquisition Date/Time (0008,0022)/(0008,0032); empty unless every slice
        has one.
    series : datetime or None
        Series Date/Time (0008,0021)/(0008,0031).
    siemens_decay_correction : datetime or None
        Decay Correction DateTime (0071,1022), private creator "SIEMENS MED PT".
    ge_scan : datetime or None
        Scan DateTime (0009,100D), private creator "GEMS_PETD_01".
    decay_correction : datetime or None
        Decay Correction DateTime (0018,9701).
    frame_reference_s : tuple of float
        Frame Reference Time (0054,1300) of each slice, s; empty where absent.
    frame_duration_s : tuple of float
        Actual Frame Duration (0018,1242) of each slice, s; empty where absent.
    decay_factors : tuple of float
        Decay Factor (0054,1321) of each slice; empty where absent.
    frame_reference_at_start : bool
        Whether the vendor is known to count Frame Reference Time to the start of the frame (GE). Asked only where the
        values themselves do not tell.
    """

    acquisition: tuple[datetime, ...]
    series: datetime | None = None
    siemens_decay_correction: datetime | None = None
    ge_scan: datetime | None = None
    decay_correction: datetime | None = None
    frame_reference_s: tuple[float, ...] = ()
    frame_duration_s: tuple[float, ...] = ()
    decay_factors: tuple[float, ...] = ()
    frame_reference_at_start: bool = False


@dataclass(frozen=True)
class Account:
    """What one attribute says about the reference, and what became of it.

    Attributes
    ----------
    source : str
        The attribute, with its tag.
    moment : datetime or None
        None where it tells none.
    standing : str
        "used", "agrees", "differs", "left out" or "absent".
    remark : str
        Why it was left out, or what had to be assumed.
    """

    source: str
    moment: datetime | None
    standing: str = "agrees"
    remark: str = ""


@dataclass(frozen=True)
class ReferenceTime:
    """The moment the image is decay corrected to, which account of it won, what the others say, and warnings."""

    moment: datetime
    source: str
    warnings: tuple[str, ...] = ()
    accounts: tuple[Account, ...] = field(default=(), compare=False)


def reference_time(times: AcquisitionTimes, half_life_s: float) -> ReferenceTime:
    """Return the moment that Decay Correction (0054,1102) START refers to.

    The first account that is there wins; the others are cross-checks, and one that is more than a minute away is a
    warning.

    1. Siemens private (0071,1022), which says it outright;
    2. GE private (0009,100D), likewise;
    3. Decay Correction DateTime (0018,9701), likewise;
    4. Frame Reference Time, where frames with different acquisition times lead back to one moment and that is not
       Series Time;
    5. Series Date/Time, if it is not after the earliest acquisition (a later one was rewritten by post-processing) and
       at most two hours before it or confirmed by Frame Reference Time;
    6. Frame Reference Time, where all slices lead back to one moment that is not after the earliest acquisition;
    7. the earliest acquisition of all slices.

    Decay Factor only checks: some software writes 1 into it without looking. A moment more than half a day away from
    the acquisition was left behind by an anonymisation that shifted dates; its time of day is used with the date of the
    acquisition. Only (0018,9701) may be days away, for nuclides that live so long: it may name the injection.

    Parameters
    ----------
    times : AcquisitionTimes
    half_life_s : float
        s, for T_ave, the moment of the average count rate in a frame.

    Raises
    ------
    MissingAttributeError
        If no slice says when it was acquired and no attribute names the reference.

    References
    ----------
    DICOM PS3.3 C.8.9.1.1.4 Decay Correction and C.8.9.4.1.5 Frame Reference Time; QIBA vendor-neutral SUV computation;
    conformance statements of GE (0009,100D) and Siemens (0071,1022).
    """
    earliest = min(times.acquisition, default=None)
    frames, corroborated = _from_frames(times, half_life_s)
    factors = _from_decay_factors(times, half_life_s)
    explicit = [
        _explicit(source, getattr(times, name), earliest, frames.moment, half_life_s) for name, source in EXPLICIT
    ]
    if earliest is None:
        known = [account for account in explicit if account.moment is not None]
        if not known:
            raise MissingAttributeError(
                "Acquisition Time (0008,0032) or Acquisition Date (0008,0022) is absent; the SUV cannot be decay "
                "corrected. Export the series again with its times."
            )
        return _weighed(known[0], [*explicit, Account(SERIES, times.series), frames, factors], ())
    series = _series(times.series, earliest, frames.moment)
    longest_s = max(times.frame_duration_s, default=0.0)
    contradicted = (
        corroborated
        and series.moment is not None
        and frames.moment is not None
        # A difference within the frame is only its convention, and Series Time has none.
        and _apart_s(frames.moment, series.moment) > max(DISAGREEMENT_S, longest_s)
    )
    ranked = [*explicit, *([frames, series] if contradicted else [series, frames]), Account(EARLIEST, earliest)]
    winner = next(account for account in ranked if account.moment is not None and account.standing != "left out")
    warnings = [account.remark for account in ranked if account.standing == "left out" and account.moment is not None]
    warnings += [account.remark for account in explicit if account.standing != "left out" and account.remark]
    return _weighed(winner, [*ranked, factors], tuple(warnings))


def _weighed(winner: Account, accounts: list[Account], warnings: tuple[str, ...]) -> ReferenceTime:
    """Compare every account with the winner."""
    assert winner.moment is not None
    told: list[Account] = []
    notes = list(warnings)
    within = {
        account.source: account.moment is not None and _apart_s(account.moment, winner.moment) <= DISAGREEMENT_S
        for account in accounts
    }
    explained = any(within.get(source) for source in (FRAMES, FACTORS) if source != winner.source)
    for account in accounts:
        if account.source == winner.source:
            told.append(replace(account, standing="used"))
        elif account.moment is None:
            told.append(replace(account, standing="left out" if account.remark else "absent"))
        elif account.standing == "left out":
            told.append(account)
        elif within[account.source]:
            told.append(replace(account, standing="agrees"))
        else:
            later_s = (account.moment - winner.moment).total_seconds()
            told.append(replace(account, standing="differs"))
            if account.source == EARLIEST and later_s > 0 and (explained or winner.source == FRAMES):
                continue  # a frame out of the middle of the scan, as Frame Reference Time or Decay Factor says too
            notes.append(
                f"The decay-correction reference was taken from {winner.source}; {account.source} would place it "
                f"{abs(later_s):.0f} s {'later' if later_s > 0 else 'earlier'}."
            )
    return ReferenceTime(winner.moment, winner.source, tuple(notes), tuple(told))


def _explicit(
    source: str, moment: datetime | None, earliest: datetime | None, frames: datetime | None, half_life_s: float
) -> Account:
    if moment is None or earliest is None:
        return Account(source, moment)
    # (0018,9701) may be any moment, the injection among them; the private ones are the start of the scan.
    any_moment = source == DECAY_CORRECTION
    remark = ""
    if _apart_s(moment, earliest) > STALE_S and not (any_moment and half_life_s > LONG_LIVED_S):
        moment = _on_the_day_of(earliest, moment)
        remark = f"{source} is more than half a day from the acquisition, a stale date; its time of day was used."
    early_s = (earliest - moment).total_seconds()
    if early_s > LONGEST_SCAN_S and not any_moment and not _confirms(frames, moment):
        remark = f"{source} is {early_s:.0f} s before the earliest acquisition; it was not used as reference."
        return Account(source, moment, "left out", remark)
    return Account(source, moment, remark=remark)


def _series(moment: datetime | None, earliest: datetime, frames: datetime | None) -> Account:
    if moment is None:
        return Account(SERIES, None)
    late_s = (moment - earliest).total_seconds()
    if late_s > CLOCK_STEP_S:
        remark = f"{SERIES} is {late_s:.0f} s after the earliest acquisition; it was not used as reference."
        return Account(SERIES, moment, "left out", remark)
    if -late_s > STALE_S:
        # A date before the acquisition is no post-processing, which would be the other way to explain the difference.
        moment = _on_the_day_of(earliest, moment)
    early_s = (earliest - moment).total_seconds()
    if early_s > LONGEST_SCAN_S and not _confirms(frames, moment):
        remark = f"{SERIES} is {early_s:.0f} s before the earliest acquisition; it was not used as reference."
        return Account(SERIES, moment, "left out", remark)
    return Account(SERIES, moment)


def _from_frames(times: AcquisitionTimes, half_life_s: float) -> tuple[Account, bool]:
    """Return t_acq + T_ave - FRT, or t_acq - FRT, and whether different acquisition times lead to it."""
    if not times.frame_reference_s:
        return Account(FRAMES, None), False
    if not _for_every_frame(times, times.frame_reference_s):
        return Account(FRAMES, None, remark=f"{FRAMES} or Actual Frame Duration (0018,1242) is not usable."), False
    average_s = [mean_count_rate_time_s(duration, half_life_s) for duration in times.frame_duration_s]
    at_start = _counted_to_start(times, average_s, half_life_s)
    elapsed_s = [
        reference - (0.0 if at_start else average) for reference, average in zip(times.frame_reference_s, average_s)
    ]
    account = _one_moment(FRAMES, times.acquisition, elapsed_s)
    moments = times.acquisition
    different = (max(moments) - min(moments)).total_seconds() > DISAGREEMENT_S
    return account, different and account.moment is not None


def _counted_to_start(times: AcquisitionTimes, average_s: Sequence[float], half_life_s: float) -> bool:
    """Return whether Frame Reference Time is that of the start of the frame, not of its mean count rate."""
    if _filled_in(times):
        elapsed_s = [
            elapsed_of_decay_factor(factor, duration, half_life_s)
            for factor, duration in zip(times.decay_factors, times.frame_duration_s)
        ]
        start = median(abs(r - e) for r, e in zip(times.frame_reference_s, elapsed_s))
        mean = median(abs(r - a - e) for r, a, e in zip(times.frame_reference_s, average_s, elapsed_s))
        if min(start, mean) <= SAME_CONVENTION_S:
            return start < mean
    # A frame cannot reach its mean count rate before it began, and it did not begin before the reference.
    return times.frame_reference_at_start or any(r < a / 2 for r, a in zip(times.frame_reference_s, average_s))


def _from_decay_factors(times: AcquisitionTimes, half_life_s: float) -> Account:
    """Return t_acq + T_ave - ln(DF) / λ."""
    if not times.decay_factors:
        return Account(FACTORS, None)
    if not _filled_in(times):
        return Account(FACTORS, None, remark=f"{FACTORS} is not filled in.")
    elapsed_s = [
        elapsed_of_decay_factor(factor, duration, half_life_s)
        for factor, duration in zip(times.decay_factors, times.frame_duration_s)
    ]
    return _one_moment(FACTORS, times.acquisition, elapsed_s)


def _filled_in(times: AcquisitionTimes) -> bool:
    """Return whether there is a Decay Factor for every frame that is not the 1 of software that knows none."""
    usable = _for_every_frame(times, times.decay_factors) and all(factor > 0 for factor in times.decay_factors)
    return usable and any(factor != 1.0 for factor in times.decay_factors)


def _for_every_frame(times: AcquisitionTimes, values: Sequence[float]) -> bool:
    """Return whether every frame has its time, a duration and a value, and the numbers are numbers."""
    lengths = {len(values), len(times.frame_duration_s), len(times.acquisition)}
    if len(lengths) != 1 or not values:
        return False
    return all(map(math.isfinite, values)) and all(math.isfinite(s) and s > 0 for s in times.frame_duration_s)


def _one_moment(source: str, acquisition: Sequence[datetime], elapsed_s: Sequence[float]) -> Account:
    """Return acquisition minus elapsed, the median over slices, where they agree and precede the acquisition."""
    earliest = min(acquisition)
    offsets_s = [(moment - earliest).total_seconds() - elapsed for moment, elapsed in zip(acquisition, elapsed_s)]
    spread_s = max(offsets_s) - min(offsets_s)
    if spread_s > DISAGREEMENT_S:
        return Account(source, None, remark=f"{source} leads to moments {spread_s:.0f} s apart; it was passed over.")
    if median(offsets_s) > DISAGREEMENT_S:
        return Account(source, None, remark=f"{source} leads to a moment after the acquisition; it was passed over.")
    return Account(source, earliest + timedelta(seconds=median(offsets_s)))


def _on_the_day_of(earliest: datetime, moment: datetime) -> datetime:
    """Return the time of day of `moment`, less than a day before `earliest` and at most a minute after it."""
    moved = datetime.combine(earliest.date(), moment.time())
    while moved > earliest + timedelta(seconds=DISAGREEMENT_S):
        moved -= timedelta(days=1)
    return moved


def _confirms(frames: datetime | None, moment: datetime) -> bool:
    return frames is not None and _apart_s(frames, moment) <= DISAGREEMENT_S


def _apart_s(one: datetime, other: datetime) -> float:
    return abs((one - other).total_seconds())
