"""Climb the LesionTracer paper's ladder on simulated patients: does each step do what the paper says it does?

Usage:
    python benchmarks/ladder/ladder.py --cohort COHORT --work WORK [--minutes 14]     (trains and scores; call it again)
    python benchmarks/ladder/tables.py                                                (tables and figure from cases.csv)

COHORT is what ``uptake simulate cohort`` writes (FDG and FAPI-04 patients of several sites, CT and PET misaligned as
drawn). Rungs: U-Net, residual encoder, + misalignment augmentation, Dice without smoothing, + pretraining on other
patients and tasks, + organ heads. Every rung has the same optimiser, steps, windows and patients; a run is one rung and
one seed, trained on 8 mm voxels and scored on the held-out patients' own grid, once as they are and once with the CT
shifted. Finished runs are not done again, a stopped run goes on; ``cases.csv`` gathers them.
"""

from __future__ import annotations

import argparse
import csv
import json
import pickle
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from uptake.cases import Case, HarmonisedCase, Trace
from uptake.core.anatomy import class_table, classes_of
from uptake.evaluation.overlap import evaluate_pair
from uptake.geometry import Volume
from uptake.harmonise.onto import harmonise
from uptake.harmonise.plan import Plan, fingerprint, plan_from
from uptake.harmonise.restore import restore
from uptake.inference.compiled import resolve_engine
from uptake.io.find import CaseFiles, find_cases
from uptake.io.read import read_case
from uptake.io.write import write_csv, write_json
from uptake.methods import lesiontracer
from uptake.methods.lesiontracer import Config
from uptake.networks.unet import is_head, load_unique_state, unique_state
from uptake.sampling.augment import NO_AUGMENTATION
from uptake.sampling.batches import WindowBatches
from uptake.sampling.store import TrainingCase, stamp_of, store, stored
from uptake.training.devices import make_fabric
from uptake.training.loop import fit
from uptake.workflows.bundles import load_bundle
from uptake.workflows.training_data import organ_names

HERE = Path(__file__).parent
CASES = HERE / "cases.csv"
TRACERS = ("FDG", "FAPI-04")
HELD_OUT_SHARE = 0.35
LEAST_ML = 5.0
"""Of a patient's largest lesion; a smaller one is less than ten voxels."""
SHIFTED_RUNGS = ("resenc", "misalign")
SPLIT_SEED = 9
SPACING_MM = (8.0, 8.0, 8.0)
SHIFT_MM = 16.0
"""The CT is shifted by this to the front and to the left when robustness is measured."""
ENGINE = resolve_engine("auto", torch.device("cpu"))
METRICS = ("dice", "fp_volume_ml", "fn_volume_ml", "sensitivity", "precision", "reference_ml", "prediction_ml")

ALIGNED = replace(NO_AUGMENTATION, mirror_p=0.5)
"""Mirroring alone: in a thousand steps every window is new to the network, and changes of contrast hide from it what
tells a lesion from physiological uptake."""
MISALIGNED = replace(ALIGNED, misalign_rotation_p=0.1, misalign_shift_p=0.1, misalign_shift=(0, 1, 1))
"""Probabilities and angle as published. Published shift: up to 2 voxels of 2.04 mm in y and x; one voxel of 8 mm is the
least that this grid allows."""


@dataclass(frozen=True)
class Rung:
    """One step of the ladder: what changes against the one before stands in `change`."""

    name: str
    words: str
    change: Mapping[str, Any]
    pretrained: bool = False


RUNGS = (
    Rung("unet", "U-Net", {"encoder": "plain", "blocks": (2, 2, 2, 2), "decoder_convs": 2}),
    Rung("resenc", "residual encoder", {"encoder": "residual", "blocks": (1, 2, 2, 2), "decoder_convs": 1}),
    Rung("misalign", "+ misalignment", {"augment": MISALIGNED}),
    Rung("nosmooth", "Dice without smoothing", {"dice_smooth": 0.0}),
    Rung("pretrain", "+ pretraining", {}, pretrained=True),
    Rung("organs", "+ organs", {"organs": classes_of("lesiontracer")}, pretrained=True),
)


