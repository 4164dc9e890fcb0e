"""Weights of a bundle as arrays: read after their checksum agrees, without torch and without a pickle."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from uptake.core.errors import CheckpointError
from uptake.zoo.cards import Card

_STORED: dict[str, type[np.generic]] = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16}
"""Number formats of safetensors that bundles have. NumPy has no bfloat16: the upper half of a float32's bits."""


def fold_files(card: Card) -> dict[str, str]:
    """Return fold name -> weight file, in the order of the names."""
    return {Path(file).stem.removeprefix("fold_"): file for file in sorted(card.files)}


def read_arrays(folder: Path, card: Card, fold: str) -> dict[str, npt.NDArray[np.float32]]:
    """Return the weights of one fold by name, float32.

    Raises
    ------
    CheckpointError
        If the weight file is absent, its SHA-256 is not the card's, or it is no safetensors file of real numbers.
    """
    from safetensors import SafetensorError, deserialize

    file = fold_files(card)[fold]
    path = folder / file
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: this weight file of the bundle is missing; fetch or copy it again.") from error
    found = hashlib.sha256(content).hexdigest()
    if found != card.files[file]:
        raise CheckpointError(
            f"{path}: the weights were altered or the copy is incomplete (SHA-256 {found[:12]}…, "
            f"the card says {card.files[file][:12]}…). Fetch or copy the bundle again."
        )
    try:
        entries = deserialize(content)
    except SafetensorError as error:
        raise CheckpointError(f"{path}: not a safetensors file ({error}).") from error
    del content
    arrays = {}
    while entries:  # one tensor at a time is let go of as it stands in the file
        name, entry = entries.pop(0)
        if entry["dtype"] not in _STORED:
            raise CheckpointError(f"{path}: {name} is stored as {entry['dtype']}; bundles hold F32, F16 or BF16.")
        stored = np.frombuffer(entry["data"], dtype=_STORED[entry["dtype"]])
        if entry["dtype"] == "BF16":
            values = (stored.astype(np.uint32) << 16).view(np.float32)
        else:
            values = stored.astype(np.float32, copy=False)
        arrays[name] = values.reshape(entry["shape"])
    return arrays
