"""nnU-Net v2 model folders and checkpoints: read without trust, under one name a tensor; and written for nnU-Net.

A results folder ``Trainer__Plans__Configuration/`` holds plans.json, dataset.json and fold_k/checkpoint_*.pth. Plans
are kept as plain dictionaries here; `workflows.import_weights` turns them into a method's Config and Plan.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from uptake.core.errors import CheckpointError, UsageError
from uptake.zoo.restricted import load_restricted

State = dict[str, torch.Tensor]

CHECKPOINTS = {"final": "checkpoint_final.pth", "best": "checkpoint_best.pth", "latest": "checkpoint_latest.pth"}

PREFIXES = ("module.", "_orig_mod.")
"""Put before every name by data-parallel training and by graph compilation."""

ALIAS = re.compile(r"\.all_modules\.(\d+)\.")
"""``X.all_modules.0.w`` is ``X.conv.w``, 1 is the norm: each tensor is listed twice."""

STEM = re.compile(r"^encoder\.stem\.(\d+(?:_\d+)?|[^.]+(?=\.convs\.))\.")
"""Multi-dataset pretraining keeps one first convolution a dataset, ``encoder.stem.<id>.convs.0...``."""

HEADS = ("decoder.seg_layers.", "decoder.organ_seg_layers.")


@dataclass(frozen=True, eq=False)
class ModelFolder:
    """What an nnU-Net results folder says.

    Attributes
    ----------
    folder : Path
    trainer, configuration : str
    plans, dataset : mapping
        plans.json and dataset.json.
    states : mapping
        Fold name ("0", ..., "all") -> tensors under one name each, float32.
    mirror_axes : tuple of int
        Axes that training mirrored.
    epochs : int or None
        Completed.
    """

    folder: Path
    trainer: str
    configuration: str
    plans: Mapping[str, Any]
    dataset: Mapping[str, Any]
    states: Mapping[str, State]
    mirror_axes: tuple[int, ...]
    epochs: int | None


def read_model_folder(folder: Path, *, folds: Sequence[str] | None = None, checkpoint: str = "final") -> ModelFolder:
    """Return a results folder of nnU-Net v2, every checkpoint read with torch's restricted unpickler.

    Parameters
    ----------
    folder : Path
        Holds plans.json, dataset.json and fold_k; a folder above it that leads to just one such folder will do.
    folds : sequence of str, optional
        By default every fold that is there.
    checkpoint : str
        "final", "best" or "latest".

    Raises
    ------
    CheckpointError
        If a file or a fold is missing or damaged, a checkpoint holds anything but tensors and plain values, or aliases
        of one tensor differ.
    UsageError
        If `checkpoint` is unknown.
    """
    if checkpoint not in CHECKPOINTS:
        raise UsageError(f"checkpoint {checkpoint!r} is unknown; choose one of {', '.join(CHECKPOINTS)}.")
    folder = _results_folder(Path(folder))
    plans, dataset = _json(folder / "plans.json"), _json(folder / "dataset.json")
    there = sorted(path.name.removeprefix("fold_") for path in folder.glob("fold_*") if path.is_dir())
    wanted = list(folds) if folds is not None else there
    if not wanted:
        raise CheckpointError(f"{folder}: no fold_* folder there; expected fold_0 to fold_4, or fold_all.")
    missing = [fold for fold in wanted if not (folder / f"fold_{fold}" / CHECKPOINTS[checkpoint]).is_file()]
    if missing:
        raise CheckpointError(
            f"{folder}: fold {', '.join(missing)} has no {CHECKPOINTS[checkpoint]}; there are folds "
            f"{', '.join(there) or 'none'}. Name the folds that are complete (--folds), or another --checkpoint."
        )
    states: dict[str, State] = {}
    seen: list[dict[str, Any]] = []
    for fold in wanted:
        path = folder / f"fold_{fold}" / CHECKPOINTS[checkpoint]
        content = read_checkpoint(path)
        states[fold] = canonical_state(content["network_weights"], name=str(path))
        seen.append({key: value for key, value in content.items() if key != "network_weights"})
    first = seen[0]
    init = first.get("init_args") or {}
    parts = folder.name.split("__")
    configuration = str(init.get("configuration") or (parts[2] if len(parts) == 3 else ""))
    if configuration not in plans.get("configurations", {}):
        known = ", ".join(plans.get("configurations", {})) or "none"
        raise CheckpointError(f"{folder}: configuration {configuration!r} is not in plans.json (it has {known}).")
    mirror = first.get("inference_allowed_mirroring_axes")
    return ModelFolder(
        folder,
        str(first.get("trainer_name") or parts[0]),
        configuration,
        plans,
        dataset,
        states,
        tuple(int(axis) for axis in mirror) if mirror is not None else (),
        first.get("current_epoch"),
    )


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return an nnU-Net checkpoint; nothing in the file is run.

    Allowed besides tensors and plain values are NumPy's scalars and arrays, which nnU-Net's log holds.

    Raises
    ------
    CheckpointError
        If the file is missing, damaged, asks for any other global, or is no nnU-Net checkpoint.
    """
    path = Path(path)
    content = load_restricted(path)
    if not isinstance(content, dict) or not isinstance(content.get("network_weights"), dict):
        raise CheckpointError(f"{path}: is no nnU-Net v2 checkpoint: it has no network_weights.")
    return content


