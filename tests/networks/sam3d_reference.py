"""The published computation of SAM-Med3D, slow and literal: windows padded with real zeros, a softmax over every key,
all loops and all masks. Written from the recipe for the tests; it shares no line with the package."""

from __future__ import annotations

import math
from itertools import product

import torch


def linear(state, name, x):
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def norm(x, weight, bias, eps):
    mean = x.mean(-1, keepdim=True)
    variance = ((x - mean) ** 2).mean(-1, keepdim=True)
    return (x - mean) / torch.sqrt(variance + eps) * weight + bias


def token_norm(state, name, x, eps):
    return norm(x, state[f"{name}.weight"], state[f"{name}.bias"], eps)


def voxel_norm(state, name, x):
    return token_norm(state, name, x.permute(0, 2, 3, 4, 1), 1e-6).permute(0, 4, 1, 2, 3)


def gelu(x):
    return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))


def relative_bias(query, tables, rel_pos):
    """(n, d, h, w, c) unscaled queries of one head -> bias (n, d, h, w, d, h, w), entry by entry of each key."""
    n, d, h, w, _ = query.shape
    bias = query.new_zeros(n, d, h, w, d, h, w)
    for a, b, c in product(range(d), range(h), range(w)):
        for i, j in product(range(d), range(h)):
            for k in range(w):  # the query is (i, j, k)
                if rel_pos == "legacy":
                    terms = (
                        query[:, i, j, k] @ tables[0][i - c + d - 1],
                        query[:, i, j, a] @ tables[1][j - c + h - 1],
                        query[:, i, j, b] @ tables[2][b - c + w - 1],
                    )
                else:
                    terms = (
                        query[:, i, j, k] @ tables[0][i - a + d - 1],
                        query[:, i, j, k] @ tables[1][j - b + h - 1],
                        query[:, i, j, k] @ tables[2][k - c + w - 1],
                    )
                bias[:, i, j, k, a, b, c] = sum(terms)
    return bias


def relative_bias_by_tables(query, tables, rel_pos):
    """The same, one gather a table: for windows of 14³, where the loops above take minutes."""
    d, h, w = query.shape[1:4]
    rows = [
        table[torch.arange(side)[:, None] - torch.arange(side) + side - 1]
        for table, side in zip(tables, (d, h, w), strict=True)
    ]
    along = [torch.einsum(f"ndhwc,{x}kc->ndhwk", query, r) for x, r in zip("dhw", rows, strict=True)]
    if rel_pos == "legacy":
        return along[0][:, :, :, :, None, None] + along[1][:, :, :, None, :, None] + along[2][:, :, :, None, None]
    return along[0][..., None, None] + along[1][..., None, :, None] + along[2][..., None, None, :]


def attention(state, name, x, heads, rel_pos, bias_of):
    b, d, h, w, dim = x.shape
    width = dim // heads
    qkv = linear(state, f"{name}.qkv", x).reshape(b, d * h * w, 3, heads, width)
    tables = [state[f"{name}.rel_pos_{axis}"] for axis in "dhw"]
    found = []
    for head in range(heads):
        q, k, v = (qkv[:, :, part, head] for part in range(3))
        scores = (q * width**-0.5) @ k.transpose(1, 2)
        scores = scores + bias_of(q.reshape(b, d, h, w, width), tables, rel_pos).reshape(scores.shape)
        found.append(scores.softmax(-1) @ v)
    return linear(state, f"{name}.proj", torch.cat(found, dim=-1)).reshape(b, d, h, w, dim)


def encoder(state, image, *, patch, heads, depth, window, global_blocks, rel_pos, bias_of=relative_bias):
    name = "image_encoder"
    x = torch.nn.functional.conv3d(
        image, state[f"{name}.patch_embed.proj.weight"], state[f"{name}.patch_embed.proj.bias"], stride=patch
    ).permute(0, 2, 3, 4, 1)
    x = x + state[f"{name}.pos_embed"]
    d, h, w = x.shape[1:4]
    for index in range(depth):
        block = f"{name}.blocks.{index}"
        y = token_norm(state, f"{block}.norm1", x, 1e-6)
        if index not in global_blocks:
            padded = y.new_zeros(y.shape[0], window, window, window, y.shape[-1])
            padded[:, :d, :h, :w] = y
            y = attention(state, f"{block}.attn", padded, heads, rel_pos, bias_of)[:, :d, :h, :w]
        else:
            y = attention(state, f"{block}.attn", y, heads, rel_pos, bias_of)
        x = x + y
        y = token_norm(state, f"{block}.norm2", x, 1e-6)
        x = x + linear(state, f"{block}.mlp.lin2", gelu(linear(state, f"{block}.mlp.lin1", y)))
    x = torch.nn.functional.conv3d(x.permute(0, 4, 1, 2, 3), state[f"{name}.neck.0.weight"])
    x = voxel_norm(state, f"{name}.neck.1", x)
    x = torch.nn.functional.conv3d(x, state[f"{name}.neck.2.weight"], padding=1)
    return voxel_norm(state, f"{name}.neck.3", x)


