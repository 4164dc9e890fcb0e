"""Half-lives of the PET nuclides, and the coded names under which headers carry them."""

from __future__ import annotations

from dataclasses import dataclass

from uptake.core.errors import UnitError

HALF_LIFE_TOLERANCE = 0.02
"""Largest relative difference between a header's half-life and the nuclide it names.

Real headers truncate and disagree by up to 0.2 % (F-18 as 6586 or 6588 s) and tables of Rb-82 by 1 %; another nuclide
is off by far more.
"""

SHORTEST_HALF_LIFE_S = 10.0
"""A half-life below this is no PET nuclide in clinical use: it is a value in hours or minutes in a field of seconds."""


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
        Code Values (0008,0100) of the Radionuclide Code Sequence (0054,0300): SNOMED RT, then SNOMED CT.
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
)
"""Nuclides with half-lives in s.

References
----------
F-18 109.77 min and Ga-68 67.71 min: Decay Data Evaluation Project; the others: NuDat, rounded as nuclide tables print
them. Rb-82 lies between 75.5 and 76.4 s in the tables, so a header's own value is always preferred. Codes: DICOM
PS3.16, CID 4020 PET Radionuclide.
"""


def radionuclide_of_code(code: str) -> Radionuclide | None:
    """Return the nuclide with this Code Value (0008,0100), or None if the code is not listed."""
    wanted = code.strip().upper()
    return next((nuclide for nuclide in RADIONUCLIDES if wanted in nuclide.codes), None)


def radionuclide_of_half_life(half_life_s: float) -> Radionuclide | None:
    """Return the nuclide whose half-life is closest, or None if none lies within `HALF_LIFE_TOLERANCE`."""
    nearest = min(RADIONUCLIDES, key=lambda nuclide: abs(nuclide.half_life_s - half_life_s))
    return nearest if _relative_difference(half_life_s, nearest) <= HALF_LIFE_TOLERANCE else None


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
