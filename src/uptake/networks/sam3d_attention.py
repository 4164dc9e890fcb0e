"""Attention of the SAM-Med3D image encoder: relative positions along three axes, in windows larger than the grid.

Notation: a query sits at (i, j, l), a key at (a, b, c) on axes (d, h, w); R_x(t; k) is the unscaled query vector of
token t times the row of the x-axis table for the offset (t's own x coordinate - k).
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import nn

from uptake.core.types import Shape3

RelPos = Literal["legacy", "correct"]
"""How the three tables become a bias. "correct": R_d(ijl; a) + R_h(ijl; b) + R_w(ijl; c). "legacy": what SAM-Med3D and
every network trained from it compute, R_d(ijl; c) + R_h(ija; c) + R_w(ijb; c): all three terms go by the key's last
coordinate, two of them with the queries of other tokens. Their weights are only right with it."""


class RelativeAttention(nn.Module):
    """Multi-head self-attention over a whole token grid with decomposed relative positions.

    Parameters
    ----------
    dim, heads : int
    grid : tuple of int
        Tokens along (d, h, w).
    window : int
        0: global. Else the published windows of this many tokens a side, larger than the grid: the grid is padded with
        zeros to the window, and the padded keys take part in the softmax. `padded_bias` does that with one key.
    rel_pos : {"legacy", "correct"}

    Raises
    ------
    ValueError
        If the grid is larger than the window, or not a cube with "legacy".
    """

    def __init__(self, dim: int, heads: int, grid: Shape3, *, window: int, rel_pos: RelPos) -> None:
        super().__init__()
        if rel_pos not in get_args(RelPos):
            raise ValueError(f"rel_pos is {' or '.join(get_args(RelPos))}, came {rel_pos!r}")
        if window and max(grid) > window:
            raise ValueError(f"a grid of {grid} tokens does not fit a window of {window}; take 0 for global attention")
        if rel_pos == "legacy" and len(set(grid)) > 1:
            raise ValueError(f"legacy relative positions are defined on cubes only, the grid is {grid}")
        self.heads, self.grid, self.window, self.rel_pos = heads, grid, window, rel_pos
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        width = dim // heads
        for axis, side in zip("dhw", grid, strict=True):
            rows = 2 * (window or side) - 1
            setattr(self, f"rel_pos_{axis}", nn.Parameter(torch.zeros(rows, width)))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return (b, d, h, w, dim) for tokens (b, d, h, w, dim)."""
        b, width = tokens.shape[0], tokens.shape[-1] // self.heads
        # (b, n, 3 * dim) -> three of (b, heads, n, width)
        query, key, value = self.qkv(tokens).view(b, -1, 3, self.heads, width).permute(2, 0, 3, 1, 4)
        grid_query = query.reshape(b, self.heads, *self.grid, width)
        tables = (self.rel_pos_d, self.rel_pos_h, self.rel_pos_w)
        sides = tuple(self.window or side for side in self.grid)
        if self.rel_pos == "legacy":
            scores = [axis_scores(grid_query, table, axis, sides[2]) for axis, table in enumerate(tables)]
        else:
            scores = [axis_scores(grid_query, table, axis, sides[axis]) for axis, table in enumerate(tables)]
        bias = key_bias(scores, self.grid, self.rel_pos)
        if self.window and sides != self.grid:
            pad_query, pad_key, pad_value = self.qkv.bias.view(3, self.heads, width)
            extra = padded_bias(scores, pad_query, tables, self.grid, self.window, self.rel_pos)
            bias = torch.cat([bias, extra.unsqueeze(-1)], dim=-1)
            key = torch.cat([key, pad_key[None, :, None].expand(b, -1, 1, -1)], dim=2)
            value = torch.cat([value, pad_value[None, :, None].expand(b, -1, 1, -1)], dim=2)
        out = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        return self.proj(out.transpose(1, 2).reshape(tokens.shape))


def axis_scores(queries: torch.Tensor, table: torch.Tensor, axis: int, keys: int) -> torch.Tensor:
    """Return R_x(t; k) for k = 0 ... keys - 1, shape (..., d, h, w, keys).

    Parameters
    ----------
    queries : tensor (..., d, h, w, c)
        Unscaled.
    table : tensor (2 * side - 1, c)
        Row side - 1 is offset 0.
    axis : int
        0, 1, 2 for d, h, w.
    keys : int
        At most `side`.
    """
    rows = _rows(table, queries.shape[-4 + axis], keys)
    letter = "dhw"[axis]
    return torch.einsum(f"...dhwc,{letter}kc->...dhwk", queries, rows)


