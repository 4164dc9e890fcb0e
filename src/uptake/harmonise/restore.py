"""The way back: from logits or labels on the model's grid to labels on the scan's own grid."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from uptake.cases import Prediction, Restored, Trace
from uptake.core.errors import GeometryError
from uptake.geometry.volume import Volume
from uptake.harmonise.crop import box
from uptake.harmonise.resample import labels_resized, resized, resized_slabs


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
    labels = _highest(prediction.logits, trace, order)
    if prediction.organ_logits is None:
        return Restored(labels)
    return Restored(labels, _highest(prediction.organ_logits, trace, order))


def _highest(logits: npt.NDArray[np.float32], trace: Trace, order: int) -> Volume:
    if logits.shape[1:] != trace.resample.after:
        raise GeometryError(f"logits of shape {logits.shape[1:]} are not on the model grid {trace.resample.after}.")
    cropped = np.empty(trace.resample.before, dtype=np.uint8)
    for where, slab in resized_slabs(logits, trace.resample.before, order=order, separate=trace.separate_axis):
        cropped[where] = slab.argmax(axis=0)
    return _onto_source(cropped, trace)


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
