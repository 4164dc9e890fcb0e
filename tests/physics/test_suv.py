"""Rules of SUV, by hand: factors, refusals, what is recorded."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np
import pytest

from uptake.core.errors import MissingAttributeError, UnitError
from uptake.physics.radionuclides import radionuclide_of_code
from uptake.physics.suv import SuppliedValues, SuvRecord, suv_conversion
from uptake.physics.timing import AcquisitionTimes

ELEVEN = datetime(2024, 1, 2, 11, 0)
TEN = datetime(2024, 1, 2, 10, 0)
F18 = 6586.2

RECORD = SuvRecord(
    units="BQML",
    decay_correction="START",
    patient_weight_kg=70.0,
    patient_height_m=1.75,
    patient_sex="M",
    injected_dose_bq=350e6,
    half_life_s=F18,
    times=AcquisitionTimes(acquisition=(ELEVEN,), series=ELEVEN),
    injection_date_and_time=TEN,
    corrected_image=("ATTN", "DECY"),
)
HOUR_LEFT = 2 ** (-3600 / F18)


def test_start_by_hand():
    found = suv_conversion(RECORD)
    assert found.factor == pytest.approx(70000 / (350e6 * HOUR_LEFT))
    assert found.uptake_time_s == 3600
    assert found.dose_at_reference_bq == pytest.approx(350e6 * 0.68463, rel=1e-5)
    assert (found.rule, found.warnings, found.slice_factors) == ("BQML/START", (), None)


def test_a_uniform_body_has_suv_one_and_weighs_what_it_weighs():
    # All that is left of the dose, spread evenly over 70 L.
    found = suv_conversion(RECORD)
    activity_bqml = np.full((10, 10, 10), found.dose_at_reference_bq / 70000)
    suv = found.applied_to(activity_bqml)
    np.testing.assert_allclose(suv, 1.0, rtol=1e-7)
    assert (suv * 70.0).sum() == pytest.approx(70000)  # 1000 voxels of 70 mL, in g


def test_factor_follows_weight_and_dose():
    base = suv_conversion(RECORD).factor
    assert suv_conversion(replace(RECORD, patient_weight_kg=140.0)).factor == pytest.approx(2 * base)
    assert suv_conversion(replace(RECORD, injected_dose_bq=700e6)).factor == pytest.approx(base / 2)


@pytest.mark.parametrize(
    ("change", "note"),
    [
        ({"injected_dose_bq": 350.0}, "(0018,1074) is 350: taken as MBq"),
        ({"patient_weight_kg": 70000.0}, "(0010,1030) is 70000: taken as grams"),
    ],
)
def test_values_in_other_units_give_the_same_factor_and_say_so(change, note):
    found = suv_conversion(replace(RECORD, **change))
    assert found.factor == pytest.approx(suv_conversion(RECORD).factor)
    assert note in found.warnings[0]


def test_admin_uses_the_dose_as_injected():
    # The same image corrected to the injection holds values 1 / HOUR_LEFT higher: same SUV.
    admin = suv_conversion(replace(RECORD, decay_correction="ADMIN"))
    assert admin.factor == pytest.approx(70000 / 350e6)
    assert admin.factor / HOUR_LEFT == pytest.approx(suv_conversion(RECORD).factor)
    assert (admin.rule, admin.uptake_time_s) == ("BQML/ADMIN", 3600)
    # No time and no half-life enters.
    bare = replace(
        RECORD, decay_correction="ADMIN", half_life_s=None, injection_date_and_time=None, times=AcquisitionTimes(())
    )
    assert suv_conversion(bare).factor == admin.factor
    assert suv_conversion(bare).uptake_time_s is None


def test_admin_with_contradictory_times_is_refused():
    late = replace(RECORD, decay_correction="ADMIN", injection_date_and_time=ELEVEN + timedelta(hours=1))
    with pytest.raises(UnitError, match=r"-60.0 min after the injection"):
        suv_conversion(late)


def uncorrected(*minutes: float, duration_s: float = 300.0) -> SuvRecord:
    moments = tuple(ELEVEN + timedelta(minutes=m) for m in minutes)
    times = AcquisitionTimes(acquisition=moments, series=ELEVEN, frame_duration_s=(duration_s,) * len(moments))
    return replace(RECORD, decay_correction="NONE", corrected_image=("ATTN",), times=times)


def test_without_decay_correction_each_slice_has_its_own_factor():
    found = suv_conversion(uncorrected(0.0, 5.0, 10.0))
    constant = np.log(2) / F18
    within = constant * 300 / (1 - np.exp(-constant * 300))
    expected = [70000 / 350e6 * within * np.exp(constant * (3600 + m * 60)) for m in (0, 5, 10)]
    np.testing.assert_allclose(found.slice_factors, expected, rtol=1e-12)
    assert found.factor == pytest.approx(expected[1])
    assert (found.rule, found.uptake_time_s) == ("BQML/NONE", 3600)
    np.testing.assert_allclose(found.applied_to(np.ones((1, 1, 3)))[0, 0], expected, rtol=1e-6)


def test_a_short_uncorrected_frame_is_one_corrected_to_its_start():
    found = suv_conversion(uncorrected(0.0, duration_s=1e-6))
    assert found.factor == pytest.approx(suv_conversion(RECORD).factor, rel=1e-9)
    assert found.slice_factors is None


def test_uncorrected_images_need_the_frame_of_every_slice():
    record = uncorrected(0.0, 5.0)
    for change, attribute in (
        ({"acquisition": ()}, r"Acquisition Time \(0008,0032\)"),
        ({"frame_duration_s": ()}, r"Actual Frame Duration \(0018,1242\) is absent in one slice"),
    ):
        with pytest.raises(MissingAttributeError, match=attribute):
            suv_conversion(replace(record, times=replace(record.times, **change)))
    with pytest.raises(UnitError, match=r"Actual Frame Duration \(0018,1242\) is not positive"):
        suv_conversion(replace(record, times=replace(record.times, frame_duration_s=(300.0, 0.0))))


def test_uncorrected_images_whose_attributes_contradict_are_refused():
    record = uncorrected(0.0, 0.0)
    with pytest.raises(UnitError, match=r"\(0008,0032\) is the same in every slice while .* spans 240 s"):
        suv_conversion(replace(record, times=replace(record.times, frame_reference_s=(0.0, 240.0))))
    both = replace(record, corrected_image=("ATTN", "DECY"))
    assert any("the former was followed" in text for text in suv_conversion(both).warnings)
    with pytest.raises(UnitError, match=r"\(0054,1321\) is not 1; they contradict"):
        suv_conversion(replace(both, times=replace(both.times, decay_factors=(1.02, 1.02))))


@pytest.mark.parametrize(
    ("units", "suv_type", "rule", "factor"),
    [
        ("GML", "", "GML/BW", 1.0),
        ("GML", "BW", "GML/BW", 1.0),
        ("GML", "LBMJANMA", "GML/LBMJANMA", 70 / 55.857),
        ("GML", "LBMJAMES128", "GML/LBMJAMES128", 70 / 56.520),
        ("GML", "LBM", "GML/LBM", 70 / 57.800),
        ("GML", "IBW", "GML/IBW", 70 / 72.380),
        ("CM2ML", "", "CM2ML/BSA", 70000 / 18481),
        ("CM2ML", "BSA", "CM2ML/BSA", 70000 / 18481),
    ],
)
@pytest.mark.parametrize("correction", ["START", "ADMIN"])
def test_stored_suv_is_brought_to_body_weight_and_not_decayed(units, suv_type, rule, factor, correction):
    found = suv_conversion(replace(RECORD, units=units, suv_type=suv_type, decay_correction=correction))
    assert found.rule == rule
    assert found.factor == pytest.approx(factor, rel=3e-5)
    assert found.uptake_time_s == 3600


def test_stored_suv_needs_only_what_its_type_needs():
    bare = SuvRecord(units="GML", decay_correction="START", corrected_image=("ATTN", "DECY"))
    assert suv_conversion(bare).factor == 1.0
    for change, attribute in (
        ({"suv_type": "LBM"}, r"Patient's Weight \(0010,1030\) is absent"),
        ({"suv_type": "LBM", "patient_weight_kg": 70.0}, r"Patient's Size \(0010,1020\) is absent"),
        (
            {"suv_type": "LBM", "patient_weight_kg": 70.0, "patient_height_m": 1.7},
            r"Patient's Sex \(0010,0040\) is abs",
        ),
        ({"units": "CM2ML", "patient_weight_kg": 70.0}, r"Patient's Size \(0010,1020\) is absent"),
        (
            {"suv_type": "LBM", "patient_weight_kg": 70.0, "patient_height_m": 1.7, "patient_sex": "X"},
            r"Patient's Sex \(0010,0040\) is X; expected M, F or O",
        ),
    ):
        with pytest.raises(MissingAttributeError, match=attribute):
            suv_conversion(replace(bare, **change))


def test_the_third_sex_is_the_mean_of_the_others():
    found = suv_conversion(replace(RECORD, units="GML", suv_type="IBW", patient_sex="O"))
    assert found.factor == pytest.approx(70 / 69.405, rel=1e-5)


def test_stored_suv_past_the_turn_of_james_is_undone_and_reported():
    heavy = replace(RECORD, units="GML", suv_type="LBMJAMES128", patient_weight_kg=120.0, patient_height_m=1.60)
    found = suv_conversion(replace(heavy, patient_sex="F"))
    assert found.factor == pytest.approx(120 / 45.150)
    assert "falls with weight at a body mass index of 46.9" in found.warnings[0]


def test_stored_suv_with_contradictory_times_is_kept_and_reported():
    found = suv_conversion(replace(RECORD, units="GML", injection_date_and_time=ELEVEN + timedelta(hours=2)))
    assert found.factor == 1.0
    assert "does not enter stored SUV" in found.warnings[0]


COUNTS = replace(RECORD, units="CNTS", philips_activity_factors=(2.5,), philips_suv_factors=())
PER_BQ = 70000 / (350e6 * HOUR_LEFT)


def test_counts_by_way_of_activity():
    found = suv_conversion(COUNTS)
    assert found.factor == pytest.approx(2.5 * PER_BQ)
    assert found.rule == "CNTS/(7053,1009)/START"
    admin = suv_conversion(replace(COUNTS, decay_correction="ADMIN"))
    assert admin.factor == pytest.approx(2.5 * 70000 / 350e6)


def test_counts_by_the_suv_factor_alone_need_no_weight():
    direct = SuvRecord("CNTS", "START", philips_suv_factors=(7.28e-4,), corrected_image=("ATTN", "DECY"))
    found = suv_conversion(direct)
    assert (found.factor, found.rule) == (7.28e-4, "CNTS/(7053,1000)")
    # Where the way by activity lacks a value, the other is taken and it is said so.
    both = replace(COUNTS, patient_weight_kg=None, philips_suv_factors=(7.28e-4,))
    found = suv_conversion(both)
    assert found.factor == 7.28e-4
    assert "instead of" in found.warnings[0]
    assert "(0010,1030)" in found.warnings[0]


def test_both_philips_factors_are_compared():
    agreeing = suv_conversion(replace(COUNTS, philips_suv_factors=(2.5 * PER_BQ * 1.0009,)))
    assert agreeing.rule == "CNTS/(7053,1009)/START"
    assert agreeing.checks[0].agrees
    assert agreeing.warnings == ()
    off = suv_conversion(replace(COUNTS, philips_suv_factors=(2.5 * PER_BQ * 1.05,)))
    assert not off.checks[0].agrees
    assert "1.05000 times" in off.warnings[0]
    with pytest.raises(UnitError, match=r"\(7053,1000\) and .* \(7053,1009\) contradict one another"):
        suv_conversion(replace(COUNTS, philips_suv_factors=(2.5 * PER_BQ * 1.2,)))


def test_philips_factors_may_change_from_slice_to_slice():
    found = suv_conversion(replace(COUNTS, philips_activity_factors=(1.0, 2.0, 3.0)))
    np.testing.assert_allclose(found.slice_factors, np.array([1.0, 2.0, 3.0]) * PER_BQ)
    uneven = replace(uncorrected(0.0, 5.0), units="CNTS", philips_activity_factors=(1.0, 2.0))
    plain = suv_conversion(uncorrected(0.0, 5.0)).slice_factors
    assert plain is not None
    np.testing.assert_allclose(suv_conversion(uneven).slice_factors, np.array([1.0, 2.0]) * plain)
    with pytest.raises(UnitError, match=r"3 scale factors \(7053,1009\) do not fit 2 slices"):
        suv_conversion(replace(uneven, philips_activity_factors=(1.0, 2.0, 3.0)))


def test_counts_that_cannot_be_converted_are_refused():
    with pytest.raises(MissingAttributeError, match=r"\(7053,1009\) and .* \(7053,1000\) are absent"):
        suv_conversion(replace(COUNTS, philips_activity_factors=()))
    with pytest.raises(UnitError, match=r"are 0 or no numbers"):
        suv_conversion(replace(COUNTS, philips_activity_factors=(0.0,), philips_suv_factors=(0.0,)))
    undecayed = replace(COUNTS, decay_correction="NONE", philips_activity_factors=(), philips_suv_factors=(1e-3,))
    with pytest.raises(UnitError, match=r"\(0054,1102\) is NONE, with which .* \(7053,1000\) gives no SUV"):
        suv_conversion(undecayed)
    # Factors belong to counts alone.
    assert suv_conversion(replace(COUNTS, units="BQML", philips_suv_factors=(9.0,))).factor == pytest.approx(PER_BQ)


@pytest.mark.parametrize(
    ("change", "attribute"),
    [
        ({"patient_weight_kg": None}, r"Patient's Weight \(0010,1030\) is absent"),
        ({"patient_weight_kg": 0.0}, r"Patient's Weight \(0010,1030\) is 0"),
        ({"injected_dose_bq": None}, r"Radionuclide Total Dose \(0018,1074\) is absent"),
        ({"injected_dose_bq": float("nan")}, r"\(0018,1074\) is nan"),
        ({"half_life_s": None}, r"Radionuclide Half Life \(0018,1075\) is absent"),
        ({"injection_date_and_time": None}, r"Radiopharmaceutical Start Time \(0018,1072\) are absent"),
        ({"times": AcquisitionTimes(())}, r"Acquisition Time \(0008,0032\)"),
        ({"units": ""}, r"Units \(0054,1001\) is absent"),
        ({"decay_correction": ""}, r"Decay Correction \(0054,1102\) is absent"),
    ],
)
def test_what_is_missing_is_named(change, attribute):
    with pytest.raises(MissingAttributeError, match=attribute):
        suv_conversion(replace(RECORD, **change))


@pytest.mark.parametrize(
    ("units", "reason"),
    [
        ("CPS", "calibration factor"),
        ("PROPCPS", "without attenuation correction"),
        ("PROPCNTS", "no calibration"),
        ("1CM", "map of the body"),
        ("UMOLMINML", "metabolic rate"),
        ("STDDEV", "noise"),
        ("FURLONGS", "expected BQML, GML, CM2ML, CNTS"),
    ],
)
def test_units_without_a_rule_are_refused_with_the_reason(units, reason):
    with pytest.raises(UnitError, match=rf"\(0054,1001\) is {units}: no SUV; .*{reason}"):
        suv_conversion(replace(RECORD, units=units))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"decay_correction": "LATER"}, r"\(0054,1102\) is LATER; expected START, ADMIN, NONE"),
        ({"units": "GML", "suv_type": "BSA"}, r"is GML but SUV Type \(0054,1006\) is BSA; they contradict"),
        ({"units": "CM2ML", "suv_type": "BW"}, r"is CM2ML but SUV Type \(0054,1006\) is BW; they contradict"),
        ({"units": "GML", "suv_type": "FAT"}, r"\(0054,1006\) is FAT; expected BW, LBMJANMA"),
        ({"units": "GML", "decay_correction": "NONE"}, r"is GML but Decay Correction \(0054,1102\) is NONE"),
        ({"corrected_image": ("DECY",)}, "lacks ATTN: the series is not corrected for attenuation"),
        ({"corrected_image": ("ATTN",)}, "lacks DECY: the series is not corrected for decay"),
        ({"corrected_image": ("NORM",)}, "lacks ATTN, DECY: the series is not corrected for attenuation and decay"),
        ({"units": "GML", "corrected_image": ("DECY",)}, "lacks ATTN"),
        ({"series_type": ("STATIC", "REPROJECTION")}, r"\(0054,1000\) is REPROJECTION"),
        ({"series_type": ("DYNAMIC", "IMAGE")}, r"\(0054,1000\) is DYNAMIC: not supported"),
        ({"series_type": ("GATED", "IMAGE")}, r"\(0054,1000\) is GATED: not supported"),
        ({"image_type": ("DERIVED", "SECONDARY", "MIP")}, r"\(0008,0008\) holds MIP"),
        ({"image_type": ("DERIVED", "PRIMARY", "PROJECTION IMAGE")}, r"\(0008,0008\) holds PROJECTION IMAGE"),
        ({"half_life_s": 1.83}, "expected seconds"),
        ({"half_life_s": 109.77, "nuclides": (radionuclide_of_code("C-111A1"),)}, r"\(0018,1075\) is 109.77 s but"),
        ({"injected_dose_bq": 3.5e14}, r"\(0018,1074\) is 3.5e\+14 Bq, more than anybody is given"),
    ],
)
def test_what_contradicts_itself_is_refused(change, message):
    with pytest.raises(UnitError, match=message):
        suv_conversion(replace(RECORD, **change))


def test_unknown_corrections_are_reported():
    assert "could not be checked" in suv_conversion(replace(RECORD, corrected_image=())).warnings[0]
    assert "(0054,1102) is absent" in suv_conversion(replace(RECORD, units="GML", decay_correction="")).warnings[0]


def test_the_coded_nuclide_stands_in_for_a_missing_half_life():
    coded = replace(RECORD, half_life_s=None, nuclides=(radionuclide_of_code("C-131A3"),))
    found = suv_conversion(coded)
    assert found.factor == pytest.approx(70000 / (350e6 * 2 ** (-3600 / 4062.6)))
    assert "taken as 4062.6 s, that of Ga-68" in found.warnings[0]
    assert found.inputs["half_life_s_from"] == "radionuclide"


def test_a_code_whose_meaning_is_another_nuclide_is_settled_by_the_half_life():
    # A public Ga-68 object carries the code of Ga-66 with the meaning "^68^Gallium".
    both = (radionuclide_of_code("C-131A1"), radionuclide_of_code("C-131A3"))
    found = suv_conversion(replace(RECORD, half_life_s=4057.7, nuclides=both))
    assert found.half_life_s == 4057.7
    assert "says Ga-66 by its value and Ga-68 by its meaning" in found.warnings[0]
    with pytest.raises(UnitError, match=r"\(0018,1075\) is 6586.2 s but .* says Ga-66"):
        suv_conversion(replace(RECORD, nuclides=both))
    with pytest.raises(UnitError, match=r"is absent, and Radionuclide Code Sequence \(0054,0300\) says Ga-66"):
        suv_conversion(replace(RECORD, half_life_s=None, nuclides=both))
    supplied = suv_conversion(replace(RECORD, half_life_s=None, nuclides=both), SuppliedValues(half_life_s=4057.7))
    assert supplied.half_life_s == 4057.7


def test_unusual_values_are_reported():
    for change, note in (
        ({"half_life_s": 9000.0}, "that of no nuclide of PET"),
        ({"injected_dose_bq": 2e5}, "0.2 MBq: unusual"),
        ({"patient_weight_kg": 400.0}, "400 kg: unusual"),
    ):
        assert any(note in text for text in suv_conversion(replace(RECORD, **change)).warnings)


def test_ratios_of_other_normalisations_stand_beside_the_factor():
    ratios = suv_conversion(RECORD).ratios
    assert ratios["LBMJANMA"] is not None
    assert ratios["LBMJANMA"].value == pytest.approx(55.857 / 70, abs=1e-5)
    assert ratios["BSA"] is not None
    assert ratios["BSA"].value == pytest.approx(18481 / 70000, rel=1e-4)
    assert set(suv_conversion(replace(RECORD, patient_height_m=None)).ratios.values()) == {None}
    in_cm = suv_conversion(replace(RECORD, patient_height_m=175.0)).ratios["IBW"]
    assert in_cm is not None
    assert in_cm.value == pytest.approx(72.38 / 70, abs=1e-5)


def test_factors_per_slice_are_applied_along_the_third_axis():
    found = replace(suv_conversion(RECORD), factor=2.0, slice_factors=(1.0, 2.0, 3.0))
    np.testing.assert_array_equal(found.applied_to(np.ones((2, 2, 3)))[1, 0], [1.0, 2.0, 3.0])
    with pytest.raises(UnitError, match="3 SUV factors were found for 4 slices"):
        found.applied_to(np.ones((2, 2, 4)))
    np.testing.assert_array_equal(replace(found, slice_factors=None).applied_to(np.ones((1, 1, 2))), [[[2.0, 2.0]]])
