"""Weighted sums of logits for the slices that windows still reach: memory of one window's depth, not of the image."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from uptake.core.types import Shape3

Box = tuple[slice, slice, slice]

AIR_LOGIT = 10.0
"""Where no window was computed the background leads by this much: a probability of 1 - 5e-5."""

STRETCH = 8
"""Slices that are handed out at a time: their means and what is made of them are copies."""


class RollingSums:
    """A ring of slices into which windows are added in the order of their first slice.

    Slice z of the image lies at z modulo the window's depth. Once a window begins at z, no further one reaches what
    lies before z, so that those slices are divided by their weights, handed out, and their place is free again.

    Parameters
    ----------
    channels : int
    size : tuple of int
        (z, y, x) of the padded image.
    weight : array or tensor (*window) float32
        Of each voxel of a window.
    zeros : callable
        Shape -> zeros, float32: an array, or a tensor on some device.
    host : callable
        What `zeros` gives -> NumPy array.
    backgrounds : tuple of int
        Channels that are `AIR_LOGIT` where no window was computed; the others are 0 there.
    """

    def __init__(
        self,
        channels: int,
        size: Shape3,
        weight: Any,
        *,
        zeros: Callable[[tuple[int, ...]], Any],
        host: Callable[[Any], npt.NDArray[np.float32]],
        backgrounds: tuple[int, ...] = (0,),
    ) -> None:
        self._weight, self._host, self._backgrounds = weight, host, backgrounds
        self._size = size
        self._depth = int(weight.shape[0])
        self._sums = zeros((channels, self._depth, *size[1:]))
        self._weights = zeros((self._depth, *size[1:]))
        self._done = 0

    def add(self, box: Box, logits: Any) -> None:
        """Add the logits (c, *window) of one window, which begins no earlier than any before it."""
        _, y, x = box
        first = box[0].start % self._depth
        before = self._depth - first  # slices of the window up to the ring's end; the others go to its beginning
        for ring, own in ((slice(first, self._depth), slice(0, before)), (slice(0, first), slice(before, None))):
            if ring.stop > ring.start:
                weight = self._weight[own]
                self._sums[:, ring, y, x] += logits[:, own] * weight
                self._weights[ring, y, x] += weight

    def finish(self, stop: int | None = None) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
        """Yield (first slice, mean logits (c, n, y, x)) up to slice `stop` or the end, and free their place."""
        stop = self._size[0] if stop is None else stop
        while self._done < stop:
            first = self._done % self._depth
            count = min(stop - self._done, self._depth - first, STRETCH)
            ring = slice(first, first + count)
            weights = self._host(self._weights[ring])
            means = self._host(self._sums[:, ring]) / np.maximum(weights, np.finfo(np.float32).tiny)
            air = weights == 0
            if air.any():
                for channel, logits in enumerate(means):
                    np.copyto(logits, np.float32(AIR_LOGIT if channel in self._backgrounds else 0.0), where=air)
            self._sums[:, ring] = 0
            self._weights[ring] = 0
            start, self._done = self._done, self._done + count
            yield start, means
