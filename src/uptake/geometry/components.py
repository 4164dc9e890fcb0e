"""Which voxels belong together: masks taken from volumes, their bounding boxes and their connected components.

One place for lesion tables and for scores, so that both count the same lesions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt

from uptake.core.errors import InputError, UsageError
from uptake.core.types import Image, Mask
from uptake.geometry.volume import Volume

CONNECTIVITIES = (6, 18, 26)
"""Neighbours that hold voxels together: across faces; faces and edges; faces, edges and corners."""

COUNTED_AT_ONCE = 1 << 20
"""Voxels per step of a count: eight bytes each, for a moment."""

Box = tuple[slice, slice, slice]


@dataclass(frozen=True, eq=False)
class Components:
    """The connected components of a mask.

    Attributes
    ----------
    labels : array (i, j, k) unsigned integers
        0 is background, 1 to n the components in the order in which the array is scanned (last axis fastest).
    voxels : array (n,) int64
        Number of voxels of each component.
    boxes : tuple of slices
        The bounding box of each component.
    connectivity : int
        6, 18 or 26.
    """

    labels: npt.NDArray[np.unsignedinteger[Any]]
    voxels: npt.NDArray[np.int64]
    boxes: tuple[Box, ...]
    connectivity: int

    @property
    def count(self) -> int:
        """Number of components."""
        return len(self.voxels)

    def touched(self, other: Mask) -> Mask:
        """Return for each component, shape (n,), whether it shares at least one voxel with `other` (i, j, k).

        One count over the labels under `other`: the cost does not grow with the number of components.
        """
        return np.asarray(np.bincount(self.labels[other], minlength=self.count + 1)[1:] > 0)


def foreground(volume: Volume, *, name: str = "mask") -> Mask:
    """Return the boolean mask (i, j, k) of all voxels of a label volume that are not background (0).

    Raises
    ------
    InputError
        If the volume holds anything but whole numbers >= 0: probabilities or an image are not a mask.
    """
    require_labels(volume, name=name)
    return np.asarray(volume.array != 0)


def require_labels(volume: Volume, *, name: str = "mask") -> None:
    """Check that a volume holds labels: booleans, or whole numbers >= 0 in any number type.

    Raises
    ------
    InputError
        Naming the first kind of value that is no label.
    """
    require_label_array(volume.array, name=name)


def require_label_array(array: Image, *, name: str = "mask") -> None:
    """Check what `require_labels` checks, for an array."""
    if array.dtype.kind in "bu":
        return
    if array.dtype.kind not in "if":
        raise InputError(f"{name}: voxels of type {array.dtype} are no labels; whole numbers are expected.")
    if array.dtype.kind == "f":
        if not np.isfinite(array).all():
            raise InputError(f"{name}: holds NaN or infinite voxels; a mask has whole numbers, 0 for background.")
        if (array != np.rint(array)).any():
            raise InputError(
                f"{name}: holds fractions (range {array.min():g} to {array.max():g}); a mask has whole numbers. "
                "Probabilities have to be thresholded first; an image is no mask."
            )
    if array.min() < 0:
        raise InputError(f"{name}: holds negative values (down to {array.min():g}); labels start at 0, the background.")


def bounding_box(mask: Mask) -> Box | None:
    """Return the smallest box of slices that holds every True voxel of `mask` (i, j, k); None if there is none."""
    box = []
    for axis in range(3):
        occupied = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        if occupied.size == 0:
            return None
        box.append(slice(int(occupied[0]), int(occupied[-1]) + 1))
    return box[0], box[1], box[2]


def connected_components(mask: Mask, *, connectivity: int = 18) -> Components:
    """Return the connected components of a mask.

    Parameters
    ----------
    mask : array (i, j, k) bool
    connectivity : int
        6 joins voxels across faces, 18 across faces and edges (the autoPET definition), 26 across corners too.

    Raises
    ------
    UsageError
        If `connectivity` is none of these.

    Notes
    -----
    Labelling is done by connected-components-3d (W. Silversmith), inside the bounding box of the mask only.
    """
    box = bounding_box(mask)
    inside, count = labelled(mask if box is None else mask[box], connectivity=connectivity)
    if box is None or count == 0:
        return Components(inside, np.zeros(0, np.int64), (), connectivity)
    from scipy import ndimage

    voxels = component_voxels(inside, mask[box], count)
    boxes = tuple(_shifted(found, box) for found in ndimage.find_objects(inside, max_label=count))
    if inside.shape == mask.shape:
        return Components(inside, voxels, boxes, connectivity)
    labels = np.zeros(mask.shape, inside.dtype)
    labels[box] = inside
    return Components(labels, voxels, boxes, connectivity)


def labelled(mask: Mask, *, connectivity: int = 18) -> tuple[npt.NDArray[np.unsignedinteger[Any]], int]:
    """Return the components of a mask (i, j, k) as an array of numbers from 1, and how many there are; no more.

    Raises
    ------
    UsageError
        If `connectivity` is not 6, 18 or 26.
    """
    if connectivity not in CONNECTIVITIES:
        raise UsageError(f"connectivity is 6, 18 or 26 in three dimensions, came {connectivity!r}.")
    if not mask.any():
        return np.zeros(mask.shape, np.uint16), 0
    import cc3d

    # Not `binary_image=True`, nor booleans: that path of cc3d 4.1.1 counts provisional labels too low in thin masks
    # and fails with connectivity 26, e.g. for the 3x1x1 mask 1 0 1.
    labels, count = cc3d.connected_components(
        np.ascontiguousarray(mask).view(np.uint8), connectivity=cast(Literal[6, 18, 26], connectivity), return_N=True
    )
    return labels, int(count)


def component_voxels(labels: npt.NDArray[np.unsignedinteger[Any]], mask: Mask, count: int) -> npt.NDArray[np.int64]:
    """Return the size (count,) of each component of `labels`, which number the True voxels of `mask`."""
    voxels = np.zeros(count + 1, np.int64)
    found = labels[mask]
    for first in range(0, len(found), COUNTED_AT_ONCE):
        part = np.bincount(found[first : first + COUNTED_AT_ONCE])
        voxels[: len(part)] += part
    return voxels[1:]


def _shifted(inner: Box, outer: Box) -> Box:
    i, j, k = (slice(int(a.start) + b.start, int(a.stop) + b.start) for a, b in zip(inner, outer, strict=True))
    return i, j, k
