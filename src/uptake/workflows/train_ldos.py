"""Train LDOS, or one of its comparators, on low-dose and full-dose pairs with organ maps: plan, fit, score, bundle."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from uptake import __version__
from uptake.core.anatomy import class_table
from uptake.evaluation.image_quality import image_quality
from uptake.evaluation.statistics import summarise
from uptake.harmonise.normalise import unscaled
from uptake.harmonise.plan import Plan
from uptake.io.write import require_writable, write_csv, write_json
from uptake.methods import ldos
from uptake.methods.ldos import Config
from uptake.networks.unet import load_unique_state
from uptake.sampling.dose_pairs import PairBatches
from uptake.sampling.splits import Fold, folds_from_json, patient_folds, subject_of
from uptake.sampling.store import TrainingCase
from uptake.training import checkpoint as checkpoints
from uptake.training.devices import bf16_pays, make_fabric
from uptake.training.loop import fit
from uptake.training.protocol import EpochReport
from uptake.workflows.paired_data import (
    PairedDataset,
    cached_pair,
    find_pairs,
    harmonised_pair,
    median_shape,
    pair_plan,
    read_pair,
)
from uptake.workflows.train import About, TrainingResult
from uptake.workflows.training_data import ALL, fold_named
from uptake.zoo.bundle import save_bundle
from uptake.zoo.cards import Card

HEADLINE = ("dice", "psnr_db", "low_dose_psnr_db")


def train_ldos(
    dataset: Path | str,
    out: Path | str,
    *,
    config: Config | None = None,
    about: About | None = None,
    dose: float | None = None,
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
    """Train on pairs and write a bundle.

    Parameters
    ----------
    dataset : Path
        See `paired_data.find_pairs`.
    out : Path
        Receives cache/, fold_k/ (checkpoints, log), cases.csv, summary.json and bundle/. Calling again with the same
        arguments goes on where a killed run stopped.
    config : Config, optional
        `small` by default on CPUs, `published` with CUDA; comparators by `Config.comparator`.
    about : About, optional
    dose : float, optional
        Which dose fraction of the dataset.
    folds, n_folds, splits, device, precision, stored_as, assume_suv, on_epoch, on_step
        As in `workflows.train.train`.

    Returns
    -------
    TrainingResult
        Rows of held-out cases on the model's grid: mean Dice over the organs there, Dice per organ, and for denoisers
        the PSNR of the denoised and of the low-dose image against the full dose.

    Raises
    ------
    InputError
        Of the kind that fits: a case without its full dose, two grids, a scan that is no SUV, a dose that is not told.
    UsageError
        If a fold does not exist.
    """
    out = Path(out)
    require_writable(out)
    found = find_pairs(dataset, dose=dose)
    fabric = make_fabric(device, precision)
    config = config or (Config.published() if fabric.device.type == "cuda" else Config.small())
    name = Path(dataset).resolve().name
    about = about or About(name=f"ldos-{name}", data=name)
    ids = [pair.id for pair in found.pairs]
    chosen = {str(number): fold_named(number, _splits(ids, folds, n_folds, splits), ids) for number in folds}
    plan, config, cases = _prepared(found, config, out / "cache", assume_suv)
    rows: list[dict[str, Any]] = []
    states: dict[str, dict[str, torch.Tensor]] = {}
    for number, fold in chosen.items():
        place = out / f"fold_{number}"
        place.mkdir(parents=True, exist_ok=True)
        network = ldos.build_network(config)
        result = fit(
            network,
            ldos.build_optimizer(network, config),
            batches=PairBatches([cases[case] for case in fold.train], config.pair_rules(plan.spacing_mm)),
            training_step=lambda model, batch, step: ldos.training_step(model, batch, step, config),
            learning_rate=lambda step: ldos.learning_rate(step, config),
            settings=config.fit_settings(),
            folder=place,
            stamp=_stamp(config, plan, fold, found),
            fabric=fabric,
            on_epoch=None if on_epoch is None else (lambda report, n=number: on_epoch(n, report)),
            on_step=on_step,
        )
        states[number] = checkpoints.load(result.last).network
        bf16 = precision == "bf16-mixed" or (precision == "auto" and bf16_pays(fabric.device))
        dtype = torch.bfloat16 if bf16 else torch.float32
        held_out = _scored(states[number], config, plan, found, fold, fabric.device, dtype, assume_suv)
        rows += [{"fold": number, **row} for row in held_out]
        write_csv(rows, out / "cases.csv", columns=list(rows[0]) if rows else ["fold", "case"])
    summary = _summary(rows)
    write_json({"folds": list(chosen), "cases": len(rows), "metrics": summary}, out / "summary.json")
    save_bundle(card_of(config, plan, about, found, summary, len(rows), stored_as), states, out / "bundle")
    return TrainingResult((out / "bundle",), rows, summary)


def _splits(ids: Sequence[str], folds: Sequence[int | str], n_folds: int, splits: Path | None) -> tuple[Fold, ...]:
    if splits is not None:
        return folds_from_json(json.loads(Path(splits).read_text(encoding="utf-8")), list(ids))
    return () if list(folds) == [ALL] else patient_folds(list(ids), folds=n_folds, subject=subject_of)


def _prepared(
    found: PairedDataset, config: Config, cache: Path, assume_suv: bool
) -> tuple[Plan, Config, Mapping[str, TrainingCase]]:
    """Read every pair once before anything else, so that bad input is refused at the start; then plan and cache."""
    class_table(found.organ_names, config.labels)
    wanted = config.spacing_mm is None
    read = [read_pair(pair, assume_suv=assume_suv) for pair in (found.pairs if wanted else found.pairs[:1])]
    plan = pair_plan(read, config)
    cases = {
        pair.id: cached_pair(pair, plan, config, found.organ_names, cache, assume_suv=assume_suv)
        for pair in found.pairs
    }
    return plan, config.fitted_to(median_shape(list(cases.values()))), cases


def _stamp(config: Config, plan: Plan, fold: Fold, found: PairedDataset) -> str:
    content = [ldos.NAME, config.as_json(), plan.as_json(), fold.train, fold.validation, found.dose_fraction]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _scored(
    state: Mapping[str, torch.Tensor],
    config: Config,
    plan: Plan,
    found: PairedDataset,
    fold: Fold,
    device: torch.device,
    dtype: torch.dtype,
    assume_suv: bool,
) -> list[dict[str, Any]]:
    """Return a row of scores for every held-out case, on the model's grid."""
    network = ldos.build_network(config)
    load_unique_state(network, state)
    rows = []
    for pair in found.pairs:
        if pair.id not in fold.validation:
            continue
        case = harmonised_pair(read_pair(pair, assume_suv=assume_suv), plan, config, found.organ_names)
        assert case.labels is not None
        row: dict[str, Any] = {"case": pair.id, "patient": subject_of(pair.id), "tracer": pair.tracer}
        prediction = None
        if config.denoises:
            made = ldos.denoise([network], case, config, organs=config.finds_organs, device=device, dtype=dtype)
            prediction = made.prediction
            low, full = (unscaled(image, case.scales[0]) for image in (case.channels[0], case.target))
            row["psnr_db"] = image_quality(made.suv, full, body=case.body).psnr_db
            row["low_dose_psnr_db"] = image_quality(low, full, body=case.body).psnr_db
        elif config.finds_organs:
            prediction = ldos.predict([network], case, config, device=device, dtype=dtype)
        if prediction is not None:
            dice = organ_dice(prediction.logits.argmax(0), case.labels, config.labels)
            row |= {"dice": float(np.nanmean(list(dice.values()))), **{f"dice_{k}": v for k, v in dice.items()}}
        rows.append(row)
    return rows


