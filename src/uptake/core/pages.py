"""What every HTML page of results has alike: pictures inside it, plain values as text, every value escaped."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any


@dataclass(frozen=True)
class Picture:
    """A PNG with the words that go with it.

    Attributes
    ----------
    png : bytes
    caption : str
        Below the picture.
    alt : str
        What the picture shows, for readers who cannot see it.
    """

    png: bytes
    caption: str
    alt: str


def rendered(room: str, template: str, filters: Mapping[str, Callable[..., str]] | None = None, **values: Any) -> str:
    """Return a page: one HTML document, without script, with nothing from elsewhere, every value escaped.

    Parameters
    ----------
    room : str
        Package whose folder ``templates`` holds the template.
    template : str
        File name. It has the filters ``embedded`` (PNG bytes) and ``words`` (plain values).
    filters : mapping, optional
        More of them.
    **values
        What the template shows.

    Raises
    ------
    jinja2.UndefinedError
        If the template names a value that is not given.
    """
    import jinja2

    source = resources.files(room).joinpath(f"templates/{template}").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update({"embedded": embedded, "words": words, **(filters or {})})
    return environment.from_string(source).render(**values)


def words(value: object) -> str:
    """Return a plain value as text: yes and no, lists with commas, numbers without noise.

    Examples
    --------
    >>> words({"dice": 0.123456789, "labels": ["liver", "spleen"], "ct": None, "gate": True})
    'dice: 0.123457, labels: liver, spleen, ct: –, gate: yes'
    """
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {words(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(words(item) for item in value)
    return str(value)


def embedded(png: bytes) -> str:
    """Return a PNG as the address that holds it."""
    text = base64.b64encode(png).decode("ascii")
    # Browsers skip the line break; whoever searches the page for links must not stop at four chance letters.
    return "data:image/png;base64," + text.replace("http", "ht\ntp")
