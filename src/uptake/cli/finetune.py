"""uptake finetune"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

from uptake.cli.console import progress, say
from uptake.cli.options import Device, Out, Quiet, Switch
from uptake.cli.options_training import (
    AssumeSuv,
    BundleName,
    Licence,
    Precision,
    SubsetSeed,
    TunedBatchSize,
    TunedLearningRate,
    given,
    hush_fabric,
)
from uptake.core.errors import UsageError


def finetune(
    dataset: Path,
    /,
    *,
    out: Out,
    init: str | None = None,
    backbone: str | None = None,
    fraction: float = 1.0,
    draw: int = 0,
    mode: Literal["full", "decoder", "head"] = "full",
    split: Path | None = None,
    split_seed: SubsetSeed = 0,
    steps: int | None = None,
    epochs: int | None = None,
    batch_size: TunedBatchSize = None,
    learning_rate: TunedLearningRate = None,
    seed: int | None = None,
    allow_overlap: Switch = False,
    name: BundleName = None,
    licence: Licence = "not stated",
    device: Device = "auto",
    devices: int = 1,
    precision: Precision = "auto",
    assume_suv: AssumeSuv = False,
    quiet: Quiet = False,
) -> None:
    """Train a pretrained network to find lesions with a share of the labels; test it once; write a model.

    The head starts anew, the weights are chosen on the validation part, the test part is seen once. A run that is
    stopped goes on when the same command is given again.

    Parameters
    ----------
    dataset
        Studies with lesion masks; nnU-Net raw datasets as they are.
    out
        Receives the cache, split.json, run/ (log.csv), test/ (masks), cases.csv, summary.json and bundle/.
    init
        Bundle of uptake pretrain petct_mae. Without it training starts from scratch.
    backbone
        Network to train from scratch, on the small grid of 4 mm or, for published backbones, the paper's.
    fraction
        Share of the training scans, whole patients; subsets are nested.
    draw
        Which subset of that size.
    mode
        What may change: full, decoder (and head), head.
    split
        JSON file with the lists train, validation, test; by default 70, 10, 20 % of the patients, drawn.
    steps
        Optimiser steps, whatever the fraction; by default 17,500, or 1,000 for the small network.
    epochs
        Passes over the chosen scans instead: fewer labels are then trained on for fewer steps. The paper: 100.
    seed
        Of the head and the windows.
    allow_overlap
        Test even on scans that the network was pretrained on.
    devices
        How many of them, data-parallel.
    """
    if init is not None and backbone is not None:
        raise UsageError("--backbone names a network to train from scratch; with --init it is the bundle's.")
    if steps is not None and epochs is not None:
        raise UsageError("--steps and --epochs both say how long to train; give one of them.")
    from uptake.io.write import require_writable

    require_writable(out)
    from uptake.methods.petct_mae import Config
    from uptake.training.protocol import EpochReport
    from uptake.workflows.bundles import load_bundle
    from uptake.workflows.finetune import finetune as workflow
    from uptake.workflows.finetune import planned

    hush_fabric()
    start = None if init is None else load_bundle(init)
    fresh = None
    if start is None:
        small = backbone is None or backbone == "resenc_small"
        fresh = (Config.small() if small else Config.published(str(backbone))).for_segmentation()
    _, config = planned(start, fresh)
    changes = given(steps=steps, batch_size=batch_size, learning_rate=learning_rate, seed=seed, mode=mode)
    config = replace(config, **changes)

    def on_epoch(report: EpochReport) -> None:
        row = report.row
        say(
            f"step {report.step:>6}/{report.steps}  loss {row['train_loss']:.4f}  validation windows: "
            f"loss {row['validation_loss']:.4f}, Dice {row['pseudo_dice']:.3f}  {row['seconds']:.0f} s"
        )

    with progress("reading", quiet=quiet) as on_case, progress("training", quiet=quiet) as on_step:
        found = workflow(
            dataset,
            out,
            init=init,
            config=config,
            fraction=fraction,
            draw=draw,
            epochs=epochs,
            split=split,
            split_seed=split_seed,
            name=name,
            licence=licence,
            allow_overlap=allow_overlap,
            device=device,
            precision=precision,
            devices=devices,
            assume_suv=assume_suv,
            on_case=on_case,
            on_epoch=None if quiet else on_epoch,
            on_step=on_step,
        )
    if not quiet:
        if found.transfer is not None:
            say(f"{len(found.transfer.loaded)} tensors from {init}; {len(found.transfer.fresh)} of the head start anew")
        dice = found.summary["dice"]
        say(
            f"trained on {len(found.trained_on)} scans; mean Dice of {dice['n']} test scans with lesions "
            f"{dice['mean']:.4f} (95 % interval {dice['low']:.4f} to {dice['high']:.4f})"
        )
        say(f"bundle: {found.bundle}")
