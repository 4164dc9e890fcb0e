"""Sliding window with Gaussian weights; windows of pure air are not computed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from uptake.cases import Prediction
from uptake.core.types import Channels, Mask, Shape3
from uptake.inference.rolling import AIR_LOGIT, Box, RollingSums

if TYPE_CHECKING:
    import torch

__all__ = ["AIR_LOGIT"]

Predictor = Callable[[Any], Any]
"""(b, c, *window) float32 -> (b, labels, *window) logits, from tensor to tensor. A compiled program also takes an array
and gives one."""

Finished = Callable[[npt.NDArray[np.float32], npt.NDArray[np.float32] | None], None]
"""Told the logits (labels, n, y, x), and the organs', of the next n slices of an image, first to last."""

FOCUS_MARGIN = 4
"""Voxels of air kept around the body where windows are laid over it alone."""


def window_starts(size: int, window: int, step: float) -> tuple[int, ...]:
    """Return the first voxels of the windows along one axis.

    n = ceil((size - window) / (window · step)) + 1 windows, evenly spread, the last one flush with the end (nnU-Net).
    (300, 400, 400) with 192³: 48 windows at step 0.5, 18 at 0.6.
    """
    if size <= window:
        return (0,)
    count = math.ceil((size - window) / (window * step)) + 1
    distance = (size - window) / (count - 1)  # divided first, as nnU-Net does: halves round the same way
    return tuple(round(distance * i) for i in range(count))


def importance(window: Shape3) -> torch.Tensor:
    """Return `importance_array` as a tensor."""
    import torch

    return torch.from_numpy(importance_array(window))


