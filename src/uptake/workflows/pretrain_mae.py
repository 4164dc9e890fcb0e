"""Pretrain a network on scans without labels, by hiding parts of them, and write what fine-tuning starts from."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from uptake import __version__
from uptake.core.errors import InputError
from uptake.harmonise.plan import Plan
from uptake.io.write import require_writable
from uptake.methods import petct_mae
from uptake.methods.petct_mae import Config
from uptake.networks.backbones import part
from uptake.networks.unet import load_unique_state
from uptake.sampling.masking import MaskedWindows
from uptake.training import checkpoint as checkpoints
from uptake.training.devices import make_fabric, one_by_one
from uptake.training.loop import fit
from uptake.training.protocol import EpochReport
from uptake.training.reconstruction import reconstruction_validation
from uptake.training.validation import VALIDATION_SEED
from uptake.workflows.bundles import load_bundle
from uptake.workflows.pool import Pool, PoolScan, make_pool, pool_datasets, require_apart, write_pool
from uptake.workflows.reconstruction_pictures import draw_reconstruction
from uptake.zoo.bundle import save_bundle
from uptake.zoo.cards import Card

log = logging.getLogger(__name__)

HELD_OUT = 0.02
"""Share of the patients whose windows the validation loss is computed on."""

RECONSTRUCTION = "reconstruction"
"""Name, beside fold 0, under which a bundle keeps the head that gives images back; nothing starts from it."""


@dataclass(frozen=True)
class PretrainedBundle:
    """What pretraining wrote.

    Attributes
    ----------
    bundle : Path
    scans, validation : int
        In the pool, and held out of it for the validation loss.
    padded, left_out : int
        Scans smaller than the window, and scans that could not be used.
    explained : float
        Share of the variance of hidden voxels that the network gives back, on held-out scans; NaN without any.
    """

    bundle: Path
    scans: int
    validation: int
    padded: int
    left_out: int
    explained: float


def pretrain_petct_mae(
    datasets: Sequence[Path | str],
    out: Path | str,
    *,
    config: Config | None = None,
    like: str | Path | None = None,
    name: str | None = None,
    licence: str = "not stated",
    licences: Mapping[str, str] | None = None,
    exclude: Sequence[str] = (),
    tests: Sequence[Path | str] = (),
    allow_overlap: bool = False,
    keep_going: bool = False,
    audit: Path | None = None,
    device: str = "auto",
    precision: str = "auto",
    devices: int = 1,
    stored_as: str = "float32",
    assume_suv: bool = False,
    jobs: int | None = 1,
    on_case: Callable[[int, int], None] | None = None,
    on_epoch: Callable[[EpochReport], None] | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> PretrainedBundle:
    """Pretrain by masked autoencoding and write a bundle of the role "initialisation".

    Parameters
    ----------
    datasets : sequence of Path
        nnU-Net raw datasets, folders of studies, plain image folders. Labels in them are never read.
    out : Path
        Receives cache/, manifest.json, left_out.csv, run/ (checkpoints, log.csv, loss.png, pictures) and bundle/.
        Calling again with the same arguments goes on where a killed run stopped.
    config : Config, optional
        By default `small` on CPUs, `published` with CUDA.
    like : str or Path, optional
        Model whose network, window, channels and plan are taken, so that its training can start from this bundle.
    name, licence
        For the card; the licence is that of the weights.
    licences : mapping, optional
        Dataset name -> licence; see `workflows.pool.pool_datasets`.
    exclude : sequence of str
        Case ids that stay out of the pool, with every other scan of their patients: the test cases of later work.
    tests : sequence of Path
        Datasets that must have no scan and no patient in common with the pool.
    allow_overlap : bool
        Pretrain even so; the card says it.
    keep_going : bool
        Leave out scans that cannot be read or lack a channel, instead of stopping at the first.
    audit : Path, optional
        Folder that `uptake audit` wrote about the pool; what it found goes into the card.
    device, precision, devices
        See `training.devices.make_fabric`.
    stored_as : str
        "float32" or "float16".
    assume_suv : bool
        As in `uptake.read`.
    jobs : int or None
        Processes that bring scans onto the grid.
    on_case, on_epoch, on_step : callable, optional
        Told (done, all) of scans, after each epoch, and (done, all) of steps.

    Raises
    ------
    InputError
        If a scan cannot be used, the pool is empty, or a test case is in it.
    CheckpointError
        If `out` holds a run with other settings.
    """
    out = Path(out)
    require_writable(out)
    audited = {} if audit is None else read_audit(audit)
    fabric = make_fabric(device, precision, devices=devices)
    if config is None:
        config = Config.published() if fabric.device.type == "cuda" else Config.small()
    plan, config = _planned(config, like)
    found = pool_datasets([Path(path) for path in datasets], licences)
    with one_by_one(fabric):
        pool = make_pool(
            _without(found, exclude),
            plan,
            out / "cache",
            window=config.window,
            min_slices=config.min_slices,
            assume_suv=assume_suv,
            keep_going=keep_going,
            jobs=jobs,
            on_case=on_case,
        )
    if not allow_overlap:
        require_apart(pool, [Path(path) for path in tests])
    training, validation = held_out(pool)
    if fabric.is_global_zero:
        write_pool(pool, out)

    rules, body = config.batch_rules(plan.spacing_mm), config.loss.body_only
    source = MaskedWindows(pool.cases(training), rules, config.masks, body=body)
    watched = MaskedWindows(pool.cases(validation), rules, config.masks, body=body)
    network = petct_mae.build_network(config)
    place = out / "run"
    (place / "pictures").mkdir(parents=True, exist_ok=True)

    def step(model: nn.Module, batch: Any, number: int) -> dict[str, torch.Tensor]:
        return petct_mae.training_step(model, batch, config, number)

    def after_epoch(report: EpochReport) -> None:
        if fabric.is_global_zero:
            picture = place / "pictures" / f"{report.step:07d}.png"
            seen = watched if validation else source
            draw_reconstruction(network, seen, picture, seed=VALIDATION_SEED, device=fabric.device)
        if on_epoch is not None:
            on_epoch(report)

    result = fit(
        network,
        petct_mae.build_optimizer(network, config),
        batches=source,
        training_step=step,
        learning_rate=lambda number: petct_mae.learning_rate(number, config),
        validate=reconstruction_validation(watched, config.loss, batches=config.validation_batches),
        settings=config.fit_settings(),
        folder=place,
        stamp=_stamp(config, plan, pool, training),
        fabric=fabric,
        on_epoch=after_epoch,
        on_step=on_step,
    )
    explained = result.history[-1]["explained"]
    if fabric.is_global_zero:
        state = checkpoints.load(result.last).network
        kind = config.design.kind
        kept = {key: tensor for key, tensor in state.items() if part(kind, key) != "head"}
        heads = {key: tensor for key, tensor in state.items() if part(kind, key) == "head"}
        card = _card(
            name or out.name, config, plan, pool, result.history[-1], licence, allow_overlap, audited, stored_as
        )
        save_bundle(card, {"0": kept, RECONSTRUCTION: heads}, out / "bundle")
    fabric.barrier()
    padded = sum(one.padded for one in pool.scans)
    return PretrainedBundle(
        out / "bundle", len(pool.scans), len(validation), padded, len(pool.left_out), float(explained)
    )


def _planned(config: Config, like: str | Path | None) -> tuple[Plan, Config]:
    if like is None:
        return config.plan(), config
    bundle = load_bundle(like)
    return bundle.plan, petct_mae.like(config, bundle.config, bundle.plan)


def _without(datasets: Sequence[Any], exclude: Sequence[str]) -> list[Any]:
    """Return the datasets without the named cases and without other scans of their patients."""
    from uptake.workflows.training_data import patient_of

    names = set(exclude)
    patients = {patient_of(files) for one in datasets for files in one.files if files.id in names}
    unknown = names - {files.id for one in datasets for files in one.files}
    if unknown:
        log.warning("%d cases to be excluded are in no dataset of the pool, first %s", len(unknown), min(unknown))
    return [
        replace(one, files=tuple(files for files in one.files if patient_of(files) not in patients)) for one in datasets
    ]


def held_out(pool: Pool, *, seed: int = 0) -> tuple[list[PoolScan], list[PoolScan]]:
    """Return scans to train on and scans to validate on: one patient in fifty, at least one where there are ten."""
    patients = sorted({(one.dataset, one.patient) for one in pool.scans})
    count = round(HELD_OUT * len(patients))
    if len(patients) >= 10:
        count = max(1, count)
    order = np.random.default_rng(seed).permutation(len(patients))
    chosen = {patients[number] for number in order[:count]}
    training = [one for one in pool.scans if (one.dataset, one.patient) not in chosen]
    return training, [one for one in pool.scans if (one.dataset, one.patient) in chosen]


def _stamp(config: Config, plan: Plan, pool: Pool, training: Sequence[PoolScan]) -> str:
    scans = [[one.dataset, one.case, one.stamp] for one in pool.scans]
    content = [petct_mae.NAME, config.as_json(), plan.as_json(), scans, [one.case for one in training]]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _card(
    name: str,
    config: Config,
    plan: Plan,
    pool: Pool,
    row: Mapping[str, float],
    licence: str,
    allow_overlap: bool,
    audited: Mapping[str, Any],
    stored_as: str,
) -> Card:
    scores = []
    if row["explained"] == row["explained"]:
        protocol = "masked windows of scans held out of the pool"
        scores.append({"protocol": protocol, "explained": row["explained"], "loss": row["validation_loss"]})
    return Card(
        name=name,
        version="1",
        summary=f"Masked pretraining of {config.backbone} on {len(pool.scans)} scans without labels.",
        method=petct_mae.NAME,
        config=config.as_json(),
        plan=plan.as_json(),
        labels=[],
        needs=list(config.channels),
        accepts=list(config.channels),
        suv="SUV by body weight, g/mL",
        training={
            "data": ", ".join(one.name for one in pool.datasets),
            "licence": "; ".join(f"{one.name}: {one.licence}" for one in pool.datasets),
            "cases": len(pool.scans),
            "steps": config.steps,
            "preset": config.preset,
            "overlap_checked": not allow_overlap,
        },
        scores=scores,
        limits=["A start for training. It segments nothing by itself."],
        licence=licence,
        files={},
        stored_as=stored_as,
        package_version=__version__,
        role="initialisation",
        origin={
            "kind": petct_mae.NAME,
            "sources": pool.sources(),
            "pool": pool.fingerprints(),
            **({"site_audit": dict(audited)} if audited else {}),
        },
    )


def reconstructing_network(bundle_folder: Path | str) -> nn.Module:
    """Return the pretrained network with its reconstruction head, in evaluation mode.

    Raises
    ------
    InputError
        If the bundle was not written by masked pretraining.
    """
    bundle = load_bundle(bundle_folder)
    if bundle.card.method != petct_mae.NAME or RECONSTRUCTION not in bundle.states:
        raise InputError(f"{bundle.folder}: no bundle of masked pretraining; it cannot give images back.")
    network = petct_mae.build_network(bundle.config)
    load_unique_state(network, {**bundle.states["0"], **bundle.states[RECONSTRUCTION]})
    return network.eval()


def read_audit(folder: Path) -> dict[str, Any]:
    """Return what a site audit found, for a card: scans, patients of each site, and how well columns can be read off.

    Raises
    ------
    InputError
        If the folder holds no audit.
    """
    file = folder / "audit.json" if folder.is_dir() else folder
    kept = ("column", "step", "balanced_accuracy", "low", "high", "chance", "p")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        readings = [{name: row[name] for name in kept} for row in content["readings"]]
        return {"sites": dict(content["sites"]), "scans": int(content["scans"]), "readings": readings}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{file}: is no site audit ({type(error).__name__}: {error}); make one with uptake audit DATASET "
            "--sites CSV --out FOLDER."
        ) from error


def read_exclusions(path: Path) -> tuple[str, ...]:
    """Return the case ids in a file: one a line, a JSON list, or the lists "test" and "validation" of a split.json.

    Raises
    ------
    InputError
        If the file cannot be read as any of these.
    """
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix != ".json":
            return tuple(line.strip() for line in text.splitlines() if line.strip())
        content = json.loads(text)
        if isinstance(content, Mapping):
            content = [*content["test"], *content.get("validation", [])]
        return tuple(str(one) for one in content)
    except (OSError, UnicodeDecodeError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: holds no case ids ({error}); expected one a line, or JSON: a list, or lists 'test', 'validation'."
        ) from error
