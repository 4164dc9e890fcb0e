"""Checkpoint files of SAM-Med3D and of what was trained from it (SegAnyPET): weights and sizes, nothing else."""

from __future__ import annotations

import argparse
import collections
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from uptake.core.errors import CheckpointError
from uptake.zoo.restricted import load_restricted

WEIGHTS = "model_state_dict"
PREFIX = "module."
"""Put before every name by data-parallel training."""

UNUSED = ("pixel_mean", "pixel_std")
"""Of the two-dimensional original; the 3-D network does not read them."""

PARTS = ("image_encoder.", "prompt_encoder.", "mask_decoder.")

LICENCES = (
    "The file does not say under which licence it may be used. SAM-Med3D is Apache-2.0. SegAnyPET's repository has no "
    "licence file, so all rights are reserved: use its weights only with its authors' leave, and do not pass this "
    "bundle on."
)


@dataclass(frozen=True, eq=False)
class Sam3dCheckpoint:
    """What a checkpoint holds.

    Attributes
    ----------
    state : mapping
        Tensors by name, float32.
    sizes : mapping
        Arguments of the network, read from the tensors' names and shapes.
    window : tuple of int
        Voxels.
    channels : int
    point_kinds : int
        2, or 4 with embeddings for the corners of boxes.
    epoch : int or None
    """

    state: Mapping[str, torch.Tensor]
    sizes: Mapping[str, Any]
    window: tuple[int, int, int]
    channels: int
    point_kinds: int
    epoch: int | None


def read_sam3d(path: Path) -> Sam3dCheckpoint:
    """Return weights and sizes of a checkpoint file; its optimiser, logs and arguments are left behind.

    Raises
    ------
    CheckpointError
        If it is damaged, asks for anything but tensors and plain values, or is no SAM-Med3D.
    """
    content = load_restricted(path, allowed=[argparse.Namespace, collections.Counter])
    weights = content.get(WEIGHTS) if isinstance(content, dict) else None
    if not isinstance(weights, dict):
        found = ", ".join(map(str, list(content)[:6])) if isinstance(content, dict) else type(content).__name__
        raise CheckpointError(f"{path}: is no SAM-Med3D checkpoint: it has no {WEIGHTS} (it has {found}).")
    state: dict[str, torch.Tensor] = {}
    for key, tensor in weights.items():
        name = str(key).removeprefix(PREFIX)
        if name in UNUSED:
            continue
        if not isinstance(tensor, torch.Tensor):
            raise CheckpointError(f"{path}: {key} is a {type(tensor).__name__}, expected a tensor.")
        if not name.startswith(PARTS):
            raise CheckpointError(f"{path}: {key} is no part of SAM-Med3D ({', '.join(p[:-1] for p in PARTS)}).")
        if not torch.isfinite(tensor).all():
            raise CheckpointError(f"{path}: {key} holds NaN or infinite numbers; the file is damaged.")
        state[name] = tensor.detach().to(torch.float32).contiguous().clone()
    try:
        sizes, window, channels = _sizes(state)
    except (KeyError, IndexError, ValueError) as error:
        raise CheckpointError(
            f"{path}: a tensor that says how large the network is is missing or misshapen ({error}); the file is "
            "incomplete."
        ) from error
    kinds = _count(state, r"prompt_encoder\.point_embeddings\.(\d+)\.")
    epoch = content.get("epoch")
    return Sam3dCheckpoint(state, sizes, window, channels, kinds, int(epoch) if isinstance(epoch, int) else None)


def _sizes(state: Mapping[str, torch.Tensor]) -> tuple[dict[str, Any], tuple[int, int, int], int]:
    dim, channels, patch, *_ = state["image_encoder.patch_embed.proj.weight"].shape
    _, d, h, w, _ = state["image_encoder.pos_embed"].shape
    depth = _count(state, r"image_encoder\.blocks\.(\d+)\.")
    rows = [int(state[f"image_encoder.blocks.{n}.attn.rel_pos_d"].shape[0] + 1) // 2 for n in range(depth)]
    windows = {side for side in rows if side != d}
    if len(windows) > 1:
        raise ValueError(f"blocks with windows of {sorted(windows)}")
    sizes = {
        "patch": patch,
        "dim": dim,
        "depth": depth,
        "heads": dim // state["image_encoder.blocks.0.attn.rel_pos_d"].shape[1],
        "attention_window": windows.pop() if windows else 0,
        "global_blocks": tuple(n for n, side in enumerate(rows) if side == d),
        "prompt_dim": state["image_encoder.neck.0.weight"].shape[0],
        "prompt_hidden": state["mask_decoder.transformer.layers.0.mlp.lin1.weight"].shape[0],
    }
    return sizes, (d * patch, h * patch, w * patch), int(channels)


def _count(state: Mapping[str, torch.Tensor], pattern: str) -> int:
    """Return how many consecutive numbers from 0 a part of the names takes."""
    numbers = {int(match.group(1)) for name in state if (match := re.match(pattern, name))}
    if numbers != set(range(len(numbers))):
        raise ValueError(f"numbers {sorted(numbers)} are not consecutive")
    return len(numbers)
