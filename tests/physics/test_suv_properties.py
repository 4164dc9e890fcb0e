"""Any combination of attributes: the number by hand where they allow one, a refusal that names a tag where not."""

from __future__ import annotations

import json
import math
import re
from datetime import datetime, timedelta

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from uptake.core.errors import InputError
from uptake.physics.body import body_surface_m2, ideal_weight_kg, lean_mass_janmahasatian_kg, lean_mass_morgan_kg
from uptake.physics.radionuclides import radionuclide_of_code
from uptake.physics.suv import SuvRecord, suv_conversion
from uptake.physics.suv_audit import described, recompute_factor
from uptake.physics.timing import AcquisitionTimes

ELEVEN = datetime(2024, 1, 2, 11, 0)
TEN = datetime(2024, 1, 2, 10, 0)
F18, GA68 = 6586.2, 4062.6
F, GA = radionuclide_of_code("C-111A1"), radionuclide_of_code("C-131A3")
FRAME_S = 300.0
BEDS = tuple(ELEVEN + timedelta(minutes=m) for m in (0, 5, 10))
DIRECT = 2.5 * 70000 / (350e6 * 2 ** (-3600 / F18))
"""Philips SUV factor that agrees with an activity factor of 2.5 for F-18, START."""


class Missing(Exception):
    """No number, for something is absent."""


class Contradiction(Exception):
    """No number, for something is wrong."""


def mostly(value, *others):
    """Draw `value` three times out of four, so that whole headers come up often."""
    return st.one_of(st.just(value), st.just(value), st.just(value), st.sampled_from([value, *others]))


@st.composite
def records(draw):
    acquisition = draw(mostly(BEDS, (ELEVEN,), (ELEVEN, ELEVEN), ()))
    slices = max(len(acquisition), 1)
    duration_s = draw(mostly(FRAME_S, None, 0.0))
    counted = draw(st.booleans())
    reference = [FRAME_S / 2 - 0.4 + (moment - ELEVEN).total_seconds() for moment in acquisition]
    times = AcquisitionTimes(
        acquisition=acquisition,
        series=draw(mostly(ELEVEN, None, ELEVEN + timedelta(minutes=30))),
        frame_duration_s=() if duration_s is None else (duration_s,) * slices,
        frame_reference_s=tuple(reference) if counted else (),
    )
    return SuvRecord(
        units=draw(
            st.one_of(
                st.sampled_from(["BQML", "BQML", "CNTS", "GML", "CM2ML"]),
                mostly("BQML", "", "CPS", "PROPCPS", "PROPCNTS", "1CM", "ODD"),
            )
        ),
        decay_correction=draw(mostly("START", "ADMIN", "NONE", "NONE", "", "ODD")),
        patient_weight_kg=draw(mostly(70.0, None, 0.0, -1.0, math.nan, 70000.0)),
        patient_height_m=draw(mostly(1.75, None, 0.0, 175.0, 20.0)),
        patient_sex=draw(mostly("F", "M", "O", "", "X")),
        injected_dose_bq=draw(mostly(350e6, None, 0.0, math.nan, 350.0, 1e13)),
        half_life_s=draw(mostly(F18, None, 0.0, GA68, 1.83)),
        nuclides=draw(mostly((F,), (), (GA,), (F, GA))),
        times=times,
        injection_date_and_time=draw(mostly(TEN, None, TEN + timedelta(hours=2), TEN - timedelta(days=900))),
        injection_time_only=draw(mostly(None, timedelta(hours=10), timedelta(hours=9))),
        suv_type=draw(mostly("", "BW", "LBMJANMA", "LBM", "IBW", "BSA", "ODD")),
        corrected_image=draw(mostly(("ATTN", "DECY"), (), ("ATTN",), ("DECY",))),
        series_type=draw(mostly(("STATIC", "IMAGE"), (), ("STATIC", "REPROJECTION"), ("DYNAMIC", "IMAGE"))),
        philips_activity_factors=draw(mostly((2.5,) * slices, (), (0.0,) * slices)),
        philips_suv_factors=draw(mostly((), (DIRECT,) * slices, (0.0,) * slices)),
    )


def positive(value):
    if value is None or not value > 0:
        raise Missing
    return value


def weight_kg(record):
    value = positive(record.patient_weight_kg)
    return value / 1000 if value > 1000 else value


def dose_bq(record):
    value = positive(record.injected_dose_bq)
    if value == 1e13:
        raise Contradiction
    return value * 1e6 if value < 1e4 else value


def half_life_s(record):
    coded = {F: F18, GA: GA68}
    if record.half_life_s in (None, 0.0):
        if not record.nuclides:
            raise Missing
        if len(record.nuclides) > 1:
            raise Contradiction
        return coded[record.nuclides[0]]
    if record.half_life_s == 1.83 or record.half_life_s not in [coded[n] for n in record.nuclides or coded]:
        raise Contradiction
    return record.half_life_s


