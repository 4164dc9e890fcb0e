"""What a pretrained point of a label curve is worth in labels: how many scans training from scratch needs for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

RESAMPLES = 2000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Worth:
    """A pretrained point in labels.

    Attributes
    ----------
    arm : str
    fraction : float
    scans : int
        Labelled scans it was trained with.
    like : float
        Scans with which training from scratch reaches its mean Dice, read off the scratch curve.
    low, high : float
        Percentile interval over resampled test patients.
    beyond : {"", "below", "above"}
        Its Dice lies below that of the fewest scans, or above that of all: `like` is the end of the curve then, and
        says no more than "at most" or "at least".
    """

    arm: str
    fraction: float
    scans: int
    like: float
    low: float
    high: float
    beyond: str


def labels_like(dice: float, scans: Sequence[int], curve: Sequence[float] | npt.NDArray[np.float64]) -> float:
    """Return how many scans a curve of Dice against scans needs for `dice`.

    Between its points the curve is a line of Dice against the logarithm of the number of scans; where it falls it is
    taken as level, for more labels are not worth less. Outside of its range the nearer end is returned.

    Parameters
    ----------
    dice : float
    scans : sequence of int
        Ascending, 1 or more.
    curve : sequence of float
        Mean Dice with so many scans.
    """
    level = np.maximum.accumulate(np.asarray(curve, dtype=np.float64))
    found = np.exp(np.interp(dice, level, np.log(np.asarray(scans, dtype=np.float64))))
    return float(np.clip(found, scans[0], scans[-1]))


def worth_of(
    dice: Mapping[tuple[str, float], Mapping[str, float]],
    scans: Mapping[tuple[str, float], int],
    *,
    scratch: str,
    seed: int = 0,
) -> tuple[Worth, ...]:
    """Return what every point that was not trained from scratch is worth in labels.

    Parameters
    ----------
    dice : mapping
        (arm, fraction) -> patient -> mean Dice over draws and scans. Patients that lack in any point are left out.
    scans : mapping
        (arm, fraction) -> labelled scans.
    scratch : str
        Name of the arm that training from scratch is.
    seed : int
        Of the resampling of patients, the same in all points.

    Returns
    -------
    tuple of Worth
        Empty where scratch has fewer than two points, which make no curve, or fewer than two patients are left.
    """
    base = sorted((key for key in dice if key[0] == scratch), key=lambda key: scans[key])
    people = sorted(set.intersection(*(set(one) for one in dice.values()))) if dice else []
    if len(base) < 2 or len(people) < 2:
        return ()
    table = {key: np.array([dice[key][one] for one in people]) for key in dice}
    drawn = np.random.default_rng(seed).integers(len(people), size=(RESAMPLES, len(people)))
    counts = [scans[key] for key in base]
    curve = np.array([table[key].mean() for key in base])
    curves = np.stack([table[key][drawn].mean(axis=1) for key in base], axis=1)
    found = []
    for key in sorted(dice.keys() - set(base)):
        mean, means = float(table[key].mean()), table[key][drawn].mean(axis=1)
        values = [labels_like(one, counts, own) for one, own in zip(means, curves, strict=True)]
        low, high = np.quantile(values, ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2))
        beyond = "below" if mean < curve.min() else "above" if mean > curve.max() else ""
        found.append(Worth(*key, scans[key], labels_like(mean, counts, curve), float(low), float(high), beyond))
    return tuple(found)
