"""A window of the model grid placed anywhere on a scan: what a promptable model sees around a click, and the way back.

Only the window is resampled, never the whole scan. Axes are permuted and flipped exactly, as `harmonise` does.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from uptake.cases import Case
from uptake.core.errors import ModelError
from uptake.core.types import Channels, FloatArray, Shape3
from uptake.core.units import AIR_HU
from uptake.geometry.components import Box
from uptake.geometry.grid import Grid
from uptake.geometry.volume import Volume
from uptake.harmonise.normalise import normalise
from uptake.harmonise.onto import ABSENT
from uptake.harmonise.plan import Plan
from uptake.harmonise.resample import to_grid


def field_grid(image: Grid, plan: Plan, centre_mm: FloatArray, window: Shape3) -> Grid:
    """Return the grid of a window of the model, voxel ``window // 2`` at `centre_mm`.

    Parameters
    ----------
    image : Grid
        Of the scan; the window's axes are parallel to its axes.
    plan : Plan
        Spacing (mm) and axis order of the model.
    centre_mm : array (3,)
        World, mm RAS+.
    window : tuple of int
        Voxels along the model's axes.
    """
    columns = _columns(image, plan)
    affine = np.eye(4)
    affine[:3, :3] = columns
    affine[:3, 3] = np.asarray(centre_mm, dtype=np.float64) - columns @ (np.array(window) // 2)
    return Grid(window, affine)


def field_channels(case: Case, field: Grid, plan: Plan) -> Channels:
    """Return the normalised channels (c, *window) of a case in a field, linearly interpolated.

    Beyond the PET, and for a modality that is absent, channels are 0, as in training windows.
    """
    channels = np.full((len(plan.channels), *field.shape), ABSENT, dtype=np.float32)
    inside = _inside(case.pet, field, plan)
    for index, rule in enumerate(plan.channels):
        if rule.name not in ("ct", "pet"):
            raise ModelError(f"the model wants a channel {rule.name!r}; cases have 'ct' and 'pet'.")
        image = case.pet if rule.name == "pet" else case.ct
        if image is None:
            continue
        fill = 0.0 if rule.name == "pet" else AIR_HU
        array = to_grid(image, field, order=1, fill=fill).array
        channels[index][inside] = normalise(array, rule)[inside]
    return channels


def to_scan(
    values: npt.NDArray[np.float32], field: Grid, image: Volume | Grid
) -> tuple[Box, npt.NDArray[np.float32]] | None:
    """Return values (*window) of a field on the scan's grid: the box they cover, and the values in it.

    Linear; the field's border voxels hold up to its outer edge. None if the field lies wholly beside the scan.
    """
    between = np.linalg.inv(image.affine) @ field.affine
    corners = Grid(field.shape, between).corners_mm()  # in voxel indices of the scan
    lower = np.ceil(corners.min(axis=0) - 1e-6).astype(int)
    upper = np.floor(corners.max(axis=0) + 1e-6).astype(int) + 1
    lower, upper = np.maximum(lower, 0), np.minimum(upper, image.shape)
    if (upper <= lower).any():
        return None
    first = image.affine.copy()
    first[:3, 3] = image.affine[:3, :3] @ lower + image.affine[:3, 3]
    i, j, k = (int(n) for n in upper - lower)
    found = to_grid(Volume(values, field.affine), Grid((i, j, k), first), order=1, fill=0.0)
    a, b, c = (slice(int(low), int(high)) for low, high in zip(lower, upper, strict=True))
    return (a, b, c), np.asarray(found.array, dtype=np.float32)


def field_index(field: Grid, places_mm: FloatArray) -> FloatArray:
    """Return fractional voxel indices (n, 3) of world positions (n, 3) in a field."""
    inverse = np.linalg.inv(field.affine)
    return np.asarray(np.asarray(places_mm, dtype=np.float64) @ inverse[:3, :3].T + inverse[:3, 3])


def shifted(field: Grid, voxels: Sequence[int]) -> Grid:
    """Return the field moved by whole voxels along its axes."""
    affine = field.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ np.asarray(voxels, dtype=np.float64)
    return Grid(field.shape, affine)


def _columns(image: Grid, plan: Plan) -> FloatArray:
    change = plan.axis_change(image.affine)
    turned = (image.affine @ change.matrix(image.shape))[:3, :3]
    return np.asarray(turned / np.linalg.norm(turned, axis=0) * np.array(plan.spacing_mm))


def _inside(pet: Volume, field: Grid, plan: Plan) -> npt.NDArray[np.bool_]:
    """Return which voxels of the field lie in the PET, up to its outer edges. Axes are parallel, so each is asked."""
    change = plan.axis_change(pet.affine)
    lines = []
    for axis, source in enumerate(change.permutation):
        along = field.affine[:3, axis] * np.arange(field.shape[axis])[:, None] + field.affine[:3, 3]
        index = pet.index_of(along)[:, source]
        lines.append((index >= -0.5 - 1e-6) & (index <= pet.shape[source] - 0.5 + 1e-6))
    return np.asarray(lines[0][:, None, None] & lines[1][:, None] & lines[2])
