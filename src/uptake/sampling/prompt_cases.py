"""Objects to be prompted for: one target a sample, in a window around it, in batches that depend on seed and step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch

from uptake.core.errors import InputError, UsageError
from uptake.core.types import Shape3
from uptake.geometry.components import Box, bounding_box, connected_components

CLICK_VOXELS = 256
"""Voxels of a target kept as places to centre a window on; a fixed random choice."""

CLICK_SEED = 1234

Centre = Literal["box", "click", "either"]
"""On what windows are centred: the target's bounding box (as published, which needs the truth), a random voxel of it
with jitter (as a user's click), or one of the two with equal chance."""


@dataclass(frozen=True, eq=False)
class Target:
    """One object of a case.

    Attributes
    ----------
    name : str
        Class: "lesion", or an organ's TotalSegmentator name.
    box : slices
        Where `mask` lies on the model grid.
    mask : array bool
    places : array (n, 3) int32
        Some of its voxels, on the model grid.
    """

    name: str
    box: Box
    mask: npt.NDArray[np.bool_]
    places: npt.NDArray[np.int32]

    @property
    def centre(self) -> npt.NDArray[np.int64]:
        """Middle of the bounding box, voxels."""
        return np.array([(side.start + side.stop) // 2 for side in self.box])


@dataclass(frozen=True, eq=False)
class PromptCase:
    """A case on the model grid with its objects.

    Attributes
    ----------
    id : str
    channels : array-like (c, z, y, x) float32
        Anything that slices to NumPy.
    targets : tuple of Target
    trusted : bool
        Whether the labels are of high quality.
    """

    id: str
    channels: Any
    targets: tuple[Target, ...]
    trusted: bool = True


def targets_of(
    lesions: npt.NDArray[Any] | None,
    organs: npt.NDArray[Any] | None = None,
    names: dict[int, str] | None = None,
    *,
    min_voxels: int = 1,
) -> tuple[Target, ...]:
    """Return every lesion (18-connected component) and every organ as a target, those of `min_voxels` or more.

    Parameters
    ----------
    lesions : array (z, y, x) or None
        Not 0: lesion.
    organs : array (z, y, x) integers or None
    names : dict
        Organ label -> class name; labels without a name are left out.
    min_voxels : int

    Notes
    -----
    Scattered disease as one object is what prompts fail on (19 to 25 % Dice in the paper); one click, one lesion.
    """
    found = []
    if lesions is not None:
        pieces = connected_components(np.asarray(lesions) > 0)
        for number, (box, voxels) in enumerate(zip(pieces.boxes, pieces.voxels, strict=True), start=1):
            if voxels >= min_voxels:
                found.append(_target("lesion", box, np.asarray(pieces.labels[box] == number)))
    if organs is not None:
        array = np.asarray(organs)
        for value, name in (names or {}).items():
            mask = array == value
            box = bounding_box(mask)
            if box is not None and int(mask[box].sum()) >= min_voxels:
                found.append(_target(name, box, mask[box].copy()))
    return tuple(found)


def _target(name: str, box: Box, mask: npt.NDArray[np.bool_]) -> Target:
    inside = np.flatnonzero(mask)
    if inside.size > CLICK_VOXELS:
        inside = np.sort(np.random.default_rng(CLICK_SEED).choice(inside, CLICK_VOXELS, replace=False))
    places = np.stack(np.unravel_index(inside, mask.shape), axis=1) + [side.start for side in box]
    return Target(name, box, mask, places.astype(np.int32))


@dataclass(frozen=True)
class PromptBatchRules:
    """How batches of targets are drawn.

    Attributes
    ----------
    window : tuple of int
        (z, y, x) voxels.
    batch_size : int
    centre : {"box", "click", "either"}
    jitter : int
        Voxels by which a window centred on a click is off, at most, along each axis.
    lesion_share : float or None
        Share of samples that are lesions, where there are lesions and organs; None: all targets alike.
    trusted_share : float or None
        Share of every batch from trusted cases; None: cases as they come.
    min_voxels : int
        Of the target inside the window, else another draw (published 500 of 1.5 mm).
    flip : bool
        Each axis with probability one half, as published; no other augmentation there.
    gain : float
        PET is multiplied by exp(uniform(-gain, gain)) where channels are on a linear scale.
    ct : int or None
        Channel of the CT.
    ct_dropout : float
        Chance that a sample's CT is taken away (0, as where a scan has none).
    seed : int
    """

    window: Shape3
    batch_size: int
    centre: Centre = "box"
    jitter: int = 16
    lesion_share: float | None = None
    trusted_share: float | None = None
    min_voxels: int = 1
    flip: bool = True
    gain: float = 0.0
    ct: int | None = None
    ct_dropout: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.centre not in get_args(Centre):
            raise UsageError(f"centre is {', '.join(get_args(Centre))}; came {self.centre!r}.")


@dataclass(frozen=True, eq=False)
class PromptBatch:
    """Windows with one target each.

    Attributes
    ----------
    channels : tensor (b, c, z, y, x) float32
    target : tensor (b, 1, z, y, x) float32
    trusted : tensor (b,) bool
    seed : int
        For the user who prompts.
    """

    channels: torch.Tensor
    target: torch.Tensor
    trusted: torch.Tensor
    seed: int


TRIES = 50
"""Draws until a window holds enough of its target; then it is taken as it is."""


class PromptBatches:
    """Batch source for `training.loop.fit`.

    Raises
    ------
    InputError
        If no case has a target, or trusted and other cases are wanted and one kind is missing.
    """

    def __init__(self, cases: Sequence[PromptCase], rules: PromptBatchRules) -> None:
        self.rules = rules
        usable = [case for case in cases if case.targets]
        if not usable:
            raise InputError("none of the training cases has an object to prompt for.")
        self._pools = [usable]
        if rules.trusted_share is not None:
            self._pools = [[c for c in usable if c.trusted], [c for c in usable if not c.trusted]]
            if not all(self._pools):
                kind = "trusted" if not self._pools[0] else "other"
                raise InputError(f"trusted_share mixes trusted and other cases, and there are no {kind} ones.")

    def cut(self, step: int, rank: int = 0) -> PromptBatch:
        """Return batch `step` of rank `rank`."""
        rules = self.rules
        rng = np.random.default_rng([rules.seed, step, rank])
        images, masks, trusted = [], [], []
        for number in range(rules.batch_size):
            pool = self._pools[0]
            if rules.trusted_share is not None and number >= round(rules.trusted_share * rules.batch_size):
                pool = self._pools[1]
            case, channels, mask = self._sample(rng, pool)
            images.append(channels)
            masks.append(mask)
            trusted.append(case.trusted)
        return PromptBatch(
            torch.from_numpy(np.stack(images)),
            torch.from_numpy(np.stack(masks)[:, None].astype(np.float32)),
            torch.tensor(trusted),
            int(rng.integers(2**62)),
        )

    def finished(self, cut: PromptBatch, device: torch.device) -> PromptBatch:
        """Return the batch on the device."""
        moved = (tensor.to(device, non_blocking=True) for tensor in (cut.channels, cut.target, cut.trusted))
        return PromptBatch(*moved, cut.seed)

    def _sample(
        self, rng: np.random.Generator, pool: Sequence[PromptCase]
    ) -> tuple[PromptCase, npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        rules = self.rules
        for _ in range(TRIES):
            case = pool[rng.integers(len(pool))]
            target = self._target(rng, case)
            lower = self._lower(rng, target)
            mask = cut_target(target, lower, rules.window)
            if mask.sum() >= rules.min_voxels:
                break
        channels = cut_channels(case.channels, lower, rules.window)
        if rules.flip:
            axes = [axis for axis in range(3) if rng.random() < 0.5]
            mask = np.flip(mask, axes)
            channels = np.flip(channels, [axis + 1 for axis in axes])
        channels = np.ascontiguousarray(channels)
        if rules.gain:
            factor = np.float32(np.exp(rng.uniform(-rules.gain, rules.gain)))
            for index in range(len(channels)):
                if index != rules.ct:
                    channels[index] *= factor
        if rules.ct is not None and rng.random() < rules.ct_dropout:
            channels[rules.ct] = 0.0
        return case, channels, np.ascontiguousarray(mask)

    def _target(self, rng: np.random.Generator, case: PromptCase) -> Target:
        targets: Sequence[Target] = case.targets
        if self.rules.lesion_share is not None:
            lesions = [t for t in targets if t.name == "lesion"]
            organs = [t for t in targets if t.name != "lesion"]
            if lesions and organs:
                targets = lesions if rng.random() < self.rules.lesion_share else organs
        return targets[rng.integers(len(targets))]

    def _lower(self, rng: np.random.Generator, target: Target) -> Shape3:
        rules = self.rules
        click = rules.centre == "click" or (rules.centre == "either" and rng.random() < 0.5)
        centre = target.centre
        if click:
            centre = target.places[rng.integers(len(target.places))]
            centre = centre + rng.integers(-rules.jitter, rules.jitter + 1, 3)
        z, y, x = (int(c) - side // 2 for c, side in zip(centre, rules.window, strict=True))
        return z, y, x


def cut_channels(channels: Any, lower: Shape3, size: Shape3) -> npt.NDArray[np.float32]:
    """Return (c, *size) from voxel `lower` on; zeros beyond the image."""
    window = np.zeros((channels.shape[0], *size), dtype=np.float32)
    source, place = _overlap(lower, size, channels.shape[1:])
    if source is not None and place is not None:
        window[(slice(None), *place)] = channels[(slice(None), *source)]
    return window


def cut_target(target: Target, lower: Shape3, size: Shape3) -> npt.NDArray[np.bool_]:
    """Return the part of a target (z, y, x) in the window of `size` from voxel `lower` on."""
    window = np.zeros(size, dtype=bool)
    first = tuple(side.start for side in target.box)
    shifted = (lower[0] - first[0], lower[1] - first[1], lower[2] - first[2])
    source, place = _overlap(shifted, size, target.mask.shape)
    if source is not None and place is not None:
        window[place] = target.mask[source]
    return window


def _overlap(lower: Sequence[int], size: Sequence[int], shape: Sequence[int]) -> tuple[Box | None, Box | None]:
    """Return what of an array of `shape` a window covers, in the array's and in the window's own voxels."""
    ends = [(max(0, low), min(n, low + extent)) for low, extent, n in zip(lower, size, shape, strict=True)]
    if any(high <= low for low, high in ends):
        return None, None
    a, b, c = (slice(low, high) for low, high in ends)
    i, j, k = (slice(low - off, high - off) for (low, high), off in zip(ends, lower, strict=True))
    return (a, b, c), (i, j, k)
