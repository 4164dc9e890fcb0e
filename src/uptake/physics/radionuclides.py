"""Half-lives of the PET nuclides, and the coded names under which headers carry them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from uptake.core.errors import UnitError

HALF_LIFE_TOLERANCE = 0.02
"""Largest relative difference between a header's half-life and the nuclide it names.

Real headers truncate and disagree by up to 0.2 % (F-18 as 6586 or 6588 s) and tables of Rb-82 by 1 %; another nuclide
is off by far more.
"""

SHORTEST_HALF_LIFE_S = 10.0
"""A half-life below this is no PET nuclide in clinical use: it is a value in hours or minutes in a field of seconds."""


LONG_LIVED_S = 4 * 3600.0
"""Nuclides with a longer half-life are scanned days after the injection, so a time without its date says nothing."""


@dataclass(frozen=True)
class Radionuclide:
    """One positron emitter.

    Attributes
    ----------
    name : str
        Element and mass number, e.g. "F-18".
    half_life_s : float
        Physical half-life, s.
    codes : tuple of str
        Code Values (0008,0100) of the Radionuclide Code Sequence (0054,0300): SNOMED RT, then SNOMED CT, or DCM.
    """

    name: str
    half_life_s: float
    codes: tuple[str, ...]


RADIONUCLIDES: tuple[Radionuclide, ...] = (
    Radionuclide("F-18", 6586.2, ("C-111A1", "77004003")),
    Radionuclide("Ga-68", 4062.6, ("C-131A3", "35337001")),
    Radionuclide("C-11", 1221.8, ("C-105A1", "40565003")),
    Radionuclide("N-13", 597.9, ("C-107A1", "21576001")),
    Radionuclide("O-15", 122.24, ("C-B1038", "129504001")),
    Radionuclide("Rb-82", 76.0, ("C-159A2", "79197006")),
    Radionuclide("Cu-64", 45721.0, ("C-127A2", "3932008")),
    Radionuclide("Zr-89", 282276.0, ("C-168A4", "63360001")),
    Radionuclide("I-124", 360806.0, ("C-114A5", "40937006")),
    Radionuclide("Y-90", 230760.0, ("C-162A7", "14691008")),
    Radionuclide("Ge-68", 23410080.0, ("C-128A2", "53315004")),
    Radionuclide("Na-22", 82108000.0, ("C-155A1", "71633006")),
    Radionuclide("Cu-60", 1422.0, ("C-127A4", "425364008")),
    Radionuclide("Cu-61", 11999.0, ("C-127A1", "71425003")),
    Radionuclide("Cu-62", 580.4, ("C-127A5", "422934004")),
    Radionuclide("Sc-43", 14008.0, ("126605",)),
    Radionuclide("Sc-44", 14420.0, ("126600",)),
    Radionuclide("Ti-45", 11088.0, ("C-166A2", "75696008")),
    Radionuclide("Mn-51", 2772.0, ("126601",)),
    Radionuclide("Mn-52", 483060.0, ("C-149A1", "37225000")),
    Radionuclide("Mn-52m", 1266.0, ("126607",)),
    Radionuclide("Fe-52", 29790.0, ("C-130A1", "69089000")),
    Radionuclide("Zn-62", 33070.0, ("C-141A1", "65054007")),
    Radionuclide("Ga-66", 33840.0, ("C-131A1", "79477007")),
    Radionuclide("As-70", 3156.0, ("126602",)),
    Radionuclide("As-72", 93600.0, ("C-115A2", "2705002")),
    Radionuclide("Se-73", 25740.0, ("C-116A2", "87437000")),
    Radionuclide("Br-75", 5802.0, ("C-113A1", "17910003")),
    Radionuclide("Br-76", 58320.0, ("C-113A2", "79523006")),
    Radionuclide("Br-77", 205330.0, ("C-113A3", "86521004")),
    Radionuclide("Y-86", 53064.0, ("C-162A3", "10738001")),
    Radionuclide("Nb-90", 52560.0, ("126603",)),
    Radionuclide("Tc-94m", 3120.0, ("C-163AA", "424079002")),
    Radionuclide("Tb-152", 63000.0, ("126606",)),
    Radionuclide("K-38", 458.2, ("C-135A4", "423764008")),
    Radionuclide("O-14", 70.61, ("C-1018C", "424875009")),
)
"""Nuclides with half-lives in s: every one of DICOM's context group, the clinical ones first.

