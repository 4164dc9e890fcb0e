"""Batches that mix datasets, each with channels and labels of its own (multi-dataset pretraining)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import torch

from uptake.core.errors import UsageError
from uptake.sampling.augment import apply_intensity
from uptake.sampling.batches import BatchRules, CutBatch, cut_sample
from uptake.sampling.store import TrainingCase
from uptake.sampling.windows import forced_samples

Sampling = Literal["case", "dataset"]
"""How the root of a dataset's size N weighs it: "case" as published (each case 1/√N, so the dataset √N); "dataset" as
the paper's sentence reads (the dataset 1/√N)."""

LARGEST_HEAD = 20
"""Foreground classes of one head; larger label sets are learnt in parts, as published."""


@dataclass(frozen=True, eq=False)
class Head:
    """Heads for one set of labels, or for a part of a large one.

    Attributes
    ----------
    name : str
    classes : tuple of str
        Background first.
    table : array (256,) uint8
        Stored label -> class of this head; 0 for labels of other parts.
    """

    name: str
    classes: tuple[str, ...]
    table: npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class DatasetCases:
    """The cases of one dataset, ready to cut windows from.

    Attributes
    ----------
    id : str
        Also the name of its stem.
    channels : tuple of str
    heads : tuple of Head
    cases : sequence of TrainingCase
    """

    id: str
    channels: tuple[str, ...]
    heads: tuple[Head, ...]
    cases: Sequence[TrainingCase]


def heads_of(dataset: str, labels: Mapping[int, str], *, largest: int = LARGEST_HEAD) -> tuple[Head, ...]:
    """Return the heads of a dataset: one, or one per part of `largest` classes.

    Parameters
    ----------
    dataset : str
        Its id; parts are called id_0, id_1, ...
    labels : mapping
        Label value (1 to 255) -> class name, background left out.
    largest : int

    Raises
    ------
    UsageError
        If there is no class.
    """
    values = sorted(labels)
    if not values:
        raise UsageError(f"dataset {dataset}: there is no label but the background, so there is nothing to learn.")
    parts = [values[start : start + largest] for start in range(0, len(values), largest)]
    found = []
    for number, part in enumerate(parts):
        table = np.zeros(256, dtype=np.uint8)
        table[part] = np.arange(1, len(part) + 1)
        name = dataset if len(parts) == 1 else f"{dataset}_{number}"
        found.append(Head(name, ("background", *(labels[value] for value in part)), table))
    return tuple(found)


def dataset_shares(counts: Sequence[int], sampling: Sampling = "case") -> npt.NDArray[np.float64]:
    """Return the probability that a sample comes from each dataset, (n,), from their numbers of cases.

    "case": √N_d / Σ √N, what the published code does by weighing each **case** with 1/√N_d. "dataset": 1/√N_d, divided
    by the sum, what the paper's sentence says of each **dataset**.

    Raises
    ------
    UsageError
        If a dataset is empty or the rule is unknown.
    """
    if sampling not in get_args(Sampling):
        raise UsageError(f"sampling {sampling!r} is unknown; choose one of {', '.join(get_args(Sampling))}.")
    if not counts or min(counts) < 1:
        raise UsageError(f"every dataset needs a case, came numbers of cases {list(counts)}.")
    root = np.sqrt(np.asarray(counts, dtype=np.float64))
    weights = root if sampling == "case" else 1.0 / root
    return np.asarray(weights / weights.sum())


@dataclass(frozen=True, eq=False)
class MixedSample:
    """One sample of a mixed batch, cut and moved, intensities as stored: its dataset's id, its head, its window."""

    stem: str
    head: str
    window: CutBatch


@dataclass(frozen=True, eq=False)
class MixedBatch:
    """What the training step takes, on its device.

    Attributes
    ----------
    channels : tuple of tensors (c, z, y, x) float32
        One per sample, with the channels of its dataset.
    labels : tensor (b, z, y, x) uint8
        In the classes of each sample's head.
    stems, heads : tuple of str
    """

    channels: tuple[torch.Tensor, ...]
    labels: torch.Tensor
    stems: tuple[str, ...]
    heads: tuple[str, ...]


class DatasetBatches:
    """Samples drawn over datasets, as `training.protocol.BatchSource` wants them.

    Each sample draws a dataset (`dataset_shares`), one of its heads, a case, and a window; its channels need not be
    those of the next sample.
    """

    def __init__(self, datasets: Sequence[DatasetCases], rules: BatchRules, *, sampling: Sampling = "case") -> None:
        self.datasets, self.rules = tuple(datasets), rules
        self.shares = dataset_shares([len(one.cases) for one in datasets], sampling)
        self._heads = {head.name: torch.from_numpy(head.table) for one in datasets for head in one.heads}

    def cut(self, step: int, rank: int = 0) -> tuple[MixedSample, ...]:
        """Return the samples of batch `step`."""
        rng = np.random.default_rng([self.rules.seed, step, rank])
        found = []
        for forced in forced_samples(self.rules.batch_size, self.rules.foreground_share):
            dataset = self.datasets[int(rng.choice(len(self.datasets), p=self.shares))]
            head = dataset.heads[int(rng.integers(len(dataset.heads)))]
            rules = replace(self.rules, channels=dataset.channels)
            found.append(MixedSample(dataset.id, head.name, cut_sample(rng, dataset.cases, rules, forced=bool(forced))))
        return tuple(found)

    def finished(self, cut: Sequence[MixedSample], device: torch.device) -> MixedBatch:
        """Return them on the device: intensities augmented, labels in the classes of each head."""
        channels, labels = [], []
        for sample in cut:
            window = sample.window
            channels.append(apply_intensity(window.channels.to(device), window.draws, ct=None)[0])
            labels.append(self._heads[sample.head][window.labels[0, 0].long()])
        stems, heads = tuple(one.stem for one in cut), tuple(one.head for one in cut)
        return MixedBatch(tuple(channels), torch.stack(labels).to(device), stems, heads)
