"""Dice + cross-entropy with deep supervision, as LesionTracer trains."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from uptake.training.fused_loss import fused_dice_cross_entropy

IGNORED = 255
"""Label of voxels that nobody knows: they count in no loss."""


def soft_dice_loss(logits: torch.Tensor, labels: torch.Tensor, *, smooth: float = 0.0) -> torch.Tensor:
    """Return minus the mean soft Dice over samples and foreground labels, a scalar in [-1, 0].

    D_bc = (2 Σ p·y + s) / max(Σ y + Σ p + s, 1e-8), softmax probabilities p, one-hot labels y, sums over voxels, each
    sample for itself, background left out.

    Parameters
    ----------
    logits : tensor (b, c, z, y, x)
    labels : integer tensor (b, z, y, x)
    smooth : float
        s. LesionTracer: 0, so that a label absent from a sample scores 0 **with zero gradient** and only the
        cross-entropy pushes false positives down there; nnU-Net: 1e-5.

    Notes
    -----
    Sums run in float32 whatever the autocast: half precision loses voxels of a 192³ window.
    """
    probabilities = torch.softmax(logits.float(), dim=1)[:, 1:]
    unknown = labels == IGNORED
    if bool(unknown.any()):
        probabilities = probabilities * ~unknown.unsqueeze(1)
    classes = torch.arange(1, logits.shape[1], device=labels.device)
    onehot = (labels.unsqueeze(1) == classes.view(1, -1, 1, 1, 1)).float()
    overlap = (probabilities * onehot).flatten(2).sum(-1)
    total = probabilities.flatten(2).sum(-1) + onehot.flatten(2).sum(-1)
    return -((2.0 * overlap + smooth) / (total + smooth).clamp_min(1e-8)).mean()


def dice_cross_entropy(logits: torch.Tensor, labels: torch.Tensor, *, smooth: float = 0.0) -> torch.Tensor:
    """Return cross-entropy (mean over known voxels) plus `soft_dice_loss`, each with weight 1.

    Voxels labelled `IGNORED` count in neither; where nothing is known the loss is 0, without gradient.
    """
    known = labels != IGNORED
    if not bool(known.any()):
        return 0.0 * logits.float().sum()
    if logits.device.type == "cpu" and bool(known.all()):
        return fused_dice_cross_entropy(logits, labels, smooth)
    entropy = F.cross_entropy(logits.float(), labels.long(), ignore_index=IGNORED)
    return entropy + soft_dice_loss(logits, labels, smooth=smooth)


def deep_supervision_weights(levels: int) -> tuple[float, ...]:
    """Return the weight of each output, finest first: 1, 1/2, 1/4 ... with the coarsest at 0, summing to 1.

    Five levels give 8/15, 4/15, 2/15, 1/15, 0. A single level has weight 1.
    """
    if levels == 1:
        return (1.0,)
    raw = [0.5**level for level in range(levels)]
    raw[-1] = 0.0
    return tuple(weight / sum(raw) for weight in raw)


def deeply_supervised(outputs: Sequence[torch.Tensor], labels: torch.Tensor, *, smooth: float = 0.0) -> torch.Tensor:
    """Return the weighted sum of `dice_cross_entropy` over decoder levels.

    Parameters
    ----------
    outputs : sequence of tensors (b, c, z, y, x)
        Finest first, each level coarser.
    labels : integer tensor (b, z, y, x)
        At the finest level; coarser targets are taken by nearest neighbour ("nearest-exact").
    smooth : float
    """
    total = outputs[0].new_zeros((), dtype=torch.float32)
    for weight, logits in zip(deep_supervision_weights(len(outputs)), outputs, strict=True):
        if weight == 0.0:
            # Its heads still take part in the graph, so that data-parallel training finds a gradient for them.
            total = total + 0.0 * logits.float().sum()
            continue
        target = labels
        if logits.shape[2:] != labels.shape[1:]:
            target = F.interpolate(labels.unsqueeze(1).float(), size=logits.shape[2:], mode="nearest-exact")[:, 0]
        total = total + weight * dice_cross_entropy(logits, target, smooth=smooth)
    return total
