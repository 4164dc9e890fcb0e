"""Train a method on a labelled dataset: fingerprint, plan, cache, fit, validate on whole scans, bundle."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from uptake import __version__
from uptake.cases import Case
from uptake.core.errors import InputError, UsageError
from uptake.evaluation.overlap import evaluate_pair
from uptake.evaluation.statistics import summarise
from uptake.geometry.volume import Volume
from uptake.harmonise.onto import harmonise
from uptake.harmonise.plan import Fingerprint, Plan, fingerprint, plan_from
from uptake.harmonise.restore import restore
from uptake.io.find import CaseFiles, find_cases
from uptake.io.read import read_case
from uptake.io.write import require_writable, write_csv, write_json, write_volume
from uptake.networks.unet import load_unique_state
from uptake.sampling.splits import Fold, folds_from_json, patient_folds, subject_of
from uptake.sampling.store import TrainingCase, stamp_of, store, stored
from uptake.training import checkpoint as checkpoints
from uptake.training.devices import bf16_pays, make_fabric
from uptake.training.loop import fit
from uptake.training.protocol import EpochReport
from uptake.workflows.bundles import method_module
from uptake.zoo.bundle import save_bundle
from uptake.zoo.cards import Card

log = logging.getLogger(__name__)

HEADLINE = ("dice", "iou", "sensitivity", "precision", "fp_volume_ml", "fn_volume_ml")

ALL = "all"
"""Name of the fold that trains on every case and holds none out."""


@dataclass(frozen=True)
class About:
    """What the card says that no computer can find out.

    Attributes
    ----------
    name, summary, data, data_licence, weights_licence : str
    limits : tuple of str
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


@dataclass(frozen=True)
class TrainingResult:
    """Where everything is.

    Attributes
    ----------
    bundle : Path
    rows : list of dict
        One per held-out case: fold, case, Dice, IoU, volumes.
    summary : dict
        Mean, median and interval per metric; empty without held-out cases.
    """

    bundle: Path
    rows: list[dict[str, Any]]
    summary: dict[str, Any]


