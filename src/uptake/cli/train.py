"""uptake train"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from uptake.cli.console import progress, say
from uptake.cli.options import Device, Out
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
from uptake.core.errors import UsageError


def train(
    method: Literal["lesiontracer", "ldos", "seganypet"],
    dataset: Path,
    /,
    *,
    out: Out,
    preset: Literal["auto", "best", "published", "small"] = "auto",
    without: str | None = None,
    comparator: str | None = None,
    dose: float | None = None,
    trusted: str | None = None,
    folds: str | None = None,
    n_folds: int | None = None,
    splits: Path | None = None,
    init: str | None = None,
    organs: str | None = None,
    organ_maps: Path | None = None,
    organ_labels: str = "total",
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
    assume_suv: bool = False,
    quiet: Annotated[bool, Parameter(name=["--quiet", "-q"])] = False,
) -> None:
    """Train a method on labelled scans: cross-validation by patient, scores on whole scans, and a model bundle.

    A run that is stopped, even by kill -9, goes on from its last checkpoint when the same command is given again.

    Parameters
    ----------
    method
        lesiontracer; ldos: organs and a clean image from low-dose PET; seganypet: answers clicks, boxes and scribbles.
    dataset
        nnU-Net raw dataset (CT _0000, PET _0001), or a folder of studies with lesion masks. For ldos a simulated cohort
        with low-dose twins and organ maps, or a folder a case with ld, fd and seg images.
    out
        Receives the cache, a folder per fold (log.csv, loss.png, checkpoints, held-out masks), cases.csv,
        summary.json and bundle/; for seganypet a bundle in the folder of each fold.
    preset
        published: the paper's network, organ heads and schedule (a 40 GB GPU); its fine-tuning rate with --init, else
        that of its rows from scratch. best: the same size, with the departures that --without names. small: two CPU
        cores, minutes. auto: small, or with CUDA published without organs, of seganypet best.
    without
        Departures of the preset best to leave out, with commas: organ-ids, pet-scale, low-resolution, ct-dropout,
        millimetres, body-windows.
    comparator
        Of ldos: ldpet (no denoising), fdpet (on the full dose), fake-fdpet (denoise, then segment), ldos-ow (the
        denoising loss does not fade) or nnunet (ldpet with a plain encoder), instead of the method itself. Of
        seganypet: fine-tune or consistency, instead of confident learning.
    dose
        Of ldos: which dose fraction of the dataset, where it holds several or tells none.
    trusted
        Of seganypet: whose labels are of high quality, a file with a case id a line or a pattern such as "site1_*"; the
        others are doubted. By default every label is believed.
    folds
        Which to train: numbers with commas, or all for one model on every case. By default 0,1,2,3,4; of seganypet 0.
    n_folds
        New folds, split by patient; by default those of the dataset's splits_final.json, if it has one, else five.
    splits
        Another nnU-Net splits_final.json.
    init
        Model or bundle whose weights training starts from; the network must be the same.
    organs
        Also learn organs, on heads of their own: lesiontracer, lesiontracer-published (its labels' slip kept), ldos, or
        none; by default the preset's. Of seganypet: organs to prompt for beside the lesions; by default none.
    organ_maps
        Folder of organ label maps named like the cases; by default organs.nii.gz beside the images, of seganypet the
        dataset's organsTr before.
    organ_labels
        Numbering of the maps: total (TotalSegmentator), autopet (published with LesionTracer), or a JSON file
        {number: name}.
    steps
        Optimiser steps of each fold, instead of the preset's.
    accumulate
        Batches whose gradients make one step: a large batch on a small device.
    spacing_mm
        Voxel size of the model's grid (z, y, x), instead of the preset's.
    devices
        Train data-parallel on this many; each draws a batch of its own.
    assume_suv
        Take every PET as SUV although its values say otherwise.
    quiet
        Print nothing but errors.
    """
    from uptake.io.write import require_writable

    require_writable(out)
    from uptake.core.anatomy import classes_of
    from uptake.training.devices import is_first_process, resolve_device
    from uptake.training.protocol import EpochReport
    from uptake.workflows.bundles import method_module
    from uptake.workflows.train import About
    from uptake.workflows.train import train as workflow
    from uptake.workflows.train_ldos import train_ldos
    from uptake.workflows.train_seganypet import train_seganypet

    hush_fabric()
    Config: Any = method_module(method).Config
    paired, prompted = method == "ldos", method == "seganypet"
    _require_own_options(
        method,
        {
            ("lesiontracer",): {"--without": without},
            ("ldos",): {"--dose": dose},
            ("seganypet",): {"--trusted": trusted},
            ("ldos", "seganypet"): {"--comparator": comparator},
            ("lesiontracer", "seganypet"): {
                "--init": init, "--organs": organs, "--organ-maps": organ_maps, "--accumulate": accumulate,
                "--devices": None if devices == 1 else devices, "--preset best": True if preset == "best" else None,
            },
        },
    )  # fmt: skip
    automatic = preset == "auto"
    if automatic:
        large: Literal["best", "published"] = "best" if prompted else "published"
        preset = large if resolve_device(device).type == "cuda" else "small"
    if without is not None and preset != "best":
        raise UsageError("--without leaves out departures of the preset best; choose it with --preset best.")
    start: Any = Config.best(without=without.split(",")) if without else getattr(Config, preset)()
    if preset in ("best", "published") and init is None and method == "lesiontracer":
        start = start.from_scratch()
    if comparator is not None or trusted is not None:
        start = start.comparator(comparator or method)
    if organs is None and automatic and method == "lesiontracer":
        organs = "none"
    changes = given(
        organs=None if organs is None or prompted else () if organs == "none" else classes_of(organs),
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
    if prompted and start.network != "unet" and (features or blocks):
        raise UsageError(f"--features and --blocks are of U-Nets; the preset {preset} is a transformer.")
    config = replace(start, **changes)

    def on_epoch(fold: str, report: EpochReport) -> None:
        say(epoch_line(fold, report.step, report.steps, report.row))

    if folds is None:
        folds = "0" if prompted else "0,1,2,3,4"
    wanted: list[int | str] = ["all"] if folds == "all" else list(numbers(folds, "--folds") or ())
    with progress("training", quiet=quiet) as on_step:
        common: dict[str, Any] = {
            "config": config,
            "about": About(
                name=name or f"{method}-{dataset.resolve().name}", data=dataset.resolve().name, weights_licence=licence
            ),
            "folds": wanted,
            "splits": splits,
            "device": device,
            "precision": precision,
            "assume_suv": assume_suv,
            "on_epoch": None if quiet else on_epoch,
            "on_step": on_step,
        }
        if paired:
            result = train_ldos(dataset, out, dose=dose, n_folds=n_folds or 5, **common)
        elif prompted:
            result = train_seganypet(
                dataset,
                out,
                trusted=trusted,
                n_folds=n_folds,
                init=init,
                organs=None if organs == "none" else organs,
                organ_maps=organ_maps,
                organ_labels=organ_labels,
                devices=devices,
                **common,
            )
        else:
            result = workflow(
                method,
                dataset,
                out,
                n_folds=n_folds,
                init=init,
                organ_maps=organ_maps,
                organ_labels=organ_labels,
                devices=devices,
                **common,
            )
    if not quiet and is_first_process():
        if "dice" in result.summary:
            dice = result.summary["dice"]
            say(
                f"mean Dice of {dice['n']} held-out scans {dice['mean']:.4f} "
                f"(95 % interval {dice['low']:.4f} to {dice['high']:.4f})"
            )
        for clicks in (1, 5):
            if f"dice_{clicks}" in result.summary:
                dice = result.summary[f"dice_{clicks}"]
                say(f"mean Dice of {dice['n']} held-out lesions after {clicks} click(s) {dice['mean']:.4f}")
        if result.left_out:
            say(
                f"{len(result.left_out)} studies without a lesion mask were left out: "
                f"{', '.join(result.left_out[:5])}{', …' if len(result.left_out) > 5 else ''}"
            )
        for bundle in result.bundles:
            say(f"bundle: {bundle}")


def _require_own_options(method: str, owned: dict[tuple[str, ...], dict[str, Any]]) -> None:
    """Refuse options of other methods; `owned` has, for the methods they are of, options as they were given."""
    named = [name for owners, options in owned.items() if method not in owners for name in given(**options)]
    if named:
        raise UsageError(f"{', '.join(named)}: not for {method}; leave it out.")


def epoch_line(fold: str, step: int, steps: int, row: Mapping[str, float]) -> str:
    """Return what is said of an epoch; of held-out windows nothing where none are held out."""
    score = f"Dice {row['pseudo_dice']:.3f}" if "pseudo_dice" in row else ""
    if "click_dice_1" in row:
        score = f"Dice {row['click_dice_1']:.3f} after a click, {row['click_dice_5']:.3f} after five"
    held_out = score and not math.isnan(row["validation_loss"])
    windows = f"held-out windows: loss {row['validation_loss']:+.4f}, {score}  " if held_out else ""
    return f"fold {fold}  step {step:>6}/{steps}  loss {row['train_loss']:+.4f}  {windows}{row['seconds']:.0f} s"