References
----------
Codes: DICOM PS3.16, CID 4020 PET Radionuclide. F-18 109.77 min and Ga-68 67.71 min: Decay Data Evaluation Project; the
first eight otherwise NuDat, rounded as nuclide tables print them; the rest ICRP Publication 107. Where tables differ by
more than a percent the value lies between them (Rb-82 75.5 to 76.4 s, Sc-44 3.97 to 4.04 h, Ga-66 9.30 to 9.49 h):
a header's own value is always preferred.
"""


ELEMENTS = {
    "as": ("arsenic",), "br": ("bromine",), "c": ("carbon",), "cu": ("copper",), "f": ("fluorine", "fluor"),
    "fe": ("iron",), "ga": ("gallium",), "ge": ("germanium",), "i": ("iodine",), "k": ("potassium",),
    "mn": ("manganese",), "n": ("nitrogen",), "na": ("sodium",), "nb": ("niobium",), "o": ("oxygen",),
    "rb": ("rubidium",), "sc": ("scandium",), "se": ("selenium",), "tb": ("terbium",), "tc": ("technetium",),
    "ti": ("titanium",), "y": ("yttrium",), "zn": ("zinc",), "zr": ("zirconium",),
}  # fmt: skip
"""Names of the elements of `RADIONUCLIDES` by symbol, in small letters."""


def radionuclide_of_code(code: str) -> Radionuclide | None:
    """Return the nuclide with this Code Value (0008,0100), or None if the code is not listed."""
    wanted = code.strip().upper()
    return next((nuclide for nuclide in RADIONUCLIDES if wanted in nuclide.codes), None)


def radionuclide_of_meaning(text: str) -> Radionuclide | None:
    """Return the nuclide that a Code Meaning (0008,0104) names, or None where it names none or several.

    Understood are mass number and element in any order and decoration: "^68^Gallium", "68Ga", "Ga-68",
    "F^18^[^18^Fluorine]".
    """
    parts = set(re.findall(r"\d+|[a-z]+", text.lower()))
    found = []
    for nuclide in RADIONUCLIDES:
        symbol, _, mass = nuclide.name.lower().partition("-")
        number = mass.rstrip("m")
        metastable = "m" in parts or f"m{symbol}" in parts
        named = parts & {symbol, f"m{symbol}", *ELEMENTS[symbol]}
        if number in parts and named and metastable == mass.endswith("m"):
            found.append(nuclide)
    return found[0] if len(found) == 1 else None


def radionuclide_of_half_life(half_life_s: float) -> Radionuclide | None:
    """Return the one nuclide within `HALF_LIFE_TOLERANCE` of a half-life, or None if there is none or more than one."""
    found = [nuclide for nuclide in RADIONUCLIDES if _relative_difference(half_life_s, nuclide) <= HALF_LIFE_TOLERANCE]
    return found[0] if len(found) == 1 else None


def require_half_life(half_life_s: float, nuclide: Radionuclide | None) -> None:
    """Check a header's half-life against the nuclide that the same header names.

    Raises
    ------
    UnitError
        If the half-life is below 10 s, or differs from the nuclide's by more than 2 %.

    References
    ----------
    DICOM PS3.3 C.8.9.2, Radionuclide Half Life (0018,1075) and Radionuclide Code Sequence (0054,0300).
    """
    if not half_life_s >= SHORTEST_HALF_LIFE_S:
        raise UnitError(
            f"Radionuclide Half Life (0018,1075) is {half_life_s:g}; expected seconds, {SHORTEST_HALF_LIFE_S:g} or "
            "more. "
            "Correct the attribute (F-18: 6586.2 s)."
        )
    if nuclide is not None and _relative_difference(half_life_s, nuclide) > HALF_LIFE_TOLERANCE:
        raise UnitError(
            f"Radionuclide Half Life (0018,1075) is {half_life_s:g} s but Radionuclide Code Sequence (0054,0300) says "
            f"{nuclide.name}, which has {nuclide.half_life_s:g} s. Correct the one that is wrong."
        )


def _relative_difference(half_life_s: float, nuclide: Radionuclide) -> float:
    return abs(half_life_s - nuclide.half_life_s) / nuclide.half_life_s
