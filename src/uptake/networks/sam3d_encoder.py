"""Image encoder of SAM-Med3D: a 3-D vision transformer with windows and global blocks, and a convolutional neck."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from uptake.core.types import Shape3
from uptake.networks.sam3d_attention import RelativeAttention, RelPos

NORM_EPS = 1e-6


class ChannelNorm(nn.Module):
    """Layer norm over the channels of every voxel, for (b, c, d, h, w)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the normalised tensor, same shape."""
        # channels last and back: the library's fused norm goes over the last axis
        normed = F.layer_norm(x.movedim(1, -1), self.weight.shape, self.weight, self.bias, NORM_EPS)
        return normed.movedim(-1, 1)


class Mlp(nn.Module):
    """Two linear layers with an activation between them."""

    def __init__(self, dim: int, hidden: int, activation: nn.Module) -> None:
        super().__init__()
        self.lin1 = nn.Linear(dim, hidden)
        self.lin2 = nn.Linear(hidden, dim)
        self.act = activation

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (..., dim) for (..., dim)."""
        return self.lin2(self.act(self.lin1(x)))


class Block(nn.Module):
    """Pre-norm transformer block on a token grid (b, d, h, w, dim)."""

    def __init__(self, dim: int, heads: int, grid: Shape3, *, window: int, rel_pos: RelPos) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.attn = RelativeAttention(dim, heads, grid, window=window, rel_pos=rel_pos)
        self.norm2 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.mlp = Mlp(dim, 4 * dim, nn.GELU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (b, d, h, w, dim)."""
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class PatchEmbed(nn.Module):
    """Non-overlapping patches to tokens."""

    def __init__(self, channels: int, dim: int, patch: int) -> None:
        super().__init__()
        self.proj = nn.Conv3d(channels, dim, patch, stride=patch)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return tokens (b, d, h, w, dim) of an image (b, c, *window)."""
        return self.proj(x).movedim(1, -1)


class ImageEncoder(nn.Module):
    """Image -> embedding (b, out_dim, *grid).

    Parameters
    ----------
    channels : int
    window : tuple of int
        Voxels along the three axes; divides by `patch`.
    patch, dim, depth, heads, out_dim : int
    attention_window : int
        Tokens a side of the windows; see `RelativeAttention`.
    global_blocks : sequence of int
        Blocks without windows; published 2, 5, 8, 11.
    rel_pos : {"legacy", "correct"}
    """

    def __init__(
        self,
        channels: int,
        window: Shape3,
        *,
        patch: int,
        dim: int,
        depth: int,
        heads: int,
        out_dim: int,
        attention_window: int,
        global_blocks: Sequence[int],
        rel_pos: RelPos,
    ) -> None:
        super().__init__()
        d, h, w = (side // patch for side in window)
        grid: Shape3 = (d, h, w)
        self.patch_embed = PatchEmbed(channels, dim, patch)
        self.pos_embed = nn.Parameter(torch.zeros(1, *grid, dim))
        self.blocks = nn.ModuleList(
            Block(dim, heads, grid, window=0 if index in global_blocks else attention_window, rel_pos=rel_pos)
            for index in range(depth)
        )
        self.neck = nn.Sequential(
            nn.Conv3d(dim, out_dim, 1, bias=False),
            ChannelNorm(out_dim),
            nn.Conv3d(out_dim, out_dim, 3, padding=1, bias=False),
            ChannelNorm(out_dim),
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return the embedding of an image (b, channels, *window)."""
        tokens = self.patch_embed(image) + self.pos_embed
        for block in self.blocks:
            tokens = block(tokens)
        return self.neck(tokens.movedim(-1, 1))
