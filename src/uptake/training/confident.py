"""Cross prompting confident learning (CPCL): losses for answers to prompts under labels of high and of low quality.

p_i is the probability map of round i, m the mean over the rounds that saw points, u the entropy of m in nats.

* Trusted labels y: L_H = Σ_i loss(p_i, y).
* Other labels ỹ: y' = ỹ XOR [u > H]; L_L = Σ_i loss(p_i, y'), L_cps = Σ_i mean (m - p_i)².
* L = L_H + λ (L_cps + β L_L), λ = 0.1 exp(-5 (1 - t)), t the share of training that is done.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F

from uptake.core.errors import UsageError

Terms = dict[str, torch.Tensor]
"""Loss and its parts, for the log."""

Learning = Literal["cpcl", "consistency", "fine_tune"]
"""The method and its comparators, each a part of the next: "fine_tune" believes every label; "consistency" adds L_cps;
"cpcl" also doubts the labels that are not trusted."""

Uncertainty = Literal["entropy", "variance"]
"""Of the paper: entropy of the mean probability against a constant. Of its released script: variance of the logits over
the rounds against its own mean."""

Rectify = Literal["xor", "agreeing", "sure", "released"]
"""Which labels are turned over. "xor": all uncertain ones, as the paper says. "agreeing": those of them of
which the ensemble says the opposite, so that correct edges, always uncertain in PET, stay. "sure": those of which it
says the opposite and is certain; uncertain labels stay. "released": the released script's operator slip,
(y AND NOT h) AND (NOT y AND h), which is empty."""

Target = Literal["rectified", "mixed"]
"""Of L_L: the rectified label instead of the noisy one (paper), or (2 loss(noisy) + loss(rectified)) / 3 (script)."""

DICE_SMOOTH = 1e-5


@dataclass(frozen=True)
class ConfidentRules:
    """Readings of CPCL by name.

    Attributes
    ----------
    learning : {"cpcl", "consistency", "fine_tune"}
    uncertainty : {"entropy", "variance"}
    entropy_limit : float
        H, nats. The paper gives no value; 0.6 doubts probabilities from 0.29 to 0.71.
    rectify : {"xor", "agreeing", "sure", "released"}
    target : {"rectified", "mixed"}
    beta : float
        Published 5.
    ramp : float
        λ at the end; published 0.1.
    squared_ramp : bool
        λ = ramp · exp(-5 (1 - t)²), the usual form; published without the square.
    """

    learning: Learning = "cpcl"
    uncertainty: Uncertainty = "entropy"
    entropy_limit: float = 0.6
    rectify: Rectify = "xor"
    target: Target = "rectified"
    beta: float = 5.0
    ramp: float = 0.1
    squared_ramp: bool = False

    def __post_init__(self) -> None:
        choices = {"learning": Learning, "uncertainty": Uncertainty, "rectify": Rectify, "target": Target}
        for name, known in choices.items():
            if getattr(self, name) not in get_args(known):
                raise UsageError(f"{name} is {', '.join(get_args(known))}; came {getattr(self, name)!r}.")
        if not 0.0 < self.entropy_limit < math.log(2):
            raise UsageError(f"entropy_limit lies between 0 and ln 2 = 0.693 nats, came {self.entropy_limit}.")


def gaussian_ramp(progress: float, *, end: float = 0.1, squared: bool = False) -> float:
    """Return λ after the share `progress` of training: 0.00067, 0.0082, 0.1 at 0, 1/2, 1 of the published form."""
    left = 1.0 - min(max(progress, 0.0), 1.0)
    return end * math.exp(-5.0 * (left * left if squared else left))


def dice_bce(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return soft Dice loss plus binary cross-entropy, both averaged over samples, for (b, 1, z, y, x).

    Dice per sample is 1 - (2 Σ p·y + s) / (Σ p² + Σ y² + s) with s = `DICE_SMOOTH`; sums in float32.
    """
    logits, target = logits.float(), target.float()
    p = logits.sigmoid().flatten(1)
    y = target.flatten(1)
    overlap = 2 * (p * y).sum(1) + DICE_SMOOTH
    dice = 1 - overlap / (p.square().sum(1) + y.square().sum(1) + DICE_SMOOTH)
    return dice.mean() + F.binary_cross_entropy_with_logits(logits, target)


