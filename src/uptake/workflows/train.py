"""Train a method on a labelled dataset: fingerprint, plan, cache, fit, validate on whole scans, bundle."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from uptake import __version__
from uptake.cases import Case
from uptake.core.anatomy import class_table
from uptake.core.errors import CheckpointError, UsageError
from uptake.evaluation.overlap import evaluate_pair
from uptake.evaluation.statistics import summarise
from uptake.geometry.volume import Volume
from uptake.harmonise.onto import harmonise
from uptake.harmonise.plan import Plan
from uptake.harmonise.restore import restore
from uptake.io.read import read_case
from uptake.io.write import require_writable, write_csv, write_json, write_volume
from uptake.networks.unet import is_head, load_unique_state, mismatches, unique_state
from uptake.sampling.batches import WindowBatches
from uptake.sampling.splits import Fold
from uptake.training import checkpoint as checkpoints
from uptake.training.devices import bf16_pays, make_fabric, one_by_one
from uptake.training.loop import fit
from uptake.training.protocol import EpochReport
from uptake.training.transfer import in_channel_order
from uptake.training.validation import window_validation
from uptake.workflows.bundles import Bundle, load_bundle, method_module
from uptake.workflows.tracers import dataset_tracers
from uptake.workflows.training_data import (
    SHIPPED_SPLITS,
    Prepared,
    dataset_splits,
    fold_named,
    labelled_studies,
    organ_names,
    patient_of,
    prepared,
    with_organ_maps,
)
from uptake.zoo.bundle import save_bundle
from uptake.zoo.cards import Card

log = logging.getLogger(__name__)

HEADLINE = ("dice", "iou", "sensitivity", "precision", "fp_volume_ml", "fn_volume_ml")


@dataclass(frozen=True)
class About:
    """What the card says that no computer can find out.

    Attributes
    ----------
    name, summary, data, data_licence, weights_licence : str
    limits : tuple of str
    tracers : tuple of str
        What the scans of training were made with; by default what the dataset's cohort.csv says of them. Scans of
        others are warned about.
    scores : tuple of mapping
        Scores measured elsewhere (a cross-validation of the same settings), for a bundle trained on every case.
    """

    name: str
    summary: str = ""
    data: str = ""
    data_licence: str = "not stated"
    weights_licence: str = "not stated"
    limits: tuple[str, ...] = ()
    scores: tuple[Mapping[str, Any], ...] = ()
    tracers: tuple[str, ...] = ()


@dataclass(frozen=True)
class TrainingResult:
    """Where everything is.

    Attributes
    ----------
    bundles : tuple of Path
        One with every fold, or one a fold where each was planned by itself.
    rows : list of dict
        One per held-out case: fold, case, Dice, IoU, volumes.
    summary : dict
        Mean, median and interval per metric; empty without held-out cases.
    left_out : tuple of str
        Studies without a lesion mask.
    """

    bundles: tuple[Path, ...]
    rows: list[dict[str, Any]]
    summary: dict[str, Any]
    left_out: tuple[str, ...] = ()

    @property
    def bundle(self) -> Path:
        """The bundle, or the first of several."""
        return self.bundles[0]


def train(
    method: str,
    dataset: Path | str,
    out: Path | str,
    *,
    config: Any | None = None,
    about: About | None = None,
    folds: Sequence[int | str] = (0, 1, 2, 3, 4),
    n_folds: int | None = None,
    splits: Path | None = None,
    separate_plans: bool = False,
    init: str | Path | None = None,
    organ_maps: Path | None = None,
    organ_labels: str | Path = "total",
    device: str = "auto",
    devices: int = 1,
    precision: str = "auto",
    stored_as: str = "float32",
    assume_suv: bool = False,
    on_epoch: Callable[[str, EpochReport], None] | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> TrainingResult:
    """Train a method and write a bundle.

    Parameters
    ----------
    method : str
        "lesiontracer".
    dataset : Path
        nnU-Net raw dataset, autoPET-style study folders, or a folder of such; every case with a lesion mask is used.
    out : Path
        Receives cache/, fold_k/ (checkpoints, log, held-out predictions), cases.csv, summary.json and bundle/.
        Calling again with the same arguments goes on where a killed run stopped.
    config : optional
        Of the method; its `small` preset by default on CPUs, `published_from_scratch` with CUDA.
    about : About, optional
    folds : sequence
        Folds to train, by number, or "all" for one model on every case.
    n_folds : int, optional
        New folds by patient, each with its share of every tracer. By default the splits_final.json of the dataset is
        taken if it has one, else there are five new folds. Those used are written to ``out``.
    splits : Path, optional
        nnU-Net splits_final.json; takes the place of both.
    separate_plans : bool
        Plan each fold (spacing, normalisation) on its own training cases, so that nothing at all of a held-out scan is
        known. Folds then have different grids, cannot be averaged, and get a bundle each. By default one plan is made
        from all cases, as nnU-Net does, and one bundle holds all folds.
    init : str or Path, optional
        Bundle whose weights (of its first fold) training starts from; the network must be the same.
    organ_maps : Path, optional
        Folder of organ label maps named like the cases, where the studies do not hold them; used by configurations with
        organ heads.
    organ_labels : str or Path
        Numbering of those maps: "total" (TotalSegmentator), "autopet" (the maps published with LesionTracer), or a JSON
        file {number: name}. Classes are put together by name (`core.anatomy`).
    device, precision : str
        See `training.devices.make_fabric`.
    devices : int
        How many, data-parallel: the running command is started once more for each further one, and every one draws a
        batch of its own. Only the first process scores and writes.
    stored_as : str
        Number format of the bundle's weights: float32 or float16.
    assume_suv : bool
        As in `uptake.read`.
    on_epoch : callable, optional
        Told (fold, report).
    on_step : callable, optional
        Told (done, all) within a fold.

    Raises
    ------
    InputError
        If no case has a lesion mask, a case cannot be read, or a patient is on both sides of a split.
    UsageError
        If a fold does not exist.
    """
    module = method_module(method)
    if method != "lesiontracer":
        raise UsageError(f"{method!r} is not trained here: ldos by uptake.train_ldos, others by their own verbs.")
    out = Path(out)
    require_writable(out)
    files, left_out = labelled_studies(Path(dataset))
    fabric = make_fabric(device, precision, devices=devices)
    if config is None:
        config = module.Config.small()
        if fabric.device.type == "cuda":
            config = replace(module.Config.published_from_scratch(), organs=())
    about = about or About(name=f"{method}-{Path(dataset).resolve().name}", data=Path(dataset).resolve().name)
    if not about.tracers:
        about = replace(about, tracers=dataset_tracers(Path(dataset), [found.id for found in files]))
    split = dataset_splits(files, folds, n_folds, splits, Path(dataset))
    chosen = {str(name): fold_named(name, split, [found.id for found in files]) for name in folds}

    start = None if init is None else load_bundle(init)
    organ_table = None
    if config.organs:
        files = with_organ_maps(files, organ_maps)
        organ_table = class_table(organ_names(organ_labels), config.organs)
    shared = None
    if not separate_plans:
        with one_by_one(fabric):
            shared = prepared(files, None, config, out / "cache" / "shared", assume_suv, organ_table)
    if split and fabric.is_global_zero:
        used = [{"train": list(fold.train), "val": list(fold.validation)} for fold in split]
        write_json(used, out / SHIPPED_SPLITS)
    rows: list[dict[str, Any]] = []
    states: dict[str, dict[str, torch.Tensor]] = {}
    bundles = []
    for name, fold in chosen.items():
        data = shared
        if data is None:
            with one_by_one(fabric):
                data = prepared(files, fold.train, config, out / "cache" / f"fold_{name}", assume_suv, organ_table)
        place = out / f"fold_{name}"
        place.mkdir(parents=True, exist_ok=True)
        network = _started(module.build_network(data.config), start, data.plan)
        rules, settings = data.config.batch_rules(data.plan.spacing_mm), data.config.fit_settings()

        def step(model: nn.Module, batch: Any, number: int, config: Any = data.config) -> torch.Tensor:
            return module.training_step(model, batch, config)

        result = fit(
            network,
            module.build_optimizer(network, data.config),
            batches=WindowBatches([data.cases[case] for case in fold.train], rules),
            training_step=step,
            learning_rate=lambda number, c=data.config: module.learning_rate(number, c),
            validate=window_validation(
                step, [data.cases[case] for case in fold.validation], rules, batches=settings.validation_batches
            ),
            settings=settings,
            folder=place,
            stamp=_run_stamp(method, data, fold, start, devices),
            fabric=fabric,
            on_epoch=None if on_epoch is None else (lambda report, n=name: on_epoch(n, report)),
            on_step=on_step,
        )
        if not fabric.is_global_zero:
            continue
        states[name] = checkpoints.load(result.last).network
        dtype = torch.bfloat16 if _multiplies_in_bf16(precision, fabric.device) else torch.float32
        found = _held_out(module, data, states[name], fold, place, fabric.device, dtype, assume_suv)
        rows += [{"fold": name, **row} for row in found]
        write_csv(rows, out / "cases.csv", columns=list(rows[0]) if rows else ["fold", "case"])
        if separate_plans:
            card = _card(method, about, data, found, stored_as, start)
            save_bundle(card, {name: states[name]}, place / "bundle")
            bundles.append(place / "bundle")
    if not fabric.is_global_zero:
        return TrainingResult((), [], {}, left_out)
    summary = summary_values(rows)
    write_json({"folds": list(chosen), "cases": len(rows), "metrics": summary}, out / "summary.json")
    if shared is not None:
        save_bundle(_card(method, about, shared, rows, stored_as, start), states, out / "bundle")
        bundles.append(out / "bundle")
    return TrainingResult(tuple(bundles), rows, summary, left_out)


def _started(network: nn.Module, start: Bundle | None, plan: Plan) -> nn.Module:
    """Return the network with the weights of a bundle, or as it is without one.

    A bundle that reads the same channels in another order is put in order; one that saw them normalised otherwise, or
    on other voxels, is a start all the same, and the log says so.
    """
    if start is None:
        return network
    state = in_channel_order(next(iter(start.states.values())), start.plan.channel_names, plan.channel_names)
    schemes = [{rule.name: rule.scheme for rule in one.channels} for one in (start.plan, plan)]
    if schemes[0] != schemes[1]:
        log.warning("%s saw %s; the network to be trained sees %s", start.card.name, *map(_listed, schemes))
    # Heads for other labels, or that the start has none of, begin fresh, as published for pretrained weights.
    fresh = {name: tensor for name, tensor in unique_state(network).items() if is_head(name)}
    kept = {name for name in fresh if name in state and state[name].shape == fresh[name].shape}
    if len(kept) < len(fresh):
        log.warning(
            "%d of %d head tensors start fresh: %s has none that fit",
            len(fresh) - len(kept),
            len(fresh),
            start.card.name,
        )
    state = {name: tensor for name, tensor in state.items() if not is_head(name) or name in kept}
    state |= {name: tensor for name, tensor in fresh.items() if name not in kept}
    wrong = mismatches(network, state)
    if wrong:
        raise CheckpointError(
            f"{start.folder}: its weights do not fit the network to be trained ({wrong[0]}); choose the same features, "
            "blocks and channels."
        )
    load_unique_state(network, state)
    return network


def _listed(schemes: Mapping[str, str]) -> str:
    return ", ".join(f"{name.upper()} by {schemes[name]}" for name in sorted(schemes))


def _run_stamp(method: str, data: Prepared, fold: Fold, start: Bundle | None, devices: int) -> str:
    content = [method, data.config.as_json(), data.plan.as_json(), fold.train, fold.validation, data.hashes]
    if start is not None:
        content.append(start.checksum)
    if devices > 1:
        content.append(devices)
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _multiplies_in_bf16(precision: str, device: torch.device) -> bool:
    return precision == "bf16-mixed" or (precision == "auto" and bf16_pays(device))


def _held_out(
    module: Any,
    data: Prepared,
    state: Mapping[str, torch.Tensor],
    fold: Fold,
    place: Path,
    device: torch.device,
    dtype: torch.dtype,
    assume_suv: bool,
) -> list[dict[str, Any]]:
    """Segment every held-out case on its own grid, write the masks, return a row of scores for each."""
    network = module.build_network(data.config)
    load_unique_state(network, state)
    rows = []
    (place / "held_out").mkdir(exist_ok=True)
    for found in data.files:
        if found.id not in fold.validation:
            continue
        case = read_case(found, assume_suv=assume_suv)
        mask = _segmented(module, network, case, data.config, data.plan, device, dtype)
        write_volume(mask, place / "held_out" / f"{case.id}.nii.gz")
        assert case.lesions is not None
        (scores,) = evaluate_pair(mask, case.lesions)
        rows.append({"case": case.id, "patient": patient_of(found), **scores.row()})
    return rows


def _segmented(
    module: Any, network: Any, case: Case, config: Any, plan: Plan, device: torch.device, dtype: torch.dtype
) -> Volume:
    harmonised, trace = harmonise(case, plan)
    prediction = module.predict([network], harmonised, config, device=device, dtype=dtype)
    return restore(prediction, trace, order=plan.logits_order).labels


def _origin(start: Bundle) -> str:
    return f"{start.card.name} after {start.card.training.get('steps', '?')} steps, weights {start.checksum[:12]}"


def _card(
    method: str,
    about: About,
    data: Prepared,
    rows: Sequence[Mapping[str, Any]],
    stored_as: str,
    start: Bundle | None,
) -> Card:
    config, plan, files, summary = data.config, data.plan, data.files, summary_values(rows)
    pet_only = config.augment.ct_dropout_p > 0 or "ct" not in config.channels
    scores = list(about.scores)
    if rows:
        scores.append({"protocol": "cross-validation by patient, whole scans", "cases": len(rows), "metrics": summary})
    return Card(
        name=about.name,
        version="1",
        summary=about.summary,
        method=method,
        config=config.as_json(),
        plan=plan.as_json(),
        labels=list(config.labels),
        needs=["pet"] if pet_only else ["pet", "ct"],
        accepts=["pet", "ct"],
        suv="SUV by body weight, g/mL",
        training={
            "data": about.data,
            "licence": about.data_licence,
            "cases": len(files),
            "steps": config.steps,
            "preset": config.preset,
            **({"tracers": list(about.tracers)} if about.tracers else {}),
            **({} if start is None else {"started_from": _origin(start)}),
        },
        scores=scores,
        limits=list(about.limits),
        licence=about.weights_licence,
        files={},
        stored_as=stored_as,
        package_version=__version__,
    )


def summary_values(rows: Sequence[Mapping[str, object]]) -> dict[str, dict[str, float | int]]:
    """Return mean, median and interval of the headline scores over cases, as plain values."""
    if not rows:
        return {}
    found = summarise(rows, metrics=HEADLINE, patient="patient")
    return {
        name: {"mean": one.mean, "median": one.median, "low": one.low, "high": one.high, "n": one.n}
        for name, one in found.items()
    }
