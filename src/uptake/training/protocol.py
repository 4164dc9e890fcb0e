"""What the loop is told and what it tells."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn


class BatchSource(Protocol):
    """Where batches come from. Batch t of rank r must depend on t and r alone, so that a resumed run sees the same."""

    def cut(self, step: int, rank: int) -> Any:
        """Return batch `step` as it leaves the disk; called in a thread, one ahead."""

    def finished(self, cut: Any, device: torch.device) -> Any:
        """Return what `cut` returned as the training step takes it, on the device."""


TrainingStep = Callable[[nn.Module, Any, int], torch.Tensor | Mapping[str, torch.Tensor]]
"""(network, batch, optimiser step) -> scalar loss, or {"loss": loss, further terms to be logged by name}."""

Validate = Callable[[nn.Module, torch.device], Mapping[str, float]]
"""(network in evaluation mode, device) -> columns of log.csv, among them `FitSettings.headline`."""


@dataclass(frozen=True)
class FitSettings:
    """How long, how often, how careful.

    Attributes
    ----------
    steps : int
        Optimiser steps in all.
    epoch_steps : int
        Steps between validations; nnU-Net 250.
    validation_batches : int
        Batches of fixed windows per validation; nnU-Net 50.
    clip_norm : float
        Global gradient norm; nnU-Net 12.
    save_every : int
        Epochs between checkpoints.
    accumulate : int
        Batches whose gradients are averaged into one step, for windows that do not fit beside one another.
    headline : str
        Column whose moving average chooses the best checkpoint; higher is better.
    """

    steps: int
    epoch_steps: int = 250
    validation_batches: int = 50
    clip_norm: float = 12.0
    save_every: int = 1
    accumulate: int = 1
    headline: str = "pseudo_dice"


@dataclass(frozen=True)
class EpochReport:
    """Told after each epoch: steps done, steps in all, and the row of log.csv."""

    step: int
    steps: int
    row: dict[str, float]


@dataclass(frozen=True)
class FitResult:
    """Where a run ended: steps done, its log, and the two checkpoint files."""

    step: int
    history: list[dict[str, float]]
    last: Path
    best: Path
