"""How strongly does one column of a table of patients go with another? For confounds: site and tracer, site and sex."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from uptake.core.errors import UsageError

PERMUTATIONS = 999


@dataclass(frozen=True)
class Association:
    """Association of two columns.

    Attributes
    ----------
    kind : str
        "Cramér's V" for words, "η²" (share of the variance between groups) for numbers.
    value : float
        0 (none) to 1 (one says the other); NaN where there is nothing to compare.
    p : float
        Of permutations.
    patients : int
    """

    kind: str
    value: float
    p: float
    patients: int


def association(
    groups: Sequence[str], values: Sequence[str], *, permutations: int = PERMUTATIONS, seed: int = 0
) -> Association:
    """Return how strongly groups go with values; where all values are numbers, with numbers.

    Parameters
    ----------
    groups : sequence of str
        Of each patient, e.g. the site.
    values : sequence of str
        Of each patient; empty ones are left out.
    permutations : int
    seed : int

    Raises
    ------
    UsageError
        If the lengths differ.

    References
    ----------
    Cramér H, Mathematical Methods of Statistics (1946), chapter 21: V = sqrt(χ² / (n (min(r, c) - 1))).
    """
    if len(groups) != len(values):
        raise UsageError(f"{len(groups)} groups and {len(values)} values do not fit together.")
    pairs = [(group, value) for group, value in zip(groups, values, strict=True) if value != ""]
    numbers = _numbers([value for _, value in pairs])
    kind = "Cramér's V" if numbers is None else "η²"
    names, group = np.unique([group for group, _ in pairs], return_inverse=True)
    if len(names) < 2 or len({value for _, value in pairs}) < 2:
        return Association(kind, math.nan, math.nan, len(pairs))
    words = np.unique([value for _, value in pairs], return_inverse=True)[1]

    def measure(of: npt.NDArray[np.int64]) -> float:
        return _cramer(of, words) if numbers is None else _explained(of, numbers)

    observed = measure(group)
    rng = np.random.default_rng(seed)
    reached = sum(measure(rng.permutation(group)) >= observed - 1e-12 for _ in range(permutations))
    return Association(kind, observed, (int(reached) + 1) / (permutations + 1), len(pairs))


def _numbers(values: Sequence[str]) -> npt.NDArray[np.float64] | None:
    try:
        return np.array([float(value) for value in values])
    except ValueError:
        return None


def _cramer(group: npt.NDArray[np.int64], column: npt.NDArray[np.int64]) -> float:
    table = np.zeros((int(group.max()) + 1, int(column.max()) + 1))
    np.add.at(table, (group, column), 1)
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0, keepdims=True) / len(group)
    chi_squared = float(((table - expected) ** 2 / expected).sum())
    return math.sqrt(chi_squared / (len(group) * (min(table.shape) - 1)))


def _explained(group: npt.NDArray[np.int64], column: npt.NDArray[np.float64]) -> float:
    means = np.bincount(group, column) / np.bincount(group)
    total = float(((column - column.mean()) ** 2).sum())
    return float(((means[group] - column.mean()) ** 2).sum()) / total if total > 0 else 0.0
