"""Every score of every label of one pair of label maps, in one go.

The maps are looked at once (`counts`); after that each label costs what its own box costs. One set of surface distances
gives all Hausdorff and average distances, one table of shared voxels all component and lesion-wise scores.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from uptake.core.errors import GeometryError, InputError, UsageError
from uptake.core.types import Mask, Vector3
from uptake.core.units import MM3_PER_ML
from uptake.evaluation.counts import LabelPair
from uptake.evaluation.detection import (
    AUTOPET_CONNECTIVITY,
    AUTOPET_IOU,
    Matching,
    detection,
    lesion_overlap,
    volumes_of,
)
from uptake.evaluation.empty import DistanceRule, EmptyRule, require_distance_rule, require_rule
from uptake.evaluation.masks import require_spacing
from uptake.evaluation.overlap import overlap_scores
from uptake.evaluation.surface import average_distance, hausdorff, surface_dice, surface_distances
from uptake.geometry.affine import SHEAR_TOLERANCE, shear
from uptake.geometry.components import CONNECTIVITIES
from uptake.geometry.grid import require_same_grid
from uptake.geometry.volume import Volume

Group = Literal["overlap", "surface", "surfels", "components", "detection"]
"""What can be asked for together. "surface": distances between surface voxels. "surfels": distances between surface
elements weighted by area, surface Dice among them. "components": autoPET's false volumes. "detection": lesion-wise."""

GROUPS: tuple[Group, ...] = get_args(Group)

Label = int | tuple[int, ...]
"""A label, or several scored as one (a region)."""


@dataclass(frozen=True)
class Rules:
    """What decides a score besides the masks; stored with every row.

    Attributes
    ----------
    empty : {"nan", "one", "zero"}
        Dice and its like where the reference is empty, see `EmptyRule`.
    empty_distance : {"nan", "inf"}
        Distances where one mask is empty, see `DistanceRule`.
    connectivity : {18, 6, 26}
        Of components.
    min_iou : float
        Overlap from which a lesion counts as found.
    tolerances_mm : tuple of float
        Of surface Dice, mm.

    Raises
    ------
    UsageError
        If one is unknown or out of range.
    """

    empty: EmptyRule = "nan"
    empty_distance: DistanceRule = "nan"
    connectivity: int = AUTOPET_CONNECTIVITY
    min_iou: float = AUTOPET_IOU
    tolerances_mm: tuple[float, ...] = (1.0, 2.0)

    def __post_init__(self) -> None:
        require_rule(self.empty)
        require_distance_rule(self.empty_distance)
        if self.connectivity not in CONNECTIVITIES:
            raise UsageError(f"connectivity is 6, 18 or 26 in three dimensions, came {self.connectivity!r}.")
        if not 0 < self.min_iou <= 1:
            raise UsageError(f"min_iou lies above 0 and up to 1, came {self.min_iou!r}.")
        if not all(math.isfinite(tolerance) and tolerance >= 0 for tolerance in self.tolerances_mm):
            raise UsageError(f"tolerances_mm are lengths in mm, 0 or more; came {self.tolerances_mm!r}.")


@dataclass(frozen=True)
class LabelScores:
    """The scores of one label of one pair of label maps.

    Attributes
    ----------
    label : str
        Its name.
    scores : mapping of str to float or int
        Metric -> number, in the order of `metric_names`; NaN where undefined.
    rules : Rules
        That were applied.
    """

    label: str
    scores: Mapping[str, float | int]
    rules: Rules

    def row(self) -> dict[str, object]:
        """Return label, scores and rules as one row of a table; NaN stays NaN, so nothing undefined passes for 0."""
        rules = self.rules
        return {
            "label": self.label,
            **self.scores,
            "connectivity": rules.connectivity,
            "empty": rules.empty,
            "empty_distance": rules.empty_distance,
        }


