"""Low-dose and full-dose windows of the same patient: what moves together, and what happens to the low dose alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F

from uptake.cases import Scale
from uptake.core.types import Shape3
from uptake.sampling.augment import SampleDraw, apply_intensity, draw_sample, sampled_labels, sampling_grid
from uptake.sampling.batches import Batch, BatchRules
from uptake.sampling.store import TrainingCase
from uptake.sampling.windows import draw_window, forced_samples

MISALIGNED = ("label", "ld_fd", "ld", "off")
"""What misalignment moves: the label map (made on CT, while PET is the average of many breaths); both images, which is
the same up to sign; the low dose alone, which tears the pair apart; nothing."""

BODY_SUV = 0.1
"""Full-dose SUV above which a voxel is body; fat shows 0.2 to 0.4, air less."""


@dataclass(frozen=True)
class PairRules:
    """How batches of pairs are drawn.

    Attributes
    ----------
    batch : BatchRules
        Its `augment` gives the ranges of misalignment too.
    misalign : str
        One of `MISALIGNED`.
    """

    batch: BatchRules
    misalign: str = "label"


@dataclass(frozen=True, eq=False)
class PairCut:
    """Windows with geometry applied; intensities as stored. Made on the CPU, in a thread.

    Attributes
    ----------
    images : tensor (b, c, z, y, x) float32
        Low dose, then, where the cases have one, full dose.
    labels : tensor (b, 1, z, y, x) uint8
    draws : tuple of SampleDraw
    zeros, body_levels : tensor (b,)
        SUV 0 and `BODY_SUV` in the units of each sample.
    """

    images: torch.Tensor
    labels: torch.Tensor
    draws: tuple[SampleDraw, ...]
    zeros: torch.Tensor
    body_levels: torch.Tensor


@dataclass(frozen=True, eq=False)
class PairBatch(Batch):
    """What a training step takes, on its device.

    Attributes
    ----------
    channels : tensor (b, 1, z, y, x) float32
        Low dose, normalised, augmented.
    labels : tensor (b, 1, z, y, x) uint8
    target : tensor (b, 1, z, y, x) float32 or None
        Full dose in the units of the low dose.
    body : tensor (b, 1, z, y, x) bool or None
        Where the full dose shows more than air.
    """

    target: torch.Tensor | None = None
    body: torch.Tensor | None = None


class PairBatches:
    """Windows of paired cases, as `training.protocol.BatchSource` wants them."""

    def __init__(self, cases: Sequence[TrainingCase], rules: PairRules) -> None:
        self.cases, self.rules = cases, rules

    def cut(self, step: int, rank: int = 0) -> PairCut:
        """Return the windows of batch `step`."""
        return cut_pairs(self.cases, self.rules, step=step, rank=rank)

    def finished(self, cut: PairCut, device: torch.device) -> PairBatch:
        """Return them on the device, intensities augmented."""
        return finished_pairs(cut, device)


def draw_pair(rng: np.random.Generator, rules: PairRules) -> SampleDraw:
    """Draw the augmentation of one pair. Where something is misaligned `matrix` is never None.

    `ct_matrix` and `ct_shift` of the draw belong to what is misaligned, here no CT.
    """
    batch = rules.batch
    draw = draw_sample(rng, batch.augment, batch.channels, batch.spacing_mm)
    if rules.misalign == "off":
        return replace(draw, ct_matrix=np.eye(3), ct_shift=np.zeros(3))
    return replace(draw, matrix=np.eye(3)) if draw.matrix is None and is_misaligned(draw) else draw


def is_misaligned(draw: SampleDraw) -> bool:
    """Return whether the draw turns or shifts one thing against the others."""
    return bool(draw.ct_shift.any()) or not np.array_equal(draw.ct_matrix, np.eye(3))


def cut_pairs(cases: Sequence[TrainingCase], rules: PairRules, *, step: int, rank: int = 0) -> PairCut:
    """Return the windows of batch `step`, cut and geometrically augmented; it depends on seed, step and rank alone."""
    batch = rules.batch
    rng = np.random.default_rng([batch.seed, step, rank])
    images, labels, draws, scales = [], [], [], []
    for forced in forced_samples(batch.batch_size, batch.foreground_share):
        where = draw_window(rng, cases, batch.window, forced=bool(forced))
        draw = draw_pair(rng, rules)
        extent = draw.extent(batch.window)
        a, b, c = (low - (big - n) // 2 for low, big, n in zip(where.lower, extent, batch.window, strict=True))
        case = cases[where.case]
        channels, maps = case.cut((a, b, c), extent)
        image, label = apply_pair_geometry(
            torch.from_numpy(channels), torch.from_numpy(maps), draw, batch.window, misalign=rules.misalign
        )
        images.append(image)
        labels.append(label)
        draws.append(draw)
        scales.append(case.scales[0] if case.scales else Scale(0.0, 1.0))
    levels = [[_normalised(suv, scale) for scale in scales] for suv in (0.0, BODY_SUV)]
    return PairCut(torch.stack(images), torch.stack(labels), tuple(draws), *torch.tensor(levels))


def _normalised(suv: float, scale: Scale) -> float:
    return ((math.asinh(suv) if scale.bend == "asinh" else suv) - scale.mean) / scale.std


def apply_pair_geometry(
    images: torch.Tensor, labels: torch.Tensor, draw: SampleDraw, window: Shape3, *, misalign: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the window with the drawn geometry applied.

    Parameters
    ----------
    images : tensor (c, *extent) float32
        Low dose first, then full dose; cut with ``draw.extent(window)`` around the window's centre.
    labels : integer tensor (m, *extent)
    draw : SampleDraw
        From `draw_pair`.
    window : tuple of int
    misalign : str
        What is turned and shifted before all is moved together; see `MISALIGNED`.

    Returns
    -------
    images : tensor (c, *window) float32
        Trilinear, zero outside; copied where nothing moves it.
    labels : tensor (m, *window) uint8
        The label with the largest linear share.
    """
    aside = is_misaligned(draw)
    alone = {"label": (), "ld_fd": range(len(images)), "ld": (0,), "off": ()}[misalign] if aside else ()
    moved = [_moved(image, draw, window, misaligned=number in alone) for number, image in enumerate(images)]
    images = torch.stack(moved)
    if draw.matrix is not None:
        grid = _grid(draw, window, labels, misaligned=aside and misalign == "label")
        labels = torch.stack([sampled_labels(one, grid) for one in labels])
    axes = [axis + 1 for axis, flip in enumerate(draw.mirror) if flip]
    return (torch.flip(images, axes), torch.flip(labels, axes)) if axes else (images, labels)


