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
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn

from uptake.core.errors import CheckpointError
from uptake.io.write import atomic_path, write_text
from uptake.networks.unet import load_unique_state, unique_state
from uptake.training import checkpoint as checkpoints
from uptake.training.protocol import BatchSource, EpochReport, FitResult, FitSettings, TrainingStep, Validate

log = logging.getLogger(__name__)


def fit(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    batches: BatchSource,
    training_step: TrainingStep,
    learning_rate: Callable[[int], float],
    settings: FitSettings,
    folder: Path,
    stamp: str,
    fabric: Fabric,
    validate: Validate | None = None,
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
    batches : BatchSource
        For example `sampling.batches.WindowBatches`. Step t takes batches t·n to t·n + n - 1, with
        n = `settings.accumulate`; each rank its own.
    training_step : callable
        (network, batch, step) -> scalar loss, or a mapping with "loss" and further terms, logged as "train_<name>".
    learning_rate : callable
        Step number -> rate; a group of parameters with a "scale" learns that many times as fast.
    settings : FitSettings
    folder : Path
        Receives last.ckpt, best.ckpt, log.csv and loss.png.
    stamp : str
        Identity of the run.
    fabric : Fabric
    validate : callable, optional
        (network, device) -> columns for the log; see `training.validation`. Without it the last weights count as the
        best.
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
    many, headline = settings.accumulate, settings.headline
    smoothed = f"ema_{headline}"

    with _Prefetch(batches, start=step * many, stop=settings.steps * many, rank=fabric.global_rank) as cuts:
        while step < settings.steps:
            began, terms = time.perf_counter(), []
            model.train()
            for _ in range(min(settings.epoch_steps, settings.steps - step)):
                rate = learning_rate(step)
                for group in optimizer.param_groups:
                    group["lr"] = rate * group.get("scale", 1.0)
                optimizer.zero_grad(set_to_none=True)
                for number in range(many):
                    batch = batches.finished(next(cuts), fabric.device)
                    with fabric.no_backward_sync(model, enabled=number + 1 < many):
                        found = training_step(model, batch, step)
                        found = {"loss": found} if isinstance(found, torch.Tensor) else found
                        fabric.backward(found["loss"] if many == 1 else found["loss"] / many)
                    terms.append({name: value.detach() for name, value in found.items()})
                fabric.clip_gradients(model, optimizer, max_norm=settings.clip_norm, error_if_nonfinite=False)
                optimizer.step()
                step += 1
                if on_step is not None and fabric.is_global_zero:
                    on_step(step, settings.steps)
            means = {name: float(torch.stack([one[name] for one in terms]).mean()) for name in terms[0]}
            if not math.isfinite(means["loss"]):
                raise CheckpointError(
                    f"the training loss is {means['loss']} after step {step}; the last good state is in {last}. "
                    "Lower learning_rate, or train with precision '32-true'."
                )
            row = {"epoch": len(history) + 1.0, "step": float(step), "learning_rate": rate}
            row |= {f"train_{name}": value for name, value in means.items()}
            row |= {"validation_loss": math.nan, headline: math.nan}
            if validate is not None:
                model.eval()
                with torch.no_grad():
                    row |= validate(model, fabric.device)
            previous = history[-1][smoothed] if history else math.nan
            current = row[headline]
            row[smoothed] = current if math.isnan(previous) else 0.9 * previous + 0.1 * current
            row["seconds"] = time.perf_counter() - began
            history.append(row)
            improved = not row[smoothed] <= best_ema  # no validation (NaN) counts as improved: last is best
            best_ema = row[smoothed] if improved else best_ema
            if fabric.is_global_zero:
                state = checkpoints.Checkpoint(
                    step, unique_state(network), optimizer.state_dict(), history, best_ema, stamp
                )
                if improved:
                    checkpoints.save(replace(state, optimizer={}), best)
                if len(history) % settings.save_every == 0 or step == settings.steps:
                    checkpoints.save(state, last)
                    write_log(history, folder, headline)
            fabric.barrier()
            if on_epoch is not None and fabric.is_global_zero:
                on_epoch(EpochReport(step, settings.steps, row))
    return FitResult(step, history, last, best)


def write_log(history: Sequence[dict[str, float]], folder: Path, headline: str = "pseudo_dice") -> None:
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
    axes.set_ylabel("loss")
    right = axes.twinx()
    words = headline.replace("_", " ").replace("pseudo dice", "pseudo-Dice")
    right.plot(steps, [row[f"ema_{headline}"] for row in history], color="#4f8f3a", label=f"{words} (EMA)")
    if "dice" in headline:
        right.set_ylim(0, 1)
    right.set_ylabel(f"{words} on windows")
    handles = [*axes.get_lines(), *right.get_lines()]
    axes.legend(handles=handles, loc="center right", frameon=False)
    with atomic_path(folder / "loss.png") as temporary:
        figure.savefig(temporary, format="png", dpi=110, metadata={"Software": None})


class _Prefetch:
    """Batches cut one ahead in a thread: no worker processes to die, no main-guard needed."""

    def __init__(self, batches: BatchSource, *, start: int, stop: int, rank: int) -> None:
        self._make = lambda number: batches.cut(number, rank)
        self._steps: Iterator[int] = iter(range(start, stop))
        self._pool = ThreadPoolExecutor(1)
        self._next = None

    def __enter__(self) -> _Prefetch:
        self._advance()
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def __next__(self) -> Any:
        assert self._next is not None
        batch = self._next.result()  # an error in the thread is raised here, in full
        self._advance()
        return batch

    def _advance(self) -> None:
        step = next(self._steps, None)
        self._next = None if step is None else self._pool.submit(self._make, step)