def metric_names(rules: Rules | None = None) -> dict[Group, tuple[str, ...]]:
    """Return the names of all metrics by group, in the order of the columns.

    Parameters
    ----------
    rules : Rules or None
        Tolerances and IoU are part of the names, e.g. `surface_dice_2mm`, `lesion_f1_iou0.1_many_to_one`.
    """
    rules = rules or Rules()
    tolerances = [f"{tolerance:g}mm" for tolerance in rules.tolerances_mm]
    rates = ("f1", "sensitivity", "precision", "tp", "fp", "fn")
    return {
        "overlap": (
            *("dice", "iou", "sensitivity", "precision", "reference_ml", "prediction_ml"),
            *("volume_error_ml", "volume_error_fraction", "tp_voxels", "fp_voxels", "fn_voxels", "tn_voxels"),
        ),
        "surface": (
            *("hd95_mm", "hd95_max_mm", "hd100_mm", "asd_mm", "asd_to_reference_mm", "asd_to_prediction_mm"),
            *(f"surface_dice_{tolerance}_voxels" for tolerance in tolerances),
        ),
        "surfels": (
            *(f"surface_dice_{tolerance}" for tolerance in tolerances),
            *("hd95_max_surfels_mm", "asd_to_reference_surfels_mm", "asd_to_prediction_surfels_mm"),
        ),
        "components": (
            *("fp_volume_ml", "fn_volume_ml", "fp_components", "fn_components"),
            *("prediction_components", "reference_components"),
        ),
        "detection": tuple(f"lesion_{rate}_{kind}" for kind, _, _ in _detections(rules) for rate in rates),
    }


def evaluate_labels(
    prediction: npt.NDArray[Any],
    reference: npt.NDArray[Any],
    spacing_mm: Vector3,
    *,
    labels: Mapping[Any, str] | None = None,
    metrics: Iterable[str] = GROUPS,
    rules: Rules | None = None,
    voxel_ml: float | None = None,
    threads: int = 1,
) -> tuple[LabelScores, ...]:
    """Return the scores of each label of a predicted against a reference label map.

    Parameters
    ----------
    prediction, reference : arrays (i, j, k)
        Whole numbers in any number type on one grid with perpendicular axes, 0 is background.
    spacing_mm : tuple of float
        Voxel size along each array axis, mm.
    labels : mapping of int, or of tuple of int, to str; or None
        Names of the labels to score, in this order; several labels under one name are scored as their union. None:
        everything that is not background is one label, "lesion".
    metrics : iterable of str
        Groups (`GROUPS`) or single names (`metric_names`). What is not asked for is not computed.
    rules : Rules or None
        For the empty, for components, lesions and tolerances; None: the defaults (official autoPET).
    voxel_ml : float or None
        Volume of a voxel, mL; None: the product of `spacing_mm`.
    threads : int
        Used where surfaces are far apart.

    Raises
    ------
    InputError
        If the shapes differ, an array holds no labels, or a label that `labels` does not name.
    UsageError
        If `labels` is empty or names the background, or a metric or rule is unknown.

    Examples
    --------
    >>> (liver,) = evaluate_labels(prediction, reference, (2.0, 2.0, 3.0), labels={5: "liver"}, metrics=["surface"])
    >>> liver.scores["hd95_mm"]
    """
    rules = rules or Rules()
    spacing = require_spacing(spacing_mm)
    wanted = _wanted(metrics, rules)
    pair = LabelPair.of(prediction, reference)
    if pair.reversed:
        spacing = (spacing[2], spacing[1], spacing[0])
    volume = voxel_ml if voxel_ml is not None else math.prod(spacing) / MM3_PER_ML
    found = []
    for name, chosen in _chosen(pair, labels):
        scores: dict[str, float | int] = {}
        masks = pair.masks(chosen) if set(wanted) - {"overlap"} else None
        for group in wanted:
            if group == "overlap":
                scores |= overlap_scores(pair.counts(chosen), voxel_ml=volume, empty=rules.empty)
            elif masks is not None and group in ("surface", "surfels"):
                scores |= _surface_scores(*masks, spacing, group == "surfels", rules, threads)
        if masks is not None and {"components", "detection"} & set(wanted):
            scores |= _lesion_scores(*masks, volume, rules, "detection" in wanted)
        found.append(LabelScores(name, {n: scores[n] for names in wanted.values() for n in names}, rules))
    return tuple(found)


def evaluate_volumes(
    prediction: Volume,
    reference: Volume,
    *,
    labels: Mapping[Any, str] | None = None,
    metrics: Iterable[str] = GROUPS,
    rules: Rules | None = None,
    threads: int = 1,
) -> tuple[LabelScores, ...]:
    """Return what `evaluate_labels` returns, for two label volumes, after checking that they lie on one grid.

    Raises
    ------
    GeometryError
        If the grids differ, saying by how many mm; or if the axes are not perpendicular and a surface metric is asked.
    """
    require_same_grid(prediction, reference, names=("the prediction", "the reference"))
    rules = rules or Rules()
    wanted = _wanted(metrics, rules)
    tilt = shear(reference.affine)
    if tilt > SHEAR_TOLERANCE and {"surface", "surfels"} & set(wanted):
        raise GeometryError(
            f"the axes of the masks are not perpendicular (direction cosines off by {tilt:.3f}, a gantry tilt?); "
            "surface distances would be wrong. Resample both masks to a straight grid, or leave surface metrics out."
        )
    return evaluate_labels(
        prediction.array,
        reference.array,
        reference.spacing_mm,
        labels=labels,
        metrics=[name for names in wanted.values() for name in names],
        rules=rules,
        voxel_ml=reference.voxel_volume_ml,
        threads=threads,
    )


