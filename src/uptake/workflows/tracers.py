"""The tracer of a scan against the tracers that a model was trained on."""

from __future__ import annotations

import csv
import re
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from uptake.cases import Case
from uptake.core.errors import UsageError
from uptake.gate.tracers import TRACERS, tracer_of
from uptake.zoo.cards import Card

COHORT = "cohort.csv"
"""The table of a dataset's cases, beside its images."""


def require_tracer(name: str | None) -> None:
    """Refuse a tracer that the input gate does not know; None is none named.

    Raises
    ------
    UsageError
        Listing those it knows.
    """
    if name is not None and tracer_of(name) is None:
        known = ", ".join(tracer.name for tracer in TRACERS)
        raise UsageError(f"the tracer {name!r} is not known; known are {known}.")


def with_tracer(case: Case, name: str | None) -> Case:
    """Return the case with the tracer that the user names, which wins over its header; as it is for None.

    What is judged, measured and reported afterwards reads it from `Case.acquisition`.
    """
    tracer = tracer_of(name)
    return case if tracer is None else replace(case, acquisition={**case.acquisition, "tracer": tracer.name})


def trained_tracers(card: Card) -> tuple[str, ...]:
    """Return the tracers that a model was trained on, as its card tells; () where it does not."""
    value = card.training.get("tracers", card.training.get("tracer", ()))
    names = re.split(r"[,;/]\s*", value) if isinstance(value, str) else value if isinstance(value, list | tuple) else ()
    return tuple(str(name).strip() for name in names if str(name).strip())


def dataset_tracers(dataset: Path, cases: Collection[str]) -> tuple[str, ...]:
    """Return the tracers of a dataset's cases, each once and sorted: those in the column tracer of its cohort.csv.

    Parameters
    ----------
    dataset : Path
        With or without a ``cohort.csv`` (columns ``case`` and ``tracer``), as `uptake simulate cohort` writes it.
    cases : collection of str
        Ids of the cases that are used.

    Returns
    -------
    tuple of str
        () where there is no such table, or it does not name the tracer of every case: part of the tracers would be
        taken for all of them.
    """
    try:
        with (dataset / COHORT).open(encoding="utf-8-sig", newline="") as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError, csv.Error):
        return ()
    named = {(row.get("case") or "").strip(): (row.get("tracer") or "").strip() for row in rows}
    found = {named.get(case, "") for case in cases}
    return () if "" in found else tuple(sorted(found))


def tracer_warnings(card: Card, tracer: str) -> list[str]:
    """Return a warning if a scan's tracer is none of the model's training; none where either is not known.

    Parameters
    ----------
    card : Card
    tracer : str
        Of the scan, in any spelling; "" where nothing names it.
    """
    known = trained_tracers(card)
    if not tracer or not known or any(_same_tracer(tracer, name) for name in known):
        return []
    return [
        f"The tracer is {tracer}; {card.name} was trained on {', '.join(known)} alone. What it makes of another "
        "tracer was not examined."
    ]


def _same_tracer(one: str, other: str) -> bool:
    """Whether two names mean one tracer, as the input gate knows them, or are alike but for case and signs."""
    first, second = tracer_of(one), tracer_of(other)
    if first is not None and second is not None:
        return first.name == second.name
    plain = [re.sub(r"[^a-z0-9]", "", name.lower()) for name in (one, other)]
    return bool(plain[0]) and (plain[0] in plain[1] or plain[1] in plain[0])
