"""What is hidden from a masked autoencoder: blocks drawn per channel on a coarse grid, before anything is touched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from uptake.core.choices import require_known
from uptake.core.errors import UsageError
from uptake.core.types import Shape3
from uptake.sampling.augment import NO_AUGMENTATION, SampleDraw, apply_geometry, draw_sample
from uptake.sampling.batches import BatchRules, CutBatch, finished
from uptake.sampling.store import TrainingCase
from uptake.sampling.windows import draw_window

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
            require_known(f"mask {name}", getattr(self, name), known)
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
        All False where nobody asked for it.
    """

    channels: torch.Tensor
    target: torch.Tensor
    hidden: torch.Tensor
    body: torch.Tensor


def cut_unlabelled(
    rng: np.random.Generator, cases: Sequence[TrainingCase], rules: BatchRules, *, body: bool
) -> CutBatch:
    """Return one window from anywhere in a case as a batch of one; its label map is the body, or empty without `body`.

    An isotropic zoom alone, all there is in published pretraining, is one trilinear interpolation of the voxels that it
    needs; other geometry goes the way of labelled windows.
    """
    where = draw_window(rng, cases, rules.window, forced=False)
    draw = draw_sample(rng, rules.augment, rules.channels, rules.spacing_mm)
    case = cases[where.case]
    if not body:
        case = replace(case, labels=np.broadcast_to(np.uint8(0), case.shape))
    factor = zoom_alone(draw)
    extent = draw.extent(rules.window) if factor is None else _scaled(rules.window, factor)
    lower = [low - (big - n) // 2 for low, big, n in zip(where.lower, extent, rules.window, strict=True)]
    cut = case.cut((lower[0], lower[1], lower[2]), extent)
    channels, labels = torch.from_numpy(cut[0]), torch.from_numpy(cut[1])
    if factor is None:
        ct = rules.channels.index("ct") if "ct" in rules.channels else None
        channels, labels = apply_geometry(channels, labels, draw, rules.window, ct=ct)
    elif factor != 1.0:
        channels = F.interpolate(channels[None], rules.window, mode="trilinear")[0]
        labels = F.interpolate(labels[None].float(), rules.window, mode="nearest-exact")[0].to(torch.uint8)
    return CutBatch(channels[None], labels[None], (draw,))


def zoom_alone(draw: SampleDraw) -> float | None:
    """Return the factor of a geometry that is an isotropic zoom and nothing else (1: none at all), else None."""
    if any(draw.mirror) or draw.ct_shift.any() or not np.array_equal(draw.ct_matrix, np.eye(3)):
        return None
    if draw.matrix is None:
        return 1.0
    factor = float(draw.matrix[0, 0])
    return factor if np.allclose(draw.matrix, factor * np.eye(3), rtol=0, atol=1e-12) else None


def _scaled(window: Shape3, factor: float) -> Shape3:
    z, y, x = (max(1, round(n * factor)) for n in window)
    return z, y, x


class MaskedWindows:
    """Masked windows of unlabelled cases, as `training.protocol.BatchSource` wants them.

    Windows lie anywhere in a case; masks are drawn anew for every batch. The label map of the cases is their body; it
    is read only with `body`.
    """

    def __init__(
        self, cases: Sequence[TrainingCase], rules: BatchRules, masks: MaskRules, *, body: bool = False
    ) -> None:
        self.cases, self.rules, self.masks, self.body = cases, rules, masks, body

    def cut(self, step: int, rank: int = 0) -> tuple[CutBatch, torch.Tensor, int]:
        """Return windows, hidden blocks and the seed of the noise of batch `step`."""
        rng = np.random.default_rng([self.rules.seed, step, rank])
        cut = [cut_unlabelled(rng, self.cases, self.rules, body=self.body) for _ in range(self.rules.batch_size)]
        windows = CutBatch(
            torch.cat([one.channels for one in cut]),
            torch.cat([one.labels for one in cut]),
            tuple(one.draws[0] for one in cut),
        )
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
        rules = replace(self.rules, augment=NO_AUGMENTATION, seed=seed)
        return MaskedWindows(self.cases, rules, self.masks, body=self.body)
