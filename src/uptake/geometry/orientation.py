"""Which way the array axes point, and the exact permutation and flips that turn one orientation into another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from uptake.core.errors import GeometryError
from uptake.core.types import Affine
from uptake.geometry.affine import AXIS_NEGATIVE, AXIS_POSITIVE, orientation_code
from uptake.geometry.volume import Volume

RAS = "RAS"
LPS = "LPS"
LAS = "LAS"


@dataclass(frozen=True)
class AxisChange:
    """A permutation of the array axes followed by flips: exact, and undone exactly by `inverse`.

    Attributes
    ----------
    permutation : tuple of int
        Output axis n is input axis ``permutation[n]``.
    flips : tuple of bool
        Whether output axis n is reversed.
    """

    permutation: tuple[int, int, int]
    flips: tuple[bool, bool, bool]

    def apply(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return a view of `array` (i, j, k) with its axes permuted, then flipped."""
        turned = np.transpose(array, self.permutation)
        return turned[tuple(slice(None, None, -1) if flip else slice(None) for flip in self.flips)]

    def inverse(self) -> AxisChange:
        """Return the change that undoes this one."""
        back = [0, 0, 0]
        for target, source in enumerate(self.permutation):
            back[source] = target
        return AxisChange((back[0], back[1], back[2]), (self.flips[back[0]], self.flips[back[1]], self.flips[back[2]]))

    def matrix(self, shape: tuple[int, ...]) -> Affine:
        """Return the (4, 4) map from output voxel index to input voxel index, for an input of `shape`."""
        result = np.zeros((4, 4))
        result[3, 3] = 1.0
        for target, source in enumerate(self.permutation):
            flipped = self.flips[target]
            result[source, target] = -1.0 if flipped else 1.0
            result[source, 3] = shape[source] - 1 if flipped else 0.0
        return result


def axis_change(affine: Affine, code: str) -> AxisChange:
    """Return the axis change that brings a grid with this affine into orientation `code`.

    Parameters
    ----------
    affine : array (4, 4)
        Of the source grid.
    code : str
        Three letters, one of each pair L/R, P/A, I/S, in the wanted order of array axes.

    Raises
    ------
    GeometryError
        If `code` is no orientation.
    """
    wanted = code.upper()
    if len(wanted) != 3 or {_world_axis(letter) for letter in wanted} != {0, 1, 2}:
        raise GeometryError(f"{code!r} is no orientation; write three letters such as 'RAS', 'LPS' or 'LAS'.")
    have = orientation_code(affine)
    have_axes = [_world_axis(letter) for letter in have]
    order = tuple(have_axes.index(_world_axis(letter)) for letter in wanted)
    flips = tuple(have[source] != letter for source, letter in zip(order, wanted, strict=True))
    return AxisChange((order[0], order[1], order[2]), (flips[0], flips[1], flips[2]))


def reorient(volume: Volume, code: str, *, copy: bool = True) -> Volume:
    """Return the volume with its axes permuted and flipped into `code`; every voxel keeps its world position.

    Without `copy` the array is a view of the volume's.
    """
    change = axis_change(volume.affine, code)
    turned = change.apply(volume.array)
    return Volume(
        np.ascontiguousarray(turned) if copy else turned,
        volume.affine @ change.matrix(volume.array.shape),
        frame_of_reference=volume.frame_of_reference,
    )


def _world_axis(letter: str) -> int:
    for axis in range(3):
        if letter in (AXIS_POSITIVE[axis], AXIS_NEGATIVE[axis]):
            return axis
    return -1
