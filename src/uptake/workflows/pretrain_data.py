"""Any nnU-Net raw dataset made ready for multi-dataset pretraining: its own channels, its own labels, one grid."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from uptake.cases import HarmonisedCase
from uptake.core.errors import InputError, UsageError
from uptake.core.types import Vector3
from uptake.geometry.affine import spacing_mm
from uptake.geometry.grid import require_same_grid
from uptake.harmonise.crop import box, crop_to_nonzero
from uptake.harmonise.normalise import ChannelRule, normalise
from uptake.harmonise.onto import grid_shape
from uptake.harmonise.plan import Plan
from uptake.harmonise.resample import labels_resized, resized
from uptake.io.image import IMAGE_SUFFIXES, image_stem, image_suffix, read_image, read_labels
from uptake.io.write import sha256_of
from uptake.sampling.datasets import DatasetCases, heads_of
from uptake.sampling.store import stamp_of, store, stored

log = logging.getLogger(__name__)

LARGEST_VALUE = 254
"""Of a label; 255 marks what nobody knows."""

NORMALISATION = "zscore"
"""Of every channel: what MR, CT and PET of any site have in common. Fine-tuning may take another."""


@dataclass(frozen=True)
class LabelledFiles:
    """One case of a dataset: an image per channel, in order, and its label map."""

    id: str
    channels: tuple[Path, ...]
    labels: Path


@dataclass(frozen=True)
class RawDataset:
    """An nnU-Net raw dataset, nothing read yet but dataset.json.

    Attributes
    ----------
    id : str
        The number of ``Dataset<number>_<name>`` without leading zeros, or the folder's name.
    folder : Path
    channels : tuple of str
        Lower case, in the order of the file numbers: "ct", "pet", "t1", ...
    labels : mapping
        Value -> name, background left out.
    cases : tuple of LabelledFiles
    """

    id: str
    folder: Path
    channels: tuple[str, ...]
    labels: Mapping[int, str]
    cases: tuple[LabelledFiles, ...]


def raw_datasets(folders: Sequence[Path]) -> tuple[RawDataset, ...]:
    """Return the datasets in these folders, checked against one another.

    Raises
    ------
    UsageError
        If two have the same id.
    InputError
        If one has no dataset.json, no channel, no label but the background, no case, or an incomplete case.
    """
    found: list[RawDataset] = []
    for folder in folders:
        one = raw_dataset(Path(folder))
        twin = next((other for other in found if other.id == one.id), None)
        if twin is not None:
            raise UsageError(
                f"{one.folder} and {twin.folder} both have the id {one.id}; stems and heads are named by it. Rename "
                "one of the folders (Dataset<number>_<name>), or leave it out."
            )
        found.append(one)
    return tuple(found)


def raw_dataset(folder: Path) -> RawDataset:
    """Return one dataset; see `raw_datasets`."""
    content = _json(folder / "dataset.json")
    given = content.get("channel_names") or content.get("modality") or {}
    channels = tuple(str(given[key]).strip().lower() for key in sorted(given, key=int))
    if not channels:
        raise InputError(f"{folder / 'dataset.json'}: names no channels (channel_names).")
    if len(set(channels)) < len(channels) and set(channels) == {"ct"} and len(channels) == 2:
        channels = ("ct", "pet")  # the PET/CT convention: both called CT, to keep the absolute scale of SUV
    labels = _labels(content.get("labels") or {}, folder)
    images = {image_stem(path): path for path in sorted((folder / "imagesTr").glob("*")) if image_suffix(path)}
    masks = {image_stem(path): path for path in sorted((folder / "labelsTr").glob("*")) if image_suffix(path)}
    if not masks:
        raise InputError(
            f"{folder}: no label map in labelsTr ({', '.join(IMAGE_SUFFIXES)}); an nnU-Net raw dataset has imagesTr, "
            "labelsTr and dataset.json."
        )
    cases = []
    for case, mask in masks.items():
        paths = [images.get(f"{case}_{number:04d}") for number in range(len(channels))]
        if None in paths:
            number = paths.index(None)
            raise InputError(
                f"{folder / 'imagesTr'}: case {case} has no {case}_{number:04d} (channel {channels[number]}); "
                "add it, or take the case out of labelsTr."
            )
        cases.append(LabelledFiles(case, tuple(path for path in paths if path is not None), mask))
    match = re.match(r"Dataset0*(\d+)_", folder.resolve().name)
    return RawDataset(
        match[1] if match else re.sub(r"\W", "_", folder.resolve().name), folder, channels, labels, tuple(cases)
    )


def prepared_dataset(
    found: RawDataset, *, spacing: Vector3, orientation: str, cache: Path
) -> tuple[DatasetCases, Plan, dict[str, Any]]:
    """Return the dataset on the grid of pretraining through the cache, its plan, and the hashes of its files.

    Every image is cropped to non-zero, normalised by itself (z-score, as published), then resampled by cubic splines;
    labels go by their indicators.
    """
    plan = Plan(
        tuple(ChannelRule(name, NORMALISATION, 0.0, 0.0, 0.0, 1.0) for name in found.channels), spacing, orientation
    )
    allowed = np.array([0, *sorted(found.labels)])
    cases, hashes = [], {}
    for one in found.cases:
        hashes[one.id] = {path.parent.name + "/" + path.name: sha256_of(path) for path in (*one.channels, one.labels)}
        stamp = stamp_of(plan.as_json(), {**hashes[one.id], "labels": str(allowed.tolist())})
        case = stored(cache, one.id, stamp)
        if case is None:
            case = store(cache, _harmonised(one, plan, allowed), stamp)
        cases.append(case)
    return DatasetCases(found.id, found.channels, heads_of(found.id, found.labels), cases), plan, hashes


def _harmonised(files: LabelledFiles, plan: Plan, allowed: np.ndarray) -> HarmonisedCase:
    volumes = [read_image(path)[0] for path in files.channels]
    mask, _ = read_labels(files.labels)
    for volume, path in zip([*volumes[1:], mask], [*files.channels[1:], files.labels], strict=True):
        require_same_grid(volumes[0], volume, names=(str(files.channels[0]), str(path)))
    unknown = np.setdiff1d(np.unique(mask.array), allowed)
    if unknown.size:
        raise InputError(
            f"{files.labels}: holds label {int(unknown[0])}, which dataset.json does not name "
            f"(it names {allowed.tolist()[:12]})."
        )
    change = plan.axis_change(volumes[0].affine)
    images = [change.apply(np.asarray(volume.array, dtype=np.float32)) for volume in volumes]
    where = box(crop_to_nonzero(images))
    turned = spacing_mm(volumes[0].affine @ change.matrix(volumes[0].shape))
    z, y, x = images[0][where].shape
    after = grid_shape((z, y, x), turned, plan.spacing_mm)
    channels = np.stack(
        [
            resized(normalise(image[where], rule), after, order=plan.image_order)
            for image, rule in zip(images, plan.channels, strict=True)
        ]
    )
    labels = labels_resized(change.apply(mask.array)[where], after)
    return HarmonisedCase(files.id, channels, labels, np.ones(after, dtype=bool))


def _labels(given: Mapping[str, Any], folder: Path) -> dict[int, str]:
    where = folder / "dataset.json"
    if any(isinstance(value, list | tuple) for value in given.values()):
        raise InputError(f"{where}: labels that overlap (regions) cannot be learnt here; give plain labels.")
    try:
        # nnU-Net v1 wrote {value: name}, v2 writes {name: value}.
        by_value = {
            int(value) if not str(name).isdigit() else int(name): str(name) if not str(name).isdigit() else str(value)
            for name, value in given.items()
        }
    except (TypeError, ValueError) as error:
        raise InputError(f"{where}: labels are names with whole numbers, came {dict(given)}.") from error
    if "ignore" in by_value.values():
        raise InputError(f"{where}: an ignore label is not supported in pretraining; take these cases out.")
    found = {value: name for value, name in sorted(by_value.items()) if value != 0}
    if not found:
        raise InputError(
            f"{where}: has no label but the background, so there is nothing to learn from it; leave this dataset out."
        )
    if min(found) < 0 or max(found) > LARGEST_VALUE:
        raise InputError(f"{where}: labels go from {min(found)} to {max(found)}; 1 to {LARGEST_VALUE} can be learnt.")
    return found


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(
            f"{path}: is missing; an nnU-Net raw dataset has it, with channel_names and labels."
        ) from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as JSON ({error}).") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds a {type(content).__name__}, expected an object.")
    return content
