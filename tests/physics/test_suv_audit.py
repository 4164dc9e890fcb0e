"""The record of a conversion: plain, complete, and enough to compute the factor again."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import pytest

from uptake.core.errors import InputError, MissingAttributeError
from uptake.physics.suv import SuppliedValues, suv_conversion
from uptake.physics.suv_audit import described, recompute_factor


def through_json(record, supplied=None):
    found = described(suv_conversion(record, supplied))
    assert json.loads(json.dumps(found)) == found
    return found


def test_the_record_by_hand(record):
    found = through_json(record)
    assert found["suv_rule"] == "BQML/START"
    assert found["suv_clauses"] == [
        "DICOM PS3.3 C.8.9.1.1.3 Units, C.8.9.2 PET Isotope, C.7.2.2 Patient Study",
        "DICOM PS3.3 C.8.9.1.1.4 Decay Correction, C.8.9.4.1.5 Frame Reference Time",
    ]
    assert (found["reference_time"], found["injection_time"]) == ("2024-01-02T11:00:00", "2024-01-02T10:00:00")
    assert (found["uptake_time_min"], found["patient_weight_kg"], found["suv_slice_factors"]) == (60.0, 70.0, None)
    assert found["suv_ratios"]["BSA"] == {"ratio": pytest.approx(0.26402, abs=1e-5), "valid": True, "unit": "cm2/mL"}
    assert recompute_factor(found) == (pytest.approx(found["suv_factor"], rel=1e-14),)


def test_the_factor_follows_the_recorded_inputs_and_nothing_else(record):
    found = through_json(record)
    found["suv_inputs"]["patient_weight_kg"] = 140.0
    found["suv_factor"] = 9.9
    assert recompute_factor(found) == (pytest.approx(2 * suv_conversion(record).factor),)


def test_the_factor_needs_no_dates(record):
    found = through_json(record)
    for key in ("reference_time", "injection_time", "reference_time_accounts", "tags"):
        found.pop(key, None)
    assert "2024" not in json.dumps(found)
    assert recompute_factor(found) == (pytest.approx(suv_conversion(record).factor),)


def test_supplied_values_and_checks_are_on_record(record):
    counts = replace(record, units="CNTS", philips_activity_factors=(1.0,), philips_suv_factors=(2.9208e-4,))
    found = through_json(counts, SuppliedValues(weight_kg=70.1, injection=record.injection_date_and_time))
    assert found["suv_checks"][0]["check"] == "Philips scale factors"
    assert found["suv_checks"][0]["agrees"]
    assert found["suv_supplied"]["weight_kg"] == {"supplied": 70.1, "header": 70.0, "used": "header"}
    assert found["suv_supplied"]["injection"]["used"] == "header"


def test_an_incomplete_or_foreign_record_is_refused(record):
    found = through_json(record)
    del found["suv_inputs"]["half_life_s"]
    with pytest.raises(MissingAttributeError, match="lacks half_life_s, which the SUV rule BQML/START needs"):
        recompute_factor(found)
    for rule in ("", "BQML/LATER", "CPS", "GML/BW/START"):
        with pytest.raises(
            InputError, match=f"the record names the .* '{rule.split('/')[-1] if 'LATER' in rule else rule}'"
        ):
            recompute_factor({**through_json(record), "suv_rule": rule})


def test_slices_without_decay_correction_are_recomputed(record):
    moments = tuple(record.times.series + timedelta(minutes=m) for m in (0, 7))
    times = replace(record.times, acquisition=moments, frame_duration_s=(60.0, 600.0))
    found = suv_conversion(replace(record, decay_correction="NONE", corrected_image=("ATTN",), times=times))
    assert found.slice_factors is not None
    again = recompute_factor(json.loads(json.dumps(described(found))))
    assert again == pytest.approx(found.slice_factors, rel=1e-13)
