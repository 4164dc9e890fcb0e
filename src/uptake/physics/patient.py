"""Weight, height, sex, dose and half-life as headers carry them -> in the units of the standard, or a refusal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic

from uptake.core.errors import MissingAttributeError, UnitError
from uptake.core.units import BQ_PER_MBQ, CM_PER_M, GRAMS_PER_KG
from uptake.physics.body import PLAUSIBLE_HEIGHT_M, SEXES
from uptake.physics.radionuclides import Radionuclide, radionuclide_of_half_life, require_half_life
from uptake.physics.supplied import Choice, SuppliedValues, Value, choose

WEIGHT = "Patient's Weight (0010,1030)"
HEIGHT = "Patient's Size (0010,1020)"
SEX = "Patient's Sex (0010,0040)"
DOSE = "Radionuclide Total Dose (0018,1074)"
HALF_LIFE = "Radionuclide Half Life (0018,1075)"

LARGEST_WEIGHT_KG = 1000.0
"""A weight above this is a value in grams."""

USUAL_WEIGHT_KG = (0.01, 300.0)
"""Outside of it, from mouse to the heaviest patient that scanners carry, a weight is reported."""

LARGEST_HEIGHT_M = 3.0
"""A height above this is a value in centimetres."""

SMALLEST_DOSE_BQ = 1.0e4
"""A dose below this is a value in MBq: 10 kBq cannot be imaged, and 10 GBq are given to nobody."""

USUAL_DOSE_BQ = (1.0e6, 1.0e10)
"""Outside of it a dose is reported: 1 MBq is less than mice get, 10 GBq more than any generator yields."""


@dataclass(frozen=True)
class Given(Generic[Value]):
    """One value in the unit of the standard, and where it came from.

    Attributes
    ----------
    attribute : str
        With its tag.
    choice : Choice
        `choice.value` is the value, None where neither header nor caller has a usable one.
    origin : str
        "header", "supplied", "radionuclide" or "" where there is none.
    notes : tuple of str
        What had to be assumed.
    written : str
        As it stands in the header.
    problem : str
        Why the header's value cannot be used at all. Raised only where the value is needed.
    expected : str
        What a message asks for.
    """

    attribute: str
    choice: Choice[Value]
    origin: str
    notes: tuple[str, ...] = ()
    written: str = ""
    problem: str = ""
    expected: str = "a positive number"

    @property
    def value(self) -> Value | None:
        """The value, or None."""
        return self.choice.value

    def required(self) -> Value:
        """Return the value.

        Raises
        ------
        MissingAttributeError
            If there is none.
        UnitError
            If the header's is beyond use.
        """
        if self.problem:
            raise UnitError(self.problem)
        if self.choice.value is None:
            what = f"is {self.written}; expected {self.expected}" if self.written else "is absent"
            raise MissingAttributeError(
                f"{self.attribute} {what}. SUV cannot be computed. Supply the value, complete the header, or give the "
                "SUV image as NIfTI."
            )
        return self.choice.value


def weight_of(kg: float | None, supplied: SuppliedValues) -> Given[float]:
    """Return the weight, kg. A header value above 1000 is taken as grams and reported.

    References
    ----------
    DICOM PS3.3 C.7.2.2, Patient's Weight (0010,1030), kg.
    """
    notes = []
    usable = _positive(kg)
    if usable is not None and usable > LARGEST_WEIGHT_KG:
        notes.append(f"{WEIGHT} is {usable:g}: taken as grams, the standard asks for kg.")
        usable /= GRAMS_PER_KG
    chosen = choose(WEIGHT, usable, supplied.weight_kg, replace_header=supplied.replace_header)
    low, high = USUAL_WEIGHT_KG
    if chosen.value is not None and not low <= chosen.value <= high:
        notes.append(f"{WEIGHT} is {chosen.value:g} kg: unusual, SUV is proportional to it.")
    return Given(WEIGHT, chosen, _origin(chosen), tuple(notes), _written(kg))


def height_of(m: float | None, supplied: SuppliedValues) -> Given[float]:
    """Return the height, m. A header value above 3 is taken as centimetres and reported; others have to be plausible.

    References
    ----------
    DICOM PS3.3 C.7.2.2, Patient's Size (0010,1020), m.
    """
    notes = []
    usable = _positive(m)
    if usable is not None and usable > LARGEST_HEIGHT_M:
        notes.append(f"{HEIGHT} is {usable:g}: taken as centimetres, the standard asks for m.")
        usable /= CM_PER_M
    low, high = PLAUSIBLE_HEIGHT_M
    if usable is not None and not low <= usable <= high:
        notes.append(f"{HEIGHT} is {usable:g} m: implausible, it was not used.")
        usable = None
    chosen = choose(HEIGHT, usable, supplied.height_m, replace_header=supplied.replace_header)
    return Given(HEIGHT, chosen, _origin(chosen), tuple(notes), _written(m))


def sex_of(text: str | None, supplied: SuppliedValues) -> Given[str]:
    """Return "M", "F" or "O".

    References
    ----------
    DICOM PS3.3 C.7.1.1, Patient's Sex (0010,0040).
    """
    usable = text if text in SEXES else None
    chosen = choose(SEX, usable, supplied.sex, replace_header=supplied.replace_header)
    return Given(SEX, chosen, _origin(chosen), written=text or "", expected="M, F or O")


def dose_of(bq: float | None, supplied: SuppliedValues) -> Given[float]:
    """Return the injected activity, Bq. A header value below 10,000 is taken as MBq and reported.

    More than 100 GBq is in no known unit, and a problem.

    References
    ----------
    DICOM PS3.3 C.8.9.2 (Bq) and C.8.22.4 (MBq), Radionuclide Total Dose (0018,1074).
    """
    notes = []
    usable = _positive(bq)
    if usable is not None and usable < SMALLEST_DOSE_BQ:
        notes.append(f"{DOSE} is {usable:g}: taken as MBq, the standard asks for Bq.")
        usable *= BQ_PER_MBQ
    low, high = USUAL_DOSE_BQ
    problem = ""
    if usable is not None and usable > 10 * high:
        problem = f"{DOSE} is {usable:g} Bq, more than anybody is given; expected Bq. Correct the attribute."
    in_bq = None if supplied.dose_mbq is None else supplied.dose_mbq * BQ_PER_MBQ
    chosen = choose(DOSE, usable, in_bq, replace_header=supplied.replace_header)
    if chosen.value is not None and not low <= chosen.value <= high:
        notes.append(f"{DOSE} is {chosen.value / BQ_PER_MBQ:g} MBq: unusual, SUV is inversely proportional to it.")
    return Given(DOSE, chosen, _origin(chosen), tuple(notes), _written(bq), "" if chosen.replaced else problem)


def half_life_of(s: float | None, nuclides: Sequence[Radionuclide], supplied: SuppliedValues) -> Given[float]:
    """Return the half-life, s: the header's own, else the caller's, else that of the coded nuclide.

    One below 10 s, or of another nuclide than the coded one, is a problem. `nuclides` holds what code value and code
    meaning name; where those are two, the half-life has to be that of either, and the contradiction is reported.

    References
    ----------
    DICOM PS3.3 C.8.9.2, Radionuclide Half Life (0018,1075) and Radionuclide Code Sequence (0054,0300).
    """
    notes = []
    usable = _positive(s)
    chosen = choose(HALF_LIFE, usable, supplied.half_life_s, replace_header=supplied.replace_header)
    problem = ""
    contradiction = ""
    if len(nuclides) > 1:
        contradiction = (
            f"Radionuclide Code Sequence (0054,0300) says {nuclides[0].name} by its value and {nuclides[1].name} by "
            "its meaning"
        )
    if chosen.value is not None:
        told = [_objection(chosen.value, nuclide) for nuclide in nuclides] or [_objection(chosen.value, None)]
        problem = "" if None in told else str(told[0])
        if contradiction and not problem:
            notes.append(
                f"{contradiction}; {HALF_LIFE} of {chosen.value:g} s is that of {nuclides[told.index(None)].name}."
            )
        elif not nuclides and radionuclide_of_half_life(chosen.value) is None:
            notes.append(f"{HALF_LIFE} is {chosen.value:g} s, that of no nuclide of PET.")
    elif contradiction:
        problem = f"{HALF_LIFE} is {_written(s) or 'absent'}, and {contradiction}. Supply the half-life."
    elif nuclides:
        notes.append(
            f"{HALF_LIFE} is {_written(s) or 'absent'}: taken as {nuclides[0].half_life_s:g} s, that of "
            f"{nuclides[0].name} in Radionuclide Code Sequence (0054,0300)."
        )
        chosen = Choice(nuclides[0].half_life_s, None, None, replaced=False)
        return Given(HALF_LIFE, chosen, "radionuclide", tuple(notes), _written(s))
    return Given(HALF_LIFE, chosen, _origin(chosen), tuple(notes), _written(s), problem)


def _objection(half_life_s: float, nuclide: Radionuclide | None) -> str | None:
    try:
        require_half_life(half_life_s, nuclide)
    except UnitError as error:
        return str(error)
    return None


def _positive(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) and value > 0 else None


def _written(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


def _origin(choice: Choice[float] | Choice[str]) -> str:
    if choice.value is None:
        return ""
    return "supplied" if choice.replaced else "header"
