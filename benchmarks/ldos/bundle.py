"""Train the shipped model phantom-ldos-small: 18 organs and a clean image from 5 % dose, on simulated patients.

Usage:
    python benchmarks/ldos/bundle.py prepare --cohort COHORT --work WORK              (pairs onto 6 mm, once)
    python benchmarks/ldos/bundle.py train --cohort COHORT --work WORK [--minutes 13]  (call it again; it goes on)
    python benchmarks/ldos/bundle.py finish --cohort COHORT --work WORK --out BUNDLE   (scores, card, weights)

COHORT is what ``uptake simulate cohort`` writes with 5 % twins. FDG and FAPI-04 patients; 12 are held out and give the
scores on the card.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from race import TRACERS

from uptake.cases import HarmonisedCase, Scale
from uptake.evaluation.image_quality import image_quality
from uptake.evaluation.statistics import summarise
from uptake.harmonise.normalise import unscaled
from uptake.harmonise.plan import Plan
from uptake.io.write import write_csv
from uptake.methods import ldos
from uptake.methods.ldos import Config
from uptake.networks.unet import load_unique_state
from uptake.sampling.augment import NO_AUGMENTATION
from uptake.sampling.dose_pairs import PairBatches
from uptake.sampling.store import TrainingCase, training_case
from uptake.training import checkpoint
from uptake.training.devices import make_fabric
from uptake.training.loop import fit
from uptake.workflows.paired_data import PairedDataset, find_pairs, harmonised_pair, pair_plan, read_pair
from uptake.workflows.train import About
from uptake.workflows.train_ldos import card_of, organ_dice
from uptake.zoo.bundle import save_bundle

HERE = Path(__file__).parent
NAME = "phantom-ldos-small"
HELD_OUT, SPLIT_SEED = 12, 11
LARGEST_MB = 8.0
NOT_FOUND = 0.1
"""An organ with a lower mean Dice is named among the limits."""

CONFIG = replace(
    Config.small(),
    preset="small, for a few minutes of one core",
    spacing_mm=(6.0, 6.0, 6.0),
    window=(48, 32, 48),
    features=(16, 32, 64, 96, 128),
    blocks=(1, 1, 1, 1, 1),
    batch_size=1,
    steps=600,
    epoch_steps=50,
    validation_batches=0,
    foreground_share=1.0,
    learning_rate=5e-3,
    augment=replace(NO_AUGMENTATION, brightness_p=0.15, noise_p=0.1, scale_p=0.1, scale=(0.85, 1.2), in_mm=True),
    misalign="off",
    mirror_axes=(),
    tile_step=0.75,
)

PHASES = ((600, 5e-3), (450, 3e-3))
"""Steps and first rate of each phase; a phase starts from the weights of the one before, with a cosine of its own."""

ABOUT = About(
    name=NAME,
    summary="18 organs and a denoised image from FDG or FAPI PET at 5 % of the dose, without CT. Trained on simulated "
    "patients in a few minutes of one core: it shows how the method works, not how well.",
    data="simulated PET of uptake simulate cohort (seed 4000, 4 mm, 5 % twins), FDG and FAPI-04",
    data_licence="none needed: simulated",
    weights_licence="Apache-2.0",
    limits=(
        "Trained on simulated patients only and on a fraction of the published training; nothing is known about its "
        "organs and images on real scans.",
        "It works on 6 mm voxels: what is finer than that is lost in the denoised image, small lesions lose uptake.",
        "Tracers FDG and FAPI-04 at 5 % of a full dose; other tracers and doses were never seen.",
    ),
)


def chosen_pairs(cohort: Path, work: Path) -> tuple[PairedDataset, set[str]]:
    """Return the pairs of both tracers and the ids held out; drawn once and kept."""
    found = find_pairs(cohort)
    found = replace(found, pairs=tuple(pair for pair in found.pairs if pair.tracer in TRACERS))
    kept = work / "held_out.json"
    work.mkdir(parents=True, exist_ok=True)
    if not kept.exists():
        order = np.random.default_rng(SPLIT_SEED).permutation(len(found.pairs))
        kept.write_text(json.dumps(sorted(found.pairs[i].id for i in order[:HELD_OUT])))
    return found, set(json.loads(kept.read_text()))


def plan_of(found: PairedDataset) -> Plan:
    """Return the plan; with a spacing given it is that of any case."""
    return pair_plan([], CONFIG)


def prepare(found: PairedDataset, held_out: set[str], work: Path, limit: int | None) -> None:
    """Keep every training pair on the model's grid as one file; a stopped run goes on."""
    plan = plan_of(found)
    (work / "cases").mkdir(exist_ok=True)
    for pair in [pair for pair in found.pairs if pair.id not in held_out][:limit]:
        path = work / "cases" / f"{pair.id}.npz"
        if path.exists():
            continue
        case = harmonised_pair(read_pair(pair), plan, CONFIG, found.organ_names)
        partial = path.with_suffix(".partial")
        with partial.open("wb") as stream:
            np.savez(
                stream,
                low=case.channels.astype(np.float16),
                full=np.asarray(case.target, np.float16),
                labels=case.labels,
                scale=[case.scales[0].mean, case.scales[0].std],
            )
        partial.replace(path)
        print(pair.id, case.body.shape, flush=True)