def configurations(steps: int, seed: int) -> dict[str, Config]:
    """Return the configuration of every rung: each has all changes up to its own.

    One window of the two is centred on a lesion where its patient has one (a third of them have none), as published.
    """
    config = replace(
        Config.small(),
        preset="ladder",
        normalisation=("clip_zscore", "clip_zscore"),
        spacing_mm=SPACING_MM,
        window=(24, 24, 24),
        features=(8, 16, 32, 64),
        blocks=(1, 2, 2, 2),
        dice_smooth=1e-5,
        augment=ALIGNED,
        learning_rate=4e-3,
        steps=steps,
        epoch_steps=100,
        validation_batches=0,
        tile_step=0.75,
        mirror_axes=(),
        seed=seed,
    )
    found = {}
    for rung in RUNGS:
        config = replace(config, **rung.change)
        found[rung.name] = config
    return found


@dataclass(frozen=True)
class HeldOut:
    """A held-out scan: its name, the reference on its own grid, what the network reads, and the way back."""

    name: str
    lesions: Volume
    harmonised: HarmonisedCase
    trace: Trace


@dataclass(frozen=True)
class Data:
    """Training cases in memory with and without organ maps, and held-out scans with their way back."""

    plan: Plan
    train: Sequence[TrainingCase]
    test: Sequence[HeldOut]
    tracer: Mapping[str, str]


