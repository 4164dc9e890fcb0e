"""Who is trained on, who chooses, who is tested; and nested subsets of the first, always whole patients."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from uptake.core.errors import InputError, UsageError

TEST_SHARE = 0.2
VALIDATION_SHARE = 0.1
"""Of the patients; the published split is 700 scans for training, 114 left over, 200 for the test."""


@dataclass(frozen=True)
class Split:
    """Case ids of the three parts; no patient is in two of them."""

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]

    def as_json(self) -> dict[str, list[str]]:
        """Return plain JSON values, as in split.json."""
        return {name: list(ids) for name, ids in asdict(self).items()}


def make_split(
    patients: Mapping[str, str],
    *,
    test: Sequence[str] | None = None,
    test_share: float = TEST_SHARE,
    validation_share: float = VALIDATION_SHARE,
    seed: int = 0,
) -> Split:
    """Return a split by patient, drawn with `seed`.

    Parameters
    ----------
    patients : mapping
        Case id -> patient.
    test : sequence of str, optional
        Case ids of the test part (a fold of a cross-validation); drawn by default.
    test_share, validation_share : float
        Of the patients; of what is left beside `test`, where that is given.
    seed : int

    Raises
    ------
    InputError
        If a part would be empty, or a patient of `test` has other scans.
    """
    people = sorted(set(patients.values()))
    if test is None:
        order = [people[n] for n in np.random.default_rng(seed).permutation(len(people))]
        n_test = max(1, round(test_share * len(people)))
        tested, rest = set(order[:n_test]), order[n_test:]
    else:
        unknown = sorted(set(test) - patients.keys())
        if unknown:
            raise InputError(f"the test part names {len(unknown)} unknown cases, first {unknown[0]!r}.")
        tested = {patients[case] for case in test}
        outside = sorted(case for case, patient in patients.items() if patient in tested and case not in set(test))
        if outside:
            raise InputError(
                f"{outside[0]!r} is another scan of a patient of the test part; put all of a patient's scans there."
            )
        rest = [person for person in people if person not in tested]
        rest = [rest[n] for n in np.random.default_rng(seed).permutation(len(rest))]
    n_validation = max(1, round(validation_share * len(people))) if validation_share > 0 else 0
    watched, trained = set(rest[:n_validation]), set(rest[n_validation:])
    if not trained or not tested:
        raise InputError(f"{len(people)} patients are too few to train, choose and test on; three are needed.")

    def ids(chosen: set[str]) -> tuple[str, ...]:
        return tuple(sorted(case for case, patient in patients.items() if patient in chosen))

    return Split(ids(trained), ids(watched), ids(tested))


def read_split(path: Path, patients: Mapping[str, str]) -> Split:
    """Return the split in a JSON file with the lists "train", "validation" and "test".

    Raises
    ------
    InputError
        If the file is none, names unknown cases, or has a patient in two parts.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        split = Split(*(tuple(str(case) for case in content[name]) for name in ("train", "validation", "test")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: is no split ({type(error).__name__}: {error}); expected JSON lists 'train', 'validation', 'test'."
        ) from error
    unknown = sorted({*split.train, *split.validation, *split.test} - patients.keys())
    if unknown:
        raise InputError(f"{path}: names {len(unknown)} unknown cases, first {unknown[0]!r}.")
    parts = [{patients[case] for case in ids} for ids in (split.train, split.validation, split.test)]
    for a, b in ((0, 1), (0, 2), (1, 2)):
        if parts[a] & parts[b]:
            raise InputError(
                f"{path}: {len(parts[a] & parts[b])} patients are in two parts of the split; scores would be too good."
            )
    return split


def nested_order(
    train: Sequence[str], patients: Mapping[str, str], positive: Mapping[str, bool], *, draw: int, seed: int = 0
) -> list[str]:
    """Return the training patients in the order in which they are added; any beginning of it is a subset.

    The first has a lesion where any has: from scans without lesions alone nothing can be learnt of them.
    """
    people = sorted({patients[case] for case in train})
    order = [people[n] for n in np.random.default_rng([seed, draw]).permutation(len(people))]
    with_lesion = {patients[case] for case in train if positive[case]}
    first = next((number for number, person in enumerate(order) if person in with_lesion), 0)
    return [order[first], *order[:first], *order[first + 1 :]]


def fraction_of(
    train: Sequence[str],
    patients: Mapping[str, str],
    positive: Mapping[str, bool],
    fraction: float,
    *,
    draw: int = 0,
    seed: int = 0,
) -> tuple[str, ...]:
    """Return whole patients with at least ``int(fraction · scans)`` scans between them, and at least one.

    Subsets of one draw are nested: 10 % lies in 30 % lies in 100 %, as published.

    Raises
    ------
    UsageError
        If the fraction is not in (0, 1].
    """
    if not 0.0 < fraction <= 1.0:
        raise UsageError(f"the fraction of labels is in (0, 1], came {fraction}.")
    wanted = max(1, int(fraction * len(train) + 1e-9))
    chosen: list[str] = []
    for person in nested_order(train, patients, positive, draw=draw, seed=seed):
        if len(chosen) >= wanted:
            break
        chosen += [case for case in train if patients[case] == person]
    return tuple(sorted(chosen))


def shots_of(
    train: Sequence[str],
    patients: Mapping[str, str],
    positive: Mapping[str, bool],
    shots: int,
    *,
    draw: int = 0,
    seed: int = 0,
) -> tuple[str, ...]:
    """Return `shots` scans with a lesion, each of another patient.

    Raises
    ------
    InputError
        If fewer patients of the training part have a lesion.
    """
    with_lesion = [case for case in train if positive[case]]
    people = {patients[case] for case in with_lesion}
    if not 1 <= shots <= len(people):
        raise InputError(f"{shots} shots were asked for; {len(people)} patients of the training part have a lesion.")
    order = nested_order(with_lesion, patients, positive, draw=draw, seed=seed)[:shots]
    return tuple(sorted(next(case for case in with_lesion if patients[case] == person) for person in order))
