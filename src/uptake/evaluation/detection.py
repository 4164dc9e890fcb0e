"""Lesion by lesion: which components of a mask were found, which were invented, and what volume that makes.

A lesion is a connected component. Two masks are compared through the pairs of components that share voxels; that table
is short, however many components there are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from uptake.core.errors import UsageError
from uptake.core.types import Mask
from uptake.evaluation.empty import EmptyRule, missed_volume, ratio, share
from uptake.evaluation.masks import require_masks
from uptake.geometry.components import CONNECTIVITIES, bounding_box, component_voxels, labelled

AUTOPET_CONNECTIVITY = 18
AUTOPET_IOU = 0.1
"""Overlap from which a lesion counts as found in autoPET V."""

Matching = Literal["many_to_one", "one_to_one", "one_to_one_greedy"]
"""Which pairs of components count.

"many_to_one" (autoPET V): every pair that overlaps enough; several predicted components may find one lesion, and one
may find several. Found lesions are the true positives; predicted components in no pair the false positives.

"one_to_one": each component in one pair at most, chosen so that the sum of their IoU is largest (Hungarian method).

"one_to_one_greedy": the same, taken by decreasing IoU.
"""

DENSE_TABLE = 4_000_000
"""Up to this many cells the table of shared voxels is counted directly, beyond it by sorting."""


@dataclass(frozen=True, eq=False)
class LesionOverlap:
    """The components of two masks and the voxels they share.

    Attributes
    ----------
    prediction_voxels, reference_voxels : array (n,), (m,) int64
        Size of each component.
    pairs : array (p, 2) int64
        Predicted and reference component, from 0, of each pair that shares a voxel, sorted.
    shared : array (p,) int64
        How many voxels they share, > 0.
    connectivity : int
        6, 18 or 26.
    """

    prediction_voxels: npt.NDArray[np.int64]
    reference_voxels: npt.NDArray[np.int64]
    pairs: npt.NDArray[np.int64]
    shared: npt.NDArray[np.int64]
    connectivity: int

    @property
    def iou(self) -> npt.NDArray[np.float64]:
        """Intersection over union of each pair, shape (p,), 0 to 1."""
        union = self.prediction_voxels[self.pairs[:, 0]] + self.reference_voxels[self.pairs[:, 1]] - self.shared
        return np.asarray(self.shared / union, dtype=np.float64)


@dataclass(frozen=True)
class Detection:
    """Lesion-wise counts and scores.

    Attributes
    ----------
    true_positives : int
        Reference lesions found.
    false_positives : int
        Predicted components that found none.
    false_negatives : int
        Reference lesions missed.
    f1, sensitivity, precision : float
        2 TP / (2 TP + FP + FN), TP / (TP + FN), and the share of predicted components that are no false positive;
        see `EmptyRule` for lesion-free references. Without any predicted component the precision is undefined.
    """

    true_positives: int
    false_positives: int
    false_negatives: int
    f1: float
    sensitivity: float
    precision: float


def lesion_overlap(prediction: Mask, reference: Mask, *, connectivity: int = AUTOPET_CONNECTIVITY) -> LesionOverlap:
    """Return the components of two masks (i, j, k) bool and the voxels they share.

    Raises
    ------
    InputError
        If the masks differ in shape or are not boolean.
    UsageError
        If the connectivity is not 6, 18 or 26.
    """
    require_masks(prediction, reference)
    if connectivity not in CONNECTIVITIES:
        raise UsageError(f"connectivity is 6, 18 or 26 in three dimensions, came {connectivity!r}.")
    if prediction.flags.f_contiguous and reference.flags.f_contiguous:
        prediction, reference = prediction.T, reference.T  # the order in memory; components do not depend on it
    both = prediction & reference
    first, first_voxels = _components(prediction, both, connectivity)
    second, second_voxels = _components(reference, both, connectivity)
    columns = max(len(second_voxels), 1)
    code = (first - 1) * columns + (second - 1)
    if len(first_voxels) * columns <= DENSE_TABLE:
        counts = np.bincount(code)
        codes = np.flatnonzero(counts)
        counts = counts[codes]
    else:
        codes, counts = np.unique(code, return_counts=True)
    pairs = np.stack([codes // columns, codes % columns], axis=1)
    return LesionOverlap(first_voxels, second_voxels, pairs, counts.astype(np.int64), connectivity)


def false_volumes(
    prediction: Mask, reference: Mask, *, voxel_ml: float, empty: EmptyRule = "nan", connectivity: int = 18
) -> dict[str, float | int]:
    """Return false-positive and false-negative volume, with component counts, by the autoPET definition.

    Parameters
    ----------
    prediction, reference : arrays (i, j, k) bool
    voxel_ml : float
        Volume of a voxel, mL.
    empty : {"nan", "one", "zero"}
        Empty reference: the false-negative volume is NaN (official) or 0 ("one", "zero").
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
    return volumes_of(lesion_overlap(prediction, reference, connectivity=connectivity), voxel_ml=voxel_ml, empty=empty)


