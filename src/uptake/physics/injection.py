"""When was the tracer injected? Two attributes say it, one without a date, and dates may have been shifted."""

from __future__ import annotations

from datetime import datetime, timedelta

from uptake.core.errors import MissingAttributeError, UnitError
from uptake.physics.radionuclides import LONG_LIVED_S
from uptake.physics.timing import DISAGREEMENT_S

BEFORE_INJECTION_S = 120.0
"""A dynamic scan may start this long before the injection."""

LONGEST_UPTAKE_HALF_LIVES = 8.0
"""Beyond this less than 0.4 % of the dose is left: a time or date is wrong."""

LONGEST_ASSUMED_HALF_LIVES = 4.0
"""Where the date had to be assumed, a scan later than this is taken for a wrong time, not for a late scan."""

_QUARTER_HOUR_S = 900.0
"""Offsets between time zones are multiples of it."""


def injection_time(
    *,
    reference: datetime,
    half_life_s: float,
    date_and_time: datetime | None,
    time_only: timedelta | None,
    zone_unknown: bool = False,
) -> tuple[datetime, tuple[str, ...]]:
    """Return when the tracer was injected, and what had to be assumed.

    Parameters
    ----------
    reference : datetime
        Moment the image is decay corrected to.
    half_life_s : float
        s.
    date_and_time : datetime or None
        Radiopharmaceutical Start DateTime (0018,1078), preferred. Where it makes the uptake time impossible for a
        nuclide that cannot live that long, its date was shifted by an anonymisation, and its time of day is used.
    time_only : timedelta or None
        Radiopharmaceutical Start Time (0018,1072) since midnight. It is given the date of `reference`, and the day
        before if it would lie more than two minutes after it (an injection before midnight).
    zone_unknown : bool
        Whether `date_and_time` came with a UTC offset whose relation to the other times is not known. `time_only` is
        then preferred, if the two differ by whole quarters of an hour.

    Raises
    ------
    MissingAttributeError
        If both are absent, or a long-lived nuclide has a time without a date.
    UnitError
        If the two contradict one another, or the scan lies more than 2 min before or 8 half-lives after the injection.
    """
    if date_and_time is None and time_only is None:
        raise MissingAttributeError(
            "Radiopharmaceutical Start DateTime (0018,1078) and Radiopharmaceutical Start Time (0018,1072) are absent; "
            "SUV cannot be computed without the injection time."
        )
    notes: list[str] = []
    if date_and_time is not None and time_only is not None:
        date_and_time, note = _reconciled(date_and_time, time_only, zone_unknown=zone_unknown)
        notes += note
    moment = date_and_time
    if moment is not None and half_life_s <= LONG_LIVED_S and not _possible(reference, moment, half_life_s):
        time_only = _since_midnight(moment)
        assumed = _dated(time_only, reference)
        if _possible(reference, assumed, half_life_s, LONGEST_ASSUMED_HALF_LIVES):
            notes.append(
                "Radiopharmaceutical Start DateTime (0018,1078) has a date that does not fit the scan's; its time of "
                "day was used with the date of the scan."
            )
            return assumed, tuple(notes)
    if moment is not None:
        _require_possible(reference, moment, half_life_s, LONGEST_UPTAKE_HALF_LIVES)
        return moment, tuple(notes)
    if half_life_s > LONG_LIVED_S:
        raise MissingAttributeError(
            "Radiopharmaceutical Start DateTime (0018,1078) is absent; a nuclide with a half-life of "
            f"{half_life_s / 3600:.1f} h needs the date of the injection, not only Start Time (0018,1072)."
        )
    assert time_only is not None
    moment = _dated(time_only, reference)
    if moment.date() != reference.date():
        _require_possible(reference, moment, half_life_s, LONGEST_ASSUMED_HALF_LIVES)
        notes.append("The injection time is later in the day than the scan: taken as the day before.")
    _require_possible(reference, moment, half_life_s, LONGEST_UPTAKE_HALF_LIVES)
    return moment, tuple(notes)


def require_uptake(injection: datetime, scan: datetime, half_life_s: float) -> None:
    """Check that a scan lies between 2 min before and 8 half-lives after the injection.

    Raises
    ------
    UnitError
        If it does not.
    """
    _require_possible(scan, injection, half_life_s, LONGEST_UPTAKE_HALF_LIVES)


def _reconciled(moment: datetime, time_only: timedelta, *, zone_unknown: bool) -> tuple[datetime, list[str]]:
    """Return the DateTime, moved to the time without date where only a time zone stands between them."""
    day_s = timedelta(days=1).total_seconds()
    apart_s = (time_only - _since_midnight(moment)).total_seconds()
    apart_s = (apart_s + day_s / 2) % day_s - day_s / 2  # around midnight, the shorter way
    if abs(apart_s) <= DISAGREEMENT_S:
        return moment, []
    to_quarter_s = abs(apart_s - _QUARTER_HOUR_S * round(apart_s / _QUARTER_HOUR_S))
    if zone_unknown and to_quarter_s <= DISAGREEMENT_S:
        return moment + timedelta(seconds=apart_s), [
            "Radiopharmaceutical Start DateTime (0018,1078) is in another time zone than Start Time (0018,1072); the "
            "latter was used."
        ]
    raise UnitError(
        f"Radiopharmaceutical Start DateTime (0018,1078) is {moment:%H:%M:%S} but Radiopharmaceutical Start Time "
        f"(0018,1072) is {(datetime.min + time_only):%H:%M:%S}; they contradict one another. Correct the one that is "
        "wrong, or supply the injection time to replace both."
    )


def _since_midnight(moment: datetime) -> timedelta:
    return moment - datetime.combine(moment.date(), datetime.min.time())


def _dated(time_only: timedelta, reference: datetime) -> datetime:
    """Return the last time of that day that is at most two minutes after `reference`."""
    moment = datetime.combine(reference.date(), datetime.min.time()) + time_only
    if (moment - reference).total_seconds() > BEFORE_INJECTION_S:
        return moment - timedelta(days=1)
    # An injection just after midnight, a dynamic scan that started just before it.
    following = moment + timedelta(days=1)
    return following if (following - reference).total_seconds() <= BEFORE_INJECTION_S else moment


def _possible(
    reference: datetime, moment: datetime, half_life_s: float, half_lives: float = LONGEST_UPTAKE_HALF_LIVES
) -> bool:
    return -BEFORE_INJECTION_S <= (reference - moment).total_seconds() <= half_lives * half_life_s


def _require_possible(reference: datetime, moment: datetime, half_life_s: float, half_lives: float) -> None:
    if _possible(reference, moment, half_life_s, half_lives):
        return
    elapsed_min = (reference - moment).total_seconds() / 60
    raise UnitError(
        f"The scan is {elapsed_min:.1f} min after the injection; expected between {-BEFORE_INJECTION_S / 60:g} min and "
        f"{half_lives:g} half-lives ({half_lives * half_life_s / 60:.0f} min). Correct Radiopharmaceutical Start Time "
        "(0018,1072) or DateTime (0018,1078)."
    )
