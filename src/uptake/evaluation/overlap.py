"""How well two masks agree: Dice, IoU, sensitivity, precision and volumes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from uptake.core.errors import InputError, UsageError
from uptake.core.types import Mask
from uptake.evaluation.detection import AUTOPET_CONNECTIVITY, false_volumes
from uptake.evaluation.empty import EmptyRule, ratio, require_rule, share
from uptake.evaluation.masks import require_masks
from uptake.geometry.components import bounding_box, require_labels
from uptake.geometry.grid import require_same_grid
from uptake.geometry.volume import Volume

__all__ = [
    "AUTOPET_CONNECTIVITY",
    "Counts",
    "EmptyRule",
    "PairScores",
    "dice",
    "evaluate_pair",
    "false_volumes",
    "iou",
    "overlap_scores",
    "precision",
    "sensitivity",
]


@dataclass(frozen=True)
class Counts:
    """Voxels of two masks.

    Attributes
    ----------
    both, predicted, referred : int
        In both masks, in the prediction, in the reference.
    total : int
        In the image.
    """

    both: int
    predicted: int
    referred: int
    total: int

    @classmethod
    def of(cls, prediction: Mask, reference: Mask) -> Counts:
        """Count two masks (i, j, k) bool.

        Raises
        ------
        InputError
            If they differ in shape or are not boolean.
        """
        require_masks(prediction, reference)
        both = int(np.count_nonzero(prediction & reference))
        return cls(both, int(np.count_nonzero(prediction)), int(np.count_nonzero(reference)), prediction.size)


def overlap_scores(counts: Counts, *, voxel_ml: float, empty: EmptyRule = "nan") -> dict[str, float | int]:
    """Return all scores that follow from voxel counts.

    Parameters
    ----------
    counts : Counts
    voxel_ml : float
        Volume of a voxel, mL.
    empty : {"nan", "one", "zero"}
        See `EmptyRule`.

    Returns
    -------
    dict
        `dice`, `iou`, `sensitivity`, `precision` (0 to 1 or NaN); `reference_ml`, `prediction_ml`, `volume_error_ml`
        (prediction minus reference) in mL; `volume_error_fraction` (share of the reference, NaN if that is empty);
        `tp_voxels`, `fp_voxels`, `fn_voxels`, `tn_voxels`, the counts that nnU-Net reports.
    """
    reference_ml, prediction_ml = counts.referred * voxel_ml, counts.predicted * voxel_ml
    error = prediction_ml - reference_ml
    return {
        "dice": _dice(counts, empty),
        "iou": _iou(counts, empty),
        "sensitivity": share(counts.both, counts.referred, other=counts.predicted, empty=empty),
        "precision": share(counts.both, counts.predicted, other=counts.referred, empty=empty),
        "reference_ml": reference_ml,
        "prediction_ml": prediction_ml,
        "volume_error_ml": error,
        "volume_error_fraction": error / reference_ml if reference_ml else math.nan,
        "tp_voxels": counts.both,
        "fp_voxels": counts.predicted - counts.both,
        "fn_voxels": counts.referred - counts.both,
        "tn_voxels": counts.total - counts.predicted - counts.referred + counts.both,
    }


@dataclass(frozen=True)
class PairScores:
    """Scores of one label of one pair of masks.

    Attributes
    ----------
    label : str
    dice, iou, sensitivity, precision : float
        0 to 1, or NaN where undefined; see `EmptyRule`.
    reference_ml, prediction_ml : float
        Volumes, mL.
    volume_error_ml : float
        Prediction minus reference, mL.
    volume_error_fraction : float
        The same as a share of the reference; NaN if that is empty.
    fp_volume_ml, fn_volume_ml : float
        Volume of predicted components that touch no reference voxel, and of reference components that touch no
        predicted voxel, mL.
    fp_components, fn_components : int
        How many those are.
    reference_components, prediction_components : int
    connectivity : int
        Of the components.
    empty : str
        The rule for empty references that was applied.
    """

    label: str
    dice: float
    iou: float
    sensitivity: float
    precision: float
    reference_ml: float
    prediction_ml: float
    volume_error_ml: float
    volume_error_fraction: float
    fp_volume_ml: float
    fn_volume_ml: float
    fp_components: int
    fn_components: int
    reference_components: int
    prediction_components: int
    connectivity: int
    empty: str

    def row(self) -> dict[str, object]:
        """Return the scores as one row of a table; NaN stays NaN, so that nothing undefined passes for a number."""
        return asdict(self)


def dice(prediction: Mask, reference: Mask, *, empty: EmptyRule = "nan") -> float:
    """Return the Dice coefficient 2·n(P∩R) / (n(P) + n(R)) of two masks (i, j, k), 0 to 1.

    Empty reference: see `EmptyRule`. Empty prediction of a reference that is not empty: 0.
    """
    return _dice(Counts.of(prediction, reference), empty)


def iou(prediction: Mask, reference: Mask, *, empty: EmptyRule = "nan") -> float:
    """Return intersection over union of two masks (i, j, k), 0 to 1; empty references as for `dice`."""
    return _iou(Counts.of(prediction, reference), empty)


def sensitivity(prediction: Mask, reference: Mask, *, empty: EmptyRule = "nan") -> float:
    """Return the share of reference voxels that were predicted, 0 to 1.

    Undefined (NaN) for an empty reference, except that the rule "one" gives 1 if the prediction is empty too.
    """
    counts = Counts.of(prediction, reference)
    return share(counts.both, counts.referred, other=counts.predicted, empty=empty)


def precision(prediction: Mask, reference: Mask, *, empty: EmptyRule = "nan") -> float:
    """Return the share of predicted voxels that are in the reference, 0 to 1.

    Undefined (NaN) for an empty prediction, except that the rule "one" gives 1 if the reference is empty too.
    """
    counts = Counts.of(prediction, reference)
    return share(counts.both, counts.predicted, other=counts.referred, empty=empty)


def evaluate_pair(
    prediction: Volume,
    reference: Volume,
    *,
    labels: Mapping[int, str] | None = None,
    empty: EmptyRule = "nan",
    connectivity: int = AUTOPET_CONNECTIVITY,
) -> tuple[PairScores, ...]:
    """Return the scores of a predicted against a reference label volume, one record per label.

    Parameters
    ----------
    prediction, reference : Volume
        Whole numbers on one grid, 0 is background.
    labels : mapping of int to str, or None
        Names of the labels to score, in this order. None: everything that is not background is one label, "lesion".
    empty : {"nan", "one", "zero"}
        See `EmptyRule`; stored with the scores.
    connectivity : int
        Of components, 18 by default (autoPET).

    Raises
    ------
    GeometryError
        If the grids differ, saying by how many mm.
    InputError
        If a volume holds fractions, NaN, negative values, or a label that `labels` does not name.
    UsageError
        If `labels` names the background, or the rule or the connectivity is unknown.
    """
    require_rule(empty)
    require_same_grid(prediction, reference, names=("the prediction", "the reference"))
    for volume, name in ((prediction, "the prediction"), (reference, "the reference")):
        require_labels(volume, name=name)
    if labels is not None:
        _check_table(labels, prediction, reference)
    names: list[tuple[int | None, str]] = [(None, "lesion")] if labels is None else list(labels.items())
    # Everything happens inside the box that holds both: whole-body masks are mostly air.
    occupied = bounding_box((prediction.array != 0) | (reference.array != 0)) or (slice(0, 1),) * 3
    predicted, referred = prediction.array[occupied], reference.array[occupied]
    voxel_ml = reference.voxel_volume_ml
    return tuple(
        _scores(_selected(predicted, value), _selected(referred, value), name, voxel_ml, empty, connectivity)
        for value, name in names
    )


def _scores(
    predicted: Mask, referred: Mask, label: str, voxel_ml: float, empty: EmptyRule, connectivity: int
) -> PairScores:
    scores = overlap_scores(Counts.of(predicted, referred), voxel_ml=voxel_ml, empty=empty)
    scores |= false_volumes(predicted, referred, voxel_ml=voxel_ml, empty=empty, connectivity=connectivity)
    named: dict[str, Any] = {name: value for name, value in scores.items() if not name.endswith("_voxels")}
    return PairScores(label=label, connectivity=connectivity, empty=empty, **named)


def _dice(counts: Counts, empty: EmptyRule) -> float:
    sizes = counts.predicted + counts.referred
    return ratio(2 * counts.both, sizes, prediction=counts.predicted, reference=counts.referred, empty=empty)


def _iou(counts: Counts, empty: EmptyRule) -> float:
    union = counts.predicted + counts.referred - counts.both
    return ratio(counts.both, union, prediction=counts.predicted, reference=counts.referred, empty=empty)


def _selected(array: npt.NDArray[Any], value: int | None) -> Mask:
    return np.asarray(array != 0 if value is None else array == value)


def _check_table(labels: Mapping[int, str], prediction: Volume, reference: Volume) -> None:
    if 0 in labels or not labels:
        raise UsageError("labels to score are numbers other than 0, the background, with their names.")
    for volume, name in ((prediction, "the prediction"), (reference, "the reference")):
        unknown = sorted(int(value) for value in np.unique(volume.array) if int(value) not in labels and value != 0)
        if unknown:
            raise InputError(
                f"{name} holds labels {unknown[:10]} that the table of labels does not name ({sorted(labels)[:20]}); "
                "pass the table the masks were made with."
            )