def volumes_of(overlap: LesionOverlap, *, voxel_ml: float, empty: EmptyRule = "nan") -> dict[str, float | int]:
    """Return what `false_volumes` returns, from a table of shared voxels."""
    invented = np.ones(len(overlap.prediction_voxels), bool)
    missed = np.ones(len(overlap.reference_voxels), bool)
    invented[overlap.pairs[:, 0]] = False
    missed[overlap.pairs[:, 1]] = False
    missed_ml = float(overlap.reference_voxels[missed].sum()) * voxel_ml
    return {
        "fp_volume_ml": float(overlap.prediction_voxels[invented].sum()) * voxel_ml,
        "fn_volume_ml": missed_volume(missed_ml, reference=len(missed), empty=empty),
        "fp_components": int(invented.sum()),
        "fn_components": int(missed.sum()),
        "prediction_components": len(invented),
        "reference_components": len(missed),
    }


def detection(
    overlap: LesionOverlap,
    *,
    min_iou: float | None = AUTOPET_IOU,
    matching: Matching = "many_to_one",
    empty: EmptyRule = "nan",
) -> Detection:
    """Return lesion-wise F1, sensitivity and precision.

    Parameters
    ----------
    overlap : LesionOverlap
    min_iou : float or None
        Overlap from which a pair counts, 0 < IoU <= 1, inclusive. None: one shared voxel is enough.
    matching : {"many_to_one", "one_to_one", "one_to_one_greedy"}
        See `Matching`.
    empty : {"nan", "one", "zero"}
        See `EmptyRule`.

    Raises
    ------
    UsageError
        If the overlap or the matching is out of range.
    """
    chosen = matched_pairs(overlap, min_iou=min_iou, matching=matching)
    predicted, referred = len(overlap.prediction_voxels), len(overlap.reference_voxels)
    found, right = len(np.unique(chosen[:, 1])), len(np.unique(chosen[:, 0]))
    wrong, missed = predicted - right, referred - found
    return Detection(
        true_positives=found,
        false_positives=wrong,
        false_negatives=missed,
        f1=ratio(2 * found, 2 * found + wrong + missed, prediction=predicted, reference=referred, empty=empty),
        sensitivity=share(found, referred, other=predicted, empty=empty),
        precision=share(right, predicted, other=referred, empty=empty),
    )


def matched_pairs(
    overlap: LesionOverlap, *, min_iou: float | None = AUTOPET_IOU, matching: Matching = "many_to_one"
) -> npt.NDArray[np.int64]:
    """Return the pairs (n, 2) of predicted and reference component, from 0, that count under a rule."""
    if matching not in get_args(Matching):
        raise UsageError(f"the matching of lesions is {', '.join(get_args(Matching))}; came {matching!r}.")
    if min_iou is not None and not 0 < min_iou <= 1:
        raise UsageError(f"an IoU lies above 0 and up to 1, came {min_iou!r}; None asks for one shared voxel.")
    iou = overlap.iou
    enough = np.ones(len(iou), bool) if min_iou is None else iou >= min_iou
    pairs, iou = overlap.pairs[enough], iou[enough]
    if matching == "many_to_one" or len(pairs) == 0:
        return pairs
    chosen = _greedy(pairs, iou) if matching == "one_to_one_greedy" else _hungarian(pairs, iou)
    return pairs[np.sort(chosen)]


def _components(mask: Mask, where: Mask, connectivity: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the component at each voxel of `where`, and the size of each; the labels themselves are gone at once."""
    box = bounding_box(mask)
    if box is None:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    labels, count = labelled(mask[box], connectivity=connectivity)
    return labels[where[box]].astype(np.int64), component_voxels(labels, mask[box], count)


def _greedy(pairs: npt.NDArray[np.int64], iou: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    taken: tuple[set[int], set[int]] = (set(), set())
    chosen = []
    for at in np.argsort(-iou, kind="stable").tolist():
        predicted, referred = (int(v) for v in pairs[at])
        if predicted not in taken[0] and referred not in taken[1]:
            taken[0].add(predicted)
            taken[1].add(referred)
            chosen.append(at)
    return np.array(chosen, dtype=np.int64)


def _hungarian(pairs: npt.NDArray[np.int64], iou: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Return the positions of the pairs that together have the largest IoU, group by group of touching lesions."""
    from scipy.optimize import linear_sum_assignment
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components as groups_of

    rows, first = np.unique(pairs[:, 0], return_inverse=True)
    columns, second = np.unique(pairs[:, 1], return_inverse=True)
    nodes = len(rows) + len(columns)
    graph = coo_array((np.ones(len(pairs)), (first, second + len(rows))), shape=(nodes, nodes))
    group = groups_of(graph, directed=False)[1][first]
    order = np.argsort(group, kind="stable")
    chosen = []
    for members in np.split(order, np.flatnonzero(np.diff(group[order])) + 1):
        if len(members) == 1:
            chosen.append(members)
            continue
        local_rows, row = np.unique(first[members], return_inverse=True)
        local_columns, column = np.unique(second[members], return_inverse=True)
        weight = np.zeros((len(local_rows), len(local_columns)))
        where = np.full(weight.shape, -1)
        weight[row, column], where[row, column] = iou[members], members
        best = where[linear_sum_assignment(weight, maximize=True)]
        chosen.append(best[best >= 0])
    return np.concatenate(chosen)
