"""The SAM-Med3D network, as SegAnyPET uses it: encoder, prompts, decoder put together; 324 tensors as published."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from uptake.core.types import Shape3
from uptake.networks.promptable import Answer, Clicks, Promptable, prompt_maps
from uptake.networks.sam3d_attention import RelPos
from uptake.networks.sam3d_decoder import MaskDecoder
from uptake.networks.sam3d_encoder import ImageEncoder
from uptake.networks.sam3d_prompts import PromptEncoder

LOW_RES = 4
"""Cells of the mask per token, along each axis."""


class Sam3d(Promptable):
    """Promptable transformer for windows (b, channels, *window).

    Parameters
    ----------
    channels : int
        Published 1, PET alone.
    window : tuple of int
        Voxels; published 128³.
    patch, dim, depth, heads : int
        Of the image encoder; published 16, 768, 12, 12.
    attention_window : int
        In tokens; published 14, larger than the grid of 8³.
    global_blocks : sequence of int
    prompt_dim, prompt_depth, prompt_heads, prompt_hidden : int
        Of prompts and mask decoder; published 384, 2, 8, 2048.
    rel_pos : {"legacy", "correct"}
    point_kinds : int
        2: points; 4: boxes too.
    refine : int
        Width of a convolutional path at full resolution, which sees image, prompts and the upsampled logits and adds to
        them; 0, as published: none, and nothing smaller than a patch's quarter can be drawn.
    reach : float
        Voxels; how far prompts are seen by that path (`promptable.prompt_maps`).
    """

    def __init__(
        self,
        channels: int = 1,
        window: Shape3 = (128, 128, 128),
        *,
        patch: int = 16,
        dim: int = 768,
        depth: int = 12,
        heads: int = 12,
        attention_window: int = 14,
        global_blocks: Sequence[int] = (2, 5, 8, 11),
        prompt_dim: int = 384,
        prompt_depth: int = 2,
        prompt_heads: int = 8,
        prompt_hidden: int = 2048,
        rel_pos: RelPos = "legacy",
        point_kinds: int = 2,
        refine: int = 0,
        reach: float = 12.0,
    ) -> None:
        super().__init__()
        if any(side % patch for side in window):
            raise ValueError(f"a window of {window} voxels does not divide into patches of {patch}")
        d, h, w = (side // patch for side in window)
        self.window, self.grid, self.reach = window, (d, h, w), reach
        self.image_encoder = ImageEncoder(
            channels,
            window,
            patch=patch,
            dim=dim,
            depth=depth,
            heads=heads,
            out_dim=prompt_dim,
            attention_window=attention_window,
            global_blocks=global_blocks,
            rel_pos=rel_pos,
        )
        self.prompt_encoder = PromptEncoder(prompt_dim, window, self.grid, point_kinds=point_kinds)
        self.mask_decoder = MaskDecoder(prompt_dim, depth=prompt_depth, heads=prompt_heads, hidden=prompt_hidden)
        self.refine = FineMask(channels, refine) if refine else None

    def encode(self, channels: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """Return the embedding (b, prompt_dim, *grid); with a refining path the pair (embedding, channels)."""
        embedding = self.image_encoder(channels)
        return embedding if self.refine is None else (embedding, channels)

    def decode(
        self,
        features: torch.Tensor | tuple[torch.Tensor, ...],
        clicks: Clicks | None,
        memory: torch.Tensor | None,
    ) -> Answer:
        """Return logits (b, 1, *window) and, as memory, low-resolution logits (b, 1, *4·grid).

        Without memory a mask of zeros is shown, never the untrained "no mask" embedding.
        """
        embedding, channels = features if isinstance(features, tuple) else (features, None)
        b = embedding.shape[0]
        if memory is None:
            memory = embedding.new_zeros(b, 1, *(LOW_RES * side for side in self.grid))
        if clicks is None:
            sparse = embedding.new_zeros(b, 0, embedding.shape[1])
        else:
            sparse = self.prompt_encoder.points(clicks.points.to(embedding.dtype), clicks.kinds)
        dense = self.prompt_encoder.mask(memory)
        code = self.prompt_encoder.pe_layer.grid(self.grid)
        low = self.mask_decoder(embedding, code, sparse, dense)
        logits = F.interpolate(low, size=self.window, mode="trilinear", align_corners=False)
        if self.refine is not None:
            assert channels is not None
            maps = prompt_maps(clicks, self.window, reach=self.reach, like=embedding)
            logits = self.refine(channels, maps, logits)
        return Answer(logits, low)

    def remember(self, logits: torch.Tensor) -> torch.Tensor:
        """Return logits averaged to low resolution (b, 1, *4·grid)."""
        return F.interpolate(logits, size=tuple(LOW_RES * side for side in self.grid), mode="area")


class FineMask(nn.Module):
    """Convolutions at full and half resolution that add detail to upsampled logits; starts as the identity."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.fine = nn.Conv3d(channels + 4, width, 3, padding=1)
        self.down = nn.Conv3d(width, 2 * width, 2, stride=2)
        self.coarse = nn.Conv3d(2 * width, 2 * width, 3, padding=1)
        self.up = nn.ConvTranspose3d(2 * width, width, 2, stride=2)
        self.out = nn.Conv3d(2 * width, 1, 3, padding=1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, channels: torch.Tensor, maps: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        """Return logits (b, 1, *window)."""
        # tanh keeps confident logits from drowning image and prompts
        fine = F.gelu(self.fine(torch.cat([channels, maps, torch.tanh(logits / 4)], dim=1)))
        coarse = F.gelu(self.coarse(F.gelu(self.down(fine))))
        return logits + self.out(torch.cat([fine, F.gelu(self.up(coarse))], dim=1))
