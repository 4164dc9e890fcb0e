"""Stages of a U-Net and the windows that go through it: what fits, told before the network is built."""

from __future__ import annotations

import math
from collections.abc import Sequence

from uptake.core.errors import UsageError
from uptake.core.types import Shape3

ENCODERS = ("residual", "plain")
"""Of the U-Nets: nnU-Net's ResEnc presets, and its default network."""


def require_stages(features: Sequence[int], blocks: Sequence[int], **others: Sequence[object] | None) -> None:
    """Refuse stages that do not go together.

    Parameters
    ----------
    features, blocks : sequence of int
        Width, and blocks, of each stage, finest first.
    **others : sequence or None
        What else is given stage by stage, such as kernels and strides.

    Raises
    ------
    UsageError
        If there are fewer than two stages, or the sequences name different numbers of them.
    """
    if len(features) != len(blocks) or len(features) < 2:
        raise UsageError("features and blocks name the same stages, two or more, finest first.")
    for name, given in others.items():
        if given is not None and len(given) != len(features):
            raise UsageError(f"{name} name {len(given)} stages, features {len(features)}.")


def divisors(features: Sequence[int], strides: Sequence[Shape3] | None) -> Shape3:
    """Return by what a window must divide along (z, y, x): the product of the strides; without any, 1 and then 2."""
    if strides is None:
        side = 2 ** (len(features) - 1)
        return side, side, side
    z, y, x = (math.prod(stride[axis] for stride in strides) for axis in range(3))
    return z, y, x


def require_window(window: Shape3, divisors: Shape3, *, halvings: int) -> None:
    """Refuse a window (z, y, x) that the network cannot halve, or of which it leaves a single voxel.

    Raises
    ------
    UsageError
        If a side does not divide, or all sides come down to one voxel.
    """
    if any(n % d for n, d in zip(window, divisors, strict=True)):
        raise UsageError(f"window {window} must divide by {divisors}: the network halves it {halvings} times.")
    if all(n // d <= 1 for n, d in zip(window, divisors, strict=True)):
        raise UsageError(f"window {window} shrinks to one voxel, on which instance norm has no variance; enlarge it.")


def fitted_window(window: Shape3, median_shape: Sequence[float], divisors: Shape3) -> Shape3:
    """Return the window, no larger than a case of this shape needs: two of the network's coarsest voxels at least.

    Parameters
    ----------
    window : triple
        (z, y, x) voxels.
    median_shape : sequence of float
        Of the median case on the model grid, (z, y, x) voxels.
    divisors : triple
        What sides must divide by.
    """
    z, y, x = (
        min(side, max(2, -(-int(n) // divisor)) * divisor)
        for side, n, divisor in zip(window, median_shape, divisors, strict=True)
    )
    return z, y, x
