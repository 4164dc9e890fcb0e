"""What the command line prints, and how."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any


def say(text: str = "") -> None:
    """Print a line for the user on standard output."""
    print(text)


def complain(text: str) -> None:
    """Print an error on standard error."""
    print(f"uptake: {text}", file=sys.stderr)


def show_gate(run: Mapping[str, Any]) -> None:
    """Print the line of the input gate that a run.json holds, if it was asked."""
    if run.get("gate"):
        say(f"  {run['gate']['line']}")


def table(rows: Sequence[Mapping[str, object]], columns: Mapping[str, str]) -> None:
    """Print rows as an aligned table; `columns` maps keys to headings; numbers to the right, two decimals."""
    cells = [[heading for heading in columns.values()]]
    cells += [[_cell(row.get(key)) for key in columns] for row in rows]
    widths = [max(len(line[column]) for line in cells) for column in range(len(columns))]
    numeric = [all(isinstance(row.get(key), int | float) or row.get(key) is None for row in rows) for key in columns]
    for number, line in enumerate(cells):
        padded = [
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(line, widths, numeric, strict=True)
        ]
        say("  " + "  ".join(padded).rstrip())
        if number == 0:
            say("  " + "  ".join("-" * width for width in widths))


@contextmanager
def progress(title: str, *, quiet: bool = False) -> Iterator[Callable[[int, int], None]]:
    """Give a function to call with (done, all); draws a bar on a terminal, nothing in a pipe or when quiet."""
    if quiet or not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    ) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _cell(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.2f}"
    return str(value)
