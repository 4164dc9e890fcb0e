"""Regions as DICOM objects hold them, brought to the grid of the PET: named, possibly overlapping, mostly empty space.

Both kinds of objects, contours and segmentations, are stacks of planes. One rule brings them to the PET: a voxel
belongs to a region if its centre lies inside the region's outline on the nearest plane of the stack, and no further
from that plane than half the distance between planes. Nothing is interpolated. Where the planes are the PET's own
slices, that is voxel for voxel what was drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from uptake.core.errors import FileFormatError, GeometryError, InputError
from uptake.core.types import FloatArray, Mask, Shape3
from uptake.geometry.components import Box, bounding_box
from uptake.geometry.volume import Volume
from uptake.io.dicom_reference import Reference

ON_A_SLICE = 0.25
"""Share of the distance between slices by which a plane may miss a slice and still be that slice's own."""

SAME_STEP = 0.25
"""Share by which the distance between planes may differ from that between slices and still be the same stack."""

UNDEFINED_LENGTH = 0xFFFFFFFF
"""Of sequences that end with a delimiter; PS3.5 7.5.1."""

SHOWN = 20
"""Names that a message lists."""


@dataclass(frozen=True, eq=False)
class Region:
    """One named region on the PET's grid.

    Attributes
    ----------
    number : int
        Segment Number (0062,0004) or ROI Number (3006,0022).
    name : str
        Segment Label (0062,0005) or ROI Name (3006,0026).
    shape : tuple of int
        Of the PET's grid.
    box : tuple of slices or None
        Where its voxels are; None if it has none on this grid.
    inside : array
        Booleans, the voxels within `box`.
    code : str
        Meaning of the Segmented Property Type (0062,000F), "" for contours.
    """

    number: int
    name: str
    shape: Shape3
    box: Box | None
    inside: Mask
    code: str = ""

    @property
    def voxels(self) -> int:
        return int(np.count_nonzero(self.inside)) if self.box is not None else 0

    def mask(self) -> Mask:
        """Return the region as booleans (i, j, k) on the whole grid."""
        full = np.zeros(self.shape, dtype=bool)
        if self.box is not None:
            full[self.box] = self.inside
        return full


@dataclass(frozen=True, eq=False)
class Regions:
    """What a segmentation or a structure set holds, on the PET's grid.

    Attributes
    ----------
    path : Path
    kind : str
        "SEG" or "RTSTRUCT".
    regions : tuple of Region
    warnings : tuple of str
        How they were placed, where that is not plain; what was left out.
    """

    path: Path
    kind: str
    regions: tuple[Region, ...]
    warnings: tuple[str, ...] = ()

    def chosen(self, names: Sequence[str] | None = None) -> tuple[Region, ...]:
        """Return the regions of these names (or numbers, written as text); all if None.

        Raises
        ------
        InputError
            If a name is not there; those that are, are listed.
        """
        if names is None:
            return self.regions
        result = []
        for name in names:
            found = [region for region in self.regions if name in (region.name, str(region.number))]
            if not found:
                raise InputError(f"{self.path}: has no region {name!r}. It has: {self.listing()}.")
            result += found
        return tuple(result)

    def listing(self) -> str:
        """Return the names, for messages."""
        names = [f"{region.name!r}" for region in self.regions[:SHOWN]]
        more = f" and {len(self.regions) - SHOWN} more" if len(self.regions) > SHOWN else ""
        return (", ".join(names) or "none") + more

    def union(self, pet: Volume, names: Sequence[str] | None = None) -> Volume:
        """Return one mask (uint8, 1 inside) of the chosen regions on the grid of `pet`."""
        full = np.zeros(pet.shape, np.uint8)
        for region in self.chosen(names):
            if region.box is not None:
                full[region.box] |= region.inside.astype(np.uint8)
        return pet.with_array(full)


@dataclass
class Planes:
    """Collects the voxels of one region, plane by plane, keeping only the part of a plane that holds any."""

    parts: list[tuple[int, int, int, Mask]] = field(default_factory=list)

    def add(self, k: int, plane: Mask) -> None:
        """Add the voxels of slice k, (i, j)."""
        box = bounding_box(plane[:, :, None])
        if box is not None:
            self.parts.append((k, box[0].start, box[1].start, plane[box[0], box[1]].copy()))

    def region(self, number: int, name: str, shape: Shape3, code: str = "") -> Region:
        """Return what was collected."""
        if not self.parts:
            return Region(number, name, shape, None, np.zeros((0, 0, 0), bool), code)
        low = np.array([[i, j, k] for k, i, j, _ in self.parts]).min(axis=0)
        high = np.array([[i + part.shape[0], j + part.shape[1], k + 1] for k, i, j, part in self.parts]).max(axis=0)
        inside = np.zeros(tuple(high - low), dtype=bool)
        for k, i, j, part in self.parts:
            i, j = i - low[0], j - low[1]
            inside[i : i + part.shape[0], j : j + part.shape[1], k - low[2]] |= part
        a, b, c = (slice(int(start), int(stop)) for start, stop in zip(low, high, strict=True))
        return Region(number, name, shape, (a, b, c), inside, code)


