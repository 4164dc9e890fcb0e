"""Loss and validation of a masked autoencoder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from uptake.core.choices import require_known
from uptake.core.errors import UsageError
from uptake.sampling.masking import MaskedBatch, MaskedWindows
from uptake.training.protocol import Validate
from uptake.training.validation import VALIDATION_SEED

LOSSES = ("mse", "l1")
EMPTY = 1e-8
"""Voxels that are added to a count, so that a window without hidden ones is no division by zero."""


@dataclass(frozen=True)
class ReconstructionRules:
    """What an error costs; the defaults are those of the published PET/CT foundation model.

    Attributes
    ----------
    kind : str
        "mse" or "l1".
    hidden, visible : float
        Weights of the mean error over hidden and over visible voxels. The visible part keeps skip connections honest.
    pooled : bool
        One mean over all voxels instead, whatever was hidden (AMAES); `hidden` and `visible` then do not count.
    channels : tuple of float or None
        Weight of each channel's own loss; None: voxels of all channels in one sum, as published.
    body_only : bool
        Leave the air out.
    """

    kind: str = "mse"
    hidden: float = 1.0
    visible: float = 0.2
    pooled: bool = False
    channels: tuple[float, ...] | None = None
    body_only: bool = False

    def __post_init__(self) -> None:
        require_known("reconstruction loss", self.kind, LOSSES)
        if min(self.hidden, self.visible) < 0 or self.hidden + self.visible == 0:
            raise UsageError(f"weights of hidden and visible voxels are 0 or more, came {self.hidden}, {self.visible}.")
        if self.channels is not None and (min(self.channels) < 0 or sum(self.channels) == 0):
            raise UsageError(f"weights of the channels are 0 or more and not all 0, came {self.channels}.")


def reconstruction_loss(
    output: torch.Tensor,
    target: torch.Tensor,
    hidden: torch.Tensor,
    rules: ReconstructionRules,
    body: torch.Tensor | None = None,
) -> dict[str, torch.Tensor]:
    """Return {"loss", "hidden", "visible"}: scalars, the last two unweighted means.

    loss = w_h Σ e·m / Σ m + w_v Σ e·(1 - m) / Σ (1 - m), with e = (x̂ - x)² or abs(x̂ - x) and m = 1 where hidden; sums
    pool the batch, all channels and all voxels, so that the loss does not depend on how much was hidden. A constant
    error c costs 1.2 c² with the published weights.

    Parameters
    ----------
    output, target : tensor (b, c, z, y, x)
    hidden : tensor (b, c, z, y, x) bool
    rules : ReconstructionRules
        With `channels`: the weighted mean of the channels' own losses.
    body : tensor (b, z, y, x) bool, optional
        Used with ``rules.body_only``.

    Raises
    ------
    UsageError
        If the rules weight another number of channels, or want a body that is not given.

    Notes
    -----
    Sums run in float32 whatever the autocast.
    """
    difference = output.float() - target.float()
    error = difference.abs() if rules.kind == "l1" else difference.square()
    known = torch.ones_like(hidden)
    if rules.body_only:
        if body is None:
            raise UsageError("body_only: the batch does not say where the body is.")
        known = known & body.unsqueeze(1)
    axes = [0, 2, 3, 4]
    sums = [(error * chosen).sum(axes) for chosen in (hidden & known, ~hidden & known)]
    counts = [chosen.sum(axes) for chosen in (hidden & known, ~hidden & known)]
    if rules.channels is not None and len(rules.channels) != output.shape[1]:
        raise UsageError(f"{len(rules.channels)} channel weights for {output.shape[1]} channels.")

    def mean(total: torch.Tensor, count: torch.Tensor) -> torch.Tensor:
        if rules.channels is None:
            return total.sum() / (count.sum() + EMPTY)
        weights = torch.tensor(rules.channels, dtype=total.dtype, device=total.device)
        return (weights * total / (count + EMPTY)).sum() / weights.sum()

    unseen, seen = (mean(total, count) for total, count in zip(sums, counts, strict=True))
    everything = mean(sums[0] + sums[1], counts[0] + counts[1])
    loss = everything if rules.pooled else rules.hidden * unseen + rules.visible * seen
    return {"loss": loss, "hidden": unseen, "visible": seen}


def reconstruction_validation(source: MaskedWindows, rules: ReconstructionRules, *, batches: int) -> Validate | None:
    """Return a validation on the same masked windows in every epoch; None where there is nothing to validate on.

    It gives "validation_loss" and "explained": 1 - squared error / squared deviation from the mean, over the hidden
    voxels of all windows: 0 for a network that answers with the mean, 1 for a perfect one.
    """
    if not len(source.cases) or batches == 0:
        return None
    plain = source.plain(seed=VALIDATION_SEED)

    def validate(model: nn.Module, device: torch.device) -> Mapping[str, float]:
        losses, error, count, total, squares = 0.0, 0.0, 0.0, 0.0, 0.0
        for number in range(batches):
            batch: MaskedBatch = plain.finished(plain.cut(number), device)
            output = model(batch.channels)
            losses += float(reconstruction_loss(output, batch.target, batch.hidden, rules, batch.body)["loss"])
            answer, truth = output.float()[batch.hidden], batch.target[batch.hidden]
            error += float((answer - truth).square().sum())
            count += float(truth.numel())
            total += float(truth.sum())
            squares += float(truth.square().sum())
        spread = squares - total**2 / max(count, 1.0)
        return {"validation_loss": losses / batches, "explained": 1.0 - error / spread if spread > 0 else float("nan")}

    return validate
