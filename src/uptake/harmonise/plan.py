"""Fingerprint of a dataset, and the plan made from it: decisions as data.

A plan is all that is needed to bring any case onto a model's grid; it is stored in every bundle's card as JSON.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from uptake.cases import Case
from uptake.core.errors import InputError, UsageError
from uptake.core.types import Affine, Vector3
from uptake.core.units import AIR_HU
from uptake.geometry.affine import spacing_mm
from uptake.geometry.grid import Grid
from uptake.geometry.orientation import AxisChange, axis_change
from uptake.harmonise.normalise import ChannelRule
from uptake.harmonise.resample import separate_axis, to_grid

FOREGROUND_SAMPLES_PER_CASE = 50_000
"""Lesion voxels drawn per case, with replacement, so that every patient weighs the same."""

FINGERPRINT_SEED = 1234


CROPS = ("nonzero", "body")

AS_STORED = "stored"
"""In place of an orientation: the model takes the axes as the file has them."""


@dataclass(frozen=True)
class Plan:
    """How cases come onto the model's grid.

    Attributes
    ----------
    channels : tuple of ChannelRule
        In the network's channel order; LesionTracer: CT, then PET.
    spacing_mm : tuple of float
        Of the model grid, in model axis order (z, y, x).
    orientation : str
        Directions of the x, y and z axes; the array's axes are in the reverse order (z, y, x). LesionTracer: LAS.
        "stored": the axes as they lie in the file, whichever way they point (nnU-Net's reader).
    image_order, logits_order : int
        Spline orders; labels always go by their indicators, linearly.
    transpose : tuple of int
        Order in which (z, y, x) become the model's axes; spacings and windows are in the model's order.
    separate_z : bool
        Resample the coarse axis of thick slices by the nearest slice (`resample.separate_axis`).
    crop : str
        What is kept: "nonzero", the box outside of which every image is 0; "body", the box of the largest piece of body
        (CT above -500 HU; without a CT, PET that is not air), as the masked autoencoder was published.
    crop_margin : int
        Voxels of the model grid kept around the body.
    normalise_last : bool
        Normalise after resampling instead of before, so that a z-scored crop has mean 0 and deviation 1 to the last
        digit.
    """

    channels: tuple[ChannelRule, ...]
    spacing_mm: Vector3
    orientation: str = "LAS"
    image_order: int = 3
    logits_order: int = 1
    transpose: tuple[int, int, int] = (0, 1, 2)
    separate_z: bool = False
    crop: str = "nonzero"
    crop_margin: int = 0
    normalise_last: bool = False

    def __post_init__(self) -> None:
        if sorted(self.transpose) != [0, 1, 2]:
            raise UsageError(f"transpose {self.transpose} is no order of the three axes.")
        if self.crop not in CROPS or self.crop_margin < 0:
            raise UsageError(f"a crop is {' or '.join(CROPS)}, with a margin of 0 or more, came {self.crop!r}.")
        if self.normalise_last and any(rule.inside_only for rule in self.channels):
            raise UsageError("normalise_last: a channel that is normalised inside its non-zero part comes first.")

    def axis_change(self, affine: Affine) -> AxisChange:
        """Return the permutation and flips that bring a grid with this affine onto the model's axes."""
        if self.orientation == AS_STORED:
            a, b, c = (2 - axis for axis in self.transpose)  # (i, j, k) is (x, y, z), the model's order starts at z
            return AxisChange((a, b, c), (False, False, False))
        code = self.orientation[::-1]
        return axis_change(affine, "".join(code[axis] for axis in self.transpose))

    def separate_axis(self, current_mm: npt.ArrayLike, target_mm: npt.ArrayLike) -> int | None:
        """Return the model axis that is resampled by the nearest slice, or None."""
        return separate_axis(current_mm, target_mm) if self.separate_z else None

    @property
    def channel_names(self) -> tuple[str, ...]:
        """Names of the channels in order."""
        return tuple(rule.name for rule in self.channels)

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Plan:
        """Return the plan that `as_json` wrote."""
        rules = tuple(ChannelRule(**rule) for rule in values["channels"])
        a, b, c = (float(v) for v in values["spacing_mm"])
        rest = {k: v for k, v in values.items() if k not in ("channels", "spacing_mm")}
        if "transpose" in rest:
            rest["transpose"] = tuple(rest["transpose"])
        return cls(rules, (a, b, c), **rest)


@dataclass(frozen=True)
class Intensities:
    """Lesion-voxel statistics of one channel over a dataset, each case weighing the same."""

    percentile_00_5: float
    percentile_99_5: float
    mean: float
    std: float
    asinh_mean: float
    asinh_std: float


@dataclass(frozen=True)
class Fingerprint:
    """What a dataset is like, in model axis order (z, y, x).

    Attributes
    ----------
    spacings_mm, shapes : tuple of triples
        One per case.
    intensities : mapping
        Channel name -> statistics inside lesions.
    n_cases, n_with_lesions : int
    """

    spacings_mm: tuple[Vector3, ...]
    shapes: tuple[tuple[int, int, int], ...]
    intensities: Mapping[str, Intensities]
    n_cases: int
    n_with_lesions: int


def fingerprint(
    cases: Iterable[Case], *, orientation: str = "LAS", channels: Sequence[str] = ("ct", "pet")
) -> Fingerprint:
    """Return grids and lesion intensities of the training cases.

    Statistics follow nnU-Net: inside lesions only, the same number of voxels drawn from every lesion-bearing case (with
    replacement, fixed seed), pooled; percentiles 0.5 and 99.5, mean, population standard deviation. Cases without
    lesions, and cases without CT for the CT channel, contribute nothing.

    Raises
    ------
    InputError
        If no case has a lesion (there is nothing to normalise by), or none has a wanted channel.
    """
    rng = np.random.default_rng(FINGERPRINT_SEED)
    pools: dict[str, list[npt.NDArray[np.float32]]] = {name: [] for name in channels}
    spacings: list[Vector3] = []
    shapes: list[tuple[int, int, int]] = []
    with_lesions = 0
    for case in cases:
        change = axis_change(case.pet.affine, orientation[::-1])
        turned = spacing_mm(case.pet.affine @ change.matrix(case.pet.shape))
        spacings.append((float(turned[0]), float(turned[1]), float(turned[2])))
        a, b, c = (case.pet.shape[axis] for axis in change.permutation)
        shapes.append((a, b, c))
        inside = np.flatnonzero(case.lesions.array) if case.lesions is not None else np.empty(0, dtype=np.intp)
        if not inside.size:
            continue
        with_lesions += 1
        drawn = rng.choice(inside, FOREGROUND_SAMPLES_PER_CASE)
        for name in channels:
            image = channel_on_pet_grid(case, name)
            if image is not None:
                pools[name].append(image.ravel()[drawn])
    if not spacings:
        raise InputError("there are no cases to plan from.")
    if not with_lesions:
        raise InputError("none of the training cases has a lesion in its reference mask; check the label folder.")
    empty = [name for name, pool in pools.items() if not pool]
    if empty:
        raise InputError(f"no training case with lesions has a {' or '.join(empty)} image.")
    return Fingerprint(
        tuple(spacings),
        tuple(shapes),
        {name: _intensities(np.concatenate(pool)) for name, pool in pools.items()},
        len(spacings),
        with_lesions,
    )


def plan_from(
    found: Fingerprint,
    *,
    schemes: Mapping[str, str],
    target_spacing_mm: Vector3 | None = None,
    orientation: str = "LAS",
    separate_z: bool = False,
) -> Plan:
    """Return the plan for a dataset.

    Parameters
    ----------
    found : Fingerprint
    schemes : mapping
        Channel name -> normalisation scheme, in the network's channel order.
    target_spacing_mm : tuple of float, optional
        (z, y, x); by default the median spacing of the cases. Where the coarsest axis is more than three times coarser
        than the others in voxel size and count (nnU-Net's rule) its 10th percentile is taken instead.
    orientation : str
    separate_z : bool
        See `Plan`.
    """
    rules = []
    for name, scheme in schemes.items():
        values = found.intensities[name]
        centre = (values.asinh_mean, values.asinh_std) if scheme == "asinh" else (values.mean, values.std)
        rules.append(ChannelRule(name, scheme, values.percentile_00_5, values.percentile_99_5, *centre))
    if target_spacing_mm is None:
        spacings, shapes = np.array(found.spacings_mm), np.array(found.shapes)
        target = np.median(spacings, axis=0)
        worst = int(np.argmax(target))
        others = [axis for axis in range(3) if axis != worst]
        size = np.median(shapes, axis=0)  # voxels as scanned, as in nnU-Net's planner
        if target[worst] > 3 * target[others].max() and size[worst] * 3 < size[others].min():
            target[worst] = max(float(np.percentile(spacings[:, worst], 10)), float(target[others].max()) + 1e-5)
        a, b, c = (float(v) for v in target)
        target_spacing_mm = (a, b, c)
    if min(target_spacing_mm) <= 0:
        raise UsageError(f"the target spacing must be positive, came {target_spacing_mm} mm.")
    return Plan(tuple(rules), target_spacing_mm, orientation, separate_z=separate_z)


def channel_on_pet_grid(case: Case, name: str) -> npt.NDArray[np.float32] | None:
    """Return one channel of a case on its PET grid, (i, j, k) float32 in SUV or HU; None where it is absent.

    CT on its own grid is brought over linearly, -1024 HU where it does not reach.
    """
    if name == "pet":
        return np.asarray(case.pet.array, dtype=np.float32)
    if name != "ct":
        raise UsageError(f"a case has no channel {name!r}; known are 'pet' and 'ct'.")
    if case.ct is None:
        return None
    return np.asarray(to_grid(case.ct, Grid.of(case.pet), order=1, fill=AIR_HU).array, dtype=np.float32)


def _intensities(values: npt.NDArray[np.float32]) -> Intensities:
    low, high = np.percentile(values, (0.5, 99.5))
    # Wide accumulators: pooled statistics of millions of float32 values drift in float32.
    wide = values.astype(np.float64)
    bent = np.arcsinh(wide)
    return Intensities(
        float(low), float(high), float(wide.mean()), float(wide.std()), float(bent.mean()), float(bent.std())
    )