def _moved(image: torch.Tensor, draw: SampleDraw, window: Shape3, *, misaligned: bool) -> torch.Tensor:
    if draw.matrix is None or (not misaligned and np.array_equal(draw.matrix, np.eye(3))):
        inner = tuple(slice((big - n) // 2, (big - n) // 2 + n) for big, n in zip(image.shape, window, strict=True))
        return image[inner]
    grid = _grid(draw, window, image[None], misaligned=misaligned)
    return F.grid_sample(image[None, None], grid, align_corners=True)[0, 0]


def _grid(draw: SampleDraw, window: Shape3, like: torch.Tensor, *, misaligned: bool) -> torch.Tensor:
    assert draw.matrix is not None
    if not misaligned:
        return sampling_grid(draw.matrix, np.zeros(3), window, like)
    return sampling_grid(draw.ct_matrix @ draw.matrix, -(draw.ct_matrix @ draw.ct_shift), window, like)


def finished_pairs(cut: PairCut, device: torch.device) -> PairBatch:
    """Return the batch on the device: noise, blur and low resolution for the low dose alone, brightness for both.

    Brightness multiplies SUV, so it turns about SUV 0, wherever normalisation has put that. It comes last: it commutes
    with blur and low resolution, and scales the noise as in the published order.
    """
    images = cut.images.to(device, non_blocking=True)
    neutral = tuple(replace(draw, brightness=np.ones_like(draw.brightness)) for draw in cut.draws)
    channels = apply_intensity(images[:, :1], neutral, ct=None)
    target = images[:, 1:] if images.shape[1] > 1 else None
    body = None if target is None else target > cut.body_levels.to(device).view(-1, 1, 1, 1, 1)
    factors = torch.tensor([float(draw.brightness[0]) for draw in cut.draws], device=device).view(-1, 1, 1, 1, 1)
    if bool((factors != 1).any()):
        zeros = cut.zeros.to(device).view(-1, 1, 1, 1, 1)
        channels = zeros + factors * (channels - zeros)
        target = None if target is None else zeros + factors * (target - zeros)
    return PairBatch(channels, cut.labels.to(device, non_blocking=True), target, body)
