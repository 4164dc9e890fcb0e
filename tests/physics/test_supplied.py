"""Values of the caller: they fill gaps, they are recorded, and they replace what is there only when asked."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from uptake.core.errors import MissingAttributeError, UnitError, UsageError
from uptake.physics.supplied import choose
from uptake.physics.suv import SuppliedValues, suv_conversion
from uptake.physics.timing import AcquisitionTimes

TEN = datetime(2024, 1, 2, 10, 0)
ELEVEN = datetime(2024, 1, 2, 11, 0)
FACTOR = 70000 / (350e6 * 2 ** (-3600 / 6586.2))


@pytest.mark.parametrize(
    ("gap", "supplied"),
    [
        ({"patient_weight_kg": None}, {"weight_kg": 70.0}),
        ({"patient_weight_kg": 0.0}, {"weight_kg": 70.0}),
        ({"injected_dose_bq": None}, {"dose_mbq": 350.0}),
        ({"half_life_s": None}, {"half_life_s": 6586.2}),
        ({"injection_date_and_time": None}, {"injection": TEN}),
        ({"times": AcquisitionTimes(())}, {"reference": ELEVEN}),
    ],
)
def test_a_gap_is_filled_and_recorded(gap, supplied, record):
    with pytest.raises(MissingAttributeError):
        suv_conversion(replace(record, **gap))
    found = suv_conversion(replace(record, **gap), SuppliedValues(**supplied))
    assert found.factor == pytest.approx(FACTOR)
    assert found.warnings == ()
    (choice,) = found.supplied.values()
    assert choice.replaced


@pytest.mark.parametrize(
    ("supplied", "change", "attribute"),
    [
        ({"weight_kg": 80.0}, 80 / 70, r"Patient's Weight (0010,1030) is 70 in the header but 80 was supplied"),
        ({"dose_mbq": 700.0}, 0.5, "(0018,1074) is 3.5e+08 in the header but 7e+08 was supplied"),
        ({"half_life_s": 4062.6}, 0.68463 / 0.54106, "(0018,1075) is 6586.2 in the header but 4062.6 was supplied"),
        ({"injection": TEN - timedelta(hours=1)}, 1 / 0.68463, "(0018,1078) is 2024-01-02 10:00:00 in the header"),
        ({"reference": ELEVEN - timedelta(hours=1)}, 0.68463, "reference is 2024-01-02 11:00:00 in the header"),
    ],
)
def test_a_contradiction_is_a_warning_and_the_header_wins_unless_asked(supplied, change, attribute, record):
    kept = suv_conversion(record, SuppliedValues(**supplied))
    assert kept.factor == pytest.approx(FACTOR)
    assert attribute in kept.warnings[0]
    assert "the header's was used" in kept.warnings[0]
    replaced = suv_conversion(record, SuppliedValues(**supplied, replace_header=True))
    assert replaced.factor == pytest.approx(FACTOR * change, rel=1e-5)
    assert "the supplied was used" in replaced.warnings[0]


def test_what_is_the_same_is_no_contradiction(record):
    found = suv_conversion(record, SuppliedValues(weight_kg=70.3, dose_mbq=350.0, injection=TEN, replace_header=True))
    assert (found.factor, found.warnings) == (pytest.approx(FACTOR), ())
    assert not any(choice.replaced for choice in found.supplied.values())


def test_contradictory_injection_times_need_an_explicit_replacement(record):
    changed = replace(record, injection_time_only=timedelta(hours=9))
    for supplied in (SuppliedValues(), SuppliedValues(injection=TEN)):
        with pytest.raises(UnitError, match=r"\(0018,1072\) is 09:00:00; they contradict"):
            suv_conversion(changed, supplied)
    assert suv_conversion(changed, SuppliedValues(injection=TEN, replace_header=True)).factor == pytest.approx(FACTOR)


def test_a_half_life_of_another_nuclide_needs_an_explicit_replacement(record):
    changed = replace(record, half_life_s=1.83)
    with pytest.raises(UnitError, match="expected seconds"):
        suv_conversion(changed, SuppliedValues(half_life_s=6586.2))
    assert suv_conversion(changed, SuppliedValues(half_life_s=6586.2, replace_header=True)).factor == pytest.approx(
        FACTOR
    )


def test_supplied_times_are_checked_as_those_of_the_header(record):
    changed = replace(record, injection_date_and_time=None)
    with pytest.raises(UnitError, match=r"-60\.0 min after the injection"):
        suv_conversion(changed, SuppliedValues(injection=ELEVEN + timedelta(hours=1)))


def test_height_and_sex_complete_a_lean_mass(record):
    lean = replace(record, units="GML", suv_type="LBMJANMA", patient_height_m=None, patient_sex="")
    found = suv_conversion(lean, SuppliedValues(height_m=1.75, sex="M"))
    assert found.factor == pytest.approx(70 / 55.857, rel=1e-5)
    assert set(found.supplied) == {"height_m", "sex"}


def test_what_does_not_enter_is_said(record):
    stored = replace(record, units="GML", patient_weight_kg=None, injection_date_and_time=None)
    found = suv_conversion(stored, SuppliedValues(weight_kg=70.0, injection=TEN))
    assert found.factor == 1.0
    assert found.uptake_time_s == 3600
    assert found.warnings == (
        "weight_kg was supplied, but does not enter the SUV rule GML/BW.",
        "injection was supplied, but does not enter the SUV rule GML/BW.",
    )


def test_a_supplied_weight_explains_why_the_philips_factors_differ(record):
    counts = replace(record, units="CNTS", philips_activity_factors=(1.0,), philips_suv_factors=(FACTOR,))
    found = suv_conversion(counts, SuppliedValues(weight_kg=100.0, replace_header=True))
    assert found.factor == pytest.approx(FACTOR * 100 / 70)
    assert any("The Philips scale factors disagree" in text for text in found.warnings)


def test_choose_takes_what_there_is():
    assert choose("x", None, None, replace_header=True).value is None
    assert choose("x", "M", "F", replace_header=False).value == "M"
    later = datetime(2024, 1, 1, 10, 0, 59)
    assert choose("x", datetime(2024, 1, 1, 10), later, replace_header=True).warning is None


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"weight_kg": 70000.0}, "weight_kg is 70000; expected 0.01 to 500 kg"),
        ({"weight_kg": float("nan")}, "weight_kg is nan"),
        ({"height_m": 175.0}, "height_m is 175; expected 0.3 to 2.6 m"),
        ({"dose_mbq": 3.5e8}, "dose_mbq is 3.5e\\+08; expected 0.01 to 100000 MBq"),
        ({"half_life_s": 1.83}, "half_life_s is 1.83; expected 10"),
        ({"sex": "male"}, "sex is 'male'; expected M, F, O"),
        ({"injection": datetime(2024, 1, 1, tzinfo=UTC)}, "without a zone"),
        ({"reference": datetime(1, 1, 1)}, "reference is 0001-01-01T00:00:00; expected a date"),
    ],
)
def test_values_in_another_unit_are_refused_at_the_door(value, message):
    with pytest.raises(UsageError, match=message):
        SuppliedValues(**value)
