"""Dice + cross-entropy with its gradient written out: the same value as its parts, at half their cost on CPUs.

Composed of library functions the loss keeps softmax, logarithm, one-hot labels and their products for the way back.
Here the way back needs the probabilities alone.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F


def fused_dice_cross_entropy(logits: torch.Tensor, labels: torch.Tensor, smooth: float = 0.0) -> torch.Tensor:
    """Return mean cross-entropy minus mean soft Dice, as `losses.dice_cross_entropy` where every voxel is known.

    Parameters
    ----------
    logits : tensor (b, c, z, y, x)
        Below float32 they are widened first.
    labels : integer tensor (b, z, y, x)
        0 to c - 1.
    smooth : float

    Notes
    -----
    With probabilities p, one-hot labels y, n voxels, and for foreground classes numerator N = 2 Σ p·y + s and
    denominator D = max(Σ p + Σ y + s, 1e-8), the gradient with respect to p is g_c = (N/D² - 2 y/D) / (b (c - 1)), for
    the background 0; with respect to the logits it is p (g - Σ_k p_k g_k) + (p - y) / (b n). Where D is held at 1e-8,
    N/D² is left out, as clamping has no gradient.
    """
    found: torch.Tensor = _DiceCrossEntropy.apply(logits, labels, smooth)
    return found


class _DiceCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, labels: torch.Tensor, smooth: float) -> torch.Tensor:
        batch, classes = logits.shape[:2]
        wide = logits if logits.dtype == torch.float64 else logits.float()
        logarithm = F.log_softmax(wide, dim=1).reshape(batch, classes, -1)
        target = labels.reshape(batch, -1).long()
        entropy = -logarithm.gather(1, target[:, None]).mean()
        p = logarithm.exp()
        at_target = p.gather(1, target[:, None])[:, 0]
        # Sums of the target's probability by class, in float64: bincount adds one voxel after the other.
        overlap = torch.stack(
            [torch.bincount(t, weights=w.double(), minlength=classes) for t, w in zip(target, at_target, strict=True)]
        )
        present = torch.stack([torch.bincount(t, minlength=classes) for t in target])
        numerator = 2.0 * overlap.to(p.dtype) + smooth
        total = p.sum(-1) + present.to(p.dtype) + smooth
        denominator = total.clamp_min(1e-8)
        ctx.save_for_backward(p, target, at_target, numerator, denominator, total)
        ctx.shape, ctx.dtype = logits.shape, logits.dtype
        return entropy - (numerator / denominator)[:, 1:].mean()

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        p, target, at_target, numerator, denominator, total = ctx.saved_tensors
        batch, classes, voxels = p.shape
        weight = torch.full_like(denominator, 1.0 / (batch * (classes - 1)))
        weight[:, 0] = 0.0
        everywhere = weight * numerator / denominator**2 * (total >= 1e-8)  # g of voxels of other classes
        at_class = 2.0 * weight / denominator  # what g has less at voxels of the class
        less = at_target * at_class.gather(1, target)
        with torch.autocast(p.device.type, enabled=False):
            mean = torch.bmm(everywhere[:, None], p)[:, 0] - less  # Σ p g
        share = 1.0 / (batch * voxels)
        found = p * (everywhere[:, :, None] + (share - mean)[:, None])
        found.scatter_add_(1, target[:, None], -(less + share)[:, None])
        return (gradients[0] * found).reshape(ctx.shape).to(ctx.dtype), None, None
