from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from uptake.io.dicom_time import datetime_of, time_of


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("103500.00", timedelta(hours=10, minutes=35)),
        ("1035", timedelta(hours=10, minutes=35)),
        ("10", timedelta(hours=10)),
        ("10:35:07", timedelta(hours=10, minutes=35, seconds=7)),
        ("000000.000001", timedelta(microseconds=1)),
        ("123514.999995", timedelta(hours=12, minutes=35, seconds=14, microseconds=999995)),
        ("", None),
        ("250000", None),
        ("noon", None),
    ],
)
def test_times(text, expected):
    assert time_of(text) == expected


def test_dates_and_times():
    assert datetime_of("20240102", "1030") == datetime(2024, 1, 2, 10, 30)
    assert datetime_of("2024.01.02", "1030") == datetime(2024, 1, 2, 10, 30)
    assert datetime_of("20240102103000.5", None) == datetime(2024, 1, 2, 10, 30, 0, 500000)
    assert datetime_of("", "1030") is None
    assert datetime_of("20241302", "1030") is None
    assert datetime_of("00010101", "1030") is None
    assert datetime_of("99991231235959", None) is None
    assert datetime_of("20240102", "") is None
    assert datetime_of("2024", None) is None


def test_offsets_are_turned_into_local_time():
    assert datetime_of("20240102103000+0530", None, local_offset="+0100") == datetime(2024, 1, 2, 6, 0)
    assert datetime_of("20240101233000-0500", None, local_offset="+0000") == datetime(2024, 1, 2, 4, 30)
    notes: list[str] = []
    assert datetime_of("20240102103000+0530", None, notes=notes) == datetime(2024, 1, 2, 10, 30)
    assert "+0530" in notes[0]