def train(
    method: str,
    dataset: Path | str,
    out: Path | str,
    *,
    config: Any | None = None,
    about: About | None = None,
    folds: Sequence[int | str] = (0, 1, 2, 3, 4),
    n_folds: int = 5,
    splits: Path | None = None,
    device: str = "auto",
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
        Of the method; its `small` preset by default on CPUs, `published` with CUDA.
    about : About, optional
    folds : sequence
        Folds to train, by number, or "all" for one model on every case.
    n_folds : int
        Of the cross-validation, by patient.
    splits : Path, optional
        nnU-Net splits_final.json; takes the place of `n_folds`.
    device, precision : str
        See `training.devices.make_fabric`.
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
    out = Path(out)
    require_writable(out)
    files = [found for found in find_cases(Path(dataset)) if found.lesions is not None]
    if not files:
        raise InputError(f"{dataset}: no case there has a lesion mask (lesion, SEG, or nnU-Net labelsTr).")
    fabric = make_fabric(device, precision)
    if config is None:
        config = module.Config.published() if fabric.device.type == "cuda" else module.Config.small()
    about = about or About(name=f"{method}-{Path(dataset).resolve().name}", data=Path(dataset).resolve().name)
    ids = [found.id for found in files]
    if splits is not None:
        split = folds_from_json(json.loads(Path(splits).read_text(encoding="utf-8")), ids)
    else:
        split = patient_folds(ids, folds=n_folds) if folds != (ALL,) and list(folds) != [ALL] else ()
    rows: list[dict[str, Any]] = []
    states: dict[str, dict[str, torch.Tensor]] = {}
    fitted, plan = config, None
    for name in folds:
        fold = _fold(name, split, ids)
        plan, found, hashes = _plan(files, fold.train, config, assume_suv=assume_suv)
        fitted = config.fitted_to(_median_shape(found, plan))
        cases = {f.id: _cached(f, plan, hashes, out / "cache" / f"fold_{name}", assume_suv=assume_suv) for f in files}
        place = out / f"fold_{name}"
        place.mkdir(parents=True, exist_ok=True)
        network = module.build_network(fitted)
        result = fit(
            network,
            module.build_optimizer(network, fitted),
            training_step=lambda model, x, y, c=fitted: module.training_step(model, x, y, c),
            learning_rate=lambda step, c=fitted: module.learning_rate(step, c),
            train=[cases[case] for case in fold.train],
            validation=[cases[case] for case in fold.validation],
            rules=fitted.batch_rules(plan.spacing_mm),
            settings=fitted.fit_settings(),
            folder=place,
            stamp=_run_stamp(method, fitted, plan, fold, hashes),
            fabric=fabric,
            on_epoch=None if on_epoch is None else (lambda report, n=str(name): on_epoch(n, report)),
            on_step=on_step,
        )
        states[str(name)] = checkpoints.load(result.last).network
        rows += _held_out(
            module, fitted, plan, states[str(name)], files, fold, place, str(name), fabric.device, assume_suv
        )
        write_csv(rows, out / "cases.csv", columns=list(rows[0]) if rows else ["fold", "case"])
    summary = summary_values(rows)
    write_json({"folds": [str(name) for name in folds], "cases": len(rows), "metrics": summary}, out / "summary.json")
    assert plan is not None
    card = _card(method, about, fitted, plan, files, rows, summary, stored_as)
    save_bundle(card, states, out / "bundle")
    return TrainingResult(out / "bundle", rows, summary)


def _fold(name: int | str, split: Sequence[Fold], ids: Sequence[str]) -> Fold:
    if name == ALL:
        return Fold(tuple(ids), ())
    if not 0 <= int(name) < len(split):
        raise UsageError(f"fold {name} does not exist; there are {len(split)}, numbered from 0, and 'all'.")
    return split[int(name)]


def _plan(
    files: Sequence[CaseFiles], train_ids: Sequence[str], config: Any, *, assume_suv: bool
) -> tuple[Plan, Fingerprint, dict[str, dict[str, str]]]:
    """Return the plan of the training cases alone, their fingerprint, and the source hashes of every case."""
    hashes: dict[str, dict[str, str]] = {}

    def training_cases() -> Any:
        for found in files:
            case = read_case(found, assume_suv=assume_suv)
            hashes[case.id] = {source.role: source.sha256 for source in case.sources}
            if case.id in train_ids:
                yield case

    found = fingerprint(training_cases(), orientation=config.orientation, channels=config.channels)
    schemes = dict(zip(config.channels, config.normalisation, strict=True))
    plan = plan_from(found, schemes=schemes, target_spacing_mm=config.spacing_mm, orientation=config.orientation)
    return plan, found, hashes


def _median_shape(found: Fingerprint, plan: Plan) -> list[float]:
    sizes = np.array(found.shapes) * np.array(found.spacings_mm) / np.array(plan.spacing_mm)
    return [float(n) for n in np.median(np.round(sizes), axis=0)]


def _cached(
    found: CaseFiles, plan: Plan, hashes: Mapping[str, Mapping[str, str]], folder: Path, *, assume_suv: bool
) -> TrainingCase:
    stamp = stamp_of(plan.as_json(), hashes[found.id])
    case = stored(folder, found.id, stamp)
    if case is None:
        harmonised, _ = harmonise(read_case(found, assume_suv=assume_suv), plan)
        case = store(folder, harmonised, stamp)
    return case


def _run_stamp(method: str, config: Any, plan: Plan, fold: Fold, hashes: Mapping[str, Mapping[str, str]]) -> str:
    content = [method, config.as_json(), plan.as_json(), fold.train, fold.validation, hashes]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _held_out(
    module: Any,
    config: Any,
    plan: Plan,
    state: Mapping[str, torch.Tensor],
    files: Sequence[CaseFiles],
    fold: Fold,
    place: Path,
    name: str,
    device: torch.device,
    assume_suv: bool,
) -> list[dict[str, Any]]:
    """Segment every held-out case on its own grid, write the masks, return a row of scores for each."""
    network = module.build_network(config)
    load_unique_state(network, state)
    dtype = torch.bfloat16 if bf16_pays(device) else torch.float32
    rows = []
    (place / "held_out").mkdir(exist_ok=True)
    for found in files:
        if found.id not in fold.validation:
            continue
        case = read_case(found, assume_suv=assume_suv)
        mask = _segmented(module, network, case, config, plan, device, dtype)
        write_volume(mask, place / "held_out" / f"{case.id}.nii.gz")
        assert case.lesions is not None
        (scores,) = evaluate_pair(mask, case.lesions)
        rows.append({"fold": name, "case": case.id, "patient": subject_of(case.id), **scores.row()})
    return rows


def _segmented(
    module: Any, network: Any, case: Case, config: Any, plan: Plan, device: torch.device, dtype: torch.dtype
) -> Volume:
    harmonised, trace = harmonise(case, plan)
    prediction = module.predict([network], harmonised, config, device=device, dtype=dtype)
    return restore(prediction, trace, order=plan.logits_order).labels


def _card(
    method: str,
    about: About,
    config: Any,
    plan: Plan,
    files: Sequence[CaseFiles],
    rows: Sequence[Mapping[str, Any]],
    summary: Mapping[str, Any],
    stored_as: str,
) -> Card:
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
        labels=list(method_module(method).LABELS),
        needs=["pet"] if pet_only else ["pet", "ct"],
        accepts=["pet", "ct"],
        suv="SUV by body weight, g/mL",
        training={
            "data": about.data,
            "licence": about.data_licence,
            "cases": len(files),
            "steps": config.steps,
            "preset": config.preset,
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