def loaded(path: Path) -> TrainingCase:
    """Return a kept pair."""
    kept = np.load(path)
    labels = kept["labels"]
    return training_case(
        HarmonisedCase(
            path.stem,
            kept["low"].astype(np.float32),
            labels,
            np.ones(labels.shape, bool),
            scales=(Scale(*(float(v) for v in kept["scale"])),),
            target=kept["full"].astype(np.float32),
        )
    )


def train(found: PairedDataset, held_out: set[str], work: Path, minutes: float) -> bool:
    """Train until done or the time is up; return whether it is done."""
    torch.set_num_threads(1)
    plan = plan_of(found)
    cases = [loaded(path) for path in sorted((work / "cases").glob("*.npz")) if path.stem not in held_out]
    state, until = None, time.monotonic() + 60 * minutes

    def stop_in_time(*_: Any) -> None:
        if time.monotonic() > until:
            raise TimeoutError

    for number, (steps, rate) in enumerate(PHASES):
        config = replace(CONFIG, steps=steps, learning_rate=rate, seed=number)
        network, place = ldos.build_network(config), folder_of(work, number)
        place.mkdir(exist_ok=True)
        if state is not None:
            load_unique_state(network, state)
        try:
            result = fit(
                network,
                ldos.build_optimizer(network, config),
                batches=PairBatches(cases, config.pair_rules(plan.spacing_mm)),
                training_step=lambda model, batch, step, c=config: ldos.training_step(model, batch, step, c),
                learning_rate=lambda step, c=config: ldos.learning_rate(step, c),
                settings=config.fit_settings(),
                folder=place,
                stamp=json.dumps([config.as_json(), len(cases)], sort_keys=True),
                fabric=make_fabric("cpu", "auto"),
                on_epoch=stop_in_time,
            )
        except TimeoutError:
            return False
        state = checkpoint.load(result.last).network
    return True


def folder_of(work: Path, phase: int) -> Path:
    """Return where a phase keeps its checkpoints."""
    return work / ("run" if phase == 0 else f"run_{phase + 1}")


def finish(found: PairedDataset, held_out: set[str], work: Path, out: Path, limit: int | None) -> None:
    """Score held-out patients, all or the first ones, on the model's grid, and write the bundle."""
    torch.set_num_threads(1)
    done = [folder_of(work, n) / "last.ckpt" for n in range(len(PHASES))]
    phases = [checkpoint.load(path) for path in done if path.exists()]
    state, steps = phases[-1], sum(phase.step for phase in phases)
    network = ldos.build_network(CONFIG)
    load_unique_state(network, state.network)
    plan, rows = plan_of(found), []
    for pair in [pair for pair in found.pairs if pair.id in held_out][:limit]:
        case = harmonised_pair(read_pair(pair), plan, CONFIG, found.organ_names)
        assert case.labels is not None and case.target is not None
        made = ldos.denoise([network], case, CONFIG, organs=True, dtype=torch.bfloat16)
        assert made.prediction is not None
        low, full = (unscaled(image, case.scales[0]) for image in (case.channels[0], case.target))
        dice = organ_dice(made.prediction.logits.argmax(0), case.labels, CONFIG.labels)
        rows.append(
            {
                "case": pair.id, "patient": pair.id, "tracer": pair.tracer,
                "dice": float(np.nanmean(list(dice.values()))),
                "psnr_db": image_quality(made.suv, full, body=case.body).psnr_db,
                "low_dose_psnr_db": image_quality(low, full, body=case.body).psnr_db,
                **{f"dice_{organ}": value for organ, value in dice.items()},
            }
        )  # fmt: skip
        print({key: value for key, value in rows[-1].items() if not key.startswith("dice_")}, flush=True)
    write_csv(rows, HERE / "bundle.csv", columns=list(rows[0]))
    found_scores = summarise(rows, metrics=("dice", "psnr_db", "low_dose_psnr_db"), patient="patient")
    summary = {name: {"mean": s.mean, "low": s.low, "high": s.high, "n": s.n} for name, s in found_scores.items()}
    kept = {path.stem for path in (work / "cases").glob("*.npz")} - held_out
    trained = replace(found, pairs=tuple(pair for pair in found.pairs if pair.id in kept))
    card = card_of(CONFIG, plan, ABOUT, trained, {}, 0, "float16")
    protocol = "simulated patients held out, on the model's 6 mm grid"
    scores = [{"protocol": protocol, "cases": len(rows), "metrics": summary, "table": "benchmarks/ldos/bundle.csv"}]
    missed = [o for o in CONFIG.labels[1:] if np.nanmean([row[f"dice_{o}"] for row in rows]) < NOT_FOUND]
    limits = (
        (*card.limits, f"It does not find {', '.join(missed)} (Dice below {NOT_FOUND:g}).") if missed else card.limits
    )
    card = replace(card, scores=scores, training={**card.training, "steps": steps}, limits=list(limits))
    save_bundle(card, {"all": state.network}, out)
    size = sum(path.stat().st_size for path in out.iterdir()) / 1e6
    assert size < LARGEST_MB, size
    print(f"{out}: {size:.1f} MB", summary)


def main() -> None:
    """Prepare, train or finish."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["prepare", "train", "finish"])
    parser.add_argument("--cohort", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=13.0)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    found, held_out = chosen_pairs(given.cohort, given.work)
    if given.what == "prepare":
        prepare(found, held_out, given.work, given.limit)
    elif given.what == "train":
        print("done" if train(found, held_out, given.work, given.minutes) else "not done; call again")
    else:
        finish(found, held_out, given.work, given.out, given.limit)


if __name__ == "__main__":
    main()
