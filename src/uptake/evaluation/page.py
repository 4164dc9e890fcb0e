"""One self-contained HTML page of results: sentences, tables, pictures. No script, nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from uptake import RESEARCH_USE_ONLY
from uptake.core.pages import Picture, rendered
from uptake.evaluation.tables import Table


@dataclass(frozen=True)
class Section:
    """A part of the page: words, then tables, then figures.

    Attributes
    ----------
    title : str
    words : tuple of str
        Paragraphs.
    tables : tuple of Table
    figures : tuple of Picture
    """

    title: str
    words: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    figures: tuple[Picture, ...] = ()


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
    return rendered("uptake.evaluation", "page.html.j2", page=page, notice=RESEARCH_USE_ONLY)
