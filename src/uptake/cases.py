"""The records that travel along the road, one for each stage. Frozen; arrays only, no tensors, no behaviour.

``Case -> HarmonisedCase + Trace -> Prediction (model grid) -> Restored (source grid)``
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from uptake.core.errors import GeometryError, InputError
from uptake.core.types import Affine, Channels, Shape3, Vector3
from uptake.geometry.grid import require_same_grid
from uptake.geometry.orientation import AxisChange
from uptake.geometry.volume import Volume


@dataclass(frozen=True)
class SourceFile:
    """One input file or folder: its role ("pet", "ct", ...), its path as the user gave it, its SHA-256."""

    role: str
    path: str
    sha256: str


@dataclass(frozen=True, eq=False)
class Case:
    """One examination as it was read.

    Attributes
    ----------
    id : str
        Name of the case: a folder or file name, never a patient's name.
    pet : Volume
        SUV (body weight), g/mL, float32.
    ct : Volume or None
        HU, float32, on its own grid or on that of the PET.
    lesions, organs : Volume or None
        Reference label maps on the PET grid, where they came with the case.
    sources : tuple of SourceFile
    warnings : tuple of str
        Everything that was noticed or repaired while reading, in plain words, for the report.
    acquisition : mapping
        What the headers say about tracer, dose, times and scanner, with the SUV factor and how it was found. Plain
        JSON values.
    pet_files, ct_files : tuple of Path
        DICOM files of the images in the order of the third array axis, for objects that refer to them; one file for a
        multi-frame image, none where the images did not come as DICOM.
    full_dose : Volume or None
        The same acquisition with all its counts, SUV, on the PET grid: what a denoiser of `pet` is trained towards.
    """

    id: str
    pet: Volume
    ct: Volume | None = None
    lesions: Volume | None = None
    organs: Volume | None = None
    sources: tuple[SourceFile, ...] = ()
    warnings: tuple[str, ...] = ()
    acquisition: Mapping[str, object] = field(default_factory=dict)
    pet_files: tuple[Path, ...] = ()
    ct_files: tuple[Path, ...] = ()
    full_dose: Volume | None = None

    def __post_init__(self) -> None:
        if not self.id:
            raise InputError("a case needs a name.")
        for role, name in (("lesions", "lesions mask"), ("organs", "organs mask"), ("full_dose", "full-dose PET")):
            other = getattr(self, role)
            if other is not None:
                require_same_grid(self.pet, other, names=(f"{self.id}: the PET", f"the {name}"))


@dataclass(frozen=True)
class Crop:
    """Keep voxels ``lower <= index < upper`` of a grid of shape `before` (model axis order)."""

    before: Shape3
    lower: Shape3
    upper: Shape3


@dataclass(frozen=True)
class Resample:
    """Interpolate from `before` to `after` voxels along each axis, outer edges kept (model axis order)."""

    before: Shape3
    after: Shape3


@dataclass(frozen=True, eq=False)
class Trace:
    """How a case came from its source grid to the model's, step by step, so that `restore` can walk it back.

    Attributes
    ----------
    source_shape, source_affine
        Of the PET grid the results return to.
    axes : AxisChange
        Into the model's orientation and axis order; applied first.
    crop : Crop
        Applied second.
    resample : Resample
        Applied last.
    spacing_mm : tuple of float
        Voxel size on the model grid, model axis order.
    frame_of_reference : str or None
    separate_axis : int or None
        Model axis along which the way back takes the nearest slice.
    """

    source_shape: Shape3
    source_affine: Affine
    axes: AxisChange
    crop: Crop
    resample: Resample
    spacing_mm: Vector3
    frame_of_reference: str | None = None
    separate_axis: int | None = None


@dataclass(frozen=True)
class Scale:
    """How the values v of a channel were normalised: x = (bend(v) - mean) / std.

    Attributes
    ----------
    mean, std : float
    bend : str
        "none", or "asinh" for the inverse hyperbolic sine.
    """

    mean: float
    std: float
    bend: str = "none"


@dataclass(frozen=True, eq=False)
class HarmonisedCase:
    """A case on the model's grid, normalised.

    Attributes
    ----------
    id : str
    channels : array (c, z, y, x) float32
        Normalised input in the card's channel order. A modality that is absent is filled with the normalised value of
        its `absent` level and named in `absent`.
    labels : array (z, y, x) uint8 or None
        Reference labels on the model grid.
    body : array (z, y, x) bool
        Where there is anything but air; windows without any of it need no network.
    absent : tuple of str
        Names of channels that were filled.
    organs : array (z, y, x) uint8 or None
        Reference organ classes on the model grid, in the method's numbering.
    scales : tuple of Scale
        How each channel was normalised; an absent channel has mean 0 and deviation 1.
    target : array (z, y, x) float32 or None
        The full-dose PET on the model grid, normalised by the very numbers of the PET channel.
    """

    id: str
    channels: Channels
    labels: npt.NDArray[np.uint8] | None
    body: npt.NDArray[np.bool_]
    absent: tuple[str, ...] = ()
    organs: npt.NDArray[np.uint8] | None = None
    scales: tuple[Scale, ...] = ()
    target: npt.NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        if self.channels.ndim != 4 or self.channels.shape[1:] != self.body.shape:
            raise GeometryError(f"{self.id}: channels {self.channels.shape} and body {self.body.shape} do not fit.")
        if self.labels is not None and self.labels.shape != self.body.shape:
            raise GeometryError(f"{self.id}: labels {self.labels.shape} and channels {self.channels.shape} do not fit.")
        if self.organs is not None and self.organs.shape != self.body.shape:
            raise GeometryError(f"{self.id}: organs {self.organs.shape} and channels {self.channels.shape} do not fit.")
        if self.target is not None and self.target.shape != self.body.shape:
            raise GeometryError(f"{self.id}: target {self.target.shape} and channels {self.channels.shape} do not fit.")


@dataclass(frozen=True, eq=False)
class Prediction:
    """Network output on the model grid.

    Attributes
    ----------
    logits : array (c, z, y, x) float32
        One channel per label, before softmax.
    windows_run, windows_skipped : int
        Sliding-window positions that were evaluated and that were pure air.
    organ_logits : array (c, z, y, x) float32 or None
        The same of a second family of heads, for organs; None where the model has none, or they were not asked for.
    """

    logits: npt.NDArray[np.float32]
    windows_run: int
    windows_skipped: int
    organ_logits: npt.NDArray[np.float32] | None = None


@dataclass(frozen=True, eq=False)
class Restored:
    """Labels back on the source grid; `organs` are those of the second family of heads, where there is one."""

    labels: Volume
    organs: Volume | None = None
