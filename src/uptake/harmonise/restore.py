"""The way back: from logits or labels on the model's grid to labels on the scan's own grid."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from uptake.cases import Prediction, Restored, Trace
from uptake.core.errors import GeometryError
from uptake.geometry.volume import Volume
from uptake.harmonise.crop import box
from uptake.harmonise.resample import SlabResizer, labels_resized, resized


def restore(prediction: Prediction, trace: Trace, *, order: int = 1) -> Restored:
    """Return the labels of the highest logits on the source grid, uint8.

    Logits are resampled linearly to the cropped source shape slab by slab and reduced to labels at once, so memory
    stays at one slab however many labels there are; then crop, flips and permutation are undone exactly.

    Parameters
    ----------
    prediction : Prediction
        logits (c, z, y, x) on the grid that `trace` leads to; organ logits, where there are any, go the same way.
    trace : Trace
        From `harmonise` of the same case.
    order : int
        Spline order for the logits.

    Raises
    ------
    GeometryError
        If the logits are not on the traced grid.
    """
    organs = prediction.organ_logits
    labels = LabelsFromSlabs(
        trace, labels=len(prediction.logits), organs=0 if organs is None else len(organs), order=order
    )
    _require_traced(prediction.logits.shape[1:], trace)
    labels.add(prediction.logits, organs)
    return labels.restored()


class LabelsFromSlabs:
    """Labels on the source grid from logits that come a few slices at a time: `restore` without the whole logits.

    Parameters
    ----------
    trace : Trace
        From `harmonise` of the case.
    labels, organs : int
        Logits per voxel of the two families of heads; 0 organs where there is one family.
    order : int
        Spline order for the logits; above 1, slices are held until all are there.
    """

    def __init__(self, trace: Trace, *, labels: int, organs: int = 0, order: int = 1) -> None:
        self._trace = trace
        before, after = trace.resample.after, trace.resample.before  # the way back
        self._families = [
            (
                SlabResizer(count, before, after, order=order, separate=trace.separate_axis),
                np.zeros(after, dtype=np.uint8),
            )
            for count in (labels, organs)
            if count
        ]
        self._received = 0

    def add(self, logits: npt.NDArray[np.float32], organ_logits: npt.NDArray[np.float32] | None = None) -> None:
        """Take the logits (c, n, y, x) of the next n slices of the model grid, and the organs' where there are any."""
        self._received += logits.shape[1]
        for (resizer, cropped), found in zip(self._families, (logits, organ_logits), strict=False):
            assert found is not None
            for where, slab in resizer.add(found):
                cropped[where] = highest(slab)

    def restored(self) -> Restored:
        """Return the labels, uint8, on the source grid.

        Raises
        ------
        GeometryError
            If slices are missing.
        """
        if self._received != self._trace.resample.after[0]:
            raise GeometryError(
                f"logits of {self._received} slices came, the model grid has {self._trace.resample.after[0]}."
            )
        return Restored(*(_onto_source(cropped, self._trace) for _, cropped in self._families))


def highest(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Return the index of the highest logit (c, ...) of each voxel, uint8; of equal ones the first.

    For few channels a comparison per channel is several times as fast as `argmax` along the first axis.
    """
    best = logits[0]
    result = np.zeros(best.shape, dtype=np.uint8)
    for index in range(1, len(logits)):
        wins = logits[index] > best
        result[wins] = index
        if index + 1 < len(logits):
            best = np.maximum(best, logits[index])
    return result


def _require_traced(shape: tuple[int, ...], trace: Trace) -> None:
    if shape != trace.resample.after:
        raise GeometryError(f"logits of shape {shape} are not on the model grid {trace.resample.after}.")


def restore_labels(labels: npt.NDArray[Any], trace: Trace) -> Restored:
    """Return a label map of the model grid (z, y, x) on the source grid, uint8.

    Exact where the two grids differ by axes and crop only; otherwise each label's indicator goes linearly.

    Raises
    ------
    GeometryError
        If the labels are not on the traced grid.
    """
    if labels.shape != trace.resample.after:
        raise GeometryError(f"labels of shape {labels.shape} are not on the model grid {trace.resample.after}.")
    resized = labels_resized(labels, trace.resample.before, separate=trace.separate_axis)
    return Restored(_onto_source(resized, trace))


def _onto_source(cropped: npt.NDArray[np.uint8], trace: Trace) -> Volume:
    whole = np.zeros(trace.crop.before, dtype=np.uint8)
    whole[box(trace.crop)] = cropped
    array = np.ascontiguousarray(trace.axes.inverse().apply(whole))
    return Volume(array, trace.source_affine, frame_of_reference=trace.frame_of_reference)


def restore_image(image: npt.NDArray[np.float32], trace: Trace, *, outside: Volume, order: int = 3) -> Volume:
    """Return an image of the model grid on the source grid, float32.

    Parameters
    ----------
    image : array (z, y, x) float32
        In a physical unit, on the grid that `trace` leads to.
    trace : Trace
        From `harmonise` of the same case.
    outside : Volume
        On the source grid: its values stay where the crop cut the case off.
    order : int
        Spline order; values stay in the range of `image`.

    Raises
    ------
    GeometryError
        If the image is not on the traced grid, or `outside` not on the source grid.
    """
    if image.shape != trace.resample.after:
        raise GeometryError(f"an image of shape {image.shape} is not on the model grid {trace.resample.after}.")
    if outside.shape != trace.source_shape:
        raise GeometryError(f"the image around it has shape {outside.shape}, the source grid {trace.source_shape}.")
    whole = np.array(trace.axes.apply(np.asarray(outside.array, dtype=np.float32)))
    whole[box(trace.crop)] = resized(image, trace.resample.before, order=order, separate=trace.separate_axis)
    return outside.with_array(np.ascontiguousarray(trace.axes.inverse().apply(whole)))
