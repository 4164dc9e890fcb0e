"""One self-contained HTML page of results: sentences, tables, pictures. No script, nothing from elsewhere."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources

from uptake import RESEARCH_USE_ONLY
from uptake.evaluation.tables import Table


@dataclass(frozen=True)
class Figure:
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


@dataclass(frozen=True)
class Section:
    """A part of the page: words, then tables, then figures.

    Attributes
    ----------
    title : str
    words : tuple of str
        Paragraphs.
    tables : tuple of Table
    figures : tuple of Figure
    """

    title: str
    words: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    figures: tuple[Figure, ...] = ()


@dataclass(frozen=True)
class Page:
    """All of the page.

    Attributes
    ----------
    kind, title : str
        E.g. "Evaluation" and the name of the results.
    lead : str
        The finding in one or two sentences.
    warnings : tuple of str
        What the reader must know before using a number.
    sections : tuple of Section
    facts : mapping
        How it was made; a two-column table at the end.
    """

    kind: str
    title: str
    lead: str
    warnings: tuple[str, ...] = ()
    sections: tuple[Section, ...] = ()
    facts: Mapping[str, object] = field(default_factory=dict)


def page_html(page: Page) -> str:
    """Return the page as one HTML document; every value is escaped, pictures are embedded."""
    import jinja2

    source = resources.files("uptake.evaluation").joinpath("templates/page.html.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(embedded=_embedded, words=_words)
    return environment.from_string(source).render(page=page, notice=RESEARCH_USE_ONLY)


def _words(value: object) -> str:
    """Return a plain value as text: yes and no, lists with commas, numbers without noise."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_words(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_words(item) for item in value)
    return str(value)


def _embedded(png: bytes) -> str:
    text = base64.b64encode(png).decode("ascii")
    # Browsers skip the line break; whoever searches the page for links must not stop at four chance letters.
    return "data:image/png;base64," + text.replace("http", "ht\ntp")
