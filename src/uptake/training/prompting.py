"""The user whom promptable networks train with: prompts drawn from the truth and from the last mistake."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F

from uptake.core.errors import UsageError
from uptake.networks.promptable import BOX_LOWER, BOX_UPPER, NEGATIVE, NOT_A_POINT, POSITIVE, Clicks

Shown = Literal["newest", "all", "either"]
"""Which points a round shows: the newest alone (as published), all so far, or one of the two drawn for each batch."""

CENTRE_SIDE = 5
"""Voxels a side of the box over which a mistake is averaged to find its middle."""


@dataclass(frozen=True)
class PromptRules:
    """How prompts are drawn in training.

    Attributes
    ----------
    rounds : int
        Of prompting; published 11.
    mask_only : bool
        One round in the middle and the last show no points, only the previous mask, as published.
    shown : {"newest", "all", "either"}
    object_logit : float
        Logit from which a voxel counts as object when mistakes are sought. Published 0.5, which is probability 0.62.
    central_share : float
        Share of clicks at the middle of a mistake; the others are uniform over it (published: all).
    box_share, scribble_share : float
        Share of objects whose first prompt is a box around them, or a stroke through them, instead of a click.
    box_slack : int
        Voxels by which each face of a box is off, at most.
    stroke : int
        Points of a stroke.
    """

    rounds: int = 11
    mask_only: bool = True
    shown: Shown = "newest"
    object_logit: float = 0.5
    central_share: float = 0.0
    box_share: float = 0.0
    scribble_share: float = 0.0
    box_slack: int = 2
    stroke: int = 6

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise UsageError(f"rounds of prompting are 1 or more, came {self.rounds}.")
        if self.shown not in get_args(Shown):
            raise UsageError(f"shown is {', '.join(get_args(Shown))}; came {self.shown!r}.")
        if min(self.box_share, self.scribble_share) < 0 or self.box_share + self.scribble_share > 1:
            raise UsageError("box_share and scribble_share are shares of the first prompts; together at most 1.")


class TrainingUser:
    """Callable (round, last logits) -> prompts; see `networks.promptable.User`.

    Parameters
    ----------
    target : tensor (b, 1, z, y, x)
        What the user wants, 0 or 1.
    rules : PromptRules
    seed : int
        Everything drawn depends on it alone.

    Attributes
    ----------
    silent : set of int
        Rounds without points; they take no part in ensembles.
    """

    def __init__(self, target: torch.Tensor, rules: PromptRules, *, seed: int) -> None:
        self.target, self.rules = target[:, 0] > 0.5, rules
        # On the CPU whatever the device, so that the same seed draws the same prompts everywhere.
        self.generator = torch.Generator().manual_seed(seed)
        self.accumulate = rules.shown == "all" or (rules.shown == "either" and self._uniform() < 0.5)
        self.silent: set[int] = set()
        if rules.mask_only and rules.rounds > 2:
            middle = max(3, rules.rounds - 2)
            self.silent = {int(torch.randint(2, middle, (1,), generator=self.generator)), rules.rounds - 1}
        self.points: list[torch.Tensor] = []
        self.kinds: list[torch.Tensor] = []

    def __call__(self, number: int, logits: torch.Tensor | None) -> Clicks | None:
        """Return what is shown in round `number`."""
        if number in self.silent and logits is not None:
            return None
        found = torch.zeros_like(self.target) if logits is None else logits[:, 0] > self.rules.object_logit
        drawn = [
            self._first(want) if logits is None else self._correction(want, have)
            for want, have in zip(self.target.cpu(), found.cpu(), strict=True)
        ]
        most = max(len(points) for points, _ in drawn)
        points = torch.zeros(len(drawn), most, 3)
        kinds = torch.full((len(drawn), most), NOT_A_POINT, dtype=torch.int64)
        for sample, (places, names) in enumerate(drawn):
            points[sample, : len(places)], kinds[sample, : len(names)] = places, names
        self.points.append(points.to(self.target.device))
        self.kinds.append(kinds.to(self.target.device))
        if not self.accumulate:
            return Clicks(self.points[-1], self.kinds[-1])
        return Clicks(torch.cat(self.points, dim=1), torch.cat(self.kinds, dim=1))

    def _first(self, want: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        kind = self._uniform()
        if want.any() and kind < self.rules.box_share:
            return self._box(want)
        if want.any() and kind < self.rules.box_share + self.rules.scribble_share:
            return self._stroke(want)
        return self._correction(want, torch.zeros_like(want))

    def _correction(self, want: torch.Tensor, have: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return a click into the mistake. Without one: into the object, or where there is none, outside of it."""
        wrong = want != have
        if not wrong.any():
            wrong = want if want.any() else ~want
        place = self._middle(wrong) if self._uniform() < self.rules.central_share else self._anywhere(wrong)
        kind = POSITIVE if bool(want[tuple(place.tolist())]) else NEGATIVE
        return place[None].float(), torch.tensor([kind])

    def _anywhere(self, mask: torch.Tensor) -> torch.Tensor:
        inside = mask.nonzero()
        return inside[int(torch.randint(len(inside), (1,), generator=self.generator))]

    def _middle(self, mask: torch.Tensor) -> torch.Tensor:
        share = F.avg_pool3d(mask[None, None].float(), CENTRE_SIDE, stride=1, padding=CENTRE_SIDE // 2)[0, 0]
        # A little noise decides between places that are alike.
        share = (share + 1e-3 * torch.rand(share.shape, generator=self.generator)) * mask
        return torch.stack(torch.unravel_index(share.argmax(), share.shape))

    def _box(self, want: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        inside, slack = want.nonzero(), self.rules.box_slack
        corners = torch.stack([inside.min(0).values, inside.max(0).values])
        corners = corners + torch.randint(-slack, slack + 1, (2, 3), generator=self.generator)
        last = torch.tensor(want.shape) - 1
        lower, upper = torch.minimum(corners[0].clamp_min(0), last), torch.minimum(corners[1].clamp_min(0), last)
        corners = torch.stack([torch.minimum(lower, upper), torch.maximum(lower, upper)])
        return corners.float(), torch.tensor([BOX_LOWER, BOX_UPPER])

    def _stroke(self, want: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return points along a line between two voxels of one slice of the object, those inside it."""
        start = self._anywhere(want)
        level = torch.zeros_like(want)
        level[start[0]] = want[start[0]]
        stop = self._anywhere(level)
        steps = torch.linspace(0, 1, self.rules.stroke)[:, None]
        line = (start + (stop - start) * steps).round().long()
        line = line[want[tuple(line.T)]]
        return line.float(), torch.full((len(line),), POSITIVE)

    def _uniform(self) -> float:
        return float(torch.rand(1, generator=self.generator))
