"""The losses of LDOS: L1 towards the full dose over all scales, Dice and cross-entropy, and how the first fades."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F

from uptake.training.losses import deep_supervision_weights, deeply_supervised

ATTENUATIONS = ("absolute", "relative", "off")
CROSS_ENTROPIES = ("categorical", "bce_sum")
DICES = ("per_class", "pooled")

DECAY_PER_EPOCH = 0.002
"""Of the denoising loss as published; over 500 epochs it falls to 1/e."""


def attenuation(epoch: int, epochs: int, mode: str = "absolute") -> float:
    """Return the weight φ of the denoising loss in an epoch, counted from 0.

    Parameters
    ----------
    epoch, epochs : int
    mode : str
        "absolute": exp(-0.002 epoch), as published. "relative": exp(-epoch / epochs), the same at 500 epochs and of the
        same shape at any other length. "off": 1 (LDOS/ow).

    References
    ----------
    arXiv 2503.03786v2, equation 9.
    """
    if mode not in ATTENUATIONS:
        raise ValueError(f"attenuation {mode!r} is unknown; choose one of {', '.join(ATTENUATIONS)}")
    if mode == "off":
        return 1.0
    return math.exp(-DECAY_PER_EPOCH * epoch if mode == "absolute" else -epoch / epochs)


def denoising_loss(
    outputs: Sequence[torch.Tensor], target: torch.Tensor, *, body: torch.Tensor | None = None
) -> torch.Tensor:
    """Return Σ_z ω_z mean |D_z - r_z|, a scalar in units of the input; r_z is the target averaged down to scale z.

    Parameters
    ----------
    outputs : sequence of tensors (b, 1, z, y, x)
        Finest first.
    target : tensor (b, 1, z, y, x)
        At the finest scale.
    body : tensor (b, 1, z, y, x) bool, optional
        Count these voxels alone, and coarse ones by the share of them inside; as published all count.

    Notes
    -----
    Averaging, not nearest: a voxel picked out of eight would keep all of the full dose's own noise. Sums run in float32
    whatever the autocast.

    References
    ----------
    arXiv 2503.03786v2, equation 5.
    """
    total = outputs[0].new_zeros((), dtype=torch.float32)
    inside = None if body is None else body.float()
    for weight, output in zip(deep_supervision_weights(len(outputs)), outputs, strict=True):
        if weight == 0.0:
            total = total + 0.0 * output.float().sum()  # a gradient for its head, as data-parallel training wants
            continue
        wanted = F.adaptive_avg_pool3d(target.float(), output.shape[2:])
        error = (output.float() - wanted).abs()
        if inside is None:
            total = total + weight * error.mean()
        else:
            share = F.adaptive_avg_pool3d(inside, output.shape[2:])
            total = total + weight * (error * share).sum() / share.sum().clamp_min(1.0)
    return total


def organ_loss(
    outputs: Sequence[torch.Tensor],
    labels: torch.Tensor,
    *,
    smooth: float = 1e-5,
    cross_entropy: str = "categorical",
    dice: str = "per_class",
) -> torch.Tensor:
    """Return Σ_z v_z (CE + 1 - Dice), a scalar >= 0.

    Parameters
    ----------
    outputs : sequence of tensors (b, c, z, y, x)
        Logits, finest first.
    labels : integer tensor (b, z, y, x)
        At the finest scale; coarser ones by nearest neighbour.
    smooth : float
    cross_entropy : str
        "categorical", or "bce_sum": equation 6 as printed, a binary cross-entropy per class, summed over classes.
    dice : str
        "per_class": mean over classes and samples, or "pooled": equation 7 as printed, one ratio over all classes.

    References
    ----------
    arXiv 2503.03786v2, equations 6 to 8.
    """
    if (cross_entropy, dice) == ("categorical", "per_class"):
        return 1.0 + deeply_supervised(outputs, labels, smooth=smooth)
    total = outputs[0].new_zeros((), dtype=torch.float32)
    for weight, logits in zip(deep_supervision_weights(len(outputs)), outputs, strict=True):
        if weight == 0.0:
            total = total + 0.0 * logits.float().sum()
            continue
        known = F.interpolate(labels.unsqueeze(1).float(), size=logits.shape[2:], mode="nearest-exact")[:, 0].long()
        onehot = F.one_hot(known, logits.shape[1]).movedim(-1, 1).float()
        probabilities = torch.softmax(logits.float(), dim=1)
        if cross_entropy == "bce_sum":
            entropy = F.binary_cross_entropy(probabilities, onehot, reduction="none").sum(1).mean()
        else:
            entropy = F.cross_entropy(logits.float(), known)
        total = total + weight * (entropy + 1.0 - _dice(probabilities, onehot, smooth, pooled=dice == "pooled"))
    return total


def _dice(probabilities: torch.Tensor, onehot: torch.Tensor, smooth: float, *, pooled: bool) -> torch.Tensor:
    """Return the mean soft Dice over samples and foreground classes, or over samples with all classes in one ratio."""
    overlap = (probabilities * onehot)[:, 1:].flatten(2).sum(-1)
    both = (probabilities + onehot)[:, 1:].flatten(2).sum(-1)
    if pooled:
        overlap, both = overlap.sum(1), both.sum(1)
    return ((2.0 * overlap + smooth) / (both + smooth).clamp_min(1e-8)).mean()