@lru_cache(maxsize=8)
def importance_array(window: Shape3) -> npt.NDArray[np.float32]:
    """Return the weight of each voxel of a window, float32: a Gaussian, sigma an eighth of the window, peak 10.

    SciPy's discrete Gaussian of a unit impulse at index n // 2, cut off at 4 sigma; zeros become the smallest weight,
    so that every voxel counts.
    """
    from scipy.ndimage import gaussian_filter

    impulse = np.zeros(window, dtype=np.float64)
    impulse[tuple(n // 2 for n in window)] = 1.0
    weight = gaussian_filter(impulse, [n / 8 for n in window], mode="constant", cval=0.0)
    weight = (weight / weight.max() * 10.0).astype(np.float32)
    weight[weight == 0] = weight[weight > 0].min()
    return np.asarray(weight)


def mirrored(predictor: Predictor, axes: Sequence[int]) -> Predictor:
    """Return a predictor that averages the logits over all flips of the given image axes (0 = z, 1 = y, 2 = x).

    All three axes: 8 evaluations. The order of summation is fixed, so that results repeat to the bit.
    """
    combinations = [
        [axis + 2 for axis, flip in zip(axes, flips) if flip] for flips in product((False, True), repeat=len(axes))
    ]

    def predict(batch: Any) -> Any:
        total = predictor(batch)
        for flips in combinations[1:]:
            total = total + _flipped(predictor(_flipped(batch, flips)), flips)
        return total / len(combinations)

    return predict


def _flipped(batch: Any, axes: list[int]) -> Any:
    return np.flip(batch, axes) if isinstance(batch, np.ndarray) else batch.flip(axes)


def averaged(predictors: Sequence[Predictor]) -> Predictor:
    """Return a predictor that averages the logits of several (the folds of a bundle), equal weights."""
    if len(predictors) == 1:
        return predictors[0]

    def predict(batch: Any) -> Any:
        total = predictors[0](batch)
        for predictor in predictors[1:]:
            total = total + predictor(batch)
        return total / len(predictors)

    return predict


def sliding_window(
    channels: Channels,
    predictor: Predictor,
    *,
    labels: int,
    organs: int = 0,
    window: Shape3,
    step: float = 0.5,
    body: Mask | None = None,
    focus: bool = False,
    layers: int = 0,
    batch_size: int = 1,
    device: torch.device | None = None,
    arrays: bool = False,
    finished: Finished | None = None,
    on_window: Callable[[int, int], None] | None = None,
) -> Prediction:
    """Return logits for the whole image, or hand them out stretch by stretch.

    Parameters
    ----------
    channels : array (c, z, y, x) float32
        Normalised. Smaller than the window along an axis: padded symmetrically with zeros, cut off again.
    predictor : callable
        See `Predictor`.
    labels : int
        Output channels.
    organs : int
        Further output channels, after those: of a second family of heads with a background of its own.
    window : tuple of int
        (z, y, x).
    step : float
        Distance of windows as a share of the window, in (0, 1].
    body : array (z, y, x) bool, optional
        Windows without any body voxel are skipped. The logits of every body voxel are the same with and without
        skipping, for a skipped window holds none.
    focus : bool
        Lay the windows over the body alone (`window_corners`). Far fewer where the patient fills a third of the field;
        they lie elsewhere than without, so logits differ a little.
    layers : int
        The image axis along which `focus` goes layer by layer: head-foot, which is 0 unless the plan transposes.
    batch_size : int
        Windows evaluated together.
    device : torch.device, optional
        Where windows are computed and summed up (float32); the CPU by default.
    arrays : bool
        The predictor takes and gives NumPy arrays, on the CPU: torch is not loaded.
    finished : callable, optional
        Told the logits of each stretch of slices once no further window reaches it, so that never more than a window's
        depth is held; the prediction then has none.
    on_window : callable, optional
        Told (done, all) after each batch.

    Returns
    -------
    Prediction
        logits (labels, z, y, x) and organ_logits (organs, z, y, x) or None, float32; where no window was computed,
        background by `AIR_LOGIT`.
    """
    shape = channels.shape[1:]
    pad = [max(0, w - n) for n, w in zip(shape, window, strict=True)]
    before = [p // 2 for p in pad]
    padding = [(b, p - b) for b, p in zip(before, pad, strict=True)]
    padded = np.pad(channels, [(0, 0), *padding]) if any(pad) else channels
    body_padded = None if body is None else (np.pad(body, padding) if any(pad) else body)
    size = padded.shape[1:]
    boxes, wanted = _boxes(size, window, step, body_padded, focus, layers)
    wanted.sort(key=lambda box: box[0].start)  # they are, unless `focus` goes along another axis

    compute, zeros, host = _on_arrays(predictor) if arrays else _on_device(predictor, device)
    weight = importance_array(window) if arrays else importance(window).to(device or "cpu")
    sums = RollingSums(labels + organs, size, weight, zeros=zeros, host=host, backgrounds=(0, labels))
    whole = None if finished is not None else np.empty((labels + organs, *shape), dtype=np.float32)
    inside = tuple(slice(b, b + n) for b, n in zip(before, shape, strict=True))

    def hand_out(stop: int | None) -> None:
        for start, means in sums.finish(stop):
            low, high = max(start, before[0]), min(start + means.shape[1], before[0] + shape[0])
            if low >= high:
                continue
            logits = means[(slice(None), slice(low - start, high - start), *inside[1:])]
            if whole is not None:
                whole[:, low - before[0] : high - before[0]] = logits
            elif finished is not None:
                finished(logits[:labels], logits[labels:] if organs else None)

    for first in range(0, len(wanted), batch_size):
        chosen = wanted[first : first + batch_size]
        batch = np.stack([padded[(slice(None), *box)] for box in chosen])
        for box, logits in zip(chosen, compute(batch), strict=True):
            hand_out(box[0].start)
            sums.add(box, logits)
        if on_window is not None:
            on_window(min(first + batch_size, len(wanted)), len(wanted))
    hand_out(None)
    if whole is None:
        whole = np.empty((labels + organs, 0, *shape[1:]), dtype=np.float32)
    return Prediction(
        whole[:labels], len(wanted), len(boxes) - len(wanted), organ_logits=whole[labels:] if organs else None
    )


Compute = Callable[[npt.NDArray[np.float32]], Any]
Zeros = Callable[[tuple[int, ...]], Any]
Host = Callable[[Any], npt.NDArray[np.float32]]


def _on_arrays(predictor: Predictor) -> tuple[Compute, Zeros, Host]:
    """Return how batches are computed, sums are begun and taken back, all in NumPy."""
    return predictor, lambda shape: np.zeros(shape, dtype=np.float32), lambda array: array


def _on_device(predictor: Predictor, device: torch.device | None) -> tuple[Compute, Zeros, Host]:
    """Return the same through torch."""
    import torch

    where = device or torch.device("cpu")

    def compute(batch: npt.NDArray[np.float32]) -> torch.Tensor:
        with torch.inference_mode():
            return predictor(torch.from_numpy(batch).to(where)).float()

    def zeros(shape: tuple[int, ...]) -> torch.Tensor:
        return torch.zeros(shape, dtype=torch.float32, device=where)

    return compute, zeros, lambda tensor: tensor.cpu().numpy()


def window_boxes(body: Mask, window: Shape3, step: float, *, focus: bool = False, layers: int = 0) -> tuple[Box, ...]:
    """Return the windows with body in them that `sliding_window` computes for an image with this body.

    Along an axis on which the image is smaller than the window they are those of the padded image.
    """
    pad = [max(0, w - n) for n, w in zip(body.shape, window, strict=True)]
    padded = np.pad(body, [(p // 2, p - p // 2) for p in pad]) if any(pad) else body
    return tuple(_boxes(padded.shape, window, step, padded, focus, layers)[1])


def _boxes(
    size: Shape3, window: Shape3, step: float, body: Mask | None, focus: bool, layers: int
) -> tuple[list[Box], list[Box]]:
    """Return all windows over an image, and those with body in them."""
    boxes = []
    for z, y, x in window_corners(size, window, step, body if focus else None, layers=layers):
        boxes.append((slice(z, z + window[0]), slice(y, y + window[1]), slice(x, x + window[2])))
    return boxes, [box for box in boxes if body is None or body[box].any()]


def window_corners(size: Shape3, window: Shape3, step: float, body: Mask | None, *, layers: int = 0) -> list[Shape3]:
    """Return the first voxels of all windows over an image of `size`, at least as large as the window.

    With a body, each layer of windows along the axis `layers` is laid over the body's extent in that layer alone: the
    legs need fewer than the shoulders. Layers without body have none.
    """
    if body is None:
        return list(product(*(window_starts(n, w, step) for n, w in zip(size, window, strict=True))))
    sides = [axis for axis in range(3) if axis != layers]
    found = []
    for first in window_starts(size[layers], window[layers], step):
        layer = np.take(body, range(first, first + window[layers]), axis=layers).any(axis=layers)
        if layer.any():
            ranges = [_side(layer.any(axis=1 - n), window[axis]) for n, axis in enumerate(sides)]
            starts = [
                [low + start for start in window_starts(high - low, window[axis], step)]
                for (low, high), axis in zip(ranges, sides, strict=True)
            ]
            found += [(first, one, other) for one, other in product(*starts)]
    order = np.argsort([layers, *sides])
    return [(corner[order[0]], corner[order[1]], corner[order[2]]) for corner in found]


def _side(filled: npt.NDArray[np.bool_], window: int) -> tuple[int, int]:
    """Return the range of one axis that holds all filled voxels, their margin, and one window at least."""
    inside = np.flatnonzero(filled)
    low, high = int(inside[0]) - FOCUS_MARGIN, int(inside[-1]) + 1 + FOCUS_MARGIN
    missing = max(0, window - (high - low))
    low = max(0, low - missing // 2)
    high = min(len(filled), max(high, low + window))
    return max(0, min(low, high - window)), high


def window_count(shape: Shape3, window: Shape3, step: float) -> int:
    """Return how many windows cover an image of `shape`."""
    counts: npt.NDArray[np.int64] = np.array(
        [len(window_starts(max(n, w), w, step)) for n, w in zip(shape, window, strict=True)]
    )
    return int(counts.prod())
