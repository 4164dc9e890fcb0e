"""Pretrain LesionTracer's body on many datasets at once, and write what fine-tuning starts from."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from uptake import __version__
from uptake.core.errors import UsageError
from uptake.harmonise.plan import Plan
from uptake.io.write import require_writable, write_json
from uptake.methods import lesiontracer
from uptake.methods.lesiontracer import Config
from uptake.networks.multi_dataset import MultiDatasetUNet, multi_dataset_unet
from uptake.sampling.datasets import DatasetBatches, DatasetCases, Sampling
from uptake.training import checkpoint as checkpoints
from uptake.training.devices import make_fabric, one_by_one
from uptake.training.loop import fit
from uptake.training.multi_dataset import multi_dataset_step
from uptake.training.protocol import EpochReport
from uptake.workflows.pretrain_data import RawDataset, prepared_dataset, raw_datasets
from uptake.zoo import nnunet
from uptake.zoo.bundle import save_bundle
from uptake.zoo.cards import Card

log = logging.getLogger(__name__)

DATASETS = "datasets.json"


@dataclass(frozen=True)
class PretrainingResult:
    """What pretraining wrote.

    Attributes
    ----------
    bundle : Path
        Encoder and decoder behind one stem, without heads: ``uptake train … --init``.
    stem : str
        The dataset that stem belongs to.
    shares : mapping
        Dataset -> share of the samples.
    """

    bundle: Path
    stem: str
    shares: Mapping[str, float]


def pretrain_lesiontracer(
    datasets: Sequence[Path | str],
    out: Path | str,
    *,
    config: Config | None = None,
    sampling: Sampling = "case",
    stem: str | None = None,
    name: str | None = None,
    licence: str = "not stated",
    device: str = "auto",
    devices: int = 1,
    precision: str = "auto",
    on_epoch: Callable[[EpochReport], None] | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> PretrainingResult:
    """Train one body on several labelled datasets, each with a stem and heads of its own, and write a bundle.

    Parameters
    ----------
    datasets : sequence of Path
        nnU-Net raw datasets (dataset.json, imagesTr, labelsTr) of any channels and labels; ids come from the folder
        names, ``Dataset221_AutoPET`` is 221.
    out : Path
        Receives cache/, the run (last.ckpt with every stem and head, log.csv, loss.png), datasets.json and bundle/.
        Calling again with the same arguments goes on where a killed run stopped.
    config : Config, optional
        By default `Config.pretraining_small`, with CUDA `Config.pretraining_published`. Its channels and labels are
        not used.
    sampling : {"case", "dataset"}
        See `sampling.datasets.dataset_shares`.
    stem : str, optional
        Whose first convolution the bundle starts with; by default the first dataset of CT and PET, else the first.
    name, licence : str, optional
        Of the weights.
    device, precision : str
        See `training.devices.make_fabric`.
    devices : int
        How many, data-parallel.
    on_epoch, on_step : callable, optional
        Told the report of an epoch; (done, all) after every step.

    Raises
    ------
    UsageError
        If ids clash, or `stem` is none of them.
    InputError
        If a dataset is incomplete or has no labels.

    References
    ----------
    Rokuss et al., arXiv 2409.09478, section 2.2 (pretraining); Ulrich et al., MultiTalent, arXiv 2303.14444.
    """
    out = Path(out)
    found = raw_datasets([Path(folder) for folder in datasets])
    chosen = _stem(found, stem)
    require_writable(out)
    fabric = make_fabric(device, precision, devices=devices)
    if config is None:
        published = fabric.device.type == "cuda"
        config = Config.pretraining_published() if published else Config.pretraining_small()
    if config.encoder != "residual" or config.spacing_mm is None:
        raise UsageError("pretraining needs the residual encoder, whose first convolution is a stem, and a voxel size.")
    ready: list[DatasetCases] = []
    plans: dict[str, Plan] = {}
    hashes: dict[str, Any] = {}
    with one_by_one(fabric):
        for one in found:
            cases, plans[one.id], hashes[one.id] = prepared_dataset(
                one,
                spacing=config.spacing_mm,
                orientation=config.orientation,
                cache=out / "cache" / one.id,
            )
            ready.append(cases)
    batches = DatasetBatches(ready, config.batch_rules(config.spacing_mm), sampling=sampling)
    shares = {one.id: round(float(share), 6) for one, share in zip(ready, batches.shares, strict=True)}
    content = [config.as_json(), sampling, hashes, {one.id: dict(one.labels) for one in found}]
    result = fit(
        built := build_network(config, ready),
        lesiontracer.build_optimizer(built, config),
        batches=batches,
        training_step=lambda model, batch, _: multi_dataset_step(model, batch, smooth=config.dice_smooth),
        learning_rate=lambda step: lesiontracer.learning_rate(step, config),
        settings=config.fit_settings(),
        folder=out,
        stamp=hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest(),
        fabric=fabric,
        on_epoch=on_epoch,
        on_step=on_step,
    )
    if fabric.is_global_zero:
        write_json([_described(one, cases, shares) for one, cases in zip(found, ready, strict=True)], out / DATASETS)
        state = nnunet.with_stem(checkpoints.load(result.last).network, chosen.id)
        save_bundle(
            _card(config, chosen, plans[chosen.id], found, shares, name or out.resolve().name, licence, sampling),
            {"all": state},
            out / "bundle",
        )
    fabric.barrier()
    return PretrainingResult(out / "bundle", chosen.id, shares)


def build_network(config: Config, datasets: Sequence[DatasetCases]) -> MultiDatasetUNet:
    """Return the network for these datasets, freshly initialised from ``config.seed``."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return multi_dataset_unet(
            {one.id: len(one.channels) for one in datasets},
            {head.name: len(head.classes) for one in datasets for head in one.heads},
            features=config.features,
            blocks=config.blocks,
            kernels=config.kernels,
            strides=config.strides,
            decoder_convs=config.decoder_convs,
            conv_bias=config.conv_bias,
        )


