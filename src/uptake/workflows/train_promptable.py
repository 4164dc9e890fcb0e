"""Train a promptable model on prepared cases, and write its bundle."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from uptake import __version__
from uptake.core.errors import CheckpointError, InputError
from uptake.methods import petct_mae, seganypet
from uptake.methods.seganypet import Config
from uptake.networks.unet import load_unique_state
from uptake.sampling.prompt_cases import PromptBatches, PromptCase
from uptake.training import checkpoint as checkpoints
from uptake.training.confident import dice_bce
from uptake.training.devices import make_fabric
from uptake.training.loop import fit
from uptake.training.prompting import PromptRules, TrainingUser
from uptake.training.protocol import EpochReport, Validate
from uptake.training.transfer import transfer_to_prompted
from uptake.workflows.bundles import Bundle
from uptake.workflows.train import About
from uptake.zoo.bundle import save_bundle
from uptake.zoo.cards import Card

log = logging.getLogger(__name__)

VALIDATION_SEED = 977
VALIDATION_USER = PromptRules(rounds=5, mask_only=False, shown="all", object_logit=0.0)
"""Five clicks, each somewhere in what is still wrong; the same ones in every epoch and every run."""


def train_promptable(
    train: Sequence[PromptCase],
    validation: Sequence[PromptCase],
    out: Path | str,
    config: Config,
    *,
    about: About,
    start: Bundle | None = None,
    device: str = "auto",
    precision: str = "auto",
    devices: int = 1,
    stored_as: str = "float16",
    fold: str = "all",
    keep: Literal["best", "last"] = "best",
    on_epoch: Callable[[EpochReport], None] | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> Path:
    """Train, and return the folder of the bundle.

    A run that is killed goes on from its last checkpoint when it is called again with the same cases and settings.

    Parameters
    ----------
    train, validation : sequence of PromptCase
        From `workflows.promptable_data.prompt_cases`. Without validation cases the last weights are the best.
    out : Path
        Receives the run (log.csv, loss.png, checkpoints) and ``bundle``.
    config : Config
    about : About
        What the card says.
    start : Bundle, optional
        Weights to begin with: imported ones, those of a promptable bundle, or what fits of masked pretraining.
    device, precision, devices
        As in `training.devices.make_fabric`.
    stored_as : str
        Number format of the weights.
    fold : str
        Name of the weights in the bundle.
    keep : {"best", "last"}
        Which weights the bundle holds: those that answered the validation cases best, or the last. Cases that chose
        the weights are no longer held out; take the last where they are scored.
    on_epoch, on_step : callable, optional
        As in `training.loop.fit`.

    Raises
    ------
    InputError
        If there is nothing to train on, or the start does not fit the network.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    fabric = make_fabric(device, precision, devices=devices)
    network = seganypet.build_network(config)
    if start is not None:
        _begin_with(start, network, config)
    settings = config.fit_settings()
    result = fit(
        network,
        seganypet.build_optimizer(network, config),
        batches=PromptBatches(train, config.batch_rules()),
        training_step=lambda model, batch, step: seganypet.training_step(model, batch, step, config),
        learning_rate=lambda step: seganypet.learning_rate(step, config),
        settings=settings,
        folder=out,
        stamp=_stamp(train, validation, config, start, devices),
        fabric=fabric,
        validate=click_validation(validation, config, batches=settings.validation_batches),
        on_epoch=on_epoch,
        on_step=on_step,
    )
    bundle = out / "bundle"
    if fabric.is_global_zero:
        state = checkpoints.load(result.best if validation and keep == "best" else result.last).network
        save_bundle(_card(config, about, train, stored_as, start), {fold: state}, bundle)
    fabric.barrier()
    return bundle


def _begin_with(start: Bundle, network: nn.Module, config: Config) -> None:
    """Put the weights of a promptable bundle into the network; of masked pretraining, what fits."""
    state = next(iter(start.states.values()))
    try:
        if start.card.method == petct_mae.NAME:
            found = transfer_to_prompted(network, state, start.plan.channel_names, config.channels)
            log.info("%d tensors are those of %s, %d start fresh", len(found.loaded), start.card.name, len(found.fresh))
        else:
            load_unique_state(network, state)
    except (ValueError, CheckpointError) as error:
        raise InputError(f"{start.card.name} does not fit the network to be trained: {error}.") from error


def click_validation(cases: Sequence[PromptCase], config: Config, *, batches: int) -> Validate | None:
    """Return a validation on fixed windows and simulated clicks; None without cases.

    Its columns: "validation_loss" after the last click, "click_dice_auc", the mean Dice over the clicks, and
    "click_dice_1" and "click_dice_5".
    """
    if not cases or batches == 0:
        return None
    rules = replace(
        config.batch_rules(), seed=VALIDATION_SEED, trusted_share=None, flip=False, gain=0.0, ct_dropout=0.0
    )
    source = PromptBatches(cases, rules)

    def validate(model: nn.Module, device: torch.device) -> dict[str, float]:
        losses, scores = [], []
        for number in range(batches):
            batch = source.finished(source.cut(number), device)
            user = TrainingUser(batch.target, VALIDATION_USER, seed=batch.seed)
            outputs = model(seganypet.prepared(batch.channels, config), user, VALIDATION_USER.rounds)
            losses.append(float(dice_bce(outputs[-1], batch.target)))
            scores.append(torch.stack([window_dice(one, batch.target) for one in outputs], dim=1))
        dice = torch.cat(scores).mean(dim=0).tolist()
        return {
            "validation_loss": float(np.mean(losses)),
            "click_dice_auc": float(np.mean(dice)),
            "click_dice_1": dice[0],
            "click_dice_5": dice[-1],
        }

    return validate


def window_dice(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return the Dice (b,) of logits and target (b, 1, z, y, x); 1 where both are empty."""
    found, wanted = (logits > 0).flatten(1), (target > 0.5).flatten(1)
    total = found.sum(1) + wanted.sum(1)
    return torch.where(total > 0, 2 * (found & wanted).sum(1) / total.clamp_min(1), 1.0)


def _stamp(
    train: Sequence[PromptCase], validation: Sequence[PromptCase], config: Config, start: Bundle | None, devices: int
) -> str:
    def described(cases: Sequence[PromptCase]) -> list[Any]:
        return [[case.id, case.trusted, [int(target.mask.sum()) for target in case.targets]] for case in cases]

    content = [config.as_json(), described(train), described(validation), devices]
    if start is not None:
        content.append(start.checksum)
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _card(config: Config, about: About, train: Sequence[PromptCase], stored_as: str, start: Bundle | None) -> Card:
    needs = ["pet"] if config.ct is None or config.ct_dropout > 0 else ["pet", "ct"]
    return Card(
        name=about.name,
        version="1",
        summary=about.summary,
        method=seganypet.NAME,
        config=config.as_json(),
        plan=config.plan().as_json(),
        labels=list(seganypet.LABELS),
        needs=needs,
        accepts=list(dict.fromkeys(["pet", *config.channels])),
        suv="SUV by body weight, g/mL",
        training={
            "data": about.data,
            "licence": about.data_licence,
            "cases": len(train),
            "steps": config.steps,
            "preset": config.preset,
            **({} if start is None else {"started_from": f"{start.card.name}, weights {start.checksum[:12]}"}),
        },
        scores=list(about.scores),
        limits=list(about.limits),
        licence=about.weights_licence,
        files={},
        stored_as=stored_as,
        package_version=__version__,
    )
