"""uptake pretrain lesiontracer"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from uptake.cli.console import progress, say
from uptake.cli.train import numbers


def lesiontracer(
    datasets: Annotated[list[Path], Parameter(negative=())],
    /,
    *,
    out: Annotated[Path, Parameter(name=["--out", "-o"])],
    preset: Literal["auto", "published", "small"] = "auto",
    sampling: Literal["case", "dataset"] = "case",
    stem: str | None = None,
    steps: int | None = None,
    batch_size: int | None = None,
    accumulate: int | None = None,
    learning_rate: float | None = None,
    window: Annotated[tuple[int, int, int] | None, Parameter(negative=())] = None,
    spacing_mm: Annotated[tuple[float, float, float] | None, Parameter(negative=())] = None,
    features: str | None = None,
    blocks: str | None = None,
    seed: int | None = None,
    name: str | None = None,
    licence: str = "not stated",
    device: str = "auto",
    devices: int = 1,
    precision: str = "auto",
    quiet: Annotated[bool, Parameter(name=["--quiet", "-q"], negative="")] = False,
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
    batch_size
        Windows per step and device, instead of the preset's.
    accumulate
        Batches whose gradients make one step.
    learning_rate
        Instead of the preset's.
    window
        (z, y, x) voxels, instead of the preset's.
    spacing_mm
        Voxel size (z, y, x) that all datasets are brought to, instead of the preset's.
    features
        Width of the network's stages: numbers with commas, finest first.
    blocks
        Residual blocks of the stages: numbers with commas, finest first.
    seed
        Of initialisation, windows and augmentation.
    name
        Of the bundle.
    licence
        Of the weights; written into the card.
    device
        auto, cpu, cuda, cuda:1, mps.
    devices
        Train data-parallel on this many.
    precision
        auto (bfloat16 where the device has it), 32-true, bf16-mixed, 16-mixed.
    quiet
        Print nothing but errors.
    """
    import logging

    from uptake.io.write import require_writable

    require_writable(out)
    from uptake.methods.lesiontracer import Config
    from uptake.training.devices import is_first_process, resolve_device
    from uptake.training.protocol import EpochReport
    from uptake.workflows.pretrain import pretrain_lesiontracer

    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    if preset == "auto":
        preset = "published" if resolve_device(device).type == "cuda" else "small"
    changes: dict[str, Any] = {
        "steps": steps,
        "batch_size": batch_size,
        "accumulate": accumulate,
        "learning_rate": learning_rate,
        "window": window,
        "spacing_mm": spacing_mm,
        "features": numbers(features, "--features"),
        "blocks": numbers(blocks, "--blocks"),
        "seed": seed,
    }
    config = Config.pretraining_published() if preset == "published" else Config.pretraining_small()
    config = replace(config, **{key: value for key, value in changes.items() if value is not None})

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
