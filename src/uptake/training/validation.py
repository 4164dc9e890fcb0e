"""Validation during training: loss and pseudo-Dice over the same windows in every epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from uptake.sampling.augment import NO_AUGMENTATION
from uptake.sampling.batches import BatchRules, WindowBatches
from uptake.sampling.store import TrainingCase
from uptake.training.protocol import TrainingStep, Validate

VALIDATION_SEED = 977
"""Validation windows are the same in every epoch and every run, so that epochs can be compared."""


def window_validation(
    training_step: TrainingStep, cases: Sequence[TrainingCase], rules: BatchRules, *, batches: int
) -> Validate | None:
    """Return a validation on plain windows of `cases`; None where there is nothing to validate on.

    It gives "validation_loss" and "pseudo_dice": the Dice of the pooled foreground voxels, not of whole scans.
    """
    if not cases or batches == 0:
        return None
    source = WindowBatches(cases, replace(rules, augment=NO_AUGMENTATION, seed=VALIDATION_SEED))

    def validate(model: nn.Module, device: torch.device) -> dict[str, float]:
        losses, overlap, total = [], 0.0, 0.0
        for number in range(batches):
            batch = source.finished(source.cut(number), device)
            found = training_step(model, batch, 0)
            losses.append(float(found if isinstance(found, torch.Tensor) else found["loss"]))
            output = model(batch.channels)
            finest = output[0] if isinstance(output, list | tuple) else output
            predicted, reference = finest.argmax(1) > 0, batch.labels[:, 0] > 0
            overlap += 2.0 * float((predicted & reference).sum())
            total += float(predicted.sum() + reference.sum())
        return {"validation_loss": float(np.mean(losses)), "pseudo_dice": overlap / total if total else float("nan")}

    return validate
