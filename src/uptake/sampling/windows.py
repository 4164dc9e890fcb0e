"""Which window of which case: uniform over cases, a fixed share of the batch centred on a lesion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from uptake.core.types import Shape3
from uptake.sampling.store import TrainingCase


@dataclass(frozen=True)
class WindowDraw:
    """A drawn window: number of the case, lower corner (z, y, x) in voxels (may lie outside the case)."""

    case: int
    lower: Shape3


def forced_samples(batch_size: int, foreground_share: float) -> npt.NDArray[np.bool_]:
    """Return which samples of a batch must hold a lesion: sample k iff k >= round(B · (1 - share)).

    With a share of 1/3: one of 2, one of 3, three of 8.
    """
    return np.arange(batch_size) >= round(batch_size * (1.0 - foreground_share))


def draw_window(rng: np.random.Generator, cases: Sequence[TrainingCase], window: Shape3, *, forced: bool) -> WindowDraw:
    """Draw a window.

    The case is drawn uniformly. A forced window is centred on a random stored lesion voxel, its lower corner not below
    zero unless the case is smaller than the window; a case without lesions falls back to a free window, as published.
    A free window lies wholly inside the case; along an axis on which the case is smaller it is centred.
    """
    number = int(rng.integers(len(cases)))
    case = cases[number]
    lower = []
    centre = case.foreground[rng.integers(len(case.foreground))] if forced and len(case.foreground) else None
    for axis, (size, extent) in enumerate(zip(case.shape, window, strict=True)):
        if size <= extent:
            lower.append(-((extent - size) // 2))
        elif centre is not None:
            lower.append(max(0, int(centre[axis]) - extent // 2))
        else:
            lower.append(int(rng.integers(size - extent + 1)))
    return WindowDraw(number, (lower[0], lower[1], lower[2]))
