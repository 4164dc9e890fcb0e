"""A residual-encoder U-Net that is told its prompts as image channels: distance maps, box, previous mask.

The kind of network that won the interactive challenge autoPET IV, behind the same door as the transformer.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from uptake.core.types import Shape3
from uptake.networks.promptable import Answer, Clicks, Promptable, prompt_maps
from uptake.networks.unet import unet

PROMPT_CHANNELS = 4
"""Near positive points, near negative points, inside the box, probability of the round before."""


class PromptableUnet(Promptable):
    """U-Net for windows (b, channels, *window) with four prompt channels beside the image.

    Parameters
    ----------
    channels : int
    window : tuple of int
    features, blocks : sequence of int
        See `networks.unet.unet`.
    reach : float
        Voxels; see `promptable.prompt_maps`.
    """

    def __init__(
        self, channels: int, window: Shape3, *, features: Sequence[int], blocks: Sequence[int], reach: float
    ) -> None:
        super().__init__()
        self.window, self.reach = window, reach
        built = unet(channels + PROMPT_CHANNELS, 1, features=features, blocks=blocks, deep_supervision=False)
        # Its parts under its own names, so that the aliases among them are known (`networks.unet.unique_state`).
        self.encoder, self.decoder = built.encoder, built.decoder

    def encode(self, channels: torch.Tensor) -> torch.Tensor:
        """Return the channels: prompts enter at the first convolution, so nothing can be computed before them."""
        return channels

    def decode(
        self,
        features: torch.Tensor | tuple[torch.Tensor, ...],
        clicks: Clicks | None,
        memory: torch.Tensor | None,
    ) -> Answer:
        """Return logits (b, 1, *window) and, as memory, the same logits."""
        assert isinstance(features, torch.Tensor)
        maps = prompt_maps(clicks, self.window, reach=self.reach, like=features)
        before = features.new_zeros(features.shape[0], 1, *self.window) if memory is None else memory.sigmoid()
        logits = self.decoder(self.encoder(torch.cat([features, maps, before], dim=1)))
        return Answer(logits, logits)

    def remember(self, logits: torch.Tensor) -> torch.Tensor:
        """Return the logits themselves."""
        return logits
