"""DICOM dates and times as text -> naive datetimes in the local time of the scanner."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

YEARS = range(1800, 2500)
"""Dates outside are placeholders (year 1, year 9999), with which nothing can be computed."""


def time_of(text: str) -> timedelta | None:
    """Return the time since midnight of a TM value "HHMMSS.FFFFFF", also shortened or with colons; None if unusable.

    References
    ----------
    DICOM PS3.5 section 6.2, value representation TM.
    """
    match = re.fullmatch(r"(\d{2})(?:(\d{2})(?:(\d{2})(?:\.(\d{1,6}))?)?)?", text.replace(":", "").strip())
    if match is None:
        return None
    hours, minutes, seconds = (int(part or 0) for part in match.groups()[:3])
    if hours > 23 or minutes > 59 or seconds > 60:
        return None
    return timedelta(hours=hours, minutes=minutes, seconds=seconds, microseconds=int((match[4] or "0").ljust(6, "0")))


def datetime_of(
    date: str, time: str | None, *, local_offset: str = "", notes: list[str] | None = None
) -> datetime | None:
    """Return the moment of a DA and a TM value, or of a DT value where `time` is None; None if unusable.

    Dates outside `YEARS` are unusable, so that days can be added to every moment.

    A UTC offset in the DT value ("+0100") is turned into the offset of the other times, `local_offset`, Timezone Offset
    From UTC (0008,0201). Where that is absent the value is taken as local and `notes` says so.

    References
    ----------
    DICOM PS3.5 section 6.2, value representations DA and DT; PS3.3 C.12.1.1.8.
    """
    shift = timedelta()
    if time is None:
        match = re.fullmatch(r"(\d{8})(\d{2,6}(?:\.\d{1,6})?)([+-]\d{4})?", date.strip())
        if match is None:
            return None
        date, time, offset = match.groups()
        if offset and local_offset:
            shift = _offset(local_offset) - _offset(offset)
        elif offset and notes is not None:
            notes.append(f"A time with UTC offset {offset} was taken as local: (0008,0201) is absent.")
    since_midnight = time_of(time)
    try:
        day = datetime.strptime(date.replace(".", "").strip(), "%Y%m%d")
    except ValueError:
        return None
    if since_midnight is None or day.year not in YEARS:
        return None
    return day + since_midnight + shift


def _offset(text: str) -> timedelta:
    match = re.fullmatch(r"([+-])(\d{2})(\d{2})", text.strip())
    if match is None:
        return timedelta()
    size = timedelta(hours=int(match[2]), minutes=int(match[3]))
    return -size if match[1] == "-" else size
