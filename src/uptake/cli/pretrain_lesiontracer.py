"""uptake pretrain lesiontracer"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from uptake.cli.console import progress, say
from uptake.cli.options import Device, Out, Quiet
from uptake.cli.options_training import (
    BatchSize,
    Blocks,
    BundleName,
    Features,
    LearningRate,
    Licence,
    Precision,
    Seed,
    Spacing,
    Window,
    given,
    hush_fabric,
)
from uptake.cli.values import numbers


def lesiontracer(
    datasets: Annotated[list[Path], Parameter(negative=())],
    /,
    *,
    out: Out,
    preset: Literal["auto", "published", "small"] = "auto",
    sampling: Literal["case", "dataset"] = "case",
    stem: str | None = None,
    steps: int | None = None,
    batch_size: BatchSize = None,
    accumulate: int | None = None,
    learning_rate: LearningRate = None,
    window: Window = None,
    spacing_mm: Spacing = None,
    features: Features = None,
    blocks: Blocks = None,
    seed: Seed = None,
    name: BundleName = None,
    licence: Licence = "not stated",
    device: Device = "auto",
    devices: int = 1,
    precision: Precision = "auto",
    quiet: Quiet = False,
) -> None:
    """Pretrain LesionTracer's encoder and decoder on several labelled datasets at once (MultiTalent style).

    Every dataset keeps its channels and its labels: it enters by a first convolution and leaves by heads of its own. A
    run that is stopped goes on from its last checkpoint when the same command is given again.

    Parameters
    ----------
    datasets
        nnU-Net raw datasets (dataset.json, imagesTr, labelsTr): CT, MR, PET, PET/CT, any labels.
    out
        Receives the cache, last.ckpt with every stem and head, log.csv, loss.png, datasets.json and bundle/.
    preset
        published: 1 mm, 192³, batch 24, 4,000 epochs. small: two CPU cores. auto: small, or with CUDA published.
    sampling
        How often a dataset of N cases is drawn: case, proportional to √N (as published: every case weighs 1/√N);
        dataset, proportional to 1/√N (as the paper's sentence reads).
    stem
        Dataset whose first convolution goes into the bundle; by default the first of CT and PET.
    steps
        Optimiser steps, instead of the preset's.
    accumulate
        Batches whose gradients make one step.
    spacing_mm
        Voxel size (z, y, x) that all datasets are brought to, instead of the preset's.
    devices
        Train data-parallel on this many.
    """
    from uptake.io.write import require_writable

    require_writable(out)
    from uptake.methods.lesiontracer import Config
    from uptake.training.devices import is_first_process, resolve_device
    from uptake.training.protocol import EpochReport
    from uptake.workflows.pretrain import pretrain_lesiontracer

    hush_fabric()
    if preset == "auto":
        preset = "published" if resolve_device(device).type == "cuda" else "small"
    changes = given(
        steps=steps,
        batch_size=batch_size,
        accumulate=accumulate,
        learning_rate=learning_rate,
        window=window,
        spacing_mm=spacing_mm,
        features=numbers(features, "--features"),
        blocks=numbers(blocks, "--blocks"),
        seed=seed,
    )
    config = Config.pretraining_published() if preset == "published" else Config.pretraining_small()
    config = replace(config, **changes)

    def on_epoch(report: EpochReport) -> None:
        row = report.row
        say(
            f"step {report.step:>6}/{report.steps}  loss per window {row['train_loss_per_sample']:+.4f}  "
            f"{row['seconds']:.0f} s"
        )

    with progress("pretraining", quiet=quiet) as on_step:
        result = pretrain_lesiontracer(
            datasets,
            out,
            config=config,
            sampling=sampling,
            stem=stem,
            name=name,
            licence=licence,
            device=device,
            devices=devices,
            precision=precision,
            on_epoch=None if quiet else on_epoch,
            on_step=on_step,
        )
    if not quiet and is_first_process():
        say("share of samples: " + ", ".join(f"{key} {share:.2f}" for key, share in result.shares.items()))
        say(f"start for training, with the stem of {result.stem}: {result.bundle}")