def _stem(found: Sequence[RawDataset], wanted: str | None) -> RawDataset:
    if wanted is None:
        return next((one for one in found if one.channels == ("ct", "pet")), found[0])
    for one in found:
        if one.id == wanted:
            return one
    listed = ", ".join(f"{one.id} ({', '.join(one.channels)})" for one in found)
    raise UsageError(f"--stem {wanted}: there is no such dataset; ids come from the folder names: {listed}.")


def _described(one: RawDataset, cases: DatasetCases, shares: Mapping[str, float]) -> dict[str, Any]:
    return {
        "id": one.id,
        "name": one.folder.resolve().name,
        "channels": list(one.channels),
        "cases": len(one.cases),
        "share_of_samples": shares[one.id],
        "heads": {head.name: list(head.classes) for head in cases.heads},
    }


def _card(
    config: Config,
    stem: RawDataset,
    plan: Plan,
    found: Sequence[RawDataset],
    shares: Mapping[str, float],
    name: str,
    licence: str,
    sampling: str,
) -> Card:
    own = replace(
        config,
        channels=stem.channels,
        normalisation=tuple(rule.scheme for rule in plan.channels),
        labels=lesiontracer.LABELS,
        organs=(),
    )
    return Card(
        name=name,
        version="1",
        summary=f"Encoder and decoder taught by {len(found)} datasets together; a start for training, no model.",
        method=lesiontracer.NAME,
        config=own.as_json(),
        plan=plan.as_json(),
        labels=list(lesiontracer.LABELS),
        needs=list(stem.channels),
        accepts=list(stem.channels),
        suv="SUV by body weight, g/mL",
        training={
            "data": ", ".join(one.folder.resolve().name for one in found),
            "cases": sum(len(one.cases) for one in found),
            "steps": config.steps,
            "preset": config.preset,
            "sampling": sampling,
            "share_of_samples": dict(shares),
            "stem": stem.id,
        },
        scores=[],
        limits=["No heads: it starts training, it segments nothing."],
        licence=licence,
        files={},
        stored_as="float32",
        package_version=__version__,
        role="initialisation",
    )
