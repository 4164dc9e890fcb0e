"""Training steps per second, next to nnU-Net's trainer: same network, window, batch, patients; same process, in turns.

Usage:
    python benchmarks/sts/nnunet_cv.py --data DATA/sts --work WORK/nnunet --folds    (raw data, nnU-Net's own cache)
    python benchmarks/training_speed.py --data DATA/sts --nnunet WORK/nnunet --work WORK/speed

Needs: pip install "uptake[bench]"

Both train the residual-encoder network of ``sts/`` (16-32-64-128) on windows of 40 x 64 x 40 voxels, batch 2, with SGD
(1e-2, Nesterov 0.99), Dice + cross-entropy under deep supervision and their own augmentation; ours without
misalignment, which nnU-Net has not. Each turn is a fresh network; the first steps of a turn are not counted. Wall-clock
time and CPU time of the process are both kept: on a busy machine the second is the fairer one. Writes
``training_speed.csv`` (a row per turn), ``training_speed.md`` and ``training_speed.png`` beside this file.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from uptake.core.figures import new_figure, png_bytes
from uptake.io.write import write_csv, write_text
from uptake.methods import lesiontracer
from uptake.methods.lesiontracer import Config
from uptake.sampling.augment import AugmentRules
from uptake.sampling.batches import WindowBatches
from uptake.training.devices import make_fabric
from uptake.training.loop import fit
from uptake.workflows.training_data import labelled_studies, prepared

HERE = Path(__file__).parent
WARM_UP = 4
NAMES = {"bf16": "uptake, auto (bfloat16)", "fp32": "uptake, float32", "nnunet": "nnU-Net"}

Turn = tuple[list[float], list[float], list[float]]
"""Wall-clock time and CPU time after each step, s, and its loss."""


def our_turn(data: Any, precision: str, steps: int, seed: int, folder: Path) -> Turn:
    """Train for `steps` through the package's own loop."""
    config = replace(data.config, steps=steps, epoch_steps=steps, seed=seed)
    losses: list[float] = []
    walls, cpus = [], []

    def step(model: torch.nn.Module, batch: Any, _: int) -> torch.Tensor:
        loss = lesiontracer.training_step(model, batch, config)
        losses.append(float(loss.detach()))
        return loss

    def on_step(_done: int, _all: int) -> None:
        walls.append(time.perf_counter())
        cpus.append(time.process_time())

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    network = lesiontracer.build_network(config)
    fit(
        network,
        lesiontracer.build_optimizer(network, config),
        batches=WindowBatches(list(data.cases.values()), config.batch_rules(data.plan.spacing_mm)),
        training_step=step,
        learning_rate=lambda _: config.learning_rate,
        settings=config.fit_settings(),
        folder=folder,
        stamp="speed",
        fabric=make_fabric("cpu", precision),
        on_step=on_step,
    )
    return walls, cpus, losses


