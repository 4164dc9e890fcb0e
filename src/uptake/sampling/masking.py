"""What is hidden from a masked autoencoder: blocks drawn per channel on a coarse grid, before anything is touched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from uptake.core.errors import UsageError
from uptake.core.types import Shape3
from uptake.sampling.augment import NO_AUGMENTATION
from uptake.sampling.batches import BatchRules, CutBatch, cut_batch, finished
from uptake.sampling.store import TrainingCase

SAMPLERS = ("bernoulli", "exact")
COUPLINGS = ("independent", "coupled", "one_channel")
FILLS = ("mean", "minimum", "noise")

_STREAM = 0x4D41534B
"""Apart from the stream that windows are drawn from, so that masks and windows do not depend on one another."""


@dataclass(frozen=True)
class MaskRules:
    """How blocks are hidden; the defaults are those of the published PET/CT foundation model.

    Attributes
    ----------
    block : tuple of int
        (z, y, x) voxels that are hidden together. The last block of an axis may be cut by the window's end.
    ratio : float
        Share of the blocks that is hidden, between 0 and 1.
    sampler : str
        "bernoulli": each block for itself, so that the count varies; "exact": round(ratio · blocks) of them.
    coupling : str
        "independent": every channel its own mask, so that PET can be told from CT and the reverse; "coupled": the same
        mask for all; "one_channel": one channel of each sample, drawn, is masked, the others are fully visible.
    fill : str
        What a hidden voxel holds. "mean": 0, the mean of a z-scored scan; "minimum": the window's smallest value in
        that channel; "noise": standard normal.
    """

    block: Shape3 = (12, 16, 16)
    ratio: float = 0.5
    sampler: str = "bernoulli"
    coupling: str = "independent"
    fill: str = "mean"

    def __post_init__(self) -> None:
        for name, known in (("sampler", SAMPLERS), ("coupling", COUPLINGS), ("fill", FILLS)):
            if getattr(self, name) not in known:
                raise UsageError(f"mask {name} {getattr(self, name)!r} is unknown; choose one of {', '.join(known)}.")
        if min(self.block) < 1 or not 0.0 < self.ratio < 1.0:
            raise UsageError(
                f"blocks of one voxel or more and a ratio between 0 and 1 are needed, came {self.block}, {self.ratio}."
            )


def block_grid(window: Shape3, block: Shape3) -> Shape3:
    """Return the number of blocks along each axis; 96 x 128 x 128 by 12 x 16 x 16: 8 x 8 x 8."""
    z, y, x = (-(-n // b) for n, b in zip(window, block, strict=True))
    return z, y, x


def draw_blocks(
    rng: np.random.Generator, rules: MaskRules, *, samples: int, channels: int, window: Shape3
) -> npt.NDArray[np.bool_]:
    """Return which blocks are hidden, (samples, channels, *block_grid) bool."""
    grid = block_grid(window, rules.block)
    drawn = 1 if rules.coupling == "coupled" else channels
    if rules.sampler == "bernoulli":
        hidden = rng.random((samples, drawn, *grid)) < rules.ratio
    else:
        ranks = rng.random((samples, drawn, int(np.prod(grid)))).argsort(axis=-1).argsort(axis=-1)
        hidden = (ranks < round(rules.ratio * np.prod(grid))).reshape(samples, drawn, *grid)
    if rules.coupling == "one_channel":
        chosen = rng.integers(channels, size=samples)
        hidden = hidden & (np.arange(channels) == chosen[:, None])[:, :, None, None, None]
    return np.array(np.broadcast_to(hidden, (samples, channels, *grid)))


def hidden_voxels(blocks: torch.Tensor, block: Shape3, window: Shape3) -> torch.Tensor:
    """Return the mask (b, c, *window) bool of blocks (b, c, gz, gy, gx): constant inside each block."""
    for axis, size in enumerate(block):
        blocks = blocks.repeat_interleave(size, dim=axis + 2)
    return blocks[..., : window[0], : window[1], : window[2]]


def imputed(channels: torch.Tensor, hidden: torch.Tensor, *, fill: str = "mean", seed: int = 0) -> torch.Tensor:
    """Return the channels with hidden voxels filled; visible ones are untouched.

    Parameters
    ----------
    channels : tensor (b, c, z, y, x)
        Z-scored: then 0 is the mean of the scan, neither air nor tissue (about -540 HU in a whole-body CT). Edges of
        blocks are softer than with air, not gone.
    hidden : tensor (b, c, z, y, x) bool
    fill : str
        See `MaskRules`.
    seed : int
        Of the noise.
    """
    if fill == "mean":
        return channels.masked_fill(hidden, 0.0)
    if fill == "minimum":
        return torch.where(hidden, channels.amin((2, 3, 4), keepdim=True), channels)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(channels.shape, generator=generator, dtype=channels.dtype).to(channels.device)
    return torch.where(hidden, noise, channels)


@dataclass(frozen=True, eq=False)
class MaskedBatch:
    """What a reconstruction step takes.

    Attributes
    ----------
    channels : tensor (b, c, z, y, x) float32
        Network input, hidden voxels filled.
    target : tensor (b, c, z, y, x) float32
        What they were.
    hidden : tensor (b, c, z, y, x) bool
    body : tensor (b, z, y, x) bool
    """

    channels: torch.Tensor
    target: torch.Tensor
    hidden: torch.Tensor
    body: torch.Tensor


class MaskedWindows:
    """Masked windows of unlabelled cases, as `training.protocol.BatchSource` wants them.

    Windows lie anywhere in a case; masks are drawn anew for every batch. The label map of the cases is their body.
    """

    def __init__(self, cases: Sequence[TrainingCase], rules: BatchRules, masks: MaskRules) -> None:
        self.cases, self.rules, self.masks = cases, replace(rules, foreground_share=0.0), masks

    def cut(self, step: int, rank: int = 0) -> tuple[CutBatch, torch.Tensor, int]:
        """Return windows, hidden blocks and the seed of the noise of batch `step`."""
        windows = cut_batch(self.cases, self.rules, step=step, rank=rank)
        rng = np.random.default_rng([_STREAM, self.rules.seed, step, rank])
        samples, channels = windows.channels.shape[:2]
        blocks = draw_blocks(rng, self.masks, samples=samples, channels=channels, window=self.rules.window)
        return windows, torch.from_numpy(blocks), int(rng.integers(2**31))

    def finished(self, cut: tuple[CutBatch, torch.Tensor, int], device: torch.device) -> MaskedBatch:
        """Return the batch on the device, imputed."""
        windows, blocks, seed = cut
        batch = finished(windows, self.rules, device)
        hidden = hidden_voxels(blocks.to(device), self.masks.block, self.rules.window)
        channels = imputed(batch.channels, hidden, fill=self.masks.fill, seed=seed)
        return MaskedBatch(channels, batch.channels, hidden, batch.labels[:, 0] > 0)

    def plain(self, *, seed: int) -> MaskedWindows:
        """Return the same windows without augmentation, drawn from another seed: for validation."""
        return MaskedWindows(self.cases, replace(self.rules, augment=NO_AUGMENTATION, seed=seed), self.masks)