def slice_depths(pet: Volume, reference: Reference | None) -> FloatArray:
    """Return where the slices lie along the third axis of the PET, mm from the world's origin, (k,).

    Taken from the DICOM slices where there are any: they need not be spaced as evenly as the volume says.
    """
    normal = pet.direction[:, 2]
    if reference is None:
        return np.asarray(normal @ pet.affine[:3, 3] + np.arange(pet.shape[2]) * pet.spacing_mm[2])
    positions = np.array([entry.position_lps for entry in reference.slices]) * [-1.0, -1.0, 1.0]
    return np.asarray(positions @ normal)


def nearest_plane(depths: FloatArray, planes: FloatArray, thickness: float) -> npt.NDArray[np.int64]:
    """Return for depths of any shape the index of the plane whose slab of this thickness holds them, or -1.

    A depth midway between two planes belongs to the upper one: slabs that touch share nothing.
    """
    order = np.argsort(planes)
    lower = planes[order] - thickness / 2
    at = np.searchsorted(lower, depths + 1e-6, side="right") - 1
    # Slabs of planes closer than `thickness` overlap: of the two around a depth the nearer one holds it.
    before = np.clip(at - 1, 0, None)
    nearer = np.abs(depths - planes[order[before]]) < np.abs(depths - planes[order[np.clip(at, 0, None)]]) - 1e-6
    at = np.where((at > 0) & nearer, before, at)
    inside = (at >= 0) & (depths - planes[order[np.clip(at, 0, None)]] < thickness / 2 - 1e-6)
    return np.asarray(np.where(inside, order[np.clip(at, 0, None)], -1))


def own_slices(planes: FloatArray, depths: FloatArray, spacing: float | None) -> npt.NDArray[np.int64] | None:
    """Return the slice of each plane if the planes are slices of this very stack, else None.

    Parameters
    ----------
    planes, depths : arrays (n,), (k,)
        Where planes and slices lie, mm.
    spacing : float or None
        Distance between neighbouring planes of the stack they come from, where it is known: planes of a coarser stack
        may happen to lie on slices, and stand for the slices between as well.
    """
    step = float(np.median(np.abs(np.diff(depths)))) if len(depths) > 1 else (spacing or 1.0)
    if spacing is not None and abs(spacing / step - 1.0) > SAME_STEP:
        return None
    at = np.abs(planes[:, None] - depths[None, :]).argmin(axis=1)
    return at if (np.abs(planes - depths[at]) <= ON_A_SLICE * step).all() else None


def least_gap(planes: FloatArray) -> float | None:
    """Return the smallest distance between planes that do not coincide (0.01 mm), or None if there is one only."""
    gaps = np.diff(np.sort(planes))
    gaps = gaps[gaps > 0.01]
    return float(gaps.min()) if gaps.size else None


def stack_spacing(planes: FloatArray) -> float | None:
    """Return the distance between neighbouring planes of the stack that these come from, or None if they do not tell.

    Two small regions far apart say nothing about it; a smallest gap that occurs again does.
    """
    least = least_gap(planes)
    if least is None:
        return None
    gaps = np.diff(np.unique(np.round(planes, 2)))
    return least if np.count_nonzero(np.abs(gaps - least) <= 0.1 * least) >= 2 else None


def require_whole(header: Any, path: Path) -> None:
    """Refuse a file that ends before its last element does; pydicom gives what is there.

    Parameters
    ----------
    header : pydicom.Dataset
        As read, nothing of it looked at yet.
    path : Path

    Raises
    ------
    FileFormatError
    """
    for tag in header.keys():  # noqa: SIM118  # iterating over a Dataset decodes its elements
        element = header.get_item(tag)
        length = getattr(element, "length", None)  # of elements not yet decoded
        if length is not None and length != UNDEFINED_LENGTH and len(element.value or b"") < length:
            raise FileFormatError(f"{path}: the file is truncated. Copy or export it again.")


def require_same_space(
    path: Path,
    kind: str,
    frames: set[str],
    pet: Volume,
    *,
    study: str = "",
    reference: Reference | None = None,
    study_matters: bool = True,
) -> tuple[str, ...]:
    """Refuse an object of another study or frame of reference than the PET; return warnings where that is unknown.

    Parameters
    ----------
    path, kind
        Of the object, for messages.
    frames : set of str
        Frame of Reference UIDs (0020,0052) it names.
    pet : Volume
    study : str
        Its Study Instance UID (0020,000D).
    reference : Reference, optional
        Of the PET.
    study_matters : bool
        Refuse another study even in the same frame of reference.

    Raises
    ------
    GeometryError
    """
    own = reference.frame_of_reference if reference is not None else pet.frame_of_reference
    if own and frames and own not in frames:
        raise GeometryError(
            f"{path}: this {kind} is in frame of reference …{min(frames)[-12:]}, the PET in …{own[-12:]}: it was drawn "
            "on another examination. Give the one that belongs to this PET."
        )
    warnings = []
    if reference is not None and study and study != reference.study_uid:
        if study_matters or not frames:
            raise GeometryError(
                f"{path}: this {kind} belongs to study …{study[-12:]}, the PET to …{reference.study_uid[-12:]}. "
                "Give the one that belongs to this PET."
            )
        warnings.append(
            f"{path}: the {kind} is of study …{study[-12:]}, the PET of …{reference.study_uid[-12:]}; they share a "
            "frame of reference, by which it was placed."
        )
    if not (own and frames):
        whose = "the PET" if not own else f"the {kind}"
        warnings.append(f"{path}: {whose} names no frame of reference; the {kind} was placed by its coordinates alone.")
    return tuple(warnings)
