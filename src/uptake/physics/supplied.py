"""Values that the caller gives because the header lacks them, and what happens where it does not."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

from uptake.core.errors import UsageError
from uptake.physics.body import PLAUSIBLE_HEIGHT_M, SEXES
from uptake.physics.radionuclides import SHORTEST_HALF_LIFE_S

Value = TypeVar("Value", float, str, datetime)

SAME_SHARE = 0.01
"""Numbers closer than this are one value written twice: weights are rounded, doses cut."""

SAME_MOMENT_S = 60.0

FIRST_YEAR = 1800
"""Earlier dates are placeholders."""


RANGES = {
    "weight_kg": (0.01, 500.0, "kg"),
    "height_m": (*PLAUSIBLE_HEIGHT_M, "m"),
    "dose_mbq": (0.01, 1.0e5, "MBq"),
    "half_life_s": (SHORTEST_HALF_LIFE_S, 1.0e9, "s"),
}
"""Lowest and highest supplied value: mouse to man, and no value in g, cm, Bq or hours."""


@dataclass(frozen=True)
class SuppliedValues:
    """What the caller knows and the header may lack. None: not supplied.

    Attributes
    ----------
    weight_kg, height_m : float or None
    sex : str or None
        "M", "F" or "O".
    dose_mbq : float or None
        Injected activity at the injection.
    half_life_s : float or None
    injection, reference : datetime or None
        Naive, in the local time of the scanner. `reference` is the moment the image is decay corrected to.
    replace_header : bool
        Whether a supplied value wins over one in the header that says something else. By default the header wins, and
        the difference is a warning.

    Raises
    ------
    UsageError
        If a value is outside `RANGES`, which mistakes of unit are, the sex is another word, or a time has a time zone.
    """

    weight_kg: float | None = None
    height_m: float | None = None
    sex: str | None = None
    dose_mbq: float | None = None
    half_life_s: float | None = None
    injection: datetime | None = None
    reference: datetime | None = None
    replace_header: bool = False

    def __post_init__(self) -> None:
        for name, (low, high, unit) in RANGES.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise UsageError(f"{name} is {value:g}; expected {low:g} to {high:g} {unit}.")
        if self.sex is not None and self.sex not in SEXES:
            raise UsageError(f"sex is {self.sex!r}; expected {', '.join(SEXES)}.")
        for name in ("injection", "reference"):
            value = getattr(self, name)
            if value is not None and (value.tzinfo is not None or value.year < FIRST_YEAR):
                raise UsageError(
                    f"{name} is {value.isoformat()}; expected a date and the local time of the scanner, without a zone."
                )


@dataclass(frozen=True)
class Choice(Generic[Value]):
    """One value out of two.

    Attributes
    ----------
    value : float, str, datetime or None
        The one to use.
    header, supplied : float, str, datetime or None
        What there was.
    replaced : bool
        Whether the supplied value is the one to use.
    warning : str or None
        Where the two contradict one another.
    """

    value: Value | None
    header: Value | None
    supplied: Value | None
    replaced: bool
    warning: str | None = None


def choose(attribute: str, header: Value | None, supplied: Value | None, *, replace_header: bool) -> Choice[Value]:
    """Return the header's value, or the supplied one where the header has none or is to be replaced.

    Parameters
    ----------
    attribute : str
        How a warning names it, with tag.
    header, supplied : float, str, datetime or None
        In the same unit.
    replace_header : bool
        Whether the supplied one wins where both are there.
    """
    if supplied is None:
        return Choice(header, header, None, replaced=False)
    if header is None:
        return Choice(supplied, None, supplied, replaced=True)
    if _same(header, supplied):
        return Choice(header, header, supplied, replaced=False)
    used = "supplied" if replace_header else "header's"
    warning = f"{attribute} is {_shown(header)} in the header but {_shown(supplied)} was supplied; the {used} was used."
    return Choice(supplied if replace_header else header, header, supplied, replaced=replace_header, warning=warning)


def _same(one: float | str | datetime, other: float | str | datetime) -> bool:
    if isinstance(one, datetime) and isinstance(other, datetime):
        return abs((one - other).total_seconds()) <= SAME_MOMENT_S
    if isinstance(one, int | float) and isinstance(other, int | float):
        return math.isclose(one, other, rel_tol=SAME_SHARE)
    return one == other


def _shown(value: float | str | datetime) -> str:
    if isinstance(value, datetime):
        return value.isoformat(sep=" ", timespec="seconds")
    return value if isinstance(value, str) else f"{value:g}"
