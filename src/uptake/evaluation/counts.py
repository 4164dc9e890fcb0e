"""One look at two label maps: how often each pair of labels meets, and the box that holds each label.

Whatever is scored per label afterwards starts from these and never touches the whole image again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from uptake.core.errors import InputError
from uptake.core.types import LabelMap, Mask
from uptake.evaluation.overlap import Counts
from uptake.geometry.components import Box, require_label_array

LARGEST_LABEL = 1 << 24
"""Above this a number is no label of an organ or lesion: the table that maps labels would fill the memory."""

COUNTED_AT_ONCE = 1 << 20
"""Voxels per step of the count: bounds its memory to some megabytes."""


@dataclass(frozen=True, eq=False)
class LabelPair:
    """Two label maps of one shape, ready to be scored label by label.

    Attributes
    ----------
    prediction, reference : array (i, j, k) uint8 or uint16
        Position of each voxel's label in `values`, cropped to the box of everything that is not background in either.
        All axes are reversed where that is the order in memory, see `reversed`.
    values : array (n,) int64
        The labels, 0 (background) first.
    table : array (n, n) int64
        Voxels with label `values[row]` in the prediction and `values[column]` in the reference.
    boxes : tuple
        Per value the box, within the crop, that holds it in both maps; None if it occurs in neither.
    size : int
        Voxels of the whole map.
    reversed : bool
        Whether the axes here are (k, j, i): then voxel sizes go in that order too. NIfTI files arrive with the first
        axis fastest, and no score changes when all axes are reversed.
    """

    prediction: LabelMap
    reference: LabelMap
    values: npt.NDArray[np.int64]
    table: npt.NDArray[np.int64]
    boxes: tuple[Box | None, ...]
    size: int
    reversed: bool

    @classmethod
    def of(cls, prediction: npt.NDArray[Any], reference: npt.NDArray[Any]) -> LabelPair:
        """Look at two label maps (i, j, k) of whole numbers >= 0 in any number type.

        Raises
        ------
        InputError
            If the shapes differ, or an array holds fractions, NaN, negative or absurdly large numbers.
        """
        if prediction.shape != reference.shape or prediction.ndim != 3 or prediction.size == 0:
            raise InputError(f"label maps of shape {prediction.shape} and {reference.shape} cannot be compared.")
        for array, name in ((prediction, "the prediction"), (reference, "the reference")):
            require_label_array(array, name=name)
        prediction, reference = (a.view(np.uint8) if a.dtype == bool else a for a in (prediction, reference))
        turn = reference.flags.f_contiguous and not reference.flags.c_contiguous
        if turn:
            prediction, reference = prediction.T, reference.T
        box = _occupied(prediction, reference)
        first, second = prediction[box], reference[box]
        largest = max(int(first.max()), int(second.max()))
        if largest > LARGEST_LABEL:
            raise InputError(f"a label map holds the value {largest}; an image or a code table is no label map.")
        if largest < 256:
            values = np.arange(largest + 1, dtype=np.int64)
            first, second = first.astype(np.uint8, copy=False), second.astype(np.uint8, copy=False)
        else:
            values, first, second = _compacted(first, second, largest)
        table = _pair_counts(first, second, len(values))
        table[0, 0] += prediction.size - first.size
        boxes = tuple(_joint(*pair) for pair in zip(_boxes(first, len(values)), _boxes(second, len(values))))
        return cls(first, second, values, table, boxes, prediction.size, turn)

    def present(self, *, prediction: bool) -> list[int]:
        """Return the labels other than background that occur in the prediction, or in the reference."""
        voxels = self.table.sum(axis=1 if prediction else 0)
        return [int(value) for value, count in zip(self.values, voxels) if count and value != 0]

    def counts(self, chosen: npt.NDArray[np.bool_]) -> Counts:
        """Return the voxel counts of a label, or of several taken as one: `chosen` (n,) bool says which values."""
        return Counts(
            both=int(self.table[np.ix_(chosen, chosen)].sum()),
            predicted=int(self.table[chosen].sum()),
            referred=int(self.table[:, chosen].sum()),
            total=self.size,
        )

    def masks(self, chosen: npt.NDArray[np.bool_]) -> tuple[Mask, Mask]:
        """Return the two masks of a label or of several, cropped to the box that holds both."""
        found = [box for box, wanted in zip(self.boxes, chosen) if wanted and box is not None]
        if not found:
            nothing = np.zeros((1, 1, 1), bool)
            return nothing, nothing
        box = tuple(slice(min(b[a].start for b in found), max(b[a].stop for b in found)) for a in range(3))
        at = np.flatnonzero(chosen)
        if len(chosen) == 2 and self.prediction.dtype == np.uint8:
            # Zeros and ones are a mask already, in the same bytes.
            return self.prediction[box].view(np.bool_), self.reference[box].view(np.bool_)
        if len(at) == 1:
            return np.asarray(self.prediction[box] == at[0]), np.asarray(self.reference[box] == at[0])
        if chosen[1:].all():
            return np.asarray(self.prediction[box] != 0), np.asarray(self.reference[box] != 0)
        return chosen[self.prediction[box]], chosen[self.reference[box]]


def _occupied(prediction: npt.NDArray[Any], reference: npt.NDArray[Any]) -> Box:
    """Return the box of all voxels that are not 0 in either map, at least one voxel; maxima are the fastest look."""
    planes = np.maximum(prediction.max(axis=0), reference.max(axis=0))
    layers = np.maximum(prediction.max(axis=(1, 2)), reference.max(axis=(1, 2)))
    box = []
    for line in (layers, planes.max(axis=1), planes.max(axis=0)):
        there = np.flatnonzero(line)
        box.append(slice(int(there[0]), int(there[-1]) + 1) if there.size else slice(0, 1))
    return box[0], box[1], box[2]


def _compacted(
    prediction: npt.NDArray[Any], reference: npt.NDArray[Any], largest: int
) -> tuple[npt.NDArray[np.int64], LabelMap, LabelMap]:
    """Return the labels that occur, 0 included, and both maps as positions in that list."""
    occurs = np.zeros(largest + 1, bool)
    occurs[0] = True
    for array in (prediction, reference):
        for layer in array:
            occurs[layer.astype(np.int64)] = True
    values = np.flatnonzero(occurs)
    if len(values) > 1 << 16:
        raise InputError(f"{len(values)} different labels in one pair of label maps; that is an image.")
    kind = np.uint8 if len(values) <= 256 else np.uint16
    position = np.zeros(largest + 1, kind)
    position[values] = np.arange(len(values))
    maps = [np.stack([position[layer.astype(np.int64)] for layer in array]) for array in (prediction, reference)]
    return values, maps[0], maps[1]


def _pair_counts(prediction: LabelMap, reference: LabelMap, size: int) -> npt.NDArray[np.int64]:
    table = np.zeros(size * size, np.int64)
    kind = np.uint16 if size * size <= 1 << 16 else np.uint32
    step = max(1, COUNTED_AT_ONCE // max(1, prediction[0].size))
    for first in range(0, len(prediction), step):
        layers = slice(first, first + step)
        code = np.multiply(prediction[layers], size, dtype=kind) + reference[layers]
        found = np.bincount(code.ravel())
        table[: len(found)] += found
    return table.reshape(size, size)


def _boxes(labels: LabelMap, size: int) -> list[Box | None]:
    """Return the bounding box of each label 0 to `size` - 1; none for the background."""
    from scipy import ndimage

    return [None, *ndimage.find_objects(labels, max_label=size - 1)] if size > 1 else [None]


def _joint(first: Box | None, second: Box | None) -> Box | None:
    if first is None or second is None:
        return first or second
    i, j, k = (slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(first, second, strict=True))
    return i, j, k
