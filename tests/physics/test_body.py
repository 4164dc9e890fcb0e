from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uptake.core.errors import MissingAttributeError, UnitError
from uptake.physics.body import (
    JAMES_TURNOVER_BMI,
    NORMALISATIONS,
    body_surface_m2,
    ideal_weight_kg,
    lean_mass_james_kg,
    lean_mass_janmahasatian_kg,
    lean_mass_morgan_kg,
    normalisation_ratio,
    normalisation_ratios,
    sul_factor,
)

weights = st.floats(30.0, 120.0)
heights = st.floats(1.5, 2.1)


@pytest.mark.parametrize(
    ("formula", "person", "expected"),
    [
        (lean_mass_janmahasatian_kg, (70.0, 1.75, "M"), 55.857),
        (lean_mass_james_kg, (70.0, 1.75, "M"), 56.520),
        (lean_mass_morgan_kg, (70.0, 1.75, "M"), 57.800),
        (lean_mass_janmahasatian_kg, (60.0, 1.63, "F"), 38.922),
        (lean_mass_james_kg, (60.0, 1.63, "F"), 44.147),
        (lean_mass_morgan_kg, (60.0, 1.63, "F"), 44.147),
        (lean_mass_janmahasatian_kg, (120.0, 1.60, "F"), 55.022),
        (lean_mass_james_kg, (120.0, 1.60, "F"), 45.150),
        (ideal_weight_kg, (70.0, 1.75, "M"), 72.380),  # 48 + 1.06 * 23
        (ideal_weight_kg, (70.0, 1.75, "F"), 66.430),  # 45.5 + 0.91 * 23
        (ideal_weight_kg, (70.0, 1.75, "O"), 69.405),
    ],
)
def test_masses_by_hand(formula, person, expected):
    assert formula(*person) == pytest.approx(expected, abs=5e-4)


def test_body_surface_by_hand():
    assert body_surface_m2(70.0, 1.75) == pytest.approx(1.8481, abs=5e-5)
    assert body_surface_m2(60.0, 1.63) == pytest.approx(1.6441, abs=5e-5)


@pytest.mark.parametrize("suv_type", NORMALISATIONS)
@given(weights, heights)
def test_the_third_sex_is_the_mean_of_the_others(suv_type, weight_kg, height_m):
    ratio = {sex: normalisation_ratio(suv_type, weight_kg=weight_kg, height_m=height_m, sex=sex).value for sex in "MFO"}
    assert ratio["O"] == pytest.approx((ratio["M"] + ratio["F"]) / 2)


@given(st.floats(15.0, 80.0), heights, st.sampled_from("MF"))
def test_lean_mass_is_less_than_weight(bmi, height_m, sex):
    weight_kg = bmi * height_m**2
    assert 0 < lean_mass_janmahasatian_kg(weight_kg, height_m, sex) < weight_kg


@pytest.mark.parametrize(("sex", "limit"), [("M", 42.97), ("F", 36.15), ("O", 36.15)])
def test_james_is_valid_up_to_where_it_turns_over(sex, limit):
    def at(bmi: float):
        return normalisation_ratio("LBMJAMES128", weight_kg=bmi * 1.7**2, height_m=1.7, sex=sex)

    assert at(limit - 0.1).valid
    assert not at(limit + 0.1).valid
    if sex != "O":
        # More weight, less lean mass: the reason.
        highest = JAMES_TURNOVER_BMI[sex] * 1.7**2
        assert lean_mass_james_kg(highest + 10, 1.7, sex) < lean_mass_james_kg(highest, 1.7, sex)
    assert normalisation_ratio("LBMJANMA", weight_kg=60 * 1.7**2, height_m=1.7, sex=sex).valid


def test_body_surface_ratio_is_cm2_per_g():
    # SUVbsa = C * BSA[cm2] / D, SUVbw = C * W[g] / D.
    ratio = normalisation_ratio("BSA", weight_kg=70.0, height_m=1.75, sex="")
    assert ratio.value == pytest.approx(18481 / 70000, rel=1e-4)


def test_body_weight_is_the_unit():
    assert normalisation_ratio("BW", weight_kg=70.0, height_m=1.75, sex="M").value == 1.0


def test_ratios_are_none_where_the_body_is_unknown():
    known = normalisation_ratios(weight_kg=70.0, height_m=1.75, sex="M")
    assert list(known) == ["LBMJANMA", "LBMJAMES128", "LBM", "IBW", "BSA"]
    assert known["LBMJANMA"] is not None
    assert known["LBMJANMA"].value == pytest.approx(55.857 / 70, abs=1e-5)
    without_sex = normalisation_ratios(weight_kg=70.0, height_m=1.75, sex=None)
    assert [key for key, ratio in without_sex.items() if ratio is not None] == ["BSA"]
    assert set(normalisation_ratios(weight_kg=70.0, height_m=None, sex="F").values()) == {None}
    assert set(normalisation_ratios(weight_kg=70.0, height_m=175.0, sex="F").values()) == {None}


def test_sul_is_janmahasatian_unless_asked():
    assert sul_factor(70.0, 1.75, "M") == pytest.approx(55.857 / 70, abs=1e-5)
    assert sul_factor(70.0, 1.75, "M", formula="LBM") == pytest.approx(57.8 / 70, abs=1e-5)
    with pytest.raises(UnitError, match="IBW is no lean body mass"):
        sul_factor(70.0, 1.75, "M", formula="IBW")
    with pytest.raises(UnitError, match=r"body mass index of 46.9 kg/m² is above the formula's range. Use LBMJANMA"):
        sul_factor(120.0, 1.60, "F", formula="LBMJAMES128")


@pytest.mark.parametrize(
    ("person", "error", "attribute"),
    [
        ((0.0, 1.75, "M"), MissingAttributeError, r"Patient's Weight \(0010,1030\) is 0"),
        ((70.0, 175.0, "M"), UnitError, r"Patient's Size \(0010,1020\) is 175 m; expected 0.3 to 2.6 m"),
        ((70.0, 1.75, "X"), UnitError, r"Patient's Sex \(0010,0040\) is X"),
        ((70.0, 1.75, ""), UnitError, r"Patient's Sex \(0010,0040\) is empty"),
    ],
)
def test_values_out_of_range_are_named(person, error, attribute):
    with pytest.raises(error, match=attribute):
        lean_mass_janmahasatian_kg(*person)


def test_a_formula_that_gives_no_mass_is_refused():
    with pytest.raises(UnitError, match=r"IBW \(ideal body weight\) gives -7.12 kg"):
        normalisation_ratio("IBW", weight_kg=16.0, height_m=1.0, sex="M")
    with pytest.raises(UnitError, match=r"\(0054,1006\) is FAT; expected BW, LBMJANMA"):
        normalisation_ratio("FAT", weight_kg=70.0, height_m=1.75, sex="M")
