"""The loss of a batch whose samples come from different datasets (MultiTalent style)."""

from __future__ import annotations

import torch
from torch import nn

from uptake.sampling.datasets import MixedBatch
from uptake.training.losses import deeply_supervised


def multi_dataset_step(network: nn.Module, batch: MixedBatch, *, smooth: float = 0.0) -> dict[str, torch.Tensor]:
    """Return the loss of a mixed batch: the **sum** over its samples of Dice + cross-entropy under deep supervision.

    Parameters
    ----------
    network : MultiDatasetUNet
    batch : MixedBatch
    smooth : float
        Of the Dice; published 0.

    Returns
    -------
    dict
        "loss" (sum over samples, as published), "loss_per_sample", and "skipped": the share of samples left out because
        their loss was no number. The published trainer skips such a step; here the good samples of it still count, and
        if there is none its gradient is zero.
    """
    outputs = network(batch.channels, batch.stems, batch.heads)
    losses = torch.stack(
        [deeply_supervised(one, batch.labels[n : n + 1], smooth=smooth) for n, one in enumerate(outputs)]
    )
    usable = torch.isfinite(losses)
    if not bool(usable.any()):
        total = 0.0 * torch.stack([p.sum() for p in network.parameters()]).sum()
    else:
        total = losses[usable].sum()
    skipped = 1.0 - usable.float().mean()
    return {"loss": total, "loss_per_sample": total.detach() / usable.sum().clamp_min(1), "skipped": skipped}
