"""Harmonised cases on disk (Blosc2), cut window by window; a stamp notices when what they were made from changed."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from uptake.cases import HarmonisedCase
from uptake.core.errors import FileFormatError
from uptake.core.types import Shape3

STORE_FORMAT = 1
"""Raised whenever the layout or the meaning of a stored case changes; older caches are then made anew."""

FOREGROUND_VOXELS = 10_000
"""Lesion voxels kept per case for oversampling; at least one in a hundred where there are more (nnU-Net's rule)."""

FOREGROUND_SEED = 1234


@dataclass(frozen=True, eq=False)
class TrainingCase:
    """A harmonised case that windows are cut from.

    Attributes
    ----------
    id : str
    channels : array-like (c, z, y, x) float32
        A NumPy array or a Blosc2 array on disk: anything that slices to NumPy.
    labels : array-like (z, y, x) uint8
    foreground : array (n, 3) int32
        (z, y, x) of lesion voxels, a fixed random choice.
    organs : array-like (z, y, x) uint8 or None
        Organ classes; windows are never centred on them.
    """

    id: str
    channels: Any
    labels: Any
    foreground: npt.NDArray[np.int32]
    organs: Any = None

    @property
    def shape(self) -> Shape3:
        """(z, y, x) of the case on the model grid."""
        z, y, x = self.labels.shape
        return z, y, x

    def cut(self, lower: Shape3, size: Shape3) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
        """Return channels (c, *size) and label maps (m, *size) from voxel `lower` on; zeros where that lies outside.

        The first map holds the lesions, the second, if there is one, the organs.
        """
        n_channels = self.channels.shape[0]
        channels = np.zeros((n_channels, *size), dtype=np.float32)
        maps = [self.labels] if self.organs is None else [self.labels, self.organs]
        labels = np.zeros((len(maps), *size), dtype=np.uint8)
        inside = [(max(0, low), min(n, low + extent)) for low, extent, n in zip(lower, size, self.shape, strict=True)]
        if all(high > low for low, high in inside):
            source = tuple(slice(low, high) for low, high in inside)
            target = tuple(slice(a - low, b - low) for (a, b), low in zip(inside, lower, strict=True))
            channels[(slice(None), *target)] = self.channels[(slice(None), *source)]
            for number, one in enumerate(maps):
                labels[(number, *target)] = one[source]
        return channels, labels


def training_case(harmonised: HarmonisedCase) -> TrainingCase:
    """Return a training case in memory.

    Raises
    ------
    FileFormatError
        If the case has no labels.
    """
    if harmonised.labels is None:
        raise FileFormatError(f"{harmonised.id}: there is no reference mask, so it cannot be trained on.")
    found = _foreground(harmonised.labels)
    return TrainingCase(harmonised.id, harmonised.channels, harmonised.labels, found, harmonised.organs)


def stamp_of(
    plan: Mapping[str, Any], source_hashes: Mapping[str, str], organ_table: npt.NDArray[np.uint8] | None = None
) -> str:
    """Return the SHA-256 over all that a stored case depends on: format, plan, source files, numbering of organs."""
    content: dict[str, Any] = {"format": STORE_FORMAT, "plan": plan, "sources": dict(sorted(source_hashes.items()))}
    if organ_table is not None:
        content["organs"] = organ_table.tolist()
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def stored(folder: Path, case_id: str, stamp: str) -> TrainingCase | None:
    """Return the case as it lies in the cache `folder`; None if it is not there or was made from something else."""
    import blosc2

    place = folder / case_id
    try:
        if json.loads((place / "stamp.json").read_text())["stamp"] != stamp:
            return None
        channels = blosc2.open(str(place / "channels.b2nd"), mode="r")
        labels = blosc2.open(str(place / "labels.b2nd"), mode="r")
        organs = place / "organs.b2nd"
        return TrainingCase(
            case_id,
            channels,
            labels,
            np.load(place / "foreground.npy", allow_pickle=False),
            blosc2.open(str(organs), mode="r") if organs.exists() else None,
        )
    except (OSError, EOFError, ValueError, TypeError, KeyError, RuntimeError):
        return None


def store(folder: Path, harmonised: HarmonisedCase, stamp: str) -> TrainingCase:
    """Write a case into the cache and return it from there.

    The case appears under its name in one rename; a run killed half-way leaves a temporary folder, never half a case.

    Raises
    ------
    FileFormatError
        If the case has no labels.
    """
    import blosc2

    case = training_case(harmonised)
    folder.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{case.id}.", dir=folder))
    try:
        options = {"codec": blosc2.Codec.LZ4HC, "clevel": 5, "nthreads": 1}
        arrays = {"channels": case.channels, "labels": case.labels}
        if case.organs is not None:
            arrays["organs"] = case.organs
        for name, array in arrays.items():
            chunks = tuple(min(n, 64) for n in array.shape[-3:])
            chunks = (1, *chunks) if array.ndim == 4 else chunks
            blosc2.asarray(
                np.ascontiguousarray(array),
                urlpath=str(partial / f"{name}.b2nd"),
                mode="w",
                chunks=chunks,
                cparams=options,
            )
        np.save(partial / "foreground.npy", case.foreground, allow_pickle=False)
        (partial / "stamp.json").write_text(json.dumps({"stamp": stamp, "absent": harmonised.absent}))
        place = folder / case.id
        if place.exists():
            shutil.rmtree(place)
        partial.replace(place)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    found = stored(folder, case.id, stamp)
    if found is None:
        raise FileFormatError(f"{folder / case.id}: the cached case cannot be read back; is the disk full?")
    return found


def _foreground(labels: npt.NDArray[np.uint8]) -> npt.NDArray[np.int32]:
    inside = np.flatnonzero(labels)
    wanted = min(inside.size, max(FOREGROUND_VOXELS, inside.size // 100))
    chosen = np.random.default_rng(FOREGROUND_SEED).choice(inside, wanted, replace=False) if inside.size else inside
    return np.stack(np.unravel_index(np.sort(chosen), labels.shape), axis=1).astype(np.int32)
