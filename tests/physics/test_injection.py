from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uptake.core.errors import MissingAttributeError, UnitError
from uptake.physics.injection import injection_time, require_uptake

F18 = 6586.2
ZR89 = 282276.0
ELEVEN = datetime(2024, 1, 2, 11, 0, 0)


def found(date_and_time=None, time_only=None, *, reference=ELEVEN, half_life_s=F18, zone_unknown=False):
    return injection_time(
        reference=reference,
        half_life_s=half_life_s,
        date_and_time=date_and_time,
        time_only=time_only,
        zone_unknown=zone_unknown,
    )


def clock(text: str) -> timedelta:
    moment = datetime.strptime(text, "%H:%M:%S")
    return timedelta(hours=moment.hour, minutes=moment.minute, seconds=moment.second)


def test_injection_before_midnight():
    moment, notes = found(time_only=clock("23:30:00"), reference=datetime(2024, 1, 2, 0, 30))
    assert moment == datetime(2024, 1, 1, 23, 30)
    assert "day before" in notes[0]


def test_injection_just_after_a_dynamic_scan_began_before_midnight():
    moment, _ = found(time_only=clock("00:00:30"), reference=datetime(2024, 1, 1, 23, 59, 30))
    assert moment == datetime(2024, 1, 2, 0, 0, 30)


def test_a_day_before_that_is_hours_ago_is_no_midnight():
    # 20:00 against a scan at 10:00: a wrong time, not an injection 14 h earlier.
    with pytest.raises(UnitError, match=r"840.0 min after the injection; expected .* 4 half-lives"):
        found(time_only=clock("20:00:00"), reference=datetime(2024, 1, 2, 10, 0))
    with pytest.raises(UnitError, match=r"-600.0 min after the injection"):
        found(datetime(2024, 1, 2, 20, 0), reference=datetime(2024, 1, 2, 10, 0))


def test_date_and_time_is_preferred():
    assert found(ELEVEN - timedelta(hours=1), clock("10:00:30")) == (ELEVEN - timedelta(hours=1), ())


@pytest.mark.parametrize("date", [(2019, 5, 5), (2024, 1, 3), (2024, 1, 1)])
def test_a_shifted_date_keeps_its_time_of_day(date):
    # (2024, 1, 3): a public GE header whose injection is dated the day after its scan.
    shifted, notes = found(datetime(*date, 10, 0))
    assert shifted == ELEVEN - timedelta(hours=1)
    assert "date that does not fit" in notes[0]


def test_a_scan_that_starts_shortly_before_the_injection_is_accepted():
    moment, _ = found(time_only=clock("11:01:30"))
    assert moment > ELEVEN


def test_long_lived_nuclides_need_a_date():
    with pytest.raises(MissingAttributeError, match=r"\(0018,1078\) is absent; a nuclide with a half-life of 78.4 h"):
        found(time_only=clock("09:00:00"), half_life_s=ZR89)
    moment, _ = found(ELEVEN - timedelta(days=5), half_life_s=ZR89)
    assert ELEVEN - moment == timedelta(days=5)
    with pytest.raises(UnitError, match="min after the injection"):
        found(ELEVEN - timedelta(days=400), half_life_s=ZR89)


def test_no_injection_time_is_refused():
    with pytest.raises(MissingAttributeError, match=r"\(0018,1078\) and .* \(0018,1072\) are absent"):
        found()


@pytest.mark.parametrize("early_min", [-3.0, 18 * 60.0])
def test_impossible_uptake_times_are_refused(early_min):
    with pytest.raises(UnitError, match="min after the injection"):
        found(ELEVEN - timedelta(minutes=early_min))
    with pytest.raises(UnitError, match="min after the injection"):
        require_uptake(ELEVEN - timedelta(minutes=early_min), ELEVEN, F18)


def test_two_times_that_contradict_are_refused():
    with pytest.raises(UnitError, match=r"\(0018,1078\) is 10:00:00 but .* \(0018,1072\) is 09:00:00"):
        found(ELEVEN - timedelta(hours=1), clock("09:00:00"))
    # Around midnight they may stand on two days.
    moment, notes = found(datetime(2024, 1, 1, 23, 59, 50), clock("00:00:10"), reference=datetime(2024, 1, 2, 1, 0))
    assert (moment, notes) == (datetime(2024, 1, 1, 23, 59, 50), ())


def test_an_unknown_time_zone_is_settled_by_the_local_time():
    utc = ELEVEN - timedelta(hours=3)
    moment, notes = found(utc, clock("10:00:00"), zone_unknown=True)
    assert moment == ELEVEN - timedelta(hours=1)
    assert "another time zone" in notes[0]
    with pytest.raises(UnitError, match="contradict"):
        found(utc, clock("10:07:00"), zone_unknown=True)


@given(
    reference=st.datetimes(datetime(2000, 1, 1), datetime(2030, 1, 1)),
    elapsed_s=st.floats(-115.0, 4 * F18 - 5.0),
    dated=st.booleans(),
)
def test_any_possible_injection_is_found_from_either_attribute(reference, elapsed_s, dated):
    injection = reference - timedelta(seconds=elapsed_s)
    midnight = datetime.combine(injection.date(), datetime.min.time())
    moment, _ = found(injection if dated else None, None if dated else injection - midnight, reference=reference)
    assert moment == injection