def key_bias(scores: list[torch.Tensor], grid: Shape3, rel_pos: RelPos) -> torch.Tensor:
    """Return the bias (b, heads, queries, keys) between the real tokens of the grid."""
    d, h, w = grid
    if rel_pos == "legacy":
        along_d, along_h, along_w = (score[..., :w] for score in scores)
        # to (b, heads, i, j, l, a, b, c); the last grid axis of the h and w terms stands where the key's a and b are
        bias = along_d[..., None, None, :] + along_h[..., None, :, None, :] + along_w[..., None, None, :, :]
    else:
        along_d, along_h, along_w = (score[..., :side] for score, side in zip(scores, grid, strict=True))
        bias = along_d[..., :, None, None] + along_h[..., None, :, None] + along_w[..., None, None, :]
    return bias.reshape(*bias.shape[:2], d * h * w, d * h * w)


def padded_bias(
    scores: list[torch.Tensor],
    pad_query: torch.Tensor,
    tables: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    grid: Shape3,
    window: int,
    rel_pos: RelPos,
) -> torch.Tensor:
    """Return the bias (b, heads, queries) of the one key that stands for all padded keys of a window.

    Padding comes after the layer norm, so that all padded tokens have the same query, key and value: the biases of the
    projection. Their keys differ in the relative bias alone, and the sum of their exponentials is a product of sums
    along the axes less the product over the real part; it is summed here in parts that are all positive, so nothing
    cancels. With 8³ tokens in windows of 14³, 513 keys give what 2,744 give.

    Parameters
    ----------
    scores : list of three tensors (b, heads, d, h, w, window)
        From `axis_scores`.
    pad_query : tensor (heads, c)
    tables, grid, window, rel_pos
        Of the attention.
    """
    _, h, w = grid
    if rel_pos == "correct":
        real, pads, whole = [], [], []
        for score, side in zip(scores, grid, strict=True):
            inner, outer = score[..., :side].logsumexp(-1), _lse(score[..., side:])
            real.append(inner)
            pads.append(outer)
            whole.append(torch.logaddexp(inner, outer))
        parts = [pads[0] + whole[1] + whole[2], real[0] + pads[1] + whole[2], real[0] + real[1] + pads[2]]
        return torch.stack(parts, dim=-1).logsumexp(-1).flatten(2)
    along_d, along_h, along_w = scores
    # A(c) sums over a, B(c) over b; "real" below the grid's end, "pad" beyond it, where the query is `pad_query`.
    real_a, real_b = along_h.logsumexp(-2), along_w.logsumexp(-2)  # (b, heads, i, j, c)
    at_h = torch.einsum("nc,jkc->njk", pad_query, _rows(tables[1], h, window))
    pad_a = (at_h + math.log(window - h))[:, None] if window > h else torch.full_like(at_h, -math.inf)[:, None]
    at_w = torch.einsum("nc,bkc->nbk", pad_query, _rows(tables[2], window, window))
    pad_b = _lse(at_w[:, w:].transpose(1, 2))[:, None, None]
    whole_b = torch.logaddexp(real_b, pad_b)
    every = torch.logaddexp(real_a, pad_a) + whole_b
    beyond = torch.logaddexp(real_a + pad_b, pad_a + whole_b)
    keys = torch.cat([beyond[..., :w], every[..., w:]], dim=-1)  # (b, heads, i, j, c)
    return (along_d + keys.unsqueeze(-2)).logsumexp(-1).flatten(2)


def _rows(table: torch.Tensor, queries: int, keys: int) -> torch.Tensor:
    """Return the table row of each pair of coordinates, (queries, keys, c)."""
    side = (table.shape[0] + 1) // 2
    offsets = torch.arange(queries, device=table.device)[:, None] - torch.arange(keys, device=table.device) + side - 1
    return table[offsets]


def _lse(values: torch.Tensor) -> torch.Tensor:
    """Return logsumexp over the last axis, -inf where that is empty."""
    return values.logsumexp(-1) if values.shape[-1] else values.new_full(values.shape[:-1], -math.inf)
