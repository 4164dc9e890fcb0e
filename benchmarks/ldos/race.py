"""Does a denoising decoder help to find organs in ultra-low-dose PET? The paper's comparators on simulated patients.

Usage:
    python benchmarks/ldos/race.py prepare --cohort COHORT --work WORK     (pairs onto the coarse grid, once)
    python benchmarks/ldos/race.py run --work WORK [--minutes 14]          (trains and scores; call it again)
    python benchmarks/ldos/race.py run --work FEW --patients 8             (the same with fewer patients to learn from)
    python benchmarks/ldos/tables.py --work WORK                           (tables and figure of these runs)

COHORT is what ``uptake simulate cohort`` writes, with 5 % twins; FDG and FAPI-04 patients take part, in one model. A
run is one comparator and one seed, trained and scored on held-out patients on 12 mm voxels, the means of 3 x 3 x 3 of
the cohort's own and with the noise of `NOISE_DOSE`: the same network, windows, optimiser, steps and patients for all,
and for all methods of one seed the same first weights of encoder and organ decoder. Runs that are done are not done
again, a stopped run goes on. ``cases/`` of another work folder may be linked into a new one.

``at_500_steps/`` holds the first design, all six methods with three seeds: 500 steps of windows of 32 x 24 x 32, the
noise of the twins as they are, first weights that differed between methods. It is kept for Fake-FDPET and LDOS/ow.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.ndimage import uniform_filter

from uptake.cases import HarmonisedCase, Scale
from uptake.core.anatomy import class_table
from uptake.geometry.orientation import axis_change
from uptake.harmonise.normalise import scaled
from uptake.methods import ldos
from uptake.methods.ldos import Config
from uptake.networks.unet import load_unique_state
from uptake.sampling.augment import NO_AUGMENTATION
from uptake.sampling.dose_pairs import BODY_SUV, PairBatches
from uptake.sampling.store import TrainingCase, training_case
from uptake.training import checkpoint
from uptake.training.devices import make_fabric
from uptake.training.loop import fit
from uptake.workflows.paired_data import find_pairs, read_pair

HERE = Path(__file__).parent
TRACERS = ("FDG", "FAPI-04")
SPACING_MM = (12.0, 12.0, 12.0)
POOL = 3
"""Voxels of the cohort (4 mm) along each side of one of the race's."""
TEST_PATIENTS, TRAIN_PATIENTS, SPLIT_SEED = 24, 75, 7
NOISE_DOSE = 0.01
TWIN_DOSE = 0.05
NOISE_GAIN = np.float32(((1 / NOISE_DOSE - 1) / (1 / TWIN_DOSE - 1)) ** 0.5)
"""The cohort's twins have 5 % of the counts; what they differ by from the full dose is multiplied so that its variance
is that of 1 %. A voxel of the race averages 27 of the cohort, which takes away most of the noise that a scanner's
voxels keep: in livers of six patients 1.2 of the mean at 4 mm, 0.23 at 12 mm, and 0.45 at 1 %. With the twins as they
are FDPET's lead over LDPET, all that denoising could give, was 0.02; at 1 % it was 0.07 in a probe (one seed, 700
steps, eight of the training patients), and by that 1 % was chosen, before any LDOS was trained at it."""
ARMS = ("ldos", "ldpet", "fdpet", "fake-fdpet", "ldos-ow", "ldos-residual", "ldos-light", "denoised-first")
"""The paper's, and what may tell why: LDOS whose image is the input plus a correction (the better denoiser, but what it
sends into the encoder is next to nothing, see `gradients.py`); LDOS whose organs weigh `LIGHT` times as much; LDPET
that begins with the encoder of a network that only denoised, for as many steps."""
LIGHT = 5.0
SEEDS = (0, 1, 2)

CONFIG = replace(
    Config.small(),
    spacing_mm=SPACING_MM,
    window=(24, 24, 24),
    features=(16, 32, 64, 128),
    blocks=(1, 1, 1, 1),
    batch_size=1,
    steps=1500,
    epoch_steps=50,
    validation_batches=0,
    foreground_share=1.0,
    learning_rate=6e-3,
    augment=replace(NO_AUGMENTATION, brightness_p=0.15),
    misalign="off",
    output="window",
    mirror_axes=(),
    tile_step=0.75,
)
"""What two minutes of one core learn most with: every window centred on an organ, nothing turned or flipped. Dice of
the baseline on eight of the training patients, one seed: 0.44 after 700 steps with windows of 32 x 24 x 32 and noise of
1 %, 0.51 after 1,200 with these, which cost as much; at full dose 0.41 with a rate of 3e-3 where 6e-3 gave 0.51. With
the small preset's augmentation an earlier baseline of 500 steps had 0.07, without it 0.20, with a fourth stage 0.38."""


