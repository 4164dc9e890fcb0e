"""A frozen network, or several, below one 1³ convolution: what a linear map can read off their features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import torch
import torch.nn.functional as F
from torch import nn

from uptake.core.choices import require_known
from uptake.core.errors import UsageError
from uptake.networks.backbones import Architecture, listening

SOURCES = ("last", "multiscale")


class LinearProbe(nn.Module):
    """Logits of a linear map over frozen features.

    Parameters
    ----------
    networks : sequence of Module
        From `backbones.build`; their weights and norms do not change, stochastic depth is off.
    designs : sequence of Architecture
        Of the networks.
    inputs : sequence of sequences of int
        Channels of the probe's input that each network takes: ((0, 1),) for one network on PET and CT, ((0,), (1,)) for
        two networks on one of them each.
    labels : int
    source : str
        "last": what each network's own head reads; "multiscale": every decoder stage, brought to full resolution.
    """

    def __init__(
        self,
        networks: Sequence[nn.Module],
        designs: Sequence[Architecture],
        inputs: Sequence[Sequence[int]],
        labels: int,
        *,
        source: str = "last",
    ) -> None:
        super().__init__()
        require_known("probe source", source, SOURCES)
        if not len(networks) == len(designs) == len(inputs) >= 1:
            raise UsageError("a probe needs networks, and an architecture and input channels for each.")
        self.networks = nn.ModuleList(networks)
        self.designs, self.inputs, self.source = tuple(designs), tuple(tuple(one) for one in inputs), source
        for network in networks:
            network.requires_grad_(False)
        self.head = nn.Conv3d(self._width(), labels, 1)
        self.train(False)

    def _width(self) -> int:
        if self.source == "last":
            return sum(design.width for design in self.designs)
        side = 2 * max(design.divisor for design in self.designs)
        channels = max(channel for one in self.inputs for channel in one) + 1
        return self.features(torch.zeros(1, channels, side, side, side)).shape[1]

    def train(self, mode: bool = True) -> Self:
        """Set the mode of the head; the frozen networks stay in evaluation mode."""
        super().train(mode)
        self.networks.train(False)
        return self

    def features(self, channels: torch.Tensor) -> torch.Tensor:
        """Return the features (b, f, z, y, x) of a batch (b, c, z, y, x), without gradient."""
        found = []
        with torch.no_grad():
            for network, design, taken in zip(self.networks, self.designs, self.inputs, strict=True):
                with listening(network, design.kind, multiscale=self.source == "multiscale") as heard:
                    network(channels[:, list(taken)])
                found += [
                    one
                    if one.shape[2:] == channels.shape[2:]
                    else F.interpolate(one, channels.shape[2:], mode="trilinear")
                    for one in heard
                ]
        return torch.cat(found, dim=1)

    def forward(self, channels: torch.Tensor) -> torch.Tensor:
        """Return logits (b, labels, z, y, x)."""
        return self.head(self.features(channels))
