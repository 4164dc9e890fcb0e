"""Can a linear classifier tell from which site a scan comes? Patients stay together; chance is one over the sites."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from uptake.core.errors import InputError, UsageError
from uptake.evaluation.intervals import CONFIDENCE, DRAWS
from uptake.evaluation.statistics import group_numbers

Matrix = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int64]

FOLDS = 5
PENALTY = 0.02
"""Weight of half the squared coefficients beside the mean cross-entropy of standardised features. Fixed, not tuned: a
choice by the data would need folds of its own."""

PERMUTATIONS = 200


@dataclass(frozen=True, eq=False)
class Classification:
    """How well a label can be read off the features of held-out patients.

    Attributes
    ----------
    classes : tuple of str
    balanced_accuracy : float
        Mean over classes of the share of its scans that were recognised.
    low, high : float
        Percentile bootstrap interval, patients of each class drawn with replacement.
    confidence : float
    chance : float
        One over the number of classes.
    p : float
        Share of permutations of the classes among patients that reach the balanced accuracy, the observed one
        included; the whole cross-validation is repeated for each.
    confusion : array (classes, classes) int
        Scans; rows are the truth.
    patients : tuple of int
        Per class.
    folds : int
    """

    classes: tuple[str, ...]
    balanced_accuracy: float
    low: float
    high: float
    confidence: float
    chance: float
    p: float
    confusion: npt.NDArray[np.int64]
    patients: tuple[int, ...]
    folds: int


def classify(
    features: Matrix,
    classes: Sequence[str],
    patients: Sequence[Hashable],
    *,
    folds: int = FOLDS,
    penalty: float = PENALTY,
    permutations: int = PERMUTATIONS,
    draws: int = DRAWS,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Classification:
    """Return how well a multinomial logistic regression recognises the classes of held-out patients.

    Parameters
    ----------
    features : array (scans, features)
        NaN where one is missing; the mean of the training scans takes its place.
    classes : sequence of str
        Of each scan, e.g. its site.
    patients : sequence
        Whose scan each is; all scans of a patient are in one fold.
    folds : int
        At most as many as the smallest class has patients.
    penalty : float
        See `PENALTY`.
    permutations : int
        0 leaves p NaN.
    draws, confidence, seed

    Raises
    ------
    InputError
        If there are fewer than two classes, or one has fewer than two patients.
    UsageError
        If the lengths differ.

    Notes
    -----
    Features are standardised by the training scans of each fold, classes weigh the same whatever their size. Patients
    are dealt to the folds class by class, so that every fold has scans of every class to learn from. A permutation
    moves whole patients between classes; where a patient was scanned in several, the scans of that patient.
    """
    labels, owners = np.asarray(classes), group_numbers(list(patients), None)
    if len(labels) != len(features) or len(owners) != len(features):
        raise UsageError(
            f"{len(features)} scans, {len(labels)} classes and {len(owners)} patients do not fit together."
        )
    names, truth = np.unique(labels, return_inverse=True)
    counts = tuple(len(np.unique(owners[truth == n])) for n in range(len(names)))
    if len(names) < 2 or min(counts) < 2:
        which = ", ".join(f"{name}: {count}" for name, count in zip(names, counts, strict=True))
        raise InputError(f"two classes with two patients each are needed to tell them apart; patients: {which}.")
    used = min(folds, *counts)
    usable = np.asarray(features, dtype=np.float64)[:, ~np.isnan(features).all(axis=0)]
    rng = np.random.default_rng(seed)
    guessed = _cross_validated(usable, truth, owners, used, penalty, rng)
    accuracy = _balanced(truth, guessed, len(names))
    p = math.nan
    if permutations > 0:
        reached = 0
        for _ in range(permutations):
            other = _permuted(truth, owners, rng)
            reached += (
                _balanced(other, _cross_validated(usable, other, owners, used, penalty, rng), len(names)) >= accuracy
            )
        p = (reached + 1) / (permutations + 1)
    low, high = _interval(truth == guessed, truth, owners, draws, confidence, seed)
    confusion = np.zeros((len(names), len(names)), dtype=np.int64)
    np.add.at(confusion, (truth, guessed), 1)
    return Classification(
        classes=tuple(str(name) for name in names),
        balanced_accuracy=accuracy,
        low=low,
        high=high,
        confidence=confidence,
        chance=1.0 / len(names),
        p=p,
        confusion=confusion,
        patients=counts,
        folds=used,
    )


def logistic_regression(features: Matrix, classes: Numbers, count: int, *, penalty: float = PENALTY) -> Matrix:
    """Return the coefficients (features + 1, classes) of a penalised multinomial logistic regression, intercept last.

    Minimises the mean over classes of their mean cross-entropy plus penalty / 2 times the squared coefficients
    (without the intercepts), by L-BFGS with the exact gradient.

    Parameters
    ----------
    features : array (scans, features)
        Standardised.
    classes : array (scans,) int
        0 to count - 1, each at least once.
    count : int
    penalty : float

    References
    ----------
    Hastie T, Tibshirani R, Friedman J, The Elements of Statistical Learning (2009), section 4.4.
    """
    from scipy import optimize

    design = np.hstack([features, np.ones((len(features), 1))])
    wanted = np.eye(count)[classes]
    weights = (1.0 / (count * np.bincount(classes, minlength=count)))[classes][:, None]
    free = np.ones((design.shape[1], 1))
    free[-1] = 0.0

    def cost(flat: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        w = flat.reshape(design.shape[1], count)
        scores = design @ w
        scores -= scores.max(axis=1, keepdims=True)
        likely = np.exp(scores)
        total = likely.sum(axis=1, keepdims=True)
        loss = float((weights * (np.log(total) - (scores * wanted).sum(axis=1, keepdims=True))).sum())
        gradient = design.T @ (weights * (likely / total - wanted)) + penalty * free * w
        return loss + 0.5 * penalty * float((free * w * w).sum()), gradient.ravel()

    start = np.zeros(design.shape[1] * count)
    found = optimize.minimize(cost, start, jac=True, method="L-BFGS-B", options={"maxiter": 200, "gtol": 1e-4})
    return np.asarray(found.x.reshape(design.shape[1], count), dtype=np.float64)


def _cross_validated(
    features: Matrix, truth: Numbers, owners: Numbers, folds: int, penalty: float, rng: np.random.Generator
) -> Numbers:
    """Return the class guessed for each scan by a model that saw no scan of its patient."""
    count = int(truth.max()) + 1
    fold = _dealt(truth, owners, folds, rng)[owners]
    guessed = np.zeros(len(truth), dtype=np.int64)
    for k in range(folds):
        held_out = fold == k
        train = features[~held_out]
        # A class of which no scan is left to learn from is not guessed.
        known, local = np.unique(truth[~held_out], return_inverse=True)
        centre = np.nanmean(np.where(np.isnan(train).all(axis=0), 0.0, train), axis=0)
        spread = np.nanstd(np.where(np.isnan(train).all(axis=0), 0.0, train), axis=0)
        spread[spread < 1e-12] = 1.0
        scaled = np.nan_to_num((features - centre) / spread, nan=0.0)
        if len(known) < 2:
            guessed[held_out] = known[0]
            continue
        w = logistic_regression(scaled[~held_out], local, len(known), penalty=penalty)
        guessed[held_out] = known[(scaled[held_out] @ w[:-1] + w[-1]).argmax(axis=1)]
    assert guessed.max() < count
    return guessed


def _dealt(truth: Numbers, owners: Numbers, folds: int, rng: np.random.Generator) -> Numbers:
    """Return the fold of each patient: dealt out class by class (a patient's class is that of the first scan)."""
    _, first = np.unique(owners, return_index=True)
    own = truth[first]
    fold = np.zeros(len(own), dtype=np.int64)
    begun = 0
    for name in np.unique(own):
        members = rng.permutation(np.flatnonzero(own == name))
        fold[members] = (np.arange(len(members)) + begun) % folds
        begun += len(members)
    return fold


def _permuted(truth: Numbers, owners: Numbers, rng: np.random.Generator) -> Numbers:
    """Return classes moved between patients; those of a patient with several classes between that patient's scans."""
    result = truth.copy()
    _, first, owner = np.unique(owners, return_index=True, return_inverse=True)
    own = truth[first]
    several = np.zeros(len(own), dtype=bool)
    several[owner[truth != own[owner]]] = True
    single = np.flatnonzero(~several)
    moved = own.copy()
    moved[single] = own[rng.permutation(single)]
    plain = ~several[owner]
    result[plain] = moved[owner[plain]]
    for patient in np.flatnonzero(several):
        scans = np.flatnonzero(owner == patient)
        result[scans] = truth[rng.permutation(scans)]
    return result


def _balanced(truth: Numbers, guessed: Numbers, count: int) -> float:
    right = np.bincount(truth, truth == guessed, minlength=count)
    return float((right / np.bincount(truth, minlength=count)).mean())


def _interval(
    right: npt.NDArray[np.bool_], truth: Numbers, owners: Numbers, draws: int, confidence: float, seed: int
) -> tuple[float, float]:
    """Return the interval of the balanced accuracy; within each class its patients are drawn with replacement."""
    rng = np.random.default_rng(seed)
    recalls = []
    for name in np.unique(truth):
        own = truth == name
        _, patient = np.unique(owners[own], return_inverse=True)
        scans, hits = np.bincount(patient), np.bincount(patient, right[own])
        chosen = rng.integers(0, len(scans), (draws, len(scans)))
        recalls.append(hits[chosen].sum(axis=1) / scans[chosen].sum(axis=1))
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(np.mean(recalls, axis=0), [tail, 1.0 - tail])
    return float(low), float(high)
