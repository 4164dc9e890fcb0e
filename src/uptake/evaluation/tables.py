"""Tables of results as plain text cells, and the same table as Markdown or LaTeX."""

from __future__ import annotations

import math
from dataclasses import dataclass

from uptake.evaluation.catalogue import Metric
from uptake.evaluation.statistics import Summary

UNDEFINED = "–"


@dataclass(frozen=True)
class Table:
    """Headings and cells, ready to be shown.

    Attributes
    ----------
    caption : str
        One sentence: what is in it, of how many, how the intervals were made.
    headings : tuple of str
    rows : tuple of tuples of str
        As many cells in each as there are headings.
    words : int
        The first so many columns hold words and are aligned to the left, all others hold numbers.
    """

    caption: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: int = 1

    def __post_init__(self) -> None:
        assert all(len(row) == len(self.headings) for row in self.rows), "cells and headings do not fit"


def markdown(table: Table) -> str:
    """Return the table in Markdown, its caption above it."""
    lines = [table.caption, ""] if table.caption else []
    lines.append(_line(tuple(_plain(heading) for heading in table.headings)))
    lines.append("|" + "|".join("---" if n < table.words else "---:" for n in range(len(table.headings))) + "|")
    lines += [_line(tuple(_plain(cell) for cell in row)) for row in table.rows]
    return "\n".join(lines) + "\n"


def latex(table: Table, *, label: str = "") -> str:
    """Return the table in LaTeX, for the package booktabs; `label` is what ``\\ref`` calls it."""
    columns = "".join("l" if n < table.words else "r" for n in range(len(table.headings)))
    lines = [r"\begin{table}", r"\centering"]
    if table.caption:
        lines.append(rf"\caption{{{_tex(table.caption)}}}")
    if label:
        lines.append(rf"\label{{{label}}}")
    lines += [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", _tex_line(table.headings), r"\midrule"]
    lines += [_tex_line(row) for row in table.rows]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}"]) + "\n"


def number(value: float, decimals: int = 3) -> str:
    """Return a number as text; a dash where it is undefined, ∞ where it is infinite, no "-0.00"."""
    if math.isnan(value):
        return UNDEFINED
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    text = f"{value:,.{decimals}f}"
    return text.removeprefix("-") if float(text.replace(",", "")) == 0 else text.replace("-", "−")


def signed(value: float, decimals: int = 3) -> str:
    """Return a difference as text with its sign."""
    text = number(value, decimals)
    return text if not value > 0 or text == UNDEFINED or not any(c in "123456789∞" for c in text) else f"+{text}"


def interval_text(low: float, high: float, decimals: int = 3, *, with_sign: bool = False) -> str:
    """Return "low to high" as text; a dash where there is no interval."""
    if math.isnan(low) or math.isnan(high):
        return UNDEFINED
    show = signed if with_sign else number
    return f"{show(low, decimals)} to {show(high, decimals)}"


def percent(share: float) -> str:
    """Return a share such as 0.95 as "95 %"."""
    return f"{100.0 * share:.4g} %"


def p_text(p: float) -> str:
    """Return a p-value as text: three decimals, below 0.001 as such, a dash where there was no test."""
    if math.isnan(p):
        return UNDEFINED
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def p_phrase(p: float) -> str:
    """Return a p-value with its sign: "p = 0.023", "p < 0.001"."""
    text = p_text(p)
    return f"p {text}" if text.startswith("<") else f"p = {text}"


def summary_cells(summary: Summary, metric: Metric) -> tuple[str, str, str, str, str]:
    """Return mean, interval, median, scans and undefined scans of a summary as cells."""
    return (
        number(summary.mean, metric.decimals),
        interval_text(summary.low, summary.high, metric.decimals),
        number(summary.median, metric.decimals),
        str(summary.n),
        str(summary.undefined),
    )


SUMMARY_HEADINGS = ("mean", "interval", "median", "scans", "undefined")


def _line(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(cells) + " |"


def _plain(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")


def _tex_line(cells: tuple[str, ...]) -> str:
    return " & ".join(_tex(cell) for cell in cells) + r" \\"


_TEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"$<$", ">": r"$>$", "–": "--", "−": r"$-$",
    "∞": r"$\infty$", "±": r"$\pm$", "≥": r"$\geq$", "≤": r"$\leq$", "×": r"$\times$", "·": r"$\cdot$",
}  # fmt: skip


def _tex(text: str) -> str:
    return "".join(_TEX.get(character, character) for character in text)