def _wanted(metrics: Iterable[str], rules: Rules) -> dict[Group, tuple[str, ...]]:
    """Return the metrics asked for by group, both in their own order."""
    asked = [metrics] if isinstance(metrics, str) else list(metrics)
    known = metric_names(rules)
    unknown = sorted(set(asked) - {*known, *(name for names in known.values() for name in names)})
    if unknown or not asked:
        raise UsageError(
            f"no metric is called {', '.join(unknown) or 'nothing'}; groups are {', '.join(GROUPS)}, and single names "
            f"such as {', '.join(next(iter(names)) for names in known.values())}."
        )
    chosen = {group: tuple(n for n in names if group in asked or n in asked) for group, names in known.items()}
    return {group: names for group, names in chosen.items() if names}


def _chosen(pair: LabelPair, labels: Mapping[Any, str] | None) -> list[tuple[str, Mask]]:
    """Return the name of each label to score and which of the pair's values (n,) it stands for."""
    if labels is None:
        return [("lesion", pair.values != 0)]
    parts = {label: label if isinstance(label, tuple) else (label,) for label in labels}
    named = {value for values in parts.values() for value in values}
    if not named or 0 in named:
        raise UsageError("labels to score are numbers other than 0, the background, with their names.")
    for prediction, name in ((True, "the prediction"), (False, "the reference")):
        unknown = [value for value in pair.present(prediction=prediction) if value not in named]
        if unknown:
            raise InputError(
                f"{name} holds labels {unknown[:10]} that the table of labels does not name ({sorted(named)[:20]}); "
                "pass the table the masks were made with."
            )
    return [(str(labels[label]), np.isin(pair.values, values)) for label, values in parts.items()]


def _surface_scores(
    prediction: Mask, reference: Mask, spacing: Vector3, surfels: bool, rules: Rules, threads: int
) -> dict[str, float]:
    distances = surface_distances(
        prediction, reference, spacing_mm=spacing, elements="surfels" if surfels else "voxels", threads=threads
    )
    empty = rules.empty_distance
    dice = [surface_dice(distances, tolerance_mm=t, empty=rules.empty) for t in rules.tolerances_mm]
    largest = hausdorff(distances, directions="max", empty=empty)
    directed = [average_distance(distances, over=over, empty=empty) for over in ("to_reference", "to_prediction")]
    if surfels:
        values = [*dice, largest, *directed]
    else:
        pooled = [hausdorff(distances, empty=empty), largest, hausdorff(distances, percentile=100, empty=empty)]
        values = [*pooled, average_distance(distances, empty=empty), *directed, *dice]
    return dict(zip(metric_names(rules)["surfels" if surfels else "surface"], values, strict=True))


def _lesion_scores(
    prediction: Mask, reference: Mask, voxel_ml: float, rules: Rules, detections: bool
) -> dict[str, float | int]:
    overlap = lesion_overlap(prediction, reference, connectivity=rules.connectivity)
    scores = volumes_of(overlap, voxel_ml=voxel_ml, empty=rules.empty)
    for kind, min_iou, matching in _detections(rules) if detections else []:
        found = detection(overlap, min_iou=min_iou, matching=matching, empty=rules.empty)
        scores |= {
            f"lesion_f1_{kind}": found.f1,
            f"lesion_sensitivity_{kind}": found.sensitivity,
            f"lesion_precision_{kind}": found.precision,
            f"lesion_tp_{kind}": found.true_positives,
            f"lesion_fp_{kind}": found.false_positives,
            f"lesion_fn_{kind}": found.false_negatives,
        }
    return scores


def _detections(rules: Rules) -> list[tuple[str, float | None, Matching]]:
    """Return name, smallest IoU and matching of the lesion-wise scores: IoU or any overlap, many or one to one."""
    matchings: tuple[Matching, ...] = ("many_to_one", "one_to_one")
    overlaps: tuple[tuple[str, float | None], ...] = ((f"iou{rules.min_iou:g}", rules.min_iou), ("any", None))
    return [(f"{name}_{matching}", limit, matching) for name, limit in overlaps for matching in matchings]
