"""One training batch from a seed and a step number, nothing else: a resumed run sees what an unbroken one would."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from uptake.core.types import Shape3, Vector3
from uptake.sampling.augment import AugmentRules, SampleDraw, apply_geometry, apply_intensity, draw_sample
from uptake.sampling.store import TrainingCase
from uptake.sampling.windows import draw_window, forced_samples


@dataclass(frozen=True)
class BatchRules:
    """How batches are drawn.

    Attributes
    ----------
    window : tuple of int
        (z, y, x) voxels.
    batch_size : int
    foreground_share : float
        Share of a batch centred on a lesion; LesionTracer 0.33.
    channels : tuple of str
        Names in network order.
    spacing_mm : tuple of float
        Of the model grid (z, y, x).
    augment : AugmentRules
    seed : int
    """

    window: Shape3
    batch_size: int
    foreground_share: float
    channels: tuple[str, ...]
    spacing_mm: Vector3
    augment: AugmentRules
    seed: int


@dataclass(frozen=True, eq=False)
class CutBatch:
    """Windows with geometry applied; intensities still as stored. Made on the CPU, in a thread.

    Attributes
    ----------
    channels : tensor (b, c, z, y, x) float32
    labels : tensor (b, m, z, y, x) uint8
        Lesions, and organs where the cases have them.
    draws : tuple of SampleDraw
    """

    channels: torch.Tensor
    labels: torch.Tensor
    draws: tuple[SampleDraw, ...]


def cut_batch(cases: Sequence[TrainingCase], rules: BatchRules, *, step: int, rank: int = 0) -> CutBatch:
    """Return the windows of step `step`, cut and geometrically augmented."""
    rng = np.random.default_rng([rules.seed, step, rank])
    forced = forced_samples(rules.batch_size, rules.foreground_share)
    samples = [cut_sample(rng, cases, rules, forced=bool(one)) for one in forced]
    return CutBatch(
        torch.cat([one.channels for one in samples]),
        torch.cat([one.labels for one in samples]),
        tuple(one.draws[0] for one in samples),
    )


def cut_sample(rng: np.random.Generator, cases: Sequence[TrainingCase], rules: BatchRules, *, forced: bool) -> CutBatch:
    """Return one window as a batch of one; with `forced` it is centred on a lesion, if its case has any."""
    ct = rules.channels.index("ct") if "ct" in rules.channels else None
    where = draw_window(rng, cases, rules.window, forced=forced)
    draw = draw_sample(rng, rules.augment, rules.channels, rules.spacing_mm)
    extent = draw.extent(rules.window)
    lower = [low - (big - n) // 2 for low, big, n in zip(where.lower, extent, rules.window, strict=True)]
    channels, label = cases[where.case].cut((lower[0], lower[1], lower[2]), extent)
    image, mask = apply_geometry(torch.from_numpy(channels), torch.from_numpy(label), draw, rules.window, ct=ct)
    return CutBatch(image[None], mask[None], (draw,))


@dataclass(frozen=True, eq=False)
class Batch:
    """What a training step takes, on its device.

    Attributes
    ----------
    channels : tensor (b, c, z, y, x) float32
        Network input, intensities augmented.
    labels : tensor (b, m, z, y, x) uint8
    """

    channels: torch.Tensor
    labels: torch.Tensor


def finished(batch: CutBatch, rules: BatchRules, device: torch.device) -> Batch:
    """Return the batch on the device, intensities augmented."""
    ct = rules.channels.index("ct") if "ct" in rules.channels else None
    channels = apply_intensity(batch.channels.to(device, non_blocking=True), batch.draws, ct=ct)
    return Batch(channels, batch.labels.to(device, non_blocking=True))


class WindowBatches:
    """Windows of labelled cases, as `training.protocol.BatchSource` wants them."""

    def __init__(self, cases: Sequence[TrainingCase], rules: BatchRules) -> None:
        self.cases, self.rules = cases, rules

    def cut(self, step: int, rank: int = 0) -> CutBatch:
        """Return the windows of batch `step`."""
        return cut_batch(self.cases, self.rules, step=step, rank=rank)

    def finished(self, cut: CutBatch, device: torch.device) -> Batch:
        """Return them on the device, intensities augmented."""
        return finished(cut, self.rules, device)
