"""What the loop is told and what it tells."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


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
    """

    steps: int
    epoch_steps: int = 250
    validation_batches: int = 50
    clip_norm: float = 12.0
    save_every: int = 1


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
