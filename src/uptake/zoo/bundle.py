"""Weights of a bundle: written once, read only after their checksum and every name and shape agree. No pickle."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save as save_tensors

from uptake.core.errors import CheckpointError, OutputError
from uptake.zoo.arrays import fold_files, read_arrays
from uptake.zoo.cards import CARD_FILE, Card

State = Mapping[str, torch.Tensor]
NUMBER_FORMATS = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}


def save_bundle(card: Card, states: Mapping[str, State], folder: Path) -> Card:
    """Write a bundle and return its card with the checksums filled in.

    Parameters
    ----------
    card : Card
        `files` is replaced; `stored_as` names the number format on disk.
    states : mapping
        Fold name ("0", ..., or "all") -> tensors, one name each.
    folder : Path
        Final place; an existing bundle there is replaced in one rename.

    Raises
    ------
    CheckpointError
        If a weight is not finite in the chosen number format.
    OutputError
        If `folder` holds anything but a bundle.
    """
    if folder.exists() and not (folder / CARD_FILE).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(f"{folder}: is in the way of the bundle and is none; move it, or choose another folder.")
    number_format = NUMBER_FORMATS[card.stored_as]
    folder.parent.mkdir(parents=True, exist_ok=True)
    old = folder.with_name(f".{folder.name}.old")
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    partial.chmod(0o755)
    try:
        files = {}
        for fold, state in sorted(states.items()):
            tensors = {name: tensor.to(number_format).contiguous() for name, tensor in sorted(state.items())}
            broken = [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]
            if broken:
                raise CheckpointError(f"fold {fold}: {broken[0]} is not finite as {card.stored_as}; store float32.")
            content = save_tensors(tensors)
            file = f"fold_{fold}.safetensors"
            (partial / file).write_bytes(content)
            files[file] = hashlib.sha256(content).hexdigest()
        card = replace(card, files=files)
        (partial / CARD_FILE).write_text(card.as_text(), encoding="utf-8")
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)
            folder.replace(old)
        partial.replace(folder)
        shutil.rmtree(old, ignore_errors=True)
    except BaseException:
        if old.exists() and not folder.exists():
            old.replace(folder)
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return card


def read_states(folder: Path, card: Card) -> dict[str, dict[str, torch.Tensor]]:
    """Return the tensors of every fold as float32.

    Raises
    ------
    CheckpointError
        If a weight file is absent, its SHA-256 is not the card's, or it is no safetensors file.
    """
    if not card.files:
        raise CheckpointError(f"{folder}: the card names no weight files.")
    return {
        fold: {name: torch.from_numpy(array) for name, array in read_arrays(folder, card, fold).items()}
        for fold in fold_files(card)
    }
