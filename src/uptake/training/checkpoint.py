"""The state of a training run in one file, written atomically and read without unpickling objects."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from uptake.core.errors import CheckpointError
from uptake.io.write import atomic_path


@dataclass(frozen=True)
class Checkpoint:
    """Everything a run needs to go on as if it had never stopped.

    Attributes
    ----------
    step : int
        Optimiser steps done.
    network : mapping
        One name per tensor (`networks.unet.unique_state`).
    optimizer : mapping
        The optimiser's own state dict.
    history : list of dict
        One row per epoch, as in log.csv.
    best_ema : float
        Highest moving average of the pseudo-Dice so far.
    stamp : str
        SHA-256 of settings, plan and cases; a run only resumes what it began.
    """

    step: int
    network: dict[str, torch.Tensor]
    optimizer: dict[str, Any]
    history: list[dict[str, float]]
    best_ema: float
    stamp: str


def save(checkpoint: Checkpoint, path: Path) -> None:
    """Write the checkpoint; a run killed while writing leaves the previous one."""
    with atomic_path(path) as temporary:
        torch.save(vars(checkpoint), temporary)


def load(path: Path) -> Checkpoint:
    """Return the checkpoint in `path`, tensors on the CPU, through torch's restricted unpickler.

    Raises
    ------
    CheckpointError
        If the file is not a checkpoint of this package.
    """
    try:
        return Checkpoint(**torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:
        raise CheckpointError(
            f"{path}: this is no checkpoint that uptake wrote ({type(error).__name__}). Delete it to start anew."
        ) from error
