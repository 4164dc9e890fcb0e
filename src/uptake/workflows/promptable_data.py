"""Labelled studies made ready for training by prompts: on the model grid, every lesion and named organ a target."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from uptake.core.errors import InputError, UsageError
from uptake.harmonise.onto import harmonise
from uptake.harmonise.plan import Plan
from uptake.io.find import CaseFiles
from uptake.io.read import read_case
from uptake.sampling.prompt_cases import PromptCase, targets_of
from uptake.sampling.store import stamp_of, store, stored

MOST_LABELS = 256
"""Organ maps number their classes from 1 to 255."""


def prompt_cases(
    files: Sequence[CaseFiles],
    plan: Plan,
    cache: Path,
    *,
    organs: Mapping[int, str] | None = None,
    min_voxels: int = 1,
    trusted: Callable[[str], bool] = lambda _: True,
    assume_suv: bool = False,
) -> list[PromptCase]:
    """Return the cases with their targets, each brought onto the model grid once and kept in `cache`.

    Parameters
    ----------
    files : sequence of CaseFiles
        With a lesion mask, and for organ targets an organ map.
    plan : Plan
        Of the method's Config.
    cache : Path
    organs : mapping, optional
        Label of the organ maps -> class name; what has no name here is no target.
    min_voxels : int
        Smaller targets are left out.
    trusted : callable
        Case id -> whether its labels are of high quality.
    assume_suv : bool

    Raises
    ------
    InputError
        If a study cannot be read, or has no lesion mask.
    UsageError
        If a label of `organs` is no number from 1 to 255.
    """
    table = _kept(organs) if organs else None
    cases = []
    for one in files:
        case = read_case(one, assume_suv=assume_suv)
        if case.lesions is None:
            raise InputError(f"{case.id}: there is no lesion mask, so there is nothing to prompt for.")
        stamp = stamp_of(plan.as_json(), {source.role: source.sha256 for source in case.sources}, table)
        found = stored(cache, case.id, stamp)
        if found is None:
            found = store(cache, harmonise(case, plan, organ_table=table)[0], stamp)
        labels = found.organs[:] if organs and found.organs is not None else None
        targets = targets_of(found.labels[:], labels, dict(organs or {}), min_voxels=min_voxels)
        cases.append(PromptCase(case.id, found.channels, targets, trusted(case.id)))
    return cases


def _kept(organs: Mapping[int, str]) -> npt.NDArray[np.uint8]:
    """Return the table that keeps the numbers of named organs and drops all others: each label costs a resampling."""
    strange = [label for label in organs if not 0 < label < MOST_LABELS]
    if strange:
        raise UsageError(f"labels of organs are numbers from 1 to {MOST_LABELS - 1}, came {strange[0]}.")
    table = np.zeros(MOST_LABELS, dtype=np.uint8)
    table[list(organs)] = list(organs)
    return table
