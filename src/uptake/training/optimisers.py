"""The two optimisers of the published systems, by name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a method's configuration checks the names, and is read where torch is not loaded
    import torch
    from torch import nn

OPTIMISERS = ("sgd", "adamw")


def optimiser(
    parameters: Iterable[nn.Parameter],
    name: str,
    *,
    learning_rate: float,
    weight_decay: float,
    betas: tuple[float, float] = (0.9, 0.99),
) -> torch.optim.Optimizer:
    """Return "sgd" (nnU-Net's: momentum 0.99, Nesterov) or "adamw" over the parameters.

    Raises
    ------
    ValueError
        If there is no such optimiser.
    """
    if name not in OPTIMISERS:
        raise ValueError(f"optimiser {name!r} is unknown; choose one of {', '.join(OPTIMISERS)}")
    import torch

    given = list(parameters)
    if name == "sgd":
        return torch.optim.SGD(given, learning_rate, momentum=0.99, nesterov=True, weight_decay=weight_decay)
    return torch.optim.AdamW(given, learning_rate, betas=betas, weight_decay=weight_decay)