def organ_dice(found: np.ndarray, labels: np.ndarray, names: Sequence[str]) -> dict[str, float]:
    """Return organ -> Dice; NaN where it is in neither map, 0 where it is in one."""
    result = {}
    for number, name in enumerate(names[1:], start=1):
        a, b = found == number, labels == number
        total = int(a.sum()) + int(b.sum())
        result[name] = 2.0 * int((a & b).sum()) / total if total else float("nan")
    return result


def _summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    metrics = [name for name in HEADLINE if rows and name in rows[0]]
    if not metrics:
        return {}
    return {
        name: {"mean": one.mean, "median": one.median, "low": one.low, "high": one.high, "n": one.n}
        for name, one in summarise(rows, metrics=metrics, patient="patient").items()
    }


def card_of(
    config: Config,
    plan: Plan,
    about: About,
    found: PairedDataset,
    summary: Mapping[str, Any],
    scored: int,
    stored_as: str,
) -> Card:
    """Return the card of a bundle of this method.

    Its `training` names the tracers and the dose fraction that the weights have seen; `denoise` and `segment` warn of
    others.
    """
    scores = list(about.scores)
    if scored:
        protocol = "cross-validation by patient, on the model's grid"
        scores.append({"protocol": protocol, "cases": scored, "metrics": summary})
    return Card(
        name=about.name,
        version="1",
        summary=about.summary,
        method=ldos.NAME,
        config=config.as_json(),
        plan=plan.as_json(),
        labels=list(config.labels),
        needs=["pet"],
        accepts=["pet"],
        suv="SUV by body weight, g/mL",
        training={
            "data": about.data,
            "licence": about.data_licence,
            "cases": len(found.pairs),
            "steps": config.steps,
            "preset": config.preset,
            "tracers": list(found.tracers),
            "dose_fraction": found.dose_fraction,
        },
        scores=scores,
        limits=list(about.limits),
        licence=about.weights_licence,
        files={},
        stored_as=stored_as,
        package_version=__version__,
    )
