"""Prompt encoder of SAM-Med3D: points as tokens, the previous mask as a dense embedding."""

from __future__ import annotations

import math

import torch
from torch import nn

from uptake.core.types import Shape3
from uptake.networks.promptable import NOT_A_POINT
from uptake.networks.sam3d_encoder import ChannelNorm


class PositionEncoding(nn.Module):
    """Random Fourier features of positions in the unit cube: [sin, cos, sin again] of 2π (2x - 1) G."""

    def __init__(self, features: int) -> None:
        super().__init__()
        # Never trained, but part of the published checkpoints and of every bundle.
        self.positional_encoding_gaussian_matrix = nn.Parameter(torch.randn(3, features), requires_grad=False)

    def forward(self, position: torch.Tensor) -> torch.Tensor:
        """Return (..., 3 * features) for positions (..., 3) in [0, 1]."""
        angle = 2 * math.pi * ((2 * position - 1) @ self.positional_encoding_gaussian_matrix)
        return torch.cat([angle.sin(), angle.cos(), angle.sin()], dim=-1)

    def grid(self, shape: Shape3) -> torch.Tensor:
        """Return the code (1, 3 * features, *shape) of cell centres.

        The first two axes change places against those of the points: so it was trained upstream.
        """
        like = self.positional_encoding_gaussian_matrix
        axes = [(torch.arange(side, device=like.device, dtype=like.dtype) + 0.5) / side for side in shape]
        first, second, third = torch.meshgrid(*axes, indexing="ij")
        return self(torch.stack([second, first, third], dim=-1)).movedim(-1, 0).unsqueeze(0)


class PromptEncoder(nn.Module):
    """Points and the previous mask -> sparse tokens and a dense embedding.

    Parameters
    ----------
    dim : int
        A multiple of 3.
    window, grid : tuple of int
        Voxels of the image, tokens of its embedding.
    point_kinds : int
        2: negative and positive points, as published; 4: also the lower and the upper corner of a box.
    """

    def __init__(self, dim: int, window: Shape3, grid: Shape3, *, point_kinds: int = 2) -> None:
        super().__init__()
        self.window, self.grid = window, grid
        self.pe_layer = PositionEncoding(dim // 3)
        self.point_embeddings = nn.ModuleList(nn.Embedding(1, dim) for _ in range(point_kinds))
        self.not_a_point_embed = nn.Embedding(1, dim)
        self.mask_downscaling = nn.Sequential(
            nn.Conv3d(1, 4, 2, stride=2),
            ChannelNorm(4),
            nn.GELU(),
            nn.Conv3d(4, 16, 2, stride=2),
            ChannelNorm(16),
            nn.GELU(),
            nn.Conv3d(16, dim, 1),
        )
        self.no_mask_embed = nn.Embedding(1, dim)

    def points(self, points: torch.Tensor, kinds: torch.Tensor) -> torch.Tensor:
        """Return tokens (b, n + 1, dim); (b, 0, dim) where there are no points at all.

        Parameters
        ----------
        points : tensor (b, n, 3)
            Voxel indices in array order.
        kinds : integer tensor (b, n)
            0 negative, 1 positive, 2 and 3 the corners of a box, -1 (`NOT_A_POINT`) nothing.

        Notes
        -----
        One "not a point" token is appended, as upstream does without a box, so that a box in one sample of a batch and
        none in another make the same shape.
        """
        if points.shape[1] == 0:
            return points.new_zeros(points.shape[0], 0, self.no_mask_embed.weight.shape[1])
        points = torch.cat([points, points.new_zeros(points.shape[0], 1, 3)], dim=1)
        kinds = torch.cat([kinds, kinds.new_full((kinds.shape[0], 1), NOT_A_POINT)], dim=1)
        if int(kinds.max()) >= len(self.point_embeddings):
            raise ValueError(f"a prompt of kind {int(kinds.max())}; this network knows {len(self.point_embeddings)}")
        sides = points.new_tensor(self.window)
        code = self.pe_layer((points + 0.5) / sides)
        names = torch.cat([self.not_a_point_embed.weight, *(kind.weight for kind in self.point_embeddings)])
        return code * (kinds >= 0).unsqueeze(-1) + names[kinds + 1]

    def mask(self, low_res_logits: torch.Tensor) -> torch.Tensor:
        """Return the dense embedding (b, dim, *grid) of logits (b, 1, *4·grid)."""
        return self.mask_downscaling(low_res_logits)
