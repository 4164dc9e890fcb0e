"""How fast clicks lead to a good mask: scores after each click, the area under them, clicks to a wanted Dice."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from uptake.core.errors import InputError, UsageError
from uptake.core.types import Mask
from uptake.evaluation.detection import AUTOPET_CONNECTIVITY, AUTOPET_IOU, detection, lesion_overlap, volumes_of
from uptake.evaluation.empty import EmptyRule
from uptake.evaluation.masks import require_masks
from uptake.evaluation.overlap import Counts, overlap_scores
from uptake.geometry.components import bounding_box

Protocol = Literal["autopet_iv", "autopet_v"]

STEPS: Mapping[Protocol, int] = {"autopet_iv": 11, "autopet_v": 6}
"""Masks per case: one before the first click or scribble, and one after each of 10 clicks (IV) or 5 scribbles (V)."""

WANTED_DICE = (0.8, 0.85, 0.9)

Unreached = Literal["nan", "limit"]
"""Clicks to a score that is never reached. "nan": undefined, to be counted apart. "limit": the largest number of clicks
tried, the usual convention of NoC; it flatters methods that fail."""


@dataclass(frozen=True)
class ClickScores:
    """The scores of one case, one number per mask, the first before any click.

    Attributes
    ----------
    dice, lesion_f1, fp_volume_ml, fn_volume_ml : tuple of float
    """

    dice: tuple[float, ...]
    lesion_f1: tuple[float, ...]
    fp_volume_ml: tuple[float, ...]
    fn_volume_ml: tuple[float, ...]


@dataclass(frozen=True)
class ClickCurve:
    """One score over the clicks.

    Attributes
    ----------
    clicks : int
        The last of the curve; it has one point more.
    auc : float
        Area by the trapezoid rule with steps of one click: at most `clicks` for a Dice, 10 in autoPET IV, 5 in V.
    auc_fraction : float
        The same over `clicks`: comparable between curves of different length.
    initial, final, best : float
    """

    clicks: int
    auc: float
    auc_fraction: float
    initial: float
    final: float
    best: float


def click_scores(
    predictions: Iterable[Mask],
    reference: Mask,
    *,
    voxel_ml: float,
    protocol: Protocol | None = None,
    empty: EmptyRule = "nan",
    connectivity: int = AUTOPET_CONNECTIVITY,
    min_iou: float = AUTOPET_IOU,
) -> ClickScores:
    """Return the scores of the masks of one case, in the order of the clicks.

    Parameters
    ----------
    predictions : iterable of arrays (i, j, k) bool
        Before the first click, then after each; read one at a time.
    reference : array (i, j, k) bool
    voxel_ml : float
        Volume of a voxel, mL.
    protocol : {"autopet_iv", "autopet_v"} or None
        Says how many masks there have to be, see `STEPS`.
    empty : {"nan", "one", "zero"}
        See `EmptyRule`: autoPET IV follows "nan"; the loop of V "one" for Dice.
    connectivity, min_iou
        Of lesion F1 (many to one, as in autoPET V).

    Raises
    ------
    InputError
        If a mask has another shape, or their number is not that of the protocol.
    """
    rows = []
    for prediction in predictions:
        require_masks(prediction, reference)
        box = bounding_box(prediction | reference) or (slice(0, 1),) * 3
        first, second = prediction[box], reference[box]
        overlap = lesion_overlap(first, second, connectivity=connectivity)
        volumes = volumes_of(overlap, voxel_ml=voxel_ml, empty=empty)
        dice = overlap_scores(Counts.of(first, second), voxel_ml=voxel_ml, empty=empty)["dice"]
        f1 = detection(overlap, min_iou=min_iou, empty=empty).f1
        rows.append((float(dice), f1, float(volumes["fp_volume_ml"]), float(volumes["fn_volume_ml"])))
    _require_steps(len(rows), protocol)
    return ClickScores(*(tuple(column) for column in zip(*rows, strict=True)))


def click_curve(scores: Sequence[float], *, protocol: Protocol | None = None) -> ClickCurve:
    """Return the area under a curve of scores per click, its ends and its best point.

    Parameters
    ----------
    scores : sequence of float
        Before the first click, then after each. A NaN (lesion-free reference) makes the area undefined.
    protocol : {"autopet_iv", "autopet_v"} or None
        Says how many there have to be.

    Raises
    ------
    InputError
        If there are fewer than two, or not as many as the protocol has.
    """
    _require_steps(len(scores), protocol)
    values = np.asarray(scores, dtype=np.float64)
    clicks = len(values) - 1
    area = float(((values[1:] + values[:-1]) / 2).sum())
    best = math.nan if np.isnan(values).any() else float(values.max())
    return ClickCurve(clicks, area, area / clicks, float(values[0]), float(values[-1]), best)


def clicks_to(scores: Sequence[float], wanted: float, *, unreached: Unreached = "nan") -> float:
    """Return the number of clicks after which a score first reaches `wanted`, 0 for the mask before any click.

    Parameters
    ----------
    scores : sequence of float
        Before the first click, then after each.
    wanted : float
        Compared with >=.
    unreached : {"nan", "limit"}
        See `Unreached`. A curve without a single defined score is undefined under both.
    """
    if unreached not in get_args(Unreached):
        raise UsageError(f"clicks to a score that is not reached are 'nan' or the 'limit', came {unreached!r}.")
    values = np.asarray(scores, dtype=np.float64)
    reached = np.flatnonzero(values >= wanted)
    if reached.size:
        return float(reached[0])
    return math.nan if unreached == "nan" or np.isnan(values).all() else float(len(values) - 1)


def click_row(
    scores: ClickScores, *, wanted: Sequence[float] = WANTED_DICE, unreached: Unreached = "nan"
) -> dict[str, float]:
    """Return areas, final scores and clicks to each wanted Dice of one case as one flat row of a table."""
    row: dict[str, float] = {}
    for name, values in vars(scores).items():
        curve = click_curve(values)
        row |= {f"{name}_auc": curve.auc, f"{name}_auc_fraction": curve.auc_fraction, f"{name}_final": curve.final}
    row |= {f"clicks_to_dice_{w:g}": clicks_to(scores.dice, w, unreached=unreached) for w in wanted}
    return row


def _require_steps(count: int, protocol: Protocol | None) -> None:
    if protocol is not None and protocol not in STEPS:
        raise UsageError(f"protocols of clicks are {', '.join(STEPS)}; came {protocol!r}.")
    if protocol is not None and count != STEPS[protocol]:
        raise InputError(
            f"{protocol} has {STEPS[protocol]} masks per case, the first before any click; there are {count}."
        )
    if count < 2:
        raise InputError(f"a curve over clicks needs at least two masks, there are {count}.")