def binary_entropy(probability: torch.Tensor) -> torch.Tensor:
    """Return -p ln p - (1-p) ln(1-p), nats, between 0 and ln 2."""
    p = probability.float()
    return -(torch.xlogy(p, p) + torch.xlogy(1 - p, 1 - p))


def doubtful(outputs: Sequence[torch.Tensor], rules: ConfidentRules) -> torch.Tensor:
    """Return where the ensemble of logits (each (b, 1, z, y, x)) is uncertain, bool (b, 1, z, y, x)."""
    logits = torch.stack([one.detach().float() for one in outputs])
    if rules.uncertainty == "variance":
        variance = logits.var(dim=0) if len(outputs) > 1 else torch.zeros_like(logits[0])
        return variance > variance.mean()
    return binary_entropy(logits.sigmoid().mean(dim=0)) > rules.entropy_limit


def rectified(outputs: Sequence[torch.Tensor], noisy: torch.Tensor, rules: ConfidentRules) -> torch.Tensor:
    """Return the labels (b, 1, z, y, x) with the doubtful ones turned over, float."""
    label, doubt = noisy > 0.5, doubtful(outputs, rules)
    if rules.rectify == "released":
        return torch.zeros_like(noisy)
    if rules.rectify in ("agreeing", "sure"):
        mean = torch.stack([one.detach().float().sigmoid() for one in outputs]).mean(dim=0)
        doubt = (doubt if rules.rectify == "agreeing" else ~doubt) & ((mean > 0.5) != label)
    return (label ^ doubt).to(noisy.dtype)


def confident_loss(
    outputs: Sequence[torch.Tensor],
    target: torch.Tensor,
    trusted: torch.Tensor,
    rules: ConfidentRules,
    *,
    progress: float,
    voting: Sequence[int] | None = None,
) -> Terms:
    """Return the loss of one dialogue: "loss", and its parts "trusted", "other", "consistency", "flipped".

    Parameters
    ----------
    outputs : sequence of tensors (b, 1, z, y, x)
        Logits of every round.
    target : tensor (b, 1, z, y, x)
        Labels, 0 or 1, of both qualities.
    trusted : tensor (b,) bool
    rules : ConfidentRules
    progress : float
        Share of training that is done, 0 to 1.
    voting : sequence of int, optional
        Rounds that form the ensemble; by default all. Rounds without points repeat the one before them.

    Notes
    -----
    "flipped" is the share of voxels of the other labels that were turned over.
    """
    voting = range(len(outputs)) if voting is None else voting
    zero = 0.0 * outputs[-1].float().sum()  # keeps every parameter in the graph where a term is missing
    terms = {"trusted": zero, "other": zero, "consistency": zero, "flipped": zero.detach()}
    good, other = trusted, ~trusted
    if rules.learning != "cpcl":
        terms["trusted"] = _summed(outputs, target)
    elif good.any():
        terms["trusted"] = _summed([one[good] for one in outputs], target[good])
    scale = gaussian_ramp(progress, end=rules.ramp, squared=rules.squared_ramp)
    loss = terms["trusted"]
    if rules.learning != "fine_tune" and other.any():
        votes = [outputs[number][other] for number in voting]
        chances = torch.stack([one.float().sigmoid() for one in votes])
        mean = chances.mean(dim=0).detach()
        terms["consistency"] = (chances - mean).square().flatten(1).mean(1).sum()
        loss = loss + scale * terms["consistency"]
        if rules.learning == "cpcl":
            noisy = target[other]
            better = rectified(votes, noisy, rules)
            terms["flipped"] = (better != noisy).float().mean()
            answers = [one[other] for one in outputs]
            terms["other"] = _summed(answers, better)
            if rules.target == "mixed":
                terms["other"] = (2 * _summed(answers, noisy) + terms["other"]) / 3
            loss = loss + scale * rules.beta * terms["other"]
    return {"loss": loss + zero, **terms}


def _summed(outputs: Sequence[torch.Tensor], target: torch.Tensor) -> torch.Tensor:
    return torch.stack([dice_bce(one, target) for one in outputs]).sum()
