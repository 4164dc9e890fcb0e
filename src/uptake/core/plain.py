"""Plain JSON values and the tuples of our records."""

from __future__ import annotations

from typing import Any


def as_tuples(value: Any) -> Any:
    """Return JSON's lists as tuples, at any depth.

    Examples
    --------
    >>> as_tuples([1, [2, 3]])
    (1, (2, 3))
    """
    return tuple(as_tuples(item) for item in value) if isinstance(value, list) else value
