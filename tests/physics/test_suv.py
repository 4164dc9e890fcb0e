from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import numpy as np
import pytest

from uptake.core.errors import MissingAttributeError, UnitError
from uptake.physics.suv import SuvRecord, suv_conversion

RECORD = SuvRecord(
    units="BQML",
    decay_correction="START",
    patient_weight_kg=70.0,
    injected_dose_bq=350e6,
    half_life_s=6586.2,
    injection=datetime(2024, 1, 2, 10, 0),
    reference=datetime(2024, 1, 2, 11, 0),
    corrected_image=("ATTN", "DECY"),
)


def test_factor_by_hand():
    found = suv_conversion(RECORD)
    assert found.factor == pytest.approx(70000 / (350e6 * 2 ** (-3600 / 6586.2)))
    assert found.uptake_time_s == 3600
    assert found.dose_at_reference_bq == pytest.approx(350e6 * 0.68463, rel=1e-5)
    assert (found.rule, found.warnings) == ("BQML/START", ())


def test_a_uniform_body_has_suv_one_and_weighs_what_it_weighs():
    # All that is left of the dose, spread evenly over 70 L.
    found = suv_conversion(RECORD)
    activity_bqml = np.full(1000, found.dose_at_reference_bq / 70000)
    suv = activity_bqml * found.factor
    np.testing.assert_allclose(suv, 1.0, rtol=1e-12)
    assert (suv * 70.0).sum() == pytest.approx(70000)  # 1000 voxels of 70 mL, in g


def test_factor_follows_weight_and_dose():
    base = suv_conversion(RECORD).factor
    assert suv_conversion(replace(RECORD, patient_weight_kg=140.0)).factor == pytest.approx(2 * base)
    assert suv_conversion(replace(RECORD, injected_dose_bq=700e6)).factor == pytest.approx(base / 2)


def test_dose_in_megabecquerel_gives_the_same_factor_and_says_so():
    found = suv_conversion(replace(RECORD, injected_dose_bq=350.0))
    assert found.factor == pytest.approx(suv_conversion(RECORD).factor)
    assert "taken as MBq" in found.warnings[0]


@pytest.mark.parametrize(
    ("change", "attribute"),
    [
        ({"patient_weight_kg": None}, r"Patient's Weight \(0010,1030\) is absent"),
        ({"patient_weight_kg": 0.0}, r"Patient's Weight \(0010,1030\) is 0"),
        ({"injected_dose_bq": None}, r"Radionuclide Total Dose \(0018,1074\) is absent"),
        ({"injected_dose_bq": float("nan")}, r"\(0018,1074\) is nan"),
        ({"half_life_s": None}, r"Radionuclide Half Life \(0018,1075\) is absent"),
        ({"injection": None}, r"Radiopharmaceutical Start Time \(0018,1072\) is absent"),
        ({"reference": None}, r"Acquisition Time \(0008,0032\) is absent"),
        ({"units": ""}, r"Units \(0054,1001\) is absent"),
        ({"decay_correction": ""}, r"Decay Correction \(0054,1102\) is absent"),
    ],
)
def test_what_is_missing_is_named(change, attribute):
    with pytest.raises(MissingAttributeError, match=attribute):
        suv_conversion(replace(RECORD, **change))


@pytest.mark.parametrize("units", ["GML", "CM2ML", "CNTS", "PROPCPS", "CPS", "1CM"])
def test_other_units_are_refused_by_name(units):
    with pytest.raises(UnitError, match=rf"\(0054,1001\) is {units}: not supported yet"):
        suv_conversion(replace(RECORD, units=units))


@pytest.mark.parametrize("correction", ["ADMIN", "NONE"])
def test_other_decay_corrections_are_refused_by_name(correction):
    with pytest.raises(UnitError, match=rf"\(0054,1102\) is {correction}: not supported yet"):
        suv_conversion(replace(RECORD, decay_correction=correction))


def test_uncorrected_images_are_refused_and_unknown_ones_reported():
    with pytest.raises(UnitError, match="lacks ATTN"):
        suv_conversion(replace(RECORD, corrected_image=("DECY",)))
    assert "could not be checked" in suv_conversion(replace(RECORD, corrected_image=())).warnings[0]


def test_values_in_other_units_are_refused():
    with pytest.raises(UnitError, match="looks like grams"):
        suv_conversion(replace(RECORD, patient_weight_kg=70000.0))
    with pytest.raises(UnitError, match="expected seconds"):
        suv_conversion(replace(RECORD, half_life_s=1.83))


def test_factors_per_slice_are_applied_along_the_third_axis():
    found = replace(suv_conversion(RECORD), factor=2.0, slice_factors=(1.0, 2.0, 3.0))
    np.testing.assert_array_equal(found.applied_to(np.ones((2, 2, 3)))[1, 0], [1.0, 2.0, 3.0])
    with pytest.raises(UnitError, match="3 SUV factors were found for 4 slices"):
        found.applied_to(np.ones((2, 2, 4)))
    np.testing.assert_array_equal(replace(found, slice_factors=None).applied_to(np.ones((1, 1, 2))), [[[2.0, 2.0]]])