def canonical_state(weights: Mapping[str, Any], *, name: str) -> State:
    """Return the tensors under one name each, float32; LesionTracer: 966 entries become 274, plain ResEnc-L 956.

    Prefixes of wrappers are taken off. Names with ``.all_modules.`` and the decoder's second listing of the encoder are
    aliases: each is compared with the tensor it stands for, then dropped.

    Raises
    ------
    CheckpointError
        If an alias differs from its tensor, or stands for none.
    """
    plain: State = {}
    for key, tensor in weights.items():
        if not isinstance(tensor, torch.Tensor):
            raise CheckpointError(f"{name}: {key} is a {type(tensor).__name__}, expected a tensor.")
        plain[_unwrapped(key)] = tensor
    kept = {
        key: tensor
        for key, tensor in plain.items()
        if ".all_modules." not in key and not key.startswith("decoder.encoder.")
    }
    for key, tensor in plain.items():
        if key in kept:
            continue
        original = (
            _original(key.removeprefix("decoder."), kept)
            if key.startswith("decoder.encoder.")
            else _original(key, kept)
        )
        if original is None:
            raise CheckpointError(f"{name}: {key} is an alias of no tensor in the file.")
        if not torch.equal(kept[original], tensor):
            raise CheckpointError(
                f"{name}: {key} differs from {original}, of which it must be a copy; the file is damaged."
            )
    return {key: tensor.detach().to(torch.float32).contiguous().clone() for key, tensor in kept.items()}


def stems(state: Mapping[str, torch.Tensor]) -> dict[str, int]:
    """Return the dataset ids of a multi-dataset checkpoint -> input channels of their stems; empty for others."""
    found = {}
    for key, tensor in state.items():
        match = STEM.match(key)
        if match and tensor.ndim == 5:
            found.setdefault(match.group(1), int(tensor.shape[1]))
    return found


def with_stem(state: Mapping[str, torch.Tensor], stem: str) -> State:
    """Return encoder and decoder of a multi-dataset checkpoint behind one of its stems, without any heads.

    Raises
    ------
    CheckpointError
        If it has no such stem.
    """
    there = stems(state)
    if stem not in there:
        raise CheckpointError(f"stem {stem!r} is not in the checkpoint; it has {', '.join(there) or 'none'}.")
    result: State = {}
    for key, tensor in state.items():
        match = STEM.match(key)
        if match and match.group(1) != stem:
            continue
        if not key.startswith(HEADS):
            result[STEM.sub("encoder.stem.", key)] = tensor
    return result


