"""Harmonised cases on disk (Blosc2), cut window by window; a stamp notices when what they were made from changed."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from uptake.cases import HarmonisedCase, Scale
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
    scales : tuple of Scale
        How each channel was normalised.
    target : array-like (z, y, x) float32 or None
        Full-dose PET in the units of the PET channel.
    """

    id: str
    channels: Any
    labels: Any
    foreground: npt.NDArray[np.int32]
    organs: Any = None
    scales: tuple[Scale, ...] = ()
    target: Any = None

    @property
    def shape(self) -> Shape3:
        """(z, y, x) of the case on the model grid."""
        z, y, x = self.labels.shape
        return z, y, x

    def cut(self, lower: Shape3, size: Shape3) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
        """Return channels (c, *size) and label maps (m, *size) from voxel `lower` on; zeros where that lies outside.

        The first map holds the lesions, the second, if there is one, the organs. A target is cut as one more channel,
        the last.
        """
        n_channels = self.channels.shape[0]
        channels = np.zeros((n_channels + (self.target is not None), *size), dtype=np.float32)
        maps = [self.labels] if self.organs is None else [self.labels, self.organs]
        labels = np.zeros((len(maps), *size), dtype=np.uint8)
        inside = [(max(0, low), min(n, low + extent)) for low, extent, n in zip(lower, size, self.shape, strict=True)]
        if all(high > low for low, high in inside):
            source = tuple(slice(low, high) for low, high in inside)
            target = tuple(slice(a - low, b - low) for (a, b), low in zip(inside, lower, strict=True))
            channels[(slice(n_channels), *target)] = self.channels[(slice(None), *source)]
            if self.target is not None:
                channels[(n_channels, *target)] = self.target[source]
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
    return TrainingCase(
        harmonised.id,
        harmonised.channels,
        harmonised.labels,
        found,
        harmonised.organs,
        harmonised.scales,
        harmonised.target,
    )


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
        written = json.loads((place / "stamp.json").read_text())
        if written["stamp"] != stamp:
            return None
        channels = blosc2.open(str(place / "channels.b2nd"), mode="r")
        labels = blosc2.open(str(place / "labels.b2nd"), mode="r")
        organs, target = place / "organs.b2nd", place / "target.b2nd"
        return TrainingCase(
            case_id,
            channels,
            labels,
            np.load(place / "foreground.npy", allow_pickle=False),
            blosc2.open(str(organs), mode="r") if organs.exists() else None,
            tuple(Scale(**scale) for scale in written.get("scales", ())),
            blosc2.open(str(target), mode="r") if target.exists() else None,
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
        for name in ("organs", "target"):
            if getattr(case, name) is not None:
                arrays[name] = getattr(case, name)
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
        about = {"stamp": stamp, "absent": harmonised.absent, "scales": [asdict(scale) for scale in case.scales]}
        (partial / "stamp.json").write_text(json.dumps(about))
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
    rng = np.random.default_rng(FOREGROUND_SEED)
    inside = np.flatnonzero(labels)
    classes = np.unique(labels.ravel()[inside])
    if classes.size > 1:
        # Each class the same number of voxels, so that a forced window is centred on any of them alike, as in nnU-Net.
        share, values = FOREGROUND_VOXELS // classes.size, labels.ravel()[inside]
        chosen = np.concatenate([rng.choice(inside[values == one], share) for one in classes])
    else:
        wanted = min(inside.size, max(FOREGROUND_VOXELS, inside.size // 100))
        chosen = rng.choice(inside, wanted, replace=False) if inside.size else inside
    return np.stack(np.unravel_index(np.sort(chosen), labels.shape), axis=1).astype(np.int32)
