"""Options with a few known values: what else comes is refused with what was expected."""

from __future__ import annotations

from collections.abc import Iterable

from uptake.core.errors import UsageError


def require_known(option: str, value: str, known: Iterable[str]) -> None:
    """Refuse a value that an option does not know.

    Parameters
    ----------
    option : str
        As the user knows it.
    value : str
    known : iterable of str
        All values there are, in the order in which they are told.

    Raises
    ------
    UsageError
        If `value` is none of them.

    Examples
    --------
    >>> require_known("schedule", "poly", ("poly", "cosine"))
    """
    known = tuple(known)
    if value not in known:
        raise UsageError(f"{option} {value!r} is unknown; choose one of {', '.join(known)}.")
