"""uptake pretrain petct_mae"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from uptake.cli.console import progress, say
from uptake.cli.options import Device, Out, Quiet, Switch
from uptake.cli.options_training import (
    BundleName,
    LearningRate,
    Licence,
    Precision,
    Spacing,
    Window,
    given,
    hush_fabric,
)
from uptake.cli.values import decimals, numbers
from uptake.core.errors import InputError

PRESETS = Literal["auto", "published", "small", "amaes", "s3d-dense", "must-pet"]


def petct_mae(
    datasets: Annotated[list[Path], Parameter(negative=())],
    /,
    *,
    out: Out,
    preset: PRESETS = "auto",
    backbone: str | None = None,
    like: str | None = None,
    channels: str | None = None,
    mask_block: Annotated[tuple[int, int, int] | None, Parameter(negative=())] = None,
    mask_ratio: float | None = None,
    masks: Literal["independent", "coupled", "one_channel"] | None = None,
    exact_ratio: Switch = False,
    loss: Literal["mse", "l1"] | None = None,
    visible_weight: float | None = None,
    channel_weights: str | None = None,
    body_only: Switch = False,
    exclude: Path | None = None,
    test: Annotated[list[Path] | None, Parameter(negative=())] = None,
    allow_overlap: Switch = False,
    keep_going: Switch = False,
    licences: Path | None = None,
    audit: Path | None = None,
    steps: int | None = None,
    batch_size: int | None = None,
    accumulate: int | None = None,
    learning_rate: LearningRate = None,
    window: Window = None,
    spacing_mm: Spacing = None,
    features: str | None = None,
    blocks: str | None = None,
    seed: int | None = None,
    name: BundleName = None,
    licence: Licence = "not stated",
    device: Device = "auto",
    devices: int = 1,
    precision: Precision = "auto",
    jobs: Annotated[int, Parameter(name=["--jobs", "-j"])] = 1,
    assume_suv: Switch = False,
    quiet: Quiet = False,
) -> None:
    """Pretrain a network on PET/CT without labels: hide blocks of either, give both back.

    The bundle starts `uptake finetune`, `uptake probe`, `uptake label-curve` and, with --like, `uptake train`. A run
    that is stopped goes on from its last checkpoint when the same command is given again.

    Parameters
    ----------
    datasets
        nnU-Net raw datasets, folders of studies, plain image folders. Labels in them are never read.
    out
        Receives the cache, manifest.json, left_out.csv, run/ (log.csv, loss.png, pictures) and bundle/.
    preset
        published: the paper's (SwinUNETR-v2 base, 200 epochs of 312 steps of 16 windows). small: two CPU cores. amaes,
        s3d-dense, must-pet: the options of those methods. auto: small, or with CUDA published.
    backbone
        swin_small, swin_base, swin_large, nnunet_3d, resenc_l, resenc_small, segresnet; instead of the preset's.
    like
        Model whose network, window, channels and normalisation are taken, so that its training can start from here.
    channels
        pet,ct (one network on both) or pet or ct alone.
    mask_block
        (z, y, x) voxels hidden together.
    mask_ratio
        Share of the blocks that is hidden.
    masks
        independent: a mask for each channel; coupled: one for both; one_channel: one channel is masked, drawn.
    exact_ratio
        Hide exactly that share instead of drawing each block for itself.
    loss
        mse or l1.
    visible_weight
        Of the error where nothing was hidden; published 0.2.
    channel_weights
        Numbers with commas, in the order of the channels, for a loss per channel; by default all voxels in one sum.
    body_only
        Judge voxels of the body alone.
    exclude
        File of case ids that stay out of the pool with all scans of their patients: one a line, a JSON list, or a
        split.json (its test and validation parts).
    test
        Datasets that must have no scan and no patient in common with the pool.
    allow_overlap
        Pretrain even if they have; the card says it.
    keep_going
        Leave out scans that cannot be read or lack a channel, and list them, instead of stopping.
    licences
        JSON file {dataset folder: licence}; by default "licence" in each dataset.json.
    audit
        Folder that uptake audit wrote about the pool; whether sites can be told apart goes into the card.
    steps
        Optimiser steps, instead of the preset's.
    batch_size
        Windows per batch and device, instead of the preset's.
    accumulate
        Batches per step.
    spacing_mm
        Voxel size of the grid (z, y, x), instead of the preset's.
    features
        Width of the stages: numbers with commas, finest first; one number for swin and segresnet.
    blocks
        Blocks of the stages: numbers with commas, finest first.
    seed
        Of initialisation, windows and masks.
    devices
        How many of them, data-parallel.
    jobs
        Processes that bring scans onto the grid.
    assume_suv
        Take every PET as SUV although its values say otherwise: for pools in other units, as each scan is z-scored.
    """
    import json

    from uptake.io.write import require_writable

    require_writable(out)
    from uptake.methods.petct_mae import Config
    from uptake.training.devices import resolve_device
    from uptake.training.protocol import EpochReport
    from uptake.workflows.pretrain_mae import pretrain_petct_mae, read_exclusions

    hush_fabric()
    if preset == "auto":
        preset = "published" if resolve_device(device).type == "cuda" else "small"
    config = getattr(Config, preset.replace("-", "_"))()
    if backbone is not None and preset == "published":
        config = Config.published(backbone)
    names = None if channels is None else tuple(word.strip() for word in channels.split(","))
    weights = None if channel_weights is None else decimals(channel_weights, "--channel-weights", such_as="1,0.5")
    config = replace(
        config,
        **given(
            backbone=backbone,
            channels=names,
            normalisation=None if names is None else (config.normalisation[0],) * len(names),
            masks=replace(
                config.masks,
                **given(block=mask_block, ratio=mask_ratio, coupling=masks, sampler="exact" if exact_ratio else None),
            ),
            loss=replace(
                config.loss,
                **given(kind=loss, visible=visible_weight, channels=weights, body_only=body_only or None),
            ),
            steps=steps,
            batch_size=batch_size,
            accumulate=accumulate,
            learning_rate=learning_rate,
            window=window,
            spacing_mm=spacing_mm,
            features=numbers(features, "--features"),
            blocks=numbers(blocks, "--blocks"),
            seed=seed,
        ),
    )
    told: dict[str, str] = {}
    if licences is not None:
        try:
            told = {str(key): str(value) for key, value in json.loads(licences.read_text(encoding="utf-8")).items()}
        except (OSError, ValueError, AttributeError) as error:
            raise InputError(f"{licences}: is no JSON file {{dataset: licence}}: {error}.") from error

    def on_epoch(report: EpochReport) -> None:
        row = report.row
        say(
            f"step {report.step:>6}/{report.steps}  loss {row['train_loss']:.4f}  hidden {row['train_hidden']:.4f}  "
            f"visible {row['train_visible']:.4f}  held-out: explained {row['explained']:.3f}  {row['seconds']:.0f} s"
        )

    with progress("reading", quiet=quiet) as on_case, progress("pretraining", quiet=quiet) as on_step:
        found = pretrain_petct_mae(
            datasets,
            out,
            config=config,
            like=like,
            name=name,
            licence=licence,
            licences=told,
            exclude=() if exclude is None else read_exclusions(exclude),
            tests=test or (),
            allow_overlap=allow_overlap,
            keep_going=keep_going,
            audit=audit,
            device=device,
            precision=precision,
            devices=devices,
            assume_suv=assume_suv,
            jobs=jobs,
            on_case=on_case,
            on_epoch=None if quiet else on_epoch,
            on_step=on_step,
        )
    if not quiet:
        say(
            f"{found.scans} scans in the pool, {found.validation} of them held out, {found.padded} smaller than the "
            f"window, {found.left_out} left out ({out / 'left_out.csv'})"
        )
        say(f"bundle: {found.bundle}")