def patients(cohort: Path) -> tuple[list[str], list[str], dict[str, str]]:
    """Return the patients to learn from, those held out, and who got which tracer.

    Patients with a lesion of `LEAST_ML` or more, and half as many without any, of each tracer; the same share of each
    of these four groups is held out. (Patients with smaller ones alone are left out: on 8 mm voxels they are a dot.)
    """
    tracer, groups = {}, {(name, sick): [] for name in TRACERS for sick in (True, False)}
    for path in sorted((cohort / "cases").glob("*.json")):
        record = json.loads(path.read_text())
        name = record["parameters"]["tracer"]
        volume = max((lesion["volume_ml"] for lesion in record["lesions"]), default=0.0)
        if name in TRACERS and (volume == 0.0 or volume >= LEAST_ML):
            tracer[path.stem] = name
            groups[name, volume > 0.0].append(path.stem)
    rng = np.random.default_rng(SPLIT_SEED)
    train, test = [], []
    for (name, sick), members in groups.items():
        order = rng.permutation(members).tolist()
        if not sick:
            order = order[: len(groups[name, True]) // 2]
        n = round(HELD_OUT_SHARE * len(order))
        test += order[:n]
        train += order[n:]
    return sorted(train), sorted(test), tracer


def prepared(cohort: Path, work: Path) -> Data:
    """Plan on the training patients, bring everything onto the 8 mm grid; training cases go through a cache."""
    train, test, tracer = patients(cohort)
    files = {one.id: replace(one, organs=cohort / "organsTr" / f"{one.id}.nii.gz") for one in find_cases(cohort)}
    table = class_table(organ_names(cohort / "organ_labels.json"), classes_of("lesiontracer"))
    config = configurations(1, 0)["unet"]
    plan_file = work / "plan.json"
    if plan_file.exists():
        plan = Plan.from_json(json.loads(plan_file.read_text()))
    else:
        plan = plan_from(
            fingerprint(_read(files, train, ("lesions",))),
            schemes=dict(zip(config.channels, config.normalisation, strict=True)),
            target_spacing_mm=SPACING_MM,
        )
        write_json(plan.as_json(), plan_file)
    cases = []
    for name in train:
        stamp = stamp_of(plan.as_json(), {"case": name}, table)
        case = stored(work / "cache", name, stamp)
        if case is None:
            harmonised, _ = harmonise(read_case(files[name]), plan, organ_table=table)
            case = store(work / "cache", harmonised, stamp)
        cases.append(in_memory(case))
    return Data(plan, cases, _held_out(files, test, plan, work / "held_out.pickle"), tracer)


def _held_out(files: Mapping[str, CaseFiles], names: Sequence[str], plan: Plan, cache: Path) -> list[HeldOut]:
    """Return the held-out scans, from `cache` (written here, for this work folder alone) where it is there."""
    if cache.exists():
        return pickle.loads(cache.read_bytes())
    found = []
    for case in _read(files, names, ("lesions",)):
        assert case.lesions is not None
        found.append(HeldOut(case.id, case.lesions, *harmonise(case, plan)))
    cache.write_bytes(pickle.dumps(found))
    return found


def _read(files: Mapping[str, CaseFiles], names: Sequence[str], labels: Sequence[str]) -> Iterator[Case]:
    for name in names:
        yield read_case(files[name], labels=labels)


def in_memory(case: TrainingCase) -> TrainingCase:
    return replace(case, channels=case.channels[:], labels=case.labels[:], organs=case.organs[:])


def run(rung: Rung, config: Config, data: Data, work: Path, init: Path | None) -> list[dict[str, Any]]:
    """Train one rung with one seed; return a row of scores for each held-out scan, also with its CT moved."""
    place = work / f"{rung.name}_{config.seed}"
    place.mkdir(parents=True, exist_ok=True)
    network = lesiontracer.build_network(config)
    if rung.pretrained:
        assert init is not None
        state = next(iter(load_bundle(init).states.values()))
        own = {name: tensor for name, tensor in unique_state(network).items() if is_head(name)}
        load_unique_state(network, {name: t for name, t in state.items() if not is_head(name)} | own)
    # Without organ heads the loss never reads the second label map.
    cases = data.train if config.organs else [replace(case, organs=None) for case in data.train]
    began = time.perf_counter()
    result = fit(
        network,
        lesiontracer.build_optimizer(network, config),
        batches=WindowBatches(cases, config.batch_rules(data.plan.spacing_mm)),
        training_step=lambda model, batch, step: lesiontracer.training_step(model, batch, config),
        learning_rate=lambda step: lesiontracer.learning_rate(step, config),
        settings=config.fit_settings(),
        folder=place,
        stamp=f"{config.as_json()} {init}",
        fabric=make_fabric("cpu", "auto"),
    )
    trained = time.perf_counter()
    rows = []
    for one in data.test:
        for shift in (0.0, SHIFT_MM) if rung.name in SHIFTED_RUNGS else (0.0,):
            given = one.harmonised if not shift else shifted(one.harmonised, config.channels.index("ct"), shift)
            prediction = lesiontracer.predict([network], given, config, dtype=torch.bfloat16, engine=ENGINE)
            (scores,) = evaluate_pair(restore(prediction, one.trace).labels, one.lesions)
            values = {name: round(float(getattr(scores, name)), 5) for name in METRICS}
            where = {"rung": rung.name, "seed": config.seed, "shift_mm": shift, "case": one.name}
            rows.append({**where, "tracer": data.tracer[one.name], **values})
    print(
        f"{rung.name} seed {config.seed}: loss {result.history[-1]['train_loss']:+.3f}, "
        f"{trained - began:.0f} s training, {time.perf_counter() - trained:.0f} s scoring, Dice "
        f"{np.nanmean([row['dice'] for row in rows if not row['shift_mm']]):.3f}",
        flush=True,
    )
    return rows


def shifted(case: HarmonisedCase, channel: int, shift_mm: float) -> HarmonisedCase:
    """Return the case with one channel moved along y and x by whole voxels; its edge is repeated."""
    voxels = round(shift_mm / SPACING_MM[1])
    channels = case.channels.copy()
    moved = np.pad(channels[channel], ((0, 0), (voxels, 0), (voxels, 0)), mode="edge")
    channels[channel] = moved[:, : channels.shape[2], : channels.shape[3]]
    return replace(case, channels=channels)


def gather(work: Path) -> None:
    """Put the rows of all finished runs into ``cases.csv``, in the order of the ladder."""
    rows: list[dict[str, str]] = []
    for rung in RUNGS:
        for table in sorted(work.glob(f"{rung.name}_*/cases.csv")):
            with table.open(encoding="utf-8", newline="") as stream:
                rows += csv.DictReader(stream)
    write_csv(rows, CASES, columns=list(rows[0]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cohort", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--init", type=Path, help="initialisation bundle of the rungs with pretraining")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--rungs", nargs="*", default=[rung.name for rung in RUNGS])
    parser.add_argument("--minutes", type=float, default=1e9, help="begin no run after this time")
    parser.add_argument("--prepare", action="store_true", help="fill the cache and stop")
    args = parser.parse_args()
    started = time.perf_counter()
    args.work.mkdir(parents=True, exist_ok=True)
    data = prepared(args.cohort, args.work)
    print(f"{len(data.train)} patients to learn from, {len(data.test)} held out", flush=True)
    if args.prepare:
        return
    for seed in args.seeds:
        for rung in RUNGS:
            table = args.work / f"{rung.name}_{seed}" / "cases.csv"
            if rung.name not in args.rungs or table.exists():
                continue
            if rung.pretrained and args.init is None:
                continue
            if time.perf_counter() - started > 60 * args.minutes:
                return
            found = run(rung, configurations(args.steps, seed)[rung.name], data, args.work, args.init)
            write_csv(found, table, columns=list(found[0]))
            gather(args.work)


if __name__ == "__main__":
    main()
