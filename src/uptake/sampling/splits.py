"""Folds by patient, always."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from uptake.core.errors import InputError


@dataclass(frozen=True)
class Fold:
    """Case ids of one cross-validation fold."""

    train: tuple[str, ...]
    validation: tuple[str, ...]


def subject_of(case_id: str) -> str:
    """Return the patient that an autoPET-style case id belongs to; the id itself for any other.

    ``fdg_<hash>_<study>`` and ``psma_<hash>_<date>`` carry the patient in their second part.
    """
    match = re.match(r"^((?:fdg|psma)_[0-9a-f]{8,})(?:_.*)?$", case_id)
    return match.group(1) if match else case_id


def tracer_of(subject: str) -> str:
    """Return the tracer that an autoPET III patient's name begins with, "fdg" or "psma"; "" for any other."""
    match = re.match(r"(fdg|psma)_", subject)
    return match.group(1) if match else ""


def patient_folds(
    case_ids: Sequence[str], *, folds: int = 5, seed: int = 0, subject: Callable[[str], str] = subject_of
) -> tuple[Fold, ...]:
    """Return `folds` folds in which no patient is on both sides, and each has its share of every tracer.

    Patients are shuffled with `seed` within their tracer (`tracer_of`) and dealt out in turn; the order of `case_ids`
    does not matter.

    Raises
    ------
    InputError
        If there are fewer patients than folds.
    """
    patients = sorted({subject(case) for case in case_ids})
    if not 2 <= folds <= len(patients):
        raise InputError(
            f"{len(patients)} patients cannot be split into {folds} folds (2 or more, at most one a patient)."
        )
    rng = np.random.default_rng(seed)
    strata = sorted({tracer_of(patient) for patient in patients})
    order = np.concatenate([rng.permutation([p for p in patients if tracer_of(p) == tracer]) for tracer in strata])
    result = []
    for k in range(folds):
        held_out = set(order[k::folds].tolist())
        validation = tuple(sorted(case for case in case_ids if subject(case) in held_out))
        result.append(Fold(tuple(sorted(set(case_ids) - set(validation))), validation))
    return tuple(result)


def folds_from_json(
    values: Sequence[Mapping[str, Sequence[str]]],
    case_ids: Sequence[str],
    *,
    subject: Callable[[str], str] = subject_of,
) -> tuple[Fold, ...]:
    """Return the folds of an nnU-Net ``splits_final.json`` (a list of {"train": [...], "val": [...]}).

    Raises
    ------
    InputError
        If a named case does not exist, or a patient is on both sides of a fold.
    """
    known = set(case_ids)
    result = []
    for number, fold in enumerate(values):
        train, validation = tuple(fold["train"]), tuple(fold["val"])
        unknown = sorted((set(train) | set(validation)) - known)
        if unknown:
            raise InputError(
                f"fold {number} of the split file names {len(unknown)} unknown cases, first {unknown[0]!r}."
            )
        shared = {subject(case) for case in train} & {subject(case) for case in validation}
        if shared:
            raise InputError(
                f"fold {number} of the split file has {len(shared)} patients in training and validation, "
                f"first {sorted(shared)[0]!r}; scores on it would be too good."
            )
        result.append(Fold(train, validation))
    return tuple(result)
