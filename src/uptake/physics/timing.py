"""To which moment was a PET series decay corrected? Headers answer in several ways; this room weighs them.

All datetimes here are naive and in one local time: the reader of the header settles time zones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median

from uptake.core.errors import MissingAttributeError, UnitError
from uptake.physics.decay import mean_count_rate_time_s

DISAGREEMENT_S = 60.0
"""Two accounts of one moment that differ by more are reported. One minute of F-18 is 0.6 % of SUV."""

BEFORE_INJECTION_S = 120.0
"""A dynamic scan may start this long before the injection."""

LONGEST_UPTAKE_HALF_LIVES = 8.0
"""Beyond this less than 0.4 % of the dose is left: a time or date is wrong."""

DATE_NEEDED_HALF_LIFE_S = 4 * 3600.0
"""Nuclides that live longer are scanned days after injection, so a time without its date says nothing."""


@dataclass(frozen=True)
class AcquisitionTimes:
    """What a series says about time, without any DICOM type.

    Attributes
    ----------
    acquisition : tuple of datetime
        Start of the acquisition of each slice, Acquisition Date/Time (0008,0022)/(0008,0032).
    series : datetime or None
        Series Date/Time (0008,0021)/(0008,0031).
    siemens_decay_correction : datetime or None
        Decay Correction DateTime (0071,1022), private creator "SIEMENS MED PT".
    ge_scan : datetime or None
        Scan DateTime (0009,100D), private creator "GEMS_PETD_01".
    frame_reference_s : tuple of float
        Frame Reference Time (0054,1300) of each slice, s; empty where absent.
    frame_duration_s : tuple of float
        Actual Frame Duration (0018,1242) of each slice, s; empty where absent.
    frame_reference_at_start : bool
        Whether Frame Reference Time is that of the start of the frame (GE), not of the average count rate.
    """

    acquisition: tuple[datetime, ...]
    series: datetime | None = None
    siemens_decay_correction: datetime | None = None
    ge_scan: datetime | None = None
    frame_reference_s: tuple[float, ...] = ()
    frame_duration_s: tuple[float, ...] = ()
    frame_reference_at_start: bool = False


@dataclass(frozen=True)
class ReferenceTime:
    """The moment the image is decay corrected to, which account of it won, and what spoke against it."""

    moment: datetime
    source: str
    warnings: tuple[str, ...] = ()


def reference_time(times: AcquisitionTimes, half_life_s: float) -> ReferenceTime:
    """Return the moment that Decay Correction (0054,1102) START refers to.

    The first account that is there wins; the others are cross-checks.

    1. Siemens private (0071,1022), which says it outright;
    2. GE private (0009,100D), likewise;
    3. Series Date/Time, if it is not after the earliest acquisition (a later one was rewritten by post-processing);
    4. the earliest acquisition of all slices.

    A private date more than a day from the acquisition was left behind by an anonymisation that shifted dates; it is
    not used. As a further cross-check the moment is computed back from Frame Reference Time (0054,1300), t_acq + T_ave
    - FRT, where that agrees within a minute over all slices.

    Parameters
    ----------
    times : AcquisitionTimes
    half_life_s : float
        s, for T_ave, the moment of the average count rate in a frame.

    Raises
    ------
    MissingAttributeError
        If no slice says when it was acquired.

    References
    ----------
    DICOM PS3.3 C.8.9.1.1.4 Decay Correction and C.8.9.4.1.5 Frame Reference Time; QIBA vendor-neutral SUV computation.
    """
    if not times.acquisition:
        raise MissingAttributeError(
            "Acquisition Time (0008,0032) or Acquisition Date (0008,0022) is absent; the SUV cannot be decay "
            "corrected. "
            "Export the series again with its times."
        )
    warnings: list[str] = []
    earliest = min(times.acquisition)
    accounts: list[tuple[str, datetime]] = []
    private = (
        ("Siemens Decay Correction DateTime (0071,1022)", times.siemens_decay_correction),
        ("GE Scan DateTime (0009,100D)", times.ge_scan),
    )
    for source, moment in private:
        if moment is None:
            continue
        if abs(moment - earliest) > timedelta(days=1):
            warnings.append(f"{source} is more than a day from the acquisition; it was left out as a stale date.")
        else:
            accounts.append((source, moment))
    if times.series is not None:
        if times.series <= earliest:
            accounts.append(("Series Time (0008,0031)", times.series))
        elif times.series - earliest > timedelta(seconds=DISAGREEMENT_S):
            late = (times.series - earliest).total_seconds()
            warnings.append(
                f"Series Time (0008,0031) is {late:.0f} s after the earliest acquisition; it was not used as reference."
            )
    accounts.append(("earliest Acquisition Time (0008,0032)", earliest))
    source, winner = accounts[0]
    derived = _from_frame_reference(times, half_life_s)
    if derived is not None:
        accounts.append(("Frame Reference Time (0054,1300)", derived))
    for other, moment in accounts[1:]:
        apart = (moment - winner).total_seconds()
        # Series before acquisition is the rule in multi-bed scans of GE and Siemens: no conflict.
        expected = other.startswith("earliest") and 0 <= apart <= 3600.0
        if abs(apart) > DISAGREEMENT_S and not expected:
            warnings.append(
                f"The decay-correction reference was taken from {source}; {other} would place it {abs(apart):.0f} s "
                f"{'later' if apart > 0 else 'earlier'}."
            )
    return ReferenceTime(winner, source, tuple(warnings))


def injection_time(
    *,
    reference: datetime,
    half_life_s: float,
    date_and_time: datetime | None,
    time_only: timedelta | None,
) -> tuple[datetime, tuple[str, ...]]:
    """Return when the tracer was injected, and what had to be assumed.

    Parameters
    ----------
    reference : datetime
        Moment the image is decay corrected to.
    half_life_s : float
        s.
    date_and_time : datetime or None
        Radiopharmaceutical Start DateTime (0018,1078), preferred.
    time_only : timedelta or None
        Radiopharmaceutical Start Time (0018,1072) since midnight. It is given the date of `reference`, and the day
        before if it would lie more than two minutes after it (an injection before midnight).

    Raises
    ------
    MissingAttributeError
        If both are absent, or a long-lived nuclide has a time without a date.
    UnitError
        If the result lies more than 2 min after or 8 half-lives before the reference.
    """
    notes: list[str] = []
    moment = date_and_time
    if moment is not None and abs(moment - reference) > timedelta(days=1) and half_life_s <= DATE_NEEDED_HALF_LIFE_S:
        notes.append(
            "Radiopharmaceutical Start DateTime (0018,1078) is more than a day from the scan, which this nuclide "
            "cannot be; "
            "its time of day was used with the date of the scan."
        )
        time_only = moment - moment.replace(hour=0, minute=0, second=0, microsecond=0)
        moment = None
    if moment is None:
        if time_only is None:
            raise MissingAttributeError(
                "Radiopharmaceutical Start DateTime (0018,1078) and Radiopharmaceutical Start Time (0018,1072) are "
                "absent; "
                "SUV cannot be computed without the injection time."
            )
        if half_life_s > DATE_NEEDED_HALF_LIFE_S:
            raise MissingAttributeError(
                "Radiopharmaceutical Start DateTime (0018,1078) is absent; a nuclide with a half-life of "
                f"{half_life_s / 3600:.1f} h needs the date of the injection, not only Start Time (0018,1072)."
            )
        moment = reference.replace(hour=0, minute=0, second=0, microsecond=0) + time_only
        if (moment - reference).total_seconds() > BEFORE_INJECTION_S:
            moment -= timedelta(days=1)
            notes.append("The injection time is later in the day than the scan: taken as the day before.")
    elapsed = (reference - moment).total_seconds()
    if elapsed < -BEFORE_INJECTION_S or elapsed > LONGEST_UPTAKE_HALF_LIVES * half_life_s:
        raise UnitError(
            f"The scan is {elapsed / 60:.1f} min after the injection; expected between {-BEFORE_INJECTION_S / 60:g} "
            "min and "
            f"{LONGEST_UPTAKE_HALF_LIVES:g} half-lives ({LONGEST_UPTAKE_HALF_LIVES * half_life_s / 60:.0f} min). "
            "Correct "
            "Radiopharmaceutical Start Time (0018,1072) or DateTime (0018,1078)."
        )
    return moment, tuple(notes)


def _from_frame_reference(times: AcquisitionTimes, half_life_s: float) -> datetime | None:
    """Return t_acq + T_ave - FRT (GE: t_acq - FRT), median over slices, or None where it is unknown or not one "
    "moment."""
    lists: tuple[Sequence[object], ...] = (times.acquisition, times.frame_reference_s, times.frame_duration_s)
    if len({len(values) for values in lists}) != 1:
        return None
    earliest = min(times.acquisition)
    average_s = [
        0.0 if times.frame_reference_at_start else mean_count_rate_time_s(duration, half_life_s)
        for duration in times.frame_duration_s
    ]
    offsets = [
        (moment - earliest).total_seconds() + average - reference
        for moment, reference, average in zip(times.acquisition, times.frame_reference_s, average_s)
    ]
    if max(offsets) - min(offsets) > DISAGREEMENT_S:
        return None
    return earliest + timedelta(seconds=median(offsets))
