"""Values that are typed as text: numbers with commas, names with shares, names with bundles."""

from __future__ import annotations

from pathlib import Path

from uptake.core.errors import UsageError


def numbers(text: str | None, option: str) -> tuple[int, ...] | None:
    """Return the whole numbers that an option gives with commas, None without it.

    Raises
    ------
    UsageError
        If a part is no whole number.
    """
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(f"{option} takes whole numbers with commas, came {text!r}.") from error


def decimals(text: str | None, option: str, *, such_as: str = "0.5,0.05", kind: str = "numbers") -> tuple[float, ...]:
    """Return the numbers that an option gives with commas, in order; none without it.

    Raises
    ------
    UsageError
        If a part is no number; the message says what `kind` of numbers they are, and shows `such_as`.
    """
    try:
        return tuple(float(part) for part in (text or "").split(",") if part.strip())
    except ValueError:
        raise UsageError(f"{option} takes {kind} with commas between, such as {such_as}; came {text!r}.") from None


def tracer_shares(text: str) -> tuple[tuple[str, float], ...]:
    """Return names and shares of "FDG=0.6,PSMA-11=0.4", or equal shares of "FDG,PSMA-11".

    Raises
    ------
    UsageError
        If a share is no number.
    """
    found = []
    for part in text.split(","):
        name, _, share = (piece.strip() for piece in part.partition("="))
        found.append((name, decimals(share, "--tracers", such_as="FDG=0.6,PSMA-11=0.4")[0] if share else 1.0))
    return tuple(found)


def named_bundles(texts: list[str]) -> dict[str, str]:
    """Return name -> bundle of options NAME=BUNDLE; a bundle without a name is called after its folder.

    Raises
    ------
    UsageError
        If a name is empty or given twice.
    """
    found: dict[str, str] = {}
    for text in texts:
        name, separator, bundle = text.partition("=")
        if not separator:
            path = Path(text)
            name, bundle = (path.parent.name if path.name == "bundle" else path.name), text
        if not name or not bundle or name in found or "/" in name:
            raise UsageError(f"--init takes NAME=BUNDLE, each name once, came {text!r}.")
        found[name] = bundle
    return found
