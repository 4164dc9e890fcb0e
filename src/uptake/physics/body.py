"""Lean body mass, ideal body weight and body surface, by which SUV is normalised instead of body weight."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from uptake.core.errors import MissingAttributeError, UnitError
from uptake.core.units import CM2_PER_M2, CM_PER_M, GRAMS_PER_KG

SEXES = ("M", "F", "O")
"""Values of Patient's Sex (0010,0040). For "O" the mean of the male and the female formula is taken."""

PLAUSIBLE_HEIGHT_M = (0.3, 2.6)
"""From newborn to the tallest people; outside of it a height is in another unit or in the wrong field."""

JAMES_TURNOVER_BMI = {"M": 1.10e4 / (2 * 128.0), "F": 1.07e4 / (2 * 148.0)}
"""kg/m²: 43.0 and 36.1. Above it the parabola of James falls with weight, and its lean mass means nothing."""

MORGAN_TURNOVER_BMI = {"M": 1.10e4 / (2 * 120.0), "F": 1.07e4 / (2 * 148.0)}
"""kg/m²: 45.8 and 36.1, as above for the formula printed by Morgan."""


def lean_mass_janmahasatian_kg(weight_kg: float, height_m: float, sex: str) -> float:
    """Return lean body mass after Janmahasatian, kg; SUV Type (0054,1006) LBMJANMA.

    Parameters
    ----------
    weight_kg, height_m : float
    sex : str
        "M", "F" or "O" (mean of both).

    Raises
    ------
    UnitError
        If weight, height or sex is outside its range.

    References
    ----------
    Janmahasatian et al. 2005, Clin Pharmacokinet 44:1051: 9270 W / (6680 + 216 BMI) for men,
    9270 W / (8780 + 244 BMI) for women.
    """
    bmi = _checked(weight_kg, height_m) / height_m**2
    return _by_sex(
        sex,
        lambda: 9270.0 * weight_kg / (6680.0 + 216.0 * bmi),
        lambda: 9270.0 * weight_kg / (8780.0 + 244.0 * bmi),
    )


def lean_mass_james_kg(weight_kg: float, height_m: float, sex: str) -> float:
    """Return lean body mass after James, kg; SUV Type (0054,1006) LBMJAMES128.

    Falls with weight above `JAMES_TURNOVER_BMI`. Arguments and errors as `lean_mass_janmahasatian_kg`.

    References
    ----------
    James and Waterlow 1976: 1.10 W - 128 (W/H)² for men, 1.07 W - 148 (W/H)² for women, H in cm.
    """
    ratio = (_checked(weight_kg, height_m) / (height_m * CM_PER_M)) ** 2
    return _by_sex(sex, lambda: 1.10 * weight_kg - 128.0 * ratio, lambda: 1.07 * weight_kg - 148.0 * ratio)


def lean_mass_morgan_kg(weight_kg: float, height_m: float, sex: str) -> float:
    """Return lean body mass after Morgan, kg; SUV Type (0054,1006) LBM: James with 120 instead of 128 for men.

    Arguments and errors as `lean_mass_janmahasatian_kg`.

    References
    ----------
    Sugawara et al. 1999, Radiology 213:521, who took it from Morgan.
    """
    ratio = (_checked(weight_kg, height_m) / (height_m * CM_PER_M)) ** 2
    return _by_sex(sex, lambda: 1.10 * weight_kg - 120.0 * ratio, lambda: 1.07 * weight_kg - 148.0 * ratio)


def ideal_weight_kg(weight_kg: float, height_m: float, sex: str) -> float:
    """Return ideal body weight, kg; SUV Type (0054,1006) IBW. The weight is checked, but does not enter.

    Arguments and errors as `lean_mass_janmahasatian_kg`.

    References
    ----------
    Sugawara et al. 1999, Radiology 213:521: 48.0 + 1.06 (H - 152) for men, 45.5 + 0.91 (H - 152) for women, H in cm.
    """
    _checked(weight_kg, height_m)
    above_cm = height_m * CM_PER_M - 152.0
    return _by_sex(sex, lambda: 48.0 + 1.06 * above_cm, lambda: 45.5 + 0.91 * above_cm)


def body_surface_m2(weight_kg: float, height_m: float) -> float:
    """Return body surface area after Du Bois, m²; SUV Type (0054,1006) BSA.

    Raises
    ------
    UnitError
        If weight or height is outside its range.

    References
    ----------
    Du Bois and Du Bois 1916: 0.007184 W^0.425 H^0.725, W in kg, H in cm.
    """
    return 0.007184 * _checked(weight_kg, height_m) ** 0.425 * (height_m * CM_PER_M) ** 0.725


@dataclass(frozen=True)
class Normalisation:
    """One way to normalise SUV other than by body weight.

    Attributes
    ----------
    suv_type : str
        SUV Type (0054,1006): "LBMJANMA", "LBMJAMES128", "LBM", "IBW", "BSA".
    title : str
        For people.
    unit : str
        "g/mL" or, for body surface, "cm2/mL".
    size : callable
        (weight_kg, height_m, sex) -> kg, or m² for body surface.
    turnover_bmi : dict or None
        kg/m² by sex above which the formula falls with weight.
    """

    suv_type: str
    title: str
    unit: str
    size: Callable[[float, float, str], float]
    turnover_bmi: dict[str, float] | None = None


