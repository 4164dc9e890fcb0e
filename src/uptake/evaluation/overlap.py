"""How well two masks agree: Dice, IoU, sensitivity, precision, volumes, and the autoPET false volumes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from uptake.core.errors import InputError, UsageError
from uptake.core.types import Mask
from uptake.geometry.components import bounding_box, connected_components, require_labels
from uptake.geometry.grid import require_same_grid
from uptake.geometry.volume import Volume

EmptyRule = Literal["nan", "one"]
"""What a score is where the reference is empty.

"nan", the official autoPET rule: Dice, IoU and the false-negative volume are NaN, whatever was predicted, so that a
mean over scans leaves lesion-free ones out; their false-positive volume counts.

"one": an empty prediction of an empty reference is right, Dice 1 and false-negative volume 0; any prediction there has
Dice 0.
"""

AUTOPET_CONNECTIVITY = 18


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

    Empty reference: NaN by the rule "nan"; 1 (nothing predicted) or 0 by the rule "one". Empty prediction of a
    reference that is not empty: 0.
    """
    both, predicted, referred = _counts(prediction, reference)
    return _overlap_score(2 * both, predicted + referred, predicted, referred, empty)


def iou(prediction: Mask, reference: Mask, *, empty: EmptyRule = "nan") -> float:
    """Return intersection over union of two masks (i, j, k), 0 to 1; empty references as for `dice`."""
    both, predicted, referred = _counts(prediction, reference)
    return _overlap_score(both, predicted + referred - both, predicted, referred, empty)


def sensitivity(prediction: Mask, reference: Mask, *, empty: EmptyRule = "nan") -> float:
    """Return the share of reference voxels that were predicted, 0 to 1.

    Undefined (NaN) for an empty reference, except that the rule "one" gives 1 if the prediction is empty too.
    """
    both, predicted, referred = _counts(prediction, reference)
    return _share(both, referred, predicted, empty)


def precision(prediction: Mask, reference: Mask, *, empty: EmptyRule = "nan") -> float:
    """Return the share of predicted voxels that are in the reference, 0 to 1.

    Undefined (NaN) for an empty prediction, except that the rule "one" gives 1 if the reference is empty too.
    """
    both, predicted, referred = _counts(prediction, reference)
    return _share(both, predicted, referred, empty)


def false_volumes(
    prediction: Mask, reference: Mask, *, voxel_ml: float, empty: EmptyRule = "nan", connectivity: int = 18
) -> dict[str, float | int]:
    """Return false-positive and false-negative volume, with component counts, by the autoPET definition.

    Parameters
    ----------
    prediction, reference : arrays (i, j, k) bool
    voxel_ml : float
        Volume of a voxel, mL.
    empty : {"nan", "one"}
        Empty reference: the false-negative volume is NaN (official) or 0 ("one").
    connectivity : int
        18 officially.

    Returns
    -------
    dict
        `fp_volume_ml`, `fn_volume_ml`, `fp_components`, `fn_components`, `prediction_components`,
        `reference_components`.

    Notes
    -----
    A component counts as found if a single voxel of it touches the other mask. Empty prediction: no false-positive
    volume. Empty reference: all of the prediction is false-positive volume.

    References
    ----------
    Gatidis S et al., autoPET challenge, Nat Mach Intell 6:1396 (2024), and its published evaluation code.
    """
    _checked_rule(empty)
    predicted = connected_components(prediction, connectivity=connectivity)
    referred = connected_components(reference, connectivity=connectivity)
    false_positive = ~predicted.touched(reference)
    false_negative = ~referred.touched(prediction)
    missed = float(referred.voxels[false_negative].sum()) * voxel_ml
    return {
        "fp_volume_ml": float(predicted.voxels[false_positive].sum()) * voxel_ml,
        "fn_volume_ml": math.nan if referred.count == 0 and empty == "nan" else missed,
        "fp_components": int(false_positive.sum()),
        "fn_components": int(false_negative.sum()),
        "prediction_components": predicted.count,
        "reference_components": referred.count,
    }


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
    empty : {"nan", "one"}
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
    _checked_rule(empty)
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
    prediction_ml, reference_ml = (float(np.count_nonzero(mask)) * voxel_ml for mask in (predicted, referred))
    volumes = false_volumes(predicted, referred, voxel_ml=voxel_ml, empty=empty, connectivity=connectivity)
    return PairScores(
        label=label,
        dice=dice(predicted, referred, empty=empty),
        iou=iou(predicted, referred, empty=empty),
        sensitivity=sensitivity(predicted, referred, empty=empty),
        precision=precision(predicted, referred, empty=empty),
        reference_ml=reference_ml,
        prediction_ml=prediction_ml,
        volume_error_ml=prediction_ml - reference_ml,
        volume_error_fraction=(prediction_ml - reference_ml) / reference_ml if reference_ml else math.nan,
        fp_volume_ml=float(volumes["fp_volume_ml"]),
        fn_volume_ml=float(volumes["fn_volume_ml"]),
        fp_components=int(volumes["fp_components"]),
        fn_components=int(volumes["fn_components"]),
        reference_components=int(volumes["reference_components"]),
        prediction_components=int(volumes["prediction_components"]),
        connectivity=connectivity,
        empty=empty,
    )


def _selected(array: npt.NDArray[Any], value: int | None) -> Mask:
    return np.asarray(array != 0 if value is None else array == value)


def _counts(prediction: Mask, reference: Mask) -> tuple[int, int, int]:
    """Return the number of voxels in both masks, in the prediction and in the reference."""
    if prediction.shape != reference.shape:
        raise InputError(f"masks of shape {prediction.shape} and {reference.shape} cannot be compared.")
    if prediction.dtype != bool or reference.dtype != bool:
        raise InputError(f"masks are boolean arrays, came {prediction.dtype} and {reference.dtype}.")
    both = int(np.count_nonzero(prediction & reference))
    return both, int(np.count_nonzero(prediction)), int(np.count_nonzero(reference))


def _overlap_score(above: int, below: int, predicted: int, referred: int, empty: EmptyRule) -> float:
    _checked_rule(empty)
    if referred == 0:
        return math.nan if empty == "nan" else float(predicted == 0)
    return above / below


def _share(part: int, whole: int, other: int, empty: EmptyRule) -> float:
    _checked_rule(empty)
    if whole == 0:
        return 1.0 if empty == "one" and other == 0 else math.nan
    return part / whole


def _checked_rule(empty: str) -> None:
    if empty not in get_args(EmptyRule):
        raise UsageError(f"the rule for empty references is 'nan' (official autoPET) or 'one', came {empty!r}.")


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