def prepare(cohort: Path, work: Path, limit: int | None) -> None:
    """Bring every pair onto the coarse grid and keep it as one compressed file."""
    dataset = find_pairs(cohort)
    table = class_table(dataset.organ_names, CONFIG.labels)
    (work / "cases").mkdir(parents=True, exist_ok=True)
    chosen = [pair for pair in dataset.pairs if pair.tracer in TRACERS]
    for pair in chosen[:limit]:
        path = work / "cases" / f"{pair.id}.npz"
        if path.exists():
            continue
        case = read_pair(pair)
        assert case.full_dose is not None and case.organs is not None
        change = axis_change(case.pet.affine, CONFIG.orientation[::-1])
        low, full = (pooled(change.apply(np.asarray(v.array))) for v in (case.pet, case.full_dose))
        organs = pooled_labels(change.apply(table[np.asarray(case.organs.array)]))
        partial = path.with_suffix(".partial")
        with partial.open("wb") as stream:
            np.savez_compressed(stream, low=low, full=full, labels=organs, tracer=pair.tracer)
        partial.replace(path)
        print(pair.id, pair.tracer, organs.shape, flush=True)


def blocks_of(array: np.ndarray) -> np.ndarray:
    """Return (z, y, x, POOL³): the voxels that become one; what is left over at the far ends is cut off."""
    z, y, x = (n // POOL for n in array.shape)
    cut = array[: z * POOL, : y * POOL, : x * POOL].reshape(z, POOL, y, POOL, x, POOL)
    return cut.transpose(0, 2, 4, 1, 3, 5).reshape(z, y, x, POOL**3)


def pooled(array: np.ndarray) -> np.ndarray:
    """Return the means of blocks, float32."""
    return np.asarray(blocks_of(array).mean(axis=-1, dtype=np.float64), dtype=np.float32)


def pooled_labels(labels: np.ndarray) -> np.ndarray:
    """Return the most frequent label of each block, the smallest of equals, uint8."""
    blocks = blocks_of(labels)
    best, result = np.zeros(blocks.shape[:3], np.int64), np.zeros(blocks.shape[:3], np.uint8)
    for label in np.unique(labels):
        share = (blocks == label).sum(axis=-1)
        result[share > best] = label
        best = np.maximum(best, share)
    return result


def images(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the low-dose image, its noise brought to `NOISE_DOSE`, and the full-dose image of a prepared pair, SUV."""
    kept = np.load(path)
    low, full = kept["low"], kept["full"]
    return np.maximum(full + NOISE_GAIN * (low - full), np.float32(0.0)), full


def load(path: Path, dose: str) -> HarmonisedCase:
    """Return a prepared pair, normalised by its input; at full dose the input is the full-dose image."""
    kept = np.load(path)
    low, full = images(path)
    image = full if dose == "full" else low
    scale = Scale(float(image.mean()), float(image.std()))
    target = None if dose == "full" else scaled(full, scale)
    body = uniform_filter(full, 3) > BODY_SUV
    return HarmonisedCase(path.stem, scaled(image, scale)[None], kept["labels"], body, scales=(scale,), target=target)


def split(work: Path) -> tuple[list[Path], list[Path]]:
    """Return the files to train on and to score, by patient, each tracer by its share; written once and kept."""
    paths = sorted((work / "cases").glob("*.npz"))
    kept = work / "split.json"
    if not kept.exists():
        order = np.random.default_rng(SPLIT_SEED).permutation(len(paths))
        test = sorted(paths[i].stem for i in order[:TEST_PATIENTS])
        kept.write_text(json.dumps({"test": test, "train": sorted({p.stem for p in paths} - set(test))}))
    names = json.loads(kept.read_text())
    return tuple([work / "cases" / f"{name}.npz" for name in names[part]] for part in ("train", "test"))  # type: ignore[return-value]


def few(paths: list[Path], patients: int) -> list[Path]:
    """Return so many of the files, drawn once for all runs; all if there are no more."""
    order = np.random.default_rng(SPLIT_SEED).permutation(len(paths))
    return [paths[number] for number in sorted(order[:patients])]


def train(config: Config, cases: list[TrainingCase], folder: Path, encoder: dict[str, Any] | None = None) -> Any:
    """Return the trained network, begun with the tensors of an encoder if given; a stopped training goes on."""
    folder.mkdir(parents=True, exist_ok=True)
    network = ldos.build_network(config)
    optimiser = ldos.build_optimizer(network, config)
    for group in optimiser.param_groups:
        group["fused"] = True  # one pass over all weights: the same rule, a tenth less time a step
    if config.design == "joint":  # encoder and organ decoder begin where the baseline of the same seed begins
        baseline = ldos.build_network(replace(config, design="segment"))
        network.load_state_dict(baseline.state_dict(), strict=False)
    if encoder is not None:
        network.encoder.load_state_dict(encoder)
    result = fit(
        network,
        optimiser,
        batches=PairBatches(cases, config.pair_rules(SPACING_MM)),
        training_step=lambda model, batch, step: ldos.training_step(model, batch, step, config),
        learning_rate=lambda step: ldos.learning_rate(step, config),
        settings=config.fit_settings(),
        folder=folder,
        stamp=json.dumps(config.as_json(), sort_keys=True),
        fabric=make_fabric("cpu", "auto"),
    )
    trained = ldos.build_network(config)
    load_unique_state(trained, checkpoint.load(result.last).network)
    return trained.eval()


def scores(network: Any, config: Config, paths: list[Path], folder: Path) -> Iterator[dict[str, Any]]:
    """Yield Dice per organ and patient; keep denoised images for `tables.py` to score."""
    for path in paths:
        case = load(path, config.dose)
        assert case.labels is not None
        if config.denoises:
            made = ldos.denoise([network], case, config, organs=True, dtype=torch.bfloat16)
            prediction = made.prediction
            np.savez_compressed(folder / f"{path.stem}.npz", suv=made.suv.astype(np.float16))
        else:
            prediction = ldos.predict([network], case, config, dtype=torch.bfloat16)
        assert prediction is not None
        found = prediction.logits.argmax(0)
        row: dict[str, Any] = {"case": path.stem, "tracer": str(np.load(path)["tracer"])}
        for number, organ in enumerate(config.labels[1:], start=1):
            a, b = found == number, case.labels == number
            total = int(a.sum()) + int(b.sum())
            row[organ] = round(2.0 * int((a & b).sum()) / total, 5) if total else ""
        yield row


def configuration(arm: str) -> Config:
    """Return the settings of an arm; seed and steps are the run's."""
    if arm == "ldos-residual":
        return replace(CONFIG, output="residual")
    if arm == "ldos-light":
        return replace(CONFIG, organ_weight=LIGHT)
    if arm == "denoised-first":
        return CONFIG.comparator("ldpet")
    config = CONFIG.comparator(arm)
    return replace(config, output="residual") if arm == "fake-fdpet" else config  # its denoiser at its best


def run(work: Path, minutes: float, arms: list[str], seeds: list[int], steps: int, patients: int) -> None:
    """Train and score what is missing, seeds first, until the time is up."""
    torch.set_num_threads(1)
    began = time.monotonic()
    train_paths, test_paths = split(work)
    train_paths = few(train_paths, patients)
    loaded: dict[str, list[TrainingCase]] = {}
    for seed in seeds:
        for arm in arms:
            folder = work / f"{arm}_{seed}"
            done = folder / "rows.json"
            if done.exists():
                continue
            if time.monotonic() - began > 60 * minutes:
                return
            config = replace(configuration(arm), seed=seed, steps=steps)
            if config.dose not in loaded:
                loaded[config.dose] = [training_case(load(path, config.dose)) for path in train_paths]
            clock = time.process_time()
            encoder = None
            if arm == "denoised-first":
                first = replace(CONFIG, design="denoise", seed=seed, steps=steps)
                encoder = train(first, loaded[config.dose], folder / "first").encoder.state_dict()
            network = train(config, loaded[config.dose], folder, encoder)
            spent = time.process_time() - clock
            rows = [{"arm": arm, "seed": seed, **row} for row in scores(network, config, test_paths, folder)]
            facts = {"patients": len(train_paths), "noise_dose": NOISE_DOSE, "cpu_seconds": round(spent, 1)}
            done.write_text(json.dumps({"rows": rows, **facts, "config": config.as_json()}))
            dice = [value for row in rows for key, value in row.items() if key in config.labels and value != ""]
            print(f"{arm} seed {seed}: mean organ Dice {np.mean(dice):.4f}, {spent:.0f} s of CPU", flush=True)


def main() -> None:
    """Prepare, or train and score."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["prepare", "run"])
    parser.add_argument("--cohort", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=14.0)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--arms", nargs="+", default=list(ARMS))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--steps", type=int, default=CONFIG.steps)
    parser.add_argument("--patients", type=int, default=TRAIN_PATIENTS, help="to learn from")
    given = parser.parse_args()
    if given.what == "prepare":
        prepare(given.cohort, given.work, given.limit)
    else:
        run(given.work, given.minutes, given.arms, given.seeds, given.steps, given.patients)


if __name__ == "__main__":
    main()
