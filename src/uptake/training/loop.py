"""The training loop, all of it: batches, steps, validation, log, checkpoints. It serves every method."""

from __future__ import annotations

import csv
import io
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import nn

from uptake.core.errors import CheckpointError
from uptake.io.write import atomic_path, write_text
from uptake.networks.unet import load_unique_state, unique_state
from uptake.sampling.augment import NO_AUGMENTATION
from uptake.sampling.batches import BatchRules, CutBatch, cut_batch, finished
from uptake.sampling.store import TrainingCase
from uptake.training import checkpoint as checkpoints
from uptake.training.protocol import EpochReport, FitResult, FitSettings

log = logging.getLogger(__name__)

Step = Callable[[nn.Module, torch.Tensor, torch.Tensor], torch.Tensor]

VALIDATION_SEED = 977
"""Validation windows are the same in every epoch and every run, so that epochs can be compared."""


def fit(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    training_step: Step,
    learning_rate: Callable[[int], float],
    train: Sequence[TrainingCase],
    validation: Sequence[TrainingCase],
    rules: BatchRules,
    settings: FitSettings,
    folder: Path,
    stamp: str,
    fabric: Fabric,
    on_epoch: Callable[[EpochReport], None] | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> FitResult:
    """Train the network and return where it ended.

    Batch t depends on the seed and t alone, and the checkpoint holds weights, optimiser and step: a run that is killed
    and started again with the same call goes on from its last checkpoint and sees what it would have seen.

    Parameters
    ----------
    network, optimizer
        Not yet set up by Fabric.
    training_step : callable
        (network, channels (b, c, z, y, x), label maps (b, m, z, y, x)) -> scalar loss.
    learning_rate : callable
        Step number -> rate.
    train, validation : sequence of TrainingCase
        Without validation cases no pseudo-Dice is computed and the last weights count as the best.
    rules : BatchRules
    settings : FitSettings
    folder : Path
        Receives last.ckpt, best.ckpt, log.csv and loss.png.
    stamp : str
        Identity of the run.
    fabric : Fabric
    on_epoch : callable, optional
        Told after every epoch.
    on_step : callable, optional
        Told (done, all) after every step; progress bars hang here.

    Raises
    ------
    CheckpointError
        If `folder` holds a run with other settings, or the loss stops being a number.
    """
    last, best = folder / "last.ckpt", folder / "best.ckpt"
    history: list[dict[str, float]] = []
    step, best_ema = 0, -math.inf
    resumed = checkpoints.load(last) if last.exists() else None
    if resumed is not None:
        if resumed.stamp != stamp:
            raise CheckpointError(
                f"{folder}: a run with other settings, another plan or other cases was begun here. "
                "Choose another output folder, or delete this one to start anew."
            )
        load_unique_state(network, resumed.network)
        step, history, best_ema = resumed.step, list(resumed.history), resumed.best_ema
    model, optimizer = fabric.setup(network, optimizer)
    if resumed is not None:
        optimizer.load_state_dict(resumed.optimizer)
    validation_rules = replace(rules, augment=NO_AUGMENTATION, seed=VALIDATION_SEED)

    with _Prefetch(train, rules, start=step, stop=settings.steps, rank=fabric.global_rank) as batches:
        while step < settings.steps:
            began, losses = time.perf_counter(), []
            model.train()
            for _ in range(min(settings.epoch_steps, settings.steps - step)):
                channels, labels = finished(next(batches), rules, fabric.device)
                rate = learning_rate(step)
                for group in optimizer.param_groups:
                    group["lr"] = rate
                optimizer.zero_grad(set_to_none=True)
                loss = training_step(model, channels, labels)
                fabric.backward(loss)
                fabric.clip_gradients(model, optimizer, max_norm=settings.clip_norm, error_if_nonfinite=False)
                optimizer.step()
                losses.append(loss.detach())
                step += 1
                if on_step is not None:
                    on_step(step, settings.steps)
            train_loss = float(torch.stack(losses).mean())
            if not math.isfinite(train_loss):
                raise CheckpointError(
                    f"the training loss is {train_loss} after step {step}; the last good state is in {last}. "
                    "Lower learning_rate, or train with precision '32-true'."
                )
            row = {"epoch": len(history) + 1.0, "step": float(step), "learning_rate": rate, "train_loss": train_loss}
            row |= _validate(model, training_step, validation, validation_rules, settings, fabric)
            previous = history[-1]["ema_pseudo_dice"] if history else math.nan
            current = row["pseudo_dice"]
            row["ema_pseudo_dice"] = current if math.isnan(previous) else 0.9 * previous + 0.1 * current
            row["seconds"] = time.perf_counter() - began
            history.append(row)
            improved = not row["ema_pseudo_dice"] <= best_ema  # no validation (NaN) counts as improved: last is best
            best_ema = row["ema_pseudo_dice"] if improved else best_ema
            if fabric.is_global_zero:
                state = checkpoints.Checkpoint(
                    step, unique_state(network), optimizer.state_dict(), history, best_ema, stamp
                )
                if improved:
                    checkpoints.save(replace(state, optimizer={}), best)
                if len(history) % settings.save_every == 0 or step == settings.steps:
                    checkpoints.save(state, last)
                    write_log(history, folder)
            fabric.barrier()
            if on_epoch is not None:
                on_epoch(EpochReport(step, settings.steps, row))
    return FitResult(step, history, last, best)


def write_log(history: Sequence[dict[str, float]], folder: Path) -> None:
    """Write log.csv (a row an epoch) and loss.png."""
    if not history:
        return
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(history[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: f"{value:.6g}" for key, value in row.items()} for row in history)
    write_text(text.getvalue(), folder / "log.csv")

    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    steps = [row["step"] for row in history]
    axes.plot(steps, [row["train_loss"] for row in history], label="training loss", color="#1f4e79")
    axes.plot(steps, [row["validation_loss"] for row in history], label="validation loss", color="#c0504d")
    axes.set_xlabel("optimiser step")
    axes.set_ylabel("cross-entropy - Dice")
    right = axes.twinx()
    right.plot(steps, [row["ema_pseudo_dice"] for row in history], color="#4f8f3a", label="pseudo-Dice (EMA)")
    right.set_ylim(0, 1)
    right.set_ylabel("pseudo-Dice on windows")
    handles = [*axes.get_lines(), *right.get_lines()]
    axes.legend(handles=handles, loc="center right", frameon=False)
    with atomic_path(folder / "loss.png") as temporary:
        figure.savefig(temporary, format="png", dpi=110, metadata={"Software": None})


def _validate(
    model: nn.Module,
    training_step: Step,
    cases: Sequence[TrainingCase],
    rules: BatchRules,
    settings: FitSettings,
    fabric: Fabric,
) -> dict[str, float]:
    """Return loss and pseudo-Dice over fixed windows: Dice of the pooled voxels, not of whole scans."""
    if not cases or settings.validation_batches == 0:
        return {"validation_loss": math.nan, "pseudo_dice": math.nan}
    model.eval()
    losses, overlap, total = [], 0.0, 0.0
    with torch.no_grad():
        for number in range(settings.validation_batches):
            channels, labels = finished(cut_batch(cases, rules, step=number), rules, fabric.device)
            losses.append(float(training_step(model, channels, labels)))
            output = model(channels)
            finest = output[0] if isinstance(output, list | tuple) else output
            predicted, reference = finest.argmax(1) > 0, labels[:, 0] > 0
            overlap += 2.0 * float((predicted & reference).sum())
            total += float(predicted.sum() + reference.sum())
    return {"validation_loss": float(np.mean(losses)), "pseudo_dice": overlap / total if total else math.nan}


class _Prefetch:
    """Batches cut one ahead in a thread: no worker processes to die, no main-guard needed."""

    def __init__(self, cases: Sequence[TrainingCase], rules: BatchRules, *, start: int, stop: int, rank: int) -> None:
        self._make = lambda step: cut_batch(cases, rules, step=step, rank=rank)
        self._steps: Iterator[int] = iter(range(start, stop))
        self._pool = ThreadPoolExecutor(1)
        self._next = None

    def __enter__(self) -> _Prefetch:
        self._advance()
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def __next__(self) -> CutBatch:
        assert self._next is not None
        batch = self._next.result()  # an error in the thread is raised here, in full
        self._advance()
        return batch

    def _advance(self) -> None:
        step = next(self._steps, None)
        self._next = None if step is None else self._pool.submit(self._make, step)