NORMALISATIONS = {
    entry.suv_type: entry
    for entry in (
        Normalisation("LBMJANMA", "lean body mass, Janmahasatian", "g/mL", lean_mass_janmahasatian_kg),
        Normalisation("LBMJAMES128", "lean body mass, James", "g/mL", lean_mass_james_kg, JAMES_TURNOVER_BMI),
        Normalisation("LBM", "lean body mass, Morgan", "g/mL", lean_mass_morgan_kg, MORGAN_TURNOVER_BMI),
        Normalisation("IBW", "ideal body weight", "g/mL", ideal_weight_kg),
        Normalisation(
            "BSA", "body surface, Du Bois", "cm2/mL", lambda weight, height, _: body_surface_m2(weight, height)
        ),
    )
}
"""By SUV Type (0054,1006).

References
----------
DICOM PS3.3 C.8.9.1, SUV Type (0054,1006).
"""


@dataclass(frozen=True)
class Ratio:
    """SUV of one normalisation over SUV by body weight.

    Attributes
    ----------
    value : float
        Dimensionless; cm²/g for body surface.
    valid : bool
        False where the formula is used outside the range of body mass index in which it rises with weight.
    """

    value: float
    valid: bool = True


def normalisation_ratio(suv_type: str, *, weight_kg: float, height_m: float, sex: str) -> Ratio:
    """Return by what SUV of body weight has to be multiplied to be SUV of `suv_type`.

    Parameters
    ----------
    suv_type : str
        A key of `NORMALISATIONS`, or "BW".
    weight_kg, height_m : float
    sex : str
        "M", "F" or "O"; not looked at for body surface.

    Returns
    -------
    Ratio
        size / weight.

    Raises
    ------
    UnitError
        If there is no such normalisation, a value is outside its range, or the formula gives no positive size.
    """
    if suv_type == "BW":
        return Ratio(1.0)
    if suv_type not in NORMALISATIONS:
        raise UnitError(f"SUV Type (0054,1006) is {suv_type}; expected BW, {', '.join(NORMALISATIONS)}.")
    entry = NORMALISATIONS[suv_type]
    size = entry.size(weight_kg, height_m, sex)
    if size <= 0:
        raise UnitError(
            f"SUV Type (0054,1006) {suv_type} ({entry.title}) gives {size:.3g} kg for {weight_kg:g} kg and "
            f"{height_m:g} m: Patient's Weight (0010,1030) or Patient's Size (0010,1020) is outside its range."
        )
    scale = CM2_PER_M2 / GRAMS_PER_KG if suv_type == "BSA" else 1.0
    return Ratio(size * scale / weight_kg, weight_kg / height_m**2 <= _largest_bmi(entry, sex))


def normalisation_ratios(
    *, weight_kg: float | None, height_m: float | None, sex: str | None
) -> dict[str, Ratio | None]:
    """Return the ratio of every normalisation; None where weight, height or sex is unknown or outside its range."""
    ratios: dict[str, Ratio | None] = {}
    for suv_type in NORMALISATIONS:
        try:
            ratios[suv_type] = (
                None
                if weight_kg is None or height_m is None or (sex is None and suv_type != "BSA")
                else normalisation_ratio(suv_type, weight_kg=weight_kg, height_m=height_m, sex=sex or "")
            )
        except UnitError:
            ratios[suv_type] = None
    return ratios


def sul_factor(weight_kg: float, height_m: float, sex: str, *, formula: str = "LBMJANMA") -> float:
    """Return by what SUV of body weight has to be multiplied to be SUL, SUV of lean body mass (PERCIST).

    Parameters
    ----------
    weight_kg, height_m : float
    sex : str
        "M", "F" or "O".
    formula : str
        "LBMJANMA", "LBMJAMES128" or "LBM".

    Raises
    ------
    UnitError
        If a value is outside its range, or the body mass index is one for which the formula is not valid.

    References
    ----------
    Wahl et al. 2009, PERCIST, J Nucl Med 50:122S. Janmahasatian's formula is the default because James' and Morgan's
    fall with weight in obese patients.
    """
    if formula not in ("LBMJANMA", "LBMJAMES128", "LBM"):
        raise UnitError(f"{formula} is no lean body mass; expected LBMJANMA, LBMJAMES128 or LBM.")
    ratio = normalisation_ratio(formula, weight_kg=weight_kg, height_m=height_m, sex=sex)
    if not ratio.valid:
        raise UnitError(
            f"{NORMALISATIONS[formula].title}: a body mass index of {weight_kg / height_m**2:.1f} kg/m² is above the "
            "formula's range. Use LBMJANMA."
        )
    return ratio.value


def _largest_bmi(entry: Normalisation, sex: str) -> float:
    """Return the body mass index, kg/m², up to which the formula rises with weight; for "O" the lower of both."""
    if entry.turnover_bmi is None:
        return math.inf
    return entry.turnover_bmi.get(sex, min(entry.turnover_bmi.values()))


def _checked(weight_kg: float, height_m: float) -> float:
    if not (math.isfinite(weight_kg) and weight_kg > 0):
        raise MissingAttributeError(f"Patient's Weight (0010,1030) is {weight_kg:g}; expected a positive number of kg.")
    low, high = PLAUSIBLE_HEIGHT_M
    if not low <= height_m <= high:
        raise UnitError(f"Patient's Size (0010,1020) is {height_m:g} m; expected {low:g} to {high:g} m.")
    return weight_kg


def _by_sex(sex: str, male: Callable[[], float], female: Callable[[], float]) -> float:
    if sex == "O":
        return (male() + female()) / 2.0
    if sex not in SEXES:
        raise UnitError(f"Patient's Sex (0010,0040) is {sex or 'empty'}; expected M, F or O.")
    return male() if sex == "M" else female()
