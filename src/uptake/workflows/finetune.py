"""Fine-tune a pretrained network with few labels, or train the same network from scratch to compare with."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn

from uptake import __version__
from uptake.core.errors import UsageError
from uptake.harmonise.plan import Plan
from uptake.io.write import require_writable, write_csv, write_json
from uptake.methods import petct_mae
from uptake.methods.petct_mae import Config
from uptake.sampling.batches import WindowBatches
from uptake.training import checkpoint as checkpoints
from uptake.training.devices import make_fabric, one_by_one
from uptake.training.loop import fit
from uptake.training.protocol import EpochReport
from uptake.training.transfer import Transfer, transfer
from uptake.training.validation import window_validation
from uptake.workflows.bundles import Bundle, load_bundle
from uptake.workflows.labelled_cases import (
    LabelledCases,
    TestScans,
    inference_dtype,
    labelled_cases,
    require_unseen,
    scores_on,
)
from uptake.workflows.labelled_split import Split, fraction_of, make_split, read_split
from uptake.workflows.train import summary_values
from uptake.zoo.bundle import save_bundle
from uptake.zoo.cards import Card

SPLIT = "split.json"


@dataclass(frozen=True)
class Tuned:
    """A fine-tuned bundle and its scores.

    Attributes
    ----------
    bundle : Path
    trained_on : tuple of str
        Case ids.
    rows : list of dict
        One per test scan.
    summary : dict
        Mean, median and interval of the headline scores.
    transfer : Transfer or None
        What came from the pretrained bundle; None from scratch.
    """

    bundle: Path
    trained_on: tuple[str, ...]
    rows: list[dict[str, Any]]
    summary: dict[str, Any]
    transfer: Transfer | None


def finetune(
    dataset: Path | str,
    out: Path | str,
    *,
    init: str | Path | None = None,
    config: Config | None = None,
    fraction: float = 1.0,
    draw: int = 0,
    epochs: int | None = None,
    split: Path | None = None,
    split_seed: int = 0,
    name: str | None = None,
    licence: str = "not stated",
    allow_overlap: bool = False,
    device: str = "auto",
    precision: str = "auto",
    devices: int = 1,
    stored_as: str = "float32",
    assume_suv: bool = False,
    on_case: Callable[[int, int], None] | None = None,
    on_epoch: Callable[[EpochReport], None] | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> Tuned:
    """Train on a share of the labels, choose on the validation part, test once, and write a bundle.

    Parameters
    ----------
    dataset : Path
        Studies with lesion masks.
    out : Path
        Receives cache/, split.json, run/ (checkpoints, log.csv), test/ (masks), cases.csv, summary.json and bundle/.
        Calling again goes on where a killed run stopped.
    init : str or Path, optional
        Bundle of masked pretraining; encoder and decoder are copied, the head is drawn anew. None: from scratch.
    config : Config, optional
        Of segmentation; by default that of the bundle's network, or `Config.small().for_segmentation()`.
    fraction : float
        Of the training part's scans, whole patients, nested: see `labelled_split.fraction_of`.
    draw : int
        Which of the subsets of that size.
    epochs : int, optional
        Passes over the chosen scans, a window each, instead of a fixed number of steps: fewer labels are then also
        trained on for fewer steps, as published (100).
    split : Path, optional
        JSON with "train", "validation" and "test"; drawn by patient with `split_seed` otherwise (70, 10, 20 %).
    name, licence
        For the card.
    allow_overlap : bool
        Test even on scans that the network was pretrained on.
    device, precision, devices, stored_as, assume_suv
        As in `pretrain_petct_mae`.
    on_case, on_epoch, on_step : callable, optional
        Told (done, all) of scans, after each epoch, and (done, all) of steps.

    Raises
    ------
    InputError
        If the dataset cannot be used, or a test scan was in the pretraining pool.
    CheckpointError
        If the bundle does not fit the network; the tensors that differ are named.
    """
    dataset, out = Path(dataset), Path(out)
    require_writable(out)
    start = None if init is None else load_bundle(init)
    plan, config = planned(start, config)
    fabric = make_fabric(device, precision, devices=devices)
    with one_by_one(fabric):
        data = labelled_cases(dataset, plan, out / "cache", assume_suv=assume_suv, on_case=on_case)
    parts = split_of(data, split, split_seed)
    if start is not None and not allow_overlap:
        require_unseen(data, parts.test, start)
    chosen = fraction_of(parts.train, data.patients, data.positive, fraction, draw=draw, seed=split_seed)
    if epochs is not None:
        config = with_epochs(config, epochs, len(chosen))
    if fabric.is_global_zero:
        write_json(parts.as_json(), out / SPLIT)
    network = petct_mae.build_network(config)
    report = None if start is None else transfer(network, start.states["0"], config.design.kind)
    state = tune(
        network,
        config,
        data,
        chosen,
        parts.validation,
        out / "run",
        fabric,
        identity=["from scratch" if start is None else start.checksum],
        on_epoch=on_epoch,
        on_step=on_step,
    )
    rows: list[dict[str, Any]] = []
    if fabric.is_global_zero:
        network = petct_mae.build_network(config)
        checkpoints_into(network, state)
        (out / "test").mkdir(exist_ok=True)
        dtype = inference_dtype(precision, fabric.device)
        scans = TestScans(data, assume_suv=assume_suv, limit=0)
        rows = scores_on(network, config, scans, parts.test, device=fabric.device, dtype=dtype, masks=out / "test")
        write_csv(rows, out / "cases.csv", columns=list(rows[0]))
        summary = summary_values(rows)
        write_json(
            {
                "trained_on": list(chosen),
                "fraction": fraction,
                "draw": draw,
                "mode": config.mode,
                "transfer": None if report is None else {"loaded": len(report.loaded), "fresh": list(report.fresh)},
                "cases": len(rows),
                "metrics": summary,
            },
            out / "summary.json",
        )
        card = _card(name or out.name, config, plan, data, chosen, rows, start, licence, dataset, stored_as)
        save_bundle(card, {"0": state}, out / "bundle")
    fabric.barrier()
    return Tuned(out / "bundle", chosen, rows, summary_values(rows), report)


def planned(start: Bundle | None, config: Config | None) -> tuple[Plan, Config]:
    """Return the plan of a bundle (of the configuration, from scratch) and the configuration on its network.

    Raises
    ------
    UsageError
        If the bundle was not written by masked pretraining.
    """
    if start is None:
        config = config or Config.small().for_segmentation()
        return config.plan(), config
    if start.card.method != petct_mae.NAME:
        raise UsageError(
            f"{start.card.name}: is a bundle of {start.card.method}, not of masked pretraining; give one of uptake "
            "pretrain petct_mae."
        )
    return start.plan, config or start.config.for_segmentation()


def split_of(data: LabelledCases, split: Path | None, seed: int) -> Split:
    """Return the split in a file, or one drawn by patient."""
    return make_split(data.patients, seed=seed) if split is None else read_split(split, data.patients)


def checkpoints_into(network: nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    """Load a state as `networks.unet.unique_state` gives it."""
    from uptake.networks.unet import load_unique_state

    load_unique_state(network, state)


def tune(
    network: nn.Module,
    config: Config,
    data: LabelledCases,
    trained_on: Sequence[str],
    watched: Sequence[str],
    place: Path,
    fabric: Fabric,
    *,
    identity: Sequence[str],
    optimizer: torch.optim.Optimizer | None = None,
    rate: Callable[[int], float] | None = None,
    on_epoch: Callable[[EpochReport], None] | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> dict[str, torch.Tensor]:
    """Train a network on the named cases and return the weights that were best on windows of the watched ones.

    Without watched cases, or without validation batches, the last weights are the best.
    """
    place.mkdir(parents=True, exist_ok=True)
    rules = config.batch_rules(data.plan.spacing_mm)

    def step(model: nn.Module, batch: Any, number: int) -> dict[str, torch.Tensor]:
        return petct_mae.training_step(model, batch, config, number)

    content: list[Any] = [list(identity), config.as_json(), data.plan.as_json(), list(trained_on), list(watched)]
    content.append([dict(data.hashes[case]) for case in (*trained_on, *watched)])
    result = fit(
        network,
        optimizer or petct_mae.build_optimizer(network, config),
        batches=WindowBatches([data.cases[case] for case in trained_on], rules),
        training_step=step,
        learning_rate=rate or (lambda number: petct_mae.learning_rate(number, config)),
        validate=window_validation(
            step, [data.cases[case] for case in watched], rules, batches=config.validation_batches
        ),
        settings=config.fit_settings(),
        folder=place,
        stamp=hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest(),
        fabric=fabric,
        on_epoch=on_epoch,
        on_step=on_step,
    )
    return checkpoints.load(result.best).network


def _card(
    name: str,
    config: Config,
    plan: Plan,
    data: LabelledCases,
    chosen: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
    start: Bundle | None,
    licence: str,
    dataset: Path,
    stored_as: str,
) -> Card:
    started = {} if start is None else {"started_from": f"{start.card.name}, weights {start.checksum[:12]}"}
    # A later test on the same network must still find out whose scans it has seen.
    origin = {} if start is None else {"kind": petct_mae.NAME, "pool": list(start.card.origin.get("pool", ()))}
    return Card(
        name=name,
        version="1",
        summary=f"{config.backbone} {'from scratch' if start is None else 'after masked pretraining'}, "
        f"trained on {len(chosen)} labelled scans.",
        method=petct_mae.NAME,
        config=config.as_json(),
        plan=plan.as_json(),
        labels=list(config.labels),
        needs=list(dict.fromkeys(["pet", *config.channels])),
        accepts=list(dict.fromkeys(["pet", *config.channels])),
        suv="SUV by body weight, g/mL; each scan is z-scored, so that its absolute scale is not used",
        training={
            "data": dataset.resolve().name,
            "cases": len(chosen),
            "patients": len({data.patients[case] for case in chosen}),
            "steps": config.steps,
            "mode": config.mode,
            **started,
        },
        scores=[{"protocol": "test part, whole scans, seen once", "cases": len(rows), "metrics": summary_values(rows)}],
        limits=["Trained with few labels; check it on cases you know."],
        licence=licence,
        files={},
        stored_as=stored_as,
        package_version=__version__,
        origin=origin,
    )


def with_epochs(config: Config, epochs: int, scans: int) -> Config:
    """Return the configuration for so many passes: 100 over 70 scans by 4 are 1,800 steps, over 700 17,500."""
    if epochs < 1:
        raise UsageError(f"epochs are 1 or more, came {epochs}.")
    steps = math.ceil(scans / config.batch_size)
    return replace(config, steps=epochs * steps, epoch_steps=steps)
