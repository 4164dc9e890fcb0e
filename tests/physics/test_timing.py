"""Which account of the decay-correction reference wins, and what the others are for."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uptake.core.errors import MissingAttributeError
from uptake.physics.decay import decay_factor, decay_within_frame, mean_count_rate_time_s
from uptake.physics.timing import AcquisitionTimes, reference_time

F18 = 6586.2
ELEVEN = datetime(2024, 1, 2, 11, 0, 0)


def minutes(value: float) -> timedelta:
    return timedelta(minutes=value)


def standing(found, source):
    (account,) = [account for account in found.accounts if source in account.source]
    return account.standing


def frames(*starts_min, reference=ELEVEN, duration_s=180.0, at_start=False, factors=False, **others):
    """Frames that begin some minutes after `reference`, with Frame Reference Time as the vendor counts it."""
    average_s = 0.0 if at_start else mean_count_rate_time_s(duration_s, F18)
    applied = [decay_within_frame(duration_s, F18) / decay_factor(60 * m, F18) for m in starts_min]
    return AcquisitionTimes(
        acquisition=tuple(reference + minutes(m) for m in starts_min),
        frame_reference_s=tuple(60 * m + average_s for m in starts_min),
        frame_duration_s=(duration_s,) * len(starts_min),
        decay_factors=tuple(applied) if factors else (),
        **others,
    )


def test_series_time_wins_when_it_is_not_after_the_first_acquisition():
    times = AcquisitionTimes(acquisition=(ELEVEN + minutes(6), ELEVEN, ELEVEN + minutes(3)), series=ELEVEN)
    found = reference_time(times, F18)
    assert found.moment == ELEVEN
    assert found.source.startswith("Series Time")
    assert found.warnings == ()
    assert [account.standing for account in found.accounts] == ["absent"] * 3 + ["used", "absent", "agrees", "absent"]


def test_a_rounded_series_time_is_not_a_later_one():
    # A public Siemens header: series 12:35:15, acquisition 12:35:14.999995.
    times = AcquisitionTimes(acquisition=(ELEVEN - timedelta(microseconds=5),), series=ELEVEN)
    assert reference_time(times, F18).moment == ELEVEN


def test_a_rewritten_series_time_gives_way_to_the_earliest_acquisition():
    times = AcquisitionTimes(acquisition=(ELEVEN + minutes(3), ELEVEN), series=ELEVEN + minutes(45))
    found = reference_time(times, F18)
    assert found.moment == ELEVEN
    assert "earliest" in found.source
    assert "2700 s after" in found.warnings[0]
    assert standing(found, "Series") == "left out"


@pytest.mark.parametrize(
    ("name", "source"),
    [("siemens_decay_correction", "Siemens"), ("ge_scan", "GE"), ("decay_correction", "(0018,9701)")],
)
def test_explicit_times_win_and_the_others_are_cross_checks(name, source):
    early = ELEVEN - minutes(5)
    found = reference_time(AcquisitionTimes(acquisition=(ELEVEN,), series=ELEVEN, **{name: early}), F18)
    assert found.moment == early
    assert source in found.source
    assert any("Series Time" in text and "300 s later" in text for text in found.warnings)
    assert standing(found, "Series") == "differs"


def test_explicit_times_are_believed_in_their_order():
    times = AcquisitionTimes(
        acquisition=(ELEVEN,), siemens_decay_correction=ELEVEN, ge_scan=ELEVEN - minutes(1), decay_correction=ELEVEN
    )
    assert reference_time(times, F18).source.startswith("Siemens")
    assert reference_time(replace(times, siemens_decay_correction=None), F18).source.startswith("GE")


def test_a_time_of_post_processing_and_a_private_time_before_the_scan():
    # The public GE object: private time 11:00, acquisition 11:30, Frame Reference Time of a frame that starts at once.
    times = frames(0.0, reference=ELEVEN + minutes(30), ge_scan=ELEVEN, series=ELEVEN)
    found = reference_time(times, F18)
    assert (found.moment, found.source) == (ELEVEN, "GE Scan DateTime (0009,100D)")
    assert standing(found, "Series") == "agrees"
    assert standing(found, "Frame Reference") == "differs"


@pytest.mark.parametrize("name", ["siemens_decay_correction", "ge_scan", "decay_correction"])
def test_a_stale_date_keeps_its_time_of_day(name):
    stale = AcquisitionTimes(acquisition=(ELEVEN,), **{name: ELEVEN - timedelta(days=400, minutes=5)})
    found = reference_time(stale, F18)
    assert found.moment == ELEVEN - minutes(5)
    assert any("stale date" in text for text in found.warnings)
    # Across midnight, too.
    night = AcquisitionTimes(acquisition=(datetime(2024, 1, 2, 0, 10),), **{name: datetime(2019, 3, 4, 23, 55)})
    assert reference_time(night, F18).moment == datetime(2024, 1, 1, 23, 55)


def test_a_series_of_another_day_is_earlier_by_a_shifted_date_or_later_by_post_processing():
    shifted = AcquisitionTimes(acquisition=(ELEVEN,), series=ELEVEN - timedelta(days=30, minutes=3))
    found = reference_time(shifted, F18)
    assert (found.moment, found.source) == (ELEVEN - minutes(3), "Series Time (0008,0031)")
    # Processed again the next morning: its time of day is no reference.
    again = AcquisitionTimes(acquisition=(ELEVEN,), series=ELEVEN + timedelta(hours=23))
    assert reference_time(again, F18).source.startswith("earliest")


def test_decay_correction_datetime_may_be_days_before_the_scan_of_a_long_lived_nuclide():
    times = AcquisitionTimes(acquisition=(ELEVEN,), decay_correction=ELEVEN - timedelta(days=6))
    assert reference_time(times, 282276.0).moment == ELEVEN - timedelta(days=6)
    assert reference_time(times, F18).moment == ELEVEN


def test_times_hours_before_the_scan_are_left_out_unless_confirmed():
    # Anonymisation wrote 00:00.
    midnight = datetime(2024, 1, 2)
    found = reference_time(AcquisitionTimes(acquisition=(ELEVEN,), series=midnight, ge_scan=midnight), F18)
    assert found.moment == ELEVEN
    assert [text.split(" is ")[0] for text in found.warnings] == [
        "GE Scan DateTime (0009,100D)",
        "Series Time (0008,0031)",
    ]
    # A late frame of a long scan, reconstructed as one image, is hours after the series.
    late = frames(150.0, reference=ELEVEN, series=ELEVEN)
    assert reference_time(late, F18).moment == ELEVEN
    assert reference_time(late, F18).source.startswith("Series")
    # (0018,9701) may name any moment.
    explicit = AcquisitionTimes(acquisition=(ELEVEN,), decay_correction=ELEVEN - minutes(180))
    assert reference_time(explicit, F18).moment == ELEVEN - minutes(180)


@pytest.mark.parametrize("at_start", [False, True])
def test_frame_reference_time_leads_back_from_a_cropped_series(at_start):
    # Beds 12 and 15 min into the scan, Series Time rewritten.
    times = frames(12.0, 15.0, at_start=at_start, series=ELEVEN + minutes(90), factors=True)
    found = reference_time(times, F18)
    assert abs(found.moment - ELEVEN) < timedelta(seconds=1e-3)
    assert found.source.startswith("Frame Reference Time")
    assert standing(found, "Decay Factor") == "agrees"
    # The first bed that is left is 12 min late, which Decay Factor explains.
    assert [text.split(" is ")[0] for text in found.warnings] == ["Series Time (0008,0031)"]


def test_decay_factor_tells_how_frame_reference_time_is_counted():
    times = frames(12.0, at_start=True, factors=True)
    assert reference_time(times, F18).moment == ELEVEN
    # Without it the vendor, without the vendor the mean count rate: wrong by T_ave for this frame.
    blind = replace(times, decay_factors=())
    assert reference_time(replace(blind, frame_reference_at_start=True), F18).moment == ELEVEN
    off = (reference_time(blind, F18).moment - ELEVEN).total_seconds()
    assert off == pytest.approx(mean_count_rate_time_s(180.0, F18))


def test_a_frame_reference_time_of_zero_is_the_start_of_the_frame():
    # A public CPS header: acquisition 13:03:48, Frame Reference Time 0, 180 s, Series Time 45 min later.
    times = frames(0.0, 4.0, at_start=True, duration_s=240.0, series=ELEVEN + minutes(45))
    found = reference_time(times, F18)
    assert found.moment == ELEVEN
    assert len(found.warnings) == 1


def test_frames_that_agree_among_themselves_overrule_series_time():
    # Series Time of when the series was created, ten minutes before the scan; two beds lead to 11:00.
    times = frames(0.0, 5.0, series=ELEVEN - minutes(10))
    found = reference_time(times, F18)
    assert abs(found.moment - ELEVEN) < timedelta(milliseconds=1)
    assert any("Series Time" in text and "600 s earlier" in text for text in found.warnings)


def test_one_frame_does_not_overrule_series_time():
    # A public Philips header: acquisition time of the series in every slice, Frame Reference Time of the eleventh bed.
    times = replace(frames(21.0, series=ELEVEN), acquisition=(ELEVEN,))
    found = reference_time(times, F18)
    assert found.moment == ELEVEN
    assert any("(0054,1300)" in text and "1260 s earlier" in text for text in found.warnings)


def test_a_frame_convention_does_not_overrule_series_time():
    # Counted to the start, read as to the mean: 90 s, less than the frame.
    times = replace(frames(12.0, 15.0, at_start=True), series=ELEVEN)
    found = reference_time(times, F18)
    assert (found.moment, found.source) == (ELEVEN, "Series Time (0008,0031)")
    assert "90 s later" in found.warnings[0]


def test_frame_reference_times_that_say_several_moments_are_passed_over():
    # The public GE series: one acquisition time for all beds, frame reference times that grow.
    times = replace(frames(0.0, 4.0, series=ELEVEN), acquisition=(ELEVEN, ELEVEN))
    found = reference_time(times, F18)
    assert (found.moment, found.warnings) == (ELEVEN, ())
    assert standing(found, "Frame Reference") == "left out"
    assert "240 s apart" in next(account.remark for account in found.accounts if "Frame Reference" in account.source)


def test_a_reference_after_the_acquisition_is_passed_over():
    # Negative Frame Reference Time.
    times = replace(frames(0.0), frame_reference_s=(-600.0,))
    assert standing(reference_time(times, F18), "Frame Reference") == "left out"


def test_a_decay_factor_of_one_is_not_filled_in():
    times = replace(frames(0.0, series=ELEVEN), decay_factors=(1.0,))
    found = reference_time(times, F18)
    assert found.warnings == ()
    assert standing(found, "Decay Factor") == "left out"


def test_a_decay_factor_that_disagrees_is_reported():
    times = replace(frames(0.0, series=ELEVEN), decay_factors=(1.2,))
    (text,) = reference_time(times, F18).warnings
    elapsed_s = math.log2(1.2) * F18 - mean_count_rate_time_s(180.0, F18)
    assert f"Decay Factor (0054,1321) would place it {elapsed_s:.0f} s earlier" in text


@pytest.mark.parametrize("broken", [0.0, -1.0, math.nan, math.inf])
def test_numbers_out_of_range_decide_nothing(broken):
    times = frames(0.0, 4.0, series=ELEVEN, factors=True)
    for name in ("frame_duration_s", "decay_factors"):
        assert reference_time(replace(times, **{name: (broken, broken)}), F18).moment == ELEVEN


def test_no_acquisition_time_is_refused_unless_the_reference_is_named():
    with pytest.raises(MissingAttributeError, match=r"\(0008,0032\)"):
        reference_time(AcquisitionTimes(acquisition=(), series=ELEVEN), F18)
    named = AcquisitionTimes(acquisition=(), series=ELEVEN + minutes(30), siemens_decay_correction=ELEVEN)
    found = reference_time(named, F18)
    assert found.moment == ELEVEN
    assert "1800 s later" in found.warnings[0]


@given(
    starts=st.lists(st.floats(0.0, 60.0), min_size=1, max_size=6),
    at_start=st.booleans(),
    duration_s=st.floats(30.0, 600.0),
    series_min=st.one_of(st.none(), st.just(0.0), st.floats(61.0, 300.0)),
)
def test_a_consistent_header_leads_to_its_reference(starts, at_start, duration_s, series_min):
    series = None if series_min is None else ELEVEN + minutes(series_min)
    times = frames(*starts, at_start=at_start, duration_s=duration_s, factors=True, series=series)
    found = reference_time(times, F18)
    assert abs((found.moment - ELEVEN).total_seconds()) < 0.01
