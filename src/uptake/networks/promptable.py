"""What every promptable network offers: encode an image once, answer prompts many times."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import nn

NOT_A_POINT, NEGATIVE, POSITIVE, BOX_LOWER, BOX_UPPER = -1, 0, 1, 2, 3
"""Kinds of prompt points. A box is two points, its corners; padding of a batch is no point."""


class Clicks(NamedTuple):
    """Prompts of a batch.

    Attributes
    ----------
    points : tensor (b, n, 3) float
        Voxel indices in array order of the window.
    kinds : tensor (b, n) int64
        See `NOT_A_POINT` ... `BOX_UPPER`.
    """

    points: torch.Tensor
    kinds: torch.Tensor


class Answer(NamedTuple):
    """One round.

    Attributes
    ----------
    logits : tensor (b, 1, *window)
        Above 0: object.
    memory : tensor
        What the next round is given of this one.
    """

    logits: torch.Tensor
    memory: torch.Tensor


User = Callable[[int, torch.Tensor | None], Clicks | None]
"""(round, logits of the round before, None at first) -> all prompts to show, or None for none."""


class Promptable(nn.Module):
    """Base of promptable networks.

    Attributes
    ----------
    window : tuple of int
        Voxels along the three axes.
    """

    window: tuple[int, int, int]

    def encode(self, channels: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """Return what can be computed of channels (b, c, *window) before any prompt is known."""
        raise NotImplementedError

    def decode(
        self,
        features: torch.Tensor | tuple[torch.Tensor, ...],
        clicks: Clicks | None,
        memory: torch.Tensor | None,
    ) -> Answer:
        """Return the answer to prompts, given what `encode` gave and the memory of the round before, if any."""
        raise NotImplementedError

    def remember(self, logits: torch.Tensor) -> torch.Tensor:
        """Return the memory of a mask that came from elsewhere, given as logits (b, 1, *window)."""
        raise NotImplementedError

    def forward(self, channels: torch.Tensor, user: User, rounds: int) -> list[torch.Tensor]:
        """Return the logits (b, 1, *window) of each round of prompting.

        The whole dialogue is one forward pass, so that data-parallel wrappers see it and synchronise all gradients. No
        gradient flows from a round into the one before it.
        """
        features = self.encode(channels)
        outputs: list[torch.Tensor] = []
        memory: torch.Tensor | None = None
        for number in range(rounds):
            clicks = user(number, outputs[-1].detach() if outputs else None)
            answer = self.decode(features, clicks, memory)
            memory = answer.memory.detach()
            outputs.append(answer.logits)
        return outputs


def prompt_maps(clicks: Clicks | None, shape: Sequence[int], *, reach: float, like: torch.Tensor) -> torch.Tensor:
    """Return prompts drawn into the window: nearness to positive points, nearness to negative ones, inside of the box.

    Parameters
    ----------
    clicks : Clicks or None
    shape : sequence of int
        Of the window (b, is taken from `like`).
    reach : float
        Nearness is ``max(0, 1 - distance / reach)``, distance in voxels to the nearest point: a distance transform, cut
        off.
    like : tensor (b, ...)
        Gives batch size, dtype and device.

    Returns
    -------
    tensor (b, 3, *shape)
    """
    b = like.shape[0]
    maps = like.new_zeros(b, 3, *shape)
    if clicks is None or clicks.points.shape[1] == 0:
        return maps
    axes = [torch.arange(side, device=like.device, dtype=like.dtype) for side in shape]
    points = clicks.points.to(like.dtype)
    for sample in range(b):
        for channel, kind in enumerate((POSITIVE, NEGATIVE)):
            squared: torch.Tensor | None = None
            for z, y, x in points[sample][clicks.kinds[sample] == kind]:
                one = (axes[0] - z).square()[:, None, None] + (axes[1] - y).square()[:, None] + (axes[2] - x).square()
                squared = one if squared is None else torch.minimum(squared, one)
            if squared is not None:
                maps[sample, channel] = (1 - squared.sqrt() / reach).clamp_min(0)
        lower = points[sample][clicks.kinds[sample] == BOX_LOWER]
        upper = points[sample][clicks.kinds[sample] == BOX_UPPER]
        for low, high in zip(lower, upper, strict=True):
            inside = [(axis >= a) & (axis <= b) for axis, a, b in zip(axes, low, high, strict=True)]
            maps[sample, 2] += (inside[0][:, None, None] & inside[1][:, None] & inside[2]).to(like.dtype)
    maps[:, 2].clamp_(max=1)
    return maps
