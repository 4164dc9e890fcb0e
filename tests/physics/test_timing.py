from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from uptake.core.errors import MissingAttributeError, UnitError
from uptake.physics.timing import AcquisitionTimes, injection_time, reference_time

F18 = 6586.2
ELEVEN = datetime(2024, 1, 2, 11, 0, 0)


def minutes(value: float) -> timedelta:
    return timedelta(minutes=value)


def test_series_time_wins_when_it_is_not_after_the_first_acquisition():
    times = AcquisitionTimes(acquisition=(ELEVEN + minutes(6), ELEVEN, ELEVEN + minutes(3)), series=ELEVEN)
    found = reference_time(times, F18)
    assert found.moment == ELEVEN
    assert found.source.startswith("Series Time")
    assert found.warnings == ()


def test_a_rewritten_series_time_gives_way_to_the_earliest_acquisition():
    times = AcquisitionTimes(acquisition=(ELEVEN + minutes(3), ELEVEN), series=ELEVEN + minutes(45))
    found = reference_time(times, F18)
    assert found.moment == ELEVEN
    assert "earliest" in found.source
    assert "2700 s after" in found.warnings[0]


@pytest.mark.parametrize("vendor", ["ge_scan", "siemens_decay_correction"])
def test_private_times_win_and_the_others_are_cross_checks(vendor):
    early = ELEVEN - minutes(5)
    found = reference_time(AcquisitionTimes(acquisition=(ELEVEN,), series=ELEVEN, **{vendor: early}), F18)
    assert found.moment == early
    assert ("GE" if vendor == "ge_scan" else "Siemens") in found.source
    assert any("Series Time" in text and "300 s later" in text for text in found.warnings)


def test_siemens_goes_before_ge():
    found = reference_time(
        AcquisitionTimes(acquisition=(ELEVEN,), siemens_decay_correction=ELEVEN, ge_scan=ELEVEN - minutes(1)), F18
    )
    assert found.source.startswith("Siemens")


def test_a_private_date_left_behind_by_anonymisation_is_not_used():
    stale = AcquisitionTimes(acquisition=(ELEVEN,), series=ELEVEN, ge_scan=ELEVEN - timedelta(days=400))
    found = reference_time(stale, F18)
    assert found.moment == ELEVEN
    assert "stale date" in found.warnings[0]


def test_frame_reference_time_is_a_cross_check():
    # t_acq + T_ave - FRT = 11:20 + 1.5 min - 1.5 min = 11:20, twenty minutes after the series time.
    times = AcquisitionTimes(
        acquisition=(ELEVEN + minutes(20),), series=ELEVEN, frame_reference_s=(89.858,), frame_duration_s=(180.0,)
    )
    found = reference_time(times, F18)
    assert found.moment == ELEVEN
    assert any("(0054,1300)" in text and "1200 s later" in text for text in found.warnings)


def test_frame_reference_time_of_ge_is_the_start_of_the_frame():
    times = AcquisitionTimes(
        acquisition=(ELEVEN, ELEVEN + minutes(4)),
        series=ELEVEN,
        frame_reference_s=(0.0, 240.0),
        frame_duration_s=(240.0, 240.0),
        frame_reference_at_start=True,
    )
    assert reference_time(times, F18).warnings == ()
    assert len(reference_time(replace(times, frame_reference_at_start=False), F18).warnings) == 1


def test_frame_reference_times_that_say_several_moments_are_passed_over():
    # The public GE series: one acquisition time for all beds, frame reference times that grow.
    times = AcquisitionTimes(
        acquisition=(ELEVEN, ELEVEN), series=ELEVEN, frame_reference_s=(0.0, 243.0), frame_duration_s=(240.0, 240.0)
    )
    assert reference_time(times, F18).warnings == ()


def test_no_acquisition_time_is_refused():
    with pytest.raises(MissingAttributeError, match=r"\(0008,0032\)"):
        reference_time(AcquisitionTimes(acquisition=(), series=ELEVEN), F18)


def test_injection_before_midnight():
    moment, notes = injection_time(
        reference=datetime(2024, 1, 2, 0, 30),
        half_life_s=F18,
        date_and_time=None,
        time_only=timedelta(hours=23, minutes=30),
    )
    assert moment == datetime(2024, 1, 1, 23, 30)
    assert "day before" in notes[0]


def test_date_and_time_is_preferred_and_a_shifted_date_is_not():
    given, notes = injection_time(
        reference=ELEVEN, half_life_s=F18, date_and_time=ELEVEN - minutes(60), time_only=timedelta(hours=3)
    )
    assert (given, notes) == (ELEVEN - minutes(60), ())
    shifted, notes = injection_time(
        reference=ELEVEN, half_life_s=F18, date_and_time=datetime(2019, 5, 5, 10, 0), time_only=None
    )
    assert shifted == ELEVEN - minutes(60)
    assert "more than a day" in notes[0]


def test_a_scan_that_starts_shortly_before_the_injection_is_accepted():
    moment, _ = injection_time(
        reference=ELEVEN, half_life_s=F18, date_and_time=None, time_only=timedelta(hours=11, seconds=90)
    )
    assert moment > ELEVEN


def test_long_lived_nuclides_need_a_date():
    with pytest.raises(MissingAttributeError, match=r"\(0018,1078\) is absent; a nuclide with a half-life of 78.4 h"):
        injection_time(reference=ELEVEN, half_life_s=282276.0, date_and_time=None, time_only=timedelta(hours=9))
    moment, _ = injection_time(
        reference=ELEVEN, half_life_s=282276.0, date_and_time=ELEVEN - timedelta(days=5), time_only=None
    )
    assert ELEVEN - moment == timedelta(days=5)


def test_no_injection_time_is_refused():
    with pytest.raises(MissingAttributeError, match=r"\(0018,1072\) are absent"):
        injection_time(reference=ELEVEN, half_life_s=F18, date_and_time=None, time_only=None)


@pytest.mark.parametrize("early", [-3.0, 18 * 60.0])
def test_impossible_uptake_times_are_refused(early):
    with pytest.raises(UnitError, match="min after the injection"):
        injection_time(reference=ELEVEN, half_life_s=F18, date_and_time=ELEVEN - minutes(early), time_only=None)