def nnunet_turns(work: Path) -> Callable[[int, int], Turn]:
    """Return a function (steps, seed) that trains a fresh nnU-Net through its own trainer."""
    for name in ("raw", "preprocessed", "results"):
        os.environ[f"nnUNet_{name}"] = str(work / name)
    os.environ["nnUNet_n_proc_DA"] = "0"
    os.environ["nnUNet_compile"] = "f"
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    plans = json.loads((work / "preprocessed" / "Dataset501_STS" / "nnUNetPlans.json").read_text())
    dataset = json.loads((work / "raw" / "Dataset501_STS" / "dataset.json").read_text())

    def turn(steps: int, seed: int) -> Turn:
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002  (nnU-Net draws from the global generator)
        trainer = nnUNetTrainer(
            plans=dict(plans, continue_training=False),
            configuration="3d_fullres",
            fold="all",
            dataset_json=dataset,
            device=torch.device("cpu"),
        )
        trainer.on_train_start()
        trainer.on_epoch_start()
        trainer.on_train_epoch_start()
        walls, cpus, losses = [], [], []
        for _ in range(steps):
            losses.append(float(trainer.train_step(next(trainer.dataloader_train))["loss"]))
            walls.append(time.perf_counter())
            cpus.append(time.process_time())
        return walls, cpus, losses

    return turn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--nnunet", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    config = replace(
        Config.small(),
        normalisation=("clip_zscore", "clip_zscore"),
        optimiser="sgd",
        learning_rate=1e-2,
        weight_decay=3e-5,
        dice_smooth=1e-5,
        validation_batches=0,
        augment=AugmentRules(misalign_rotation_p=0.0, misalign_shift_p=0.0, low_resolution_p=0.25),
    )
    files, _ = labelled_studies(args.data)
    data = prepared(files, None, config, args.work / "cache", False, None)
    rival = nnunet_turns(args.nnunet)
    rows, curves = [], {name: [] for name in NAMES}
    for number in range(args.rounds):
        for name in NAMES:
            if name == "nnunet":
                walls, cpus, losses = rival(args.steps, number)
            else:
                precision = "bf16-mixed" if name == "bf16" else "32-true"
                walls, cpus, losses = our_turn(data, precision, args.steps, number, args.work / "run")
            curves[name].append(losses)
            counted = len(walls) - WARM_UP
            rows.append(
                {
                    "round": number, "trainer": name, "steps": counted, "threads": torch.get_num_threads(),
                    "wall_s_per_step": round((walls[-1] - walls[WARM_UP - 1]) / counted, 4),
                    "cpu_s_per_step": round((cpus[-1] - cpus[WARM_UP - 1]) / counted, 4),
                    "loss_first_half": round(float(np.mean(losses[: len(losses) // 2])), 4),
                    "loss_second_half": round(float(np.mean(losses[len(losses) // 2 :])), 4),
                }
            )  # fmt: skip
            print(rows[-1], flush=True)
    write_csv(rows, HERE / "training_speed.csv", columns=list(rows[0]))
    write_text(table(rows), HERE / "training_speed.md")
    (HERE / "training_speed.png").write_bytes(picture(rows, curves))
    print(table(rows))


def _median(rows: list[dict[str, Any]], name: str, column: str) -> float:
    return float(np.median([row[column] for row in rows if row["trainer"] == name]))


def table(rows: list[dict[str, Any]]) -> str:
    """Return medians over the turns as Markdown; ratios are nnU-Net's time over ours, turn by turn."""
    lines = ["| trainer | wall, s per step | CPU, s per step | nnU-Net's wall / ours | nnU-Net's CPU / ours | loss |"]
    lines.append("|---|---|---|---|---|---|")
    for name, words in NAMES.items():
        ratios = []
        for column in ("wall_s_per_step", "cpu_s_per_step"):
            mine = [row[column] for row in rows if row["trainer"] == name]
            theirs = [row[column] for row in rows if row["trainer"] == "nnunet"]
            each = [b / a for a, b in zip(mine, theirs, strict=True)]
            ratios.append(f"{np.median(each):.2f} ({min(each):.2f} to {max(each):.2f})" if name != "nnunet" else "1")
        lines.append(
            f"| {words} | {_median(rows, name, 'wall_s_per_step'):.3f} | {_median(rows, name, 'cpu_s_per_step'):.3f} | "
            f"{ratios[0]} | {ratios[1]} | {_median(rows, name, 'loss_first_half'):+.2f}, then "
            f"{_median(rows, name, 'loss_second_half'):+.2f} |"
        )
    return "\n".join(lines) + "\n"


def picture(rows: list[dict[str, Any]], curves: dict[str, list[list[float]]]) -> bytes:
    """Return steps per second of every turn, and the losses of all turns."""
    figure = new_figure((8.4, 3.2))
    colours = {"bf16": "#1f4e79", "fp32": "#4f8f3a", "nnunet": "#c0504d"}
    speed = figure.add_axes((0.21, 0.18, 0.3, 0.7))
    for place, name in enumerate(reversed(NAMES)):
        found = [1.0 / row["wall_s_per_step"] for row in rows if row["trainer"] == name]
        speed.barh(place, np.median(found), color=colours[name], height=0.55)
        speed.plot(found, [place] * len(found), ".", color="black", markersize=4)
    speed.set_yticks(range(len(NAMES)), [NAMES[name] for name in reversed(NAMES)], fontsize=8)
    speed.set_xlabel("training steps per second", fontsize=8)
    loss = figure.add_axes((0.62, 0.18, 0.35, 0.7))
    for name, found in curves.items():
        loss.plot(np.arange(1, len(found[0]) + 1), np.mean(found, axis=0), color=colours[name], label=NAMES[name])
    loss.set_xlabel("step", fontsize=8)
    loss.set_title("loss, mean of the turns", fontsize=8)
    loss.legend(fontsize=7, frameon=False)
    for axes in (speed, loss):
        axes.tick_params(labelsize=8)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    return png_bytes(figure)


if __name__ == "__main__":
    main()
