"""Mask decoder of SAM-Med3D: a two-way transformer between prompt tokens and image, then one dot product a mask."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from uptake.networks.sam3d_encoder import ChannelNorm, Mlp

MASK_TOKENS = 4
"""The first is the mask; 1 to 3 and the quality head were never trained upstream, but their tokens act in attention."""


class CrossAttention(nn.Module):
    """Multi-head attention with a narrower inner width."""

    def __init__(self, dim: int, heads: int, *, downsample: int = 1) -> None:
        super().__init__()
        inner = dim // downsample
        self.heads = heads
        self.q_proj = nn.Linear(dim, inner)
        self.k_proj = nn.Linear(dim, inner)
        self.v_proj = nn.Linear(dim, inner)
        self.out_proj = nn.Linear(inner, dim)

    def forward(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """Return (b, n, dim) for q (b, n, dim), k and v (b, m, dim)."""
        parts = (self.q_proj(q), self.k_proj(k), self.v_proj(v))
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        out = F.scaled_dot_product_attention(q, k, v)
        return self.out_proj(out.transpose(1, 2).flatten(2))


class TwoWayBlock(nn.Module):
    """Tokens to themselves, tokens to image, MLP, image to tokens; norms after each sum."""

    def __init__(self, dim: int, heads: int, hidden: int, *, first: bool) -> None:
        super().__init__()
        self.self_attn = CrossAttention(dim, heads)
        self.norm1 = nn.LayerNorm(dim)
        self.cross_attn_token_to_image = CrossAttention(dim, heads, downsample=2)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, hidden, nn.ReLU())
        self.norm3 = nn.LayerNorm(dim)
        self.norm4 = nn.LayerNorm(dim)
        self.cross_attn_image_to_token = CrossAttention(dim, heads, downsample=2)
        self.first = first

    def forward(
        self, tokens: torch.Tensor, image: torch.Tensor, token_code: torch.Tensor, image_code: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return tokens and image after the block."""
        if self.first:
            # The first layer sees no positions and replaces the tokens instead of adding to them.
            tokens = self.self_attn(tokens, tokens, tokens)
        else:
            placed = tokens + token_code
            tokens = tokens + self.self_attn(placed, placed, tokens)
        tokens = self.norm1(tokens)
        tokens = self.norm2(tokens + self.cross_attn_token_to_image(tokens + token_code, image + image_code, image))
        tokens = self.norm3(tokens + self.mlp(tokens))
        image = self.norm4(image + self.cross_attn_image_to_token(image + image_code, tokens + token_code, tokens))
        return tokens, image


class TwoWayTransformer(nn.Module):
    """`depth` two-way blocks and a last attention from tokens to image."""

    def __init__(self, dim: int, *, depth: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(TwoWayBlock(dim, heads, hidden, first=index == 0) for index in range(depth))
        self.final_attn_token_to_image = CrossAttention(dim, heads, downsample=2)
        self.norm_final_attn = nn.LayerNorm(dim)

    def forward(
        self, image: torch.Tensor, image_code: torch.Tensor, tokens: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return tokens (b, n, dim) and image (b, m, dim), given in the same shapes."""
        code = tokens
        for layer in self.layers:
            tokens, image = layer(tokens, image, code, image_code)
        seen = self.final_attn_token_to_image(tokens + code, image + image_code, image)
        return self.norm_final_attn(tokens + seen), image


class Head(nn.Module):
    """Three linear layers with ReLU between them."""

    def __init__(self, dim: int, hidden: int, out: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(dim, hidden), nn.Linear(hidden, hidden), nn.Linear(hidden, out)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (..., out) for (..., dim)."""
        first, second, third = self.layers
        return third(second(first(x).relu()).relu())


class MaskDecoder(nn.Module):
    """Embedding and prompts -> logits at four times the grid's resolution.

    Parameters
    ----------
    dim, depth, heads, hidden : int
        Of the two-way transformer.
    """

    def __init__(self, dim: int, *, depth: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.transformer = TwoWayTransformer(dim, depth=depth, heads=heads, hidden=hidden)
        self.iou_token = nn.Embedding(1, dim)
        self.mask_tokens = nn.Embedding(MASK_TOKENS, dim)
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose3d(dim, dim // 4, 2, stride=2),
            ChannelNorm(dim // 4),
            nn.GELU(),
            nn.ConvTranspose3d(dim // 4, dim // 8, 2, stride=2),
            nn.GELU(),
        )
        self.output_hypernetworks_mlps = nn.ModuleList(Head(dim, dim, dim // 8) for _ in range(MASK_TOKENS))
        self.iou_prediction_head = Head(dim, 256, MASK_TOKENS)

    def forward(
        self, image: torch.Tensor, image_code: torch.Tensor, sparse: torch.Tensor, dense: torch.Tensor
    ) -> torch.Tensor:
        """Return low-resolution logits (b, 1, *4·grid) of the one trained mask.

        Parameters
        ----------
        image : tensor (b, dim, *grid)
        image_code : tensor (1, dim, *grid)
        sparse : tensor (b, n, dim)
        dense : tensor (b, dim, *grid)
            Added to the image.
        """
        tokens, volume = self._attended(image, image_code, sparse, dense)
        fine = self.output_upscaling(volume)
        weights = self.output_hypernetworks_mlps[0](tokens[:, 1])
        return torch.einsum("bc,bcdhw->bdhw", weights, fine).unsqueeze(1)

    def all_outputs(
        self, image: torch.Tensor, image_code: torch.Tensor, sparse: torch.Tensor, dense: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the logits of all four masks (b, 4, *4·grid) and the quality head (b, 4): untrained but for mask 0."""
        tokens, volume = self._attended(image, image_code, sparse, dense)
        fine = self.output_upscaling(volume)
        weights = torch.stack([head(tokens[:, 1 + n]) for n, head in enumerate(self.output_hypernetworks_mlps)], dim=1)
        return torch.einsum("bmc,bcdhw->bmdhw", weights, fine), self.iou_prediction_head(tokens[:, 0])

    def _attended(
        self, image: torch.Tensor, image_code: torch.Tensor, sparse: torch.Tensor, dense: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        own = torch.cat([self.iou_token.weight, self.mask_tokens.weight]).expand(sparse.shape[0], -1, -1)
        tokens = torch.cat([own, sparse], dim=1)
        volume = image + dense
        flat, code = volume.flatten(2).transpose(1, 2), image_code.flatten(2).transpose(1, 2)
        tokens, flat = self.transformer(flat, code, tokens)
        return tokens, flat.transpose(1, 2).reshape(volume.shape)