def injection(record):
    moment, clock = record.injection_date_and_time, record.injection_time_only
    if moment is None and clock is None:
        raise Missing
    hours = {time for time in (moment and moment.hour, clock and clock.seconds // 3600) if time is not None}
    if len(hours) > 1 or hours == {12}:
        raise Contradiction
    return datetime(2024, 1, 2, hours.pop())


def of_activity(record):
    correction, times = record.decay_correction, record.times
    if correction == "":
        raise Missing
    if correction == "ODD":
        raise Contradiction
    per_bq = weight_kg(record) * 1000 / dose_bq(record)
    if correction == "ADMIN":
        try:
            half_life_s(record)
            if times.acquisition:
                injection(record)
        except Missing:
            pass
        return [per_bq]
    half = half_life_s(record)
    if not times.acquisition:
        raise Missing
    if correction == "START":
        return [per_bq * 2 ** ((ELEVEN - injection(record)).total_seconds() / half)]
    if not times.frame_duration_s:
        raise Missing
    if min(times.frame_duration_s) <= 0:
        raise Contradiction
    exponent = math.log(2) * FRAME_S / half
    since = [(moment - injection(record)).total_seconds() for moment in times.acquisition]
    return [per_bq * exponent / (1 - math.exp(-exponent)) * 2 ** (s / half) for s in since]


def of_counts(record):
    activity = [f for f in record.philips_activity_factors if f > 0]
    direct = [f for f in record.philips_suv_factors if f > 0]
    if record.decay_correction == "":
        raise Missing
    if record.decay_correction == "ODD" or not (activity or direct):
        raise Contradiction
    if activity:
        try:
            factors = [2.5 * factor for factor in of_activity(record)]
        except Missing:
            if not direct or record.decay_correction == "NONE":
                raise
        else:
            if direct and record.decay_correction != "NONE" and abs(DIRECT / factors[0] - 1) > 0.1:
                raise Contradiction
            return factors
    if record.decay_correction == "NONE":
        raise Contradiction
    return [DIRECT]


def of_stored_suv(record):
    kind = record.suv_type or ("BSA" if record.units == "CM2ML" else "BW")
    if kind == "ODD" or (kind == "BSA") != (record.units == "CM2ML") or record.decay_correction in ("NONE", "ODD"):
        raise Contradiction
    if kind == "BW":
        return [1.0]
    kg = weight_kg(record)
    height_m = positive(record.patient_height_m)
    height_m = height_m / 100 if height_m > 3 else height_m
    if height_m < 0.3:
        raise Missing
    if kind == "BSA":
        return [kg * 1000 / (body_surface_m2(kg, height_m) * 1e4)]
    if record.patient_sex not in ("M", "F", "O"):
        raise Missing
    mass = {"LBMJANMA": lean_mass_janmahasatian_kg, "LBM": lean_mass_morgan_kg, "IBW": ideal_weight_kg}[kind]
    return [kg / mass(kg, height_m, record.patient_sex)]


def expected(record):
    if "REPROJECTION" in record.series_type or "DYNAMIC" in record.series_type:
        raise Contradiction
    rules = {"BQML": of_activity, "CNTS": of_counts, "GML": of_stored_suv, "CM2ML": of_stored_suv}
    if record.units not in rules:
        raise Contradiction
    wanted = {"ATTN"} if record.decay_correction == "NONE" else {"ATTN", "DECY"}
    if record.corrected_image and not wanted <= set(record.corrected_image):
        raise Contradiction
    return rules[record.units](record)


@given(records())
@settings(max_examples=250)
def test_a_number_by_hand_or_a_refusal_by_tag(record):
    try:
        factors = expected(record)
    except (Missing, Contradiction):
        factors = None
    try:
        found = suv_conversion(record)
    except InputError as error:
        assert factors is None, str(error)
        assert re.search(r"\([0-9A-F]{4},[0-9A-F]{4}\)", str(error)), str(error)
        return
    assert factors is not None, f"a number without grounds: {found}"
    # Frame Reference Time in `records` is given to a tenth of a second.
    relative = 1e-4 if found.reference and "Frame Reference" in found.reference.source else 1e-9
    np.testing.assert_allclose(found.slice_factors or [found.factor], np.unique(factors), rtol=relative)
    again = recompute_factor(json.loads(json.dumps(described(found))))
    np.testing.assert_allclose(again, found.slice_factors or [found.factor], rtol=1e-12)


@given(
    weight=st.floats(3.0, 200.0),
    dose_mbq=st.floats(1.0, 5000.0),
    uptake_min=st.floats(0.0, 400.0),
    scale=st.floats(0.5, 2.0),
)
def test_suv_scales_with_weight_and_against_dose(weight, dose_mbq, uptake_min, scale):
    def factor(kg, mbq):
        record = SuvRecord(
            "BQML",
            "START",
            patient_weight_kg=kg,
            injected_dose_bq=mbq * 1e6,
            half_life_s=F18,
            times=AcquisitionTimes((ELEVEN,), ELEVEN),
            injection_date_and_time=ELEVEN - timedelta(minutes=uptake_min),
        )
        return suv_conversion(record).factor

    base = factor(weight, dose_mbq)
    assert math.isclose(factor(weight * scale, dose_mbq), base * scale, rel_tol=1e-12)
    assert math.isclose(factor(weight, dose_mbq * scale), base / scale, rel_tol=1e-12)