def fourier(state, position):
    angle = 2 * math.pi * ((2 * position - 1) @ state["prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"])
    return torch.cat([angle.sin(), angle.cos(), angle.sin()], dim=-1)


def decoder(state, embedding, points, kinds, low_res, *, window, heads=8, depth=2):
    """Logits (b, 4, ...) of every mask and the quality head, for points (b, n, 3) or none (n = 0)."""
    b, dim = embedding.shape[:2]
    grid = embedding.shape[2:]
    tokens = [state["mask_decoder.iou_token.weight"], state["mask_decoder.mask_tokens.weight"]]
    tokens = torch.cat(tokens).expand(b, -1, -1)
    if points.shape[1]:
        names = torch.cat([state[f"prompt_encoder.point_embeddings.{kind}.weight"] for kind in (0, 1)])
        sparse = fourier(state, (points + 0.5) / window) + names[kinds]
        nothing = state["prompt_encoder.not_a_point_embed.weight"].expand(b, 1, -1)
        tokens = torch.cat([tokens, sparse, nothing], dim=1)
    mask = "prompt_encoder.mask_downscaling"
    dense = torch.nn.functional.conv3d(low_res, state[f"{mask}.0.weight"], state[f"{mask}.0.bias"], stride=2)
    dense = gelu(voxel_norm(state, f"{mask}.1", dense))
    dense = torch.nn.functional.conv3d(dense, state[f"{mask}.3.weight"], state[f"{mask}.3.bias"], stride=2)
    dense = gelu(voxel_norm(state, f"{mask}.4", dense))
    dense = torch.nn.functional.conv3d(dense, state[f"{mask}.6.weight"], state[f"{mask}.6.bias"])
    code = embedding.new_zeros(*grid, dim)
    for i, j, k in product(*map(range, grid)):
        place = embedding.new_tensor([(j + 0.5) / grid[1], (i + 0.5) / grid[0], (k + 0.5) / grid[2]])
        code[i, j, k] = fourier(state, place)
    code = code.reshape(1, -1, dim)
    image = (embedding + dense).reshape(b, dim, -1).transpose(1, 2)

    def attend(name, q, k, v):
        q, k, v = (
            linear(state, f"{name}.q_proj", q),
            linear(state, f"{name}.k_proj", k),
            linear(state, f"{name}.v_proj", v),
        )
        width = q.shape[-1] // heads
        found = []
        for head in range(heads):
            part = slice(head * width, (head + 1) * width)
            weights = (q[..., part] @ k[..., part].transpose(1, 2) / math.sqrt(width)).softmax(-1)
            found.append(weights @ v[..., part])
        return linear(state, f"{name}.out_proj", torch.cat(found, dim=-1))

    first = tokens
    for index in range(depth):
        layer = f"mask_decoder.transformer.layers.{index}"
        if index == 0:
            tokens = attend(f"{layer}.self_attn", tokens, tokens, tokens)
        else:
            tokens = tokens + attend(f"{layer}.self_attn", tokens + first, tokens + first, tokens)
        tokens = token_norm(state, f"{layer}.norm1", tokens, 1e-5)
        tokens = tokens + attend(f"{layer}.cross_attn_token_to_image", tokens + first, image + code, image)
        tokens = token_norm(state, f"{layer}.norm2", tokens, 1e-5)
        tokens = tokens + linear(state, f"{layer}.mlp.lin2", linear(state, f"{layer}.mlp.lin1", tokens).clamp_min(0))
        tokens = token_norm(state, f"{layer}.norm3", tokens, 1e-5)
        image = image + attend(f"{layer}.cross_attn_image_to_token", image + code, tokens + first, tokens)
        image = token_norm(state, f"{layer}.norm4", image, 1e-5)
    last = "mask_decoder.transformer.final_attn_token_to_image"
    tokens = tokens + attend(last, tokens + first, image + code, image)
    tokens = token_norm(state, "mask_decoder.transformer.norm_final_attn", tokens, 1e-5)
    up = "mask_decoder.output_upscaling"
    fine = image.transpose(1, 2).reshape(b, dim, *grid)
    fine = torch.nn.functional.conv_transpose3d(fine, state[f"{up}.0.weight"], state[f"{up}.0.bias"], stride=2)
    fine = gelu(voxel_norm(state, f"{up}.1", fine))
    fine = gelu(torch.nn.functional.conv_transpose3d(fine, state[f"{up}.3.weight"], state[f"{up}.3.bias"], stride=2))

    def head(name, x):
        for index in range(3):
            x = linear(state, f"{name}.layers.{index}", x)
            x = x.clamp_min(0) if index < 2 else x
        return x

    masks = []
    for number in range(4):
        weights = head(f"mask_decoder.output_hypernetworks_mlps.{number}", tokens[:, 1 + number])
        masks.append((weights[:, :, None, None, None] * fine).sum(1))
    return torch.stack(masks, dim=1), head("mask_decoder.iou_prediction_head", tokens[:, 0])
