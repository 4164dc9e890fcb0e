"""Single attributes of a DICOM header: as text, as number, by name, and as the entries of a record."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from uptake.core.errors import UnitError


def text_of(header: Any, keyword: str) -> str:
    """Return an attribute as text without surrounding blanks; "" where it is absent or empty."""
    value = header.get(keyword)
    return "" if value is None else str(value).strip("\0 ")


def number_of(header: Any, keyword: str) -> float | None:
    """Return an attribute as a number, None where it is absent or empty.

    Raises
    ------
    UnitError
        If it is no finite number; the attribute is named.
    """
    text = text_of(header, keyword)
    if not text:
        return None
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise UnitError(f"{attribute_of(keyword)} is {text!r}; expected a number.")
    return number


def attribute_of(keyword: str) -> str:
    """Return how messages name an attribute: "Patient's Weight (0010,1030)"."""
    from pydicom.datadict import dictionary_description, tag_for_keyword

    tag = tag_for_keyword(keyword) or 0
    return f"{dictionary_description(tag)} ({tag >> 16:04X},{tag & 0xFFFF:04X})"


def recorded(header: Any, keywords: Sequence[str]) -> list[dict[str, object]]:
    """Return ``{"tag", "name", "value"}`` of every attribute that is there and not empty."""
    return [_entry(keyword, header.get(keyword)) for keyword in keywords if header.get(keyword) not in (None, "")]


def recorded_range(headers: Sequence[Any], keywords: Sequence[str]) -> list[dict[str, object]]:
    """Return entries as `recorded` for what differs from slice to slice: one value, or the lowest and the highest."""
    result = []
    for keyword in keywords:
        values = sorted({text_of(header, keyword) for header in headers} - {""}, key=_size)
        if values:
            result.append(_entry(keyword, values[0] if len(values) == 1 else [values[0], values[-1]]))
    return result


def recorded_private(group: int, element: int, name: str, value: str) -> dict[str, object] | None:
    """Return the entry of a private attribute in the block at 0x10, None where it is empty."""
    return {"tag": f"({group:04X},{0x1000 + element:04X})", "name": name, "value": value} if value else None


def _entry(keyword: str, value: Any) -> dict[str, object]:
    name, _, tag = attribute_of(keyword).rpartition(" ")
    plain = str(value) if isinstance(value, str) or not hasattr(value, "__iter__") else [str(item) for item in value]
    return {"tag": tag, "name": name, "value": plain}


def _size(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