def resolved_configuration(plans: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return a configuration of plans.json with what it inherits filled in.

    Raises
    ------
    CheckpointError
        If it, or one it inherits from, does not exist, or inheritance goes in a circle.
    """
    chain: list[Mapping[str, Any]] = []
    visited: list[str] = []
    while name:
        if name in visited:
            raise CheckpointError(f"plans.json: configurations inherit in a circle: {' from '.join([*visited, name])}.")
        if name not in plans["configurations"]:
            raise CheckpointError(f"plans.json: configuration {name!r} does not exist.")
        visited.append(name)
        chain.append(plans["configurations"][name])
        name = chain[-1].get("inherits_from", "")
    result: dict[str, Any] = {}
    for layer in reversed(chain):
        result.update(copy.deepcopy(layer))
    return result


def architecture(configuration: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return class name and arguments of the network, from plans of the new format or of that before nnU-Net 2.4."""
    if "architecture" in configuration:
        found = configuration["architecture"]
        return str(found["network_class_name"]).rpartition(".")[2], dict(found["arch_kwargs"])
    kind = str(configuration["UNet_class_name"])
    depth = list(configuration["n_conv_per_stage_encoder"])
    base, widest = configuration["UNet_base_num_features"], configuration["unet_max_num_features"]
    return kind, {
        "n_stages": len(depth),
        "features_per_stage": [min(base * 2**stage, widest) for stage in range(len(depth))],
        "kernel_sizes": configuration["conv_kernel_sizes"],
        "strides": configuration["pool_op_kernel_sizes"],
        ("n_conv_per_stage" if kind == "PlainConvUNet" else "n_blocks_per_stage"): depth,
        "n_conv_per_stage_decoder": list(configuration["n_conv_per_stage_decoder"]),
        "conv_bias": True,
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
    }


def full_state(network: nn.Module) -> State:
    """Return every entry that nnU-Net's loader expects, aliases included (966 for LesionTracer)."""
    return {key: tensor.detach().to("cpu", torch.float32).clone() for key, tensor in network.state_dict().items()}


def write_checkpoint(path: Path, network: nn.Module, extras: Mapping[str, Any]) -> None:
    """Write a checkpoint that nnU-Net's predictor and its fine-tuning load."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "network_weights": full_state(network),
        "optimizer_state": None,
        "grad_scaler_state": None,
        "logging": {},
        "_best_ema": None,
        "current_epoch": 0,
        **extras,
    }
    temporary = path.with_name(f".{path.name}.partial")
    try:
        torch.save(content, temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _results_folder(folder: Path) -> Path:
    if (folder / "plans.json").is_file():
        return folder
    below = sorted(path.parent for path in folder.glob("**/plans.json")) if folder.is_dir() else []
    if len(below) == 1:
        return below[0]
    if below:
        names = ", ".join(str(path.relative_to(folder)) for path in below[:5])
        raise CheckpointError(f"{folder}: holds {len(below)} model folders; give one of them: {names}.")
    raise CheckpointError(
        f"{folder}: no plans.json there. Expected an nnU-Net results folder, "
        "Trainer__Plans__Configuration with plans.json, dataset.json and fold_*."
    )


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: is missing; an nnU-Net results folder has it.") from error
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read as JSON ({error}).") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: holds a {type(content).__name__}, expected an object.")
    return content


def _unwrapped(key: str) -> str:
    while key.startswith(PREFIXES):
        for prefix in PREFIXES:
            key = key.removeprefix(prefix)
    return key


def _original(key: str, kept: Mapping[str, Any]) -> str | None:
    """Return the kept name that `key` is an alias of."""
    match = ALIAS.search(key)
    candidates = (
        [key]
        if match is None
        else [key[: match.start()] + f".{part}." + key[match.end() :] for part in ("conv", "norm")]
    )
    if match is not None:  # position 0 is the convolution; then a dropout may stand before the norm
        candidates = candidates[:1] if match.group(1) == "0" else candidates[1:]
    return next((name for name in candidates if name in kept), None)
