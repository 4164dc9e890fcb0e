"""Labels of mixed quality: CPCL against consistency alone and fine-tuning, on organs of simulated patients.

    python benchmarks/seganypet/noisy.py COHORT --work WORK [--noise NAME] [--arm NAME ...] [--seed N ...]
    python benchmarks/seganypet/noisy.py COHORT --work WORK --tables

A few training patients keep true labels; the organs of all others are eroded, dilated and shifted, or nearly all of
them dilated (`simulation.label_noise`). Networks, windows (192 mm, as published, or 160 mm), rounds, batches and steps
are those of all arms; half of every batch is trusted. Bounds: no training, the trusted patients alone, and true labels
for everybody. Dice after 1 to 5 clicks on held-out patients with true labels, on organs that were trained and on organs
that never were, the window on a voxel of the organ. Then, on the training windows: how many of the wrong labels lie
where the ensemble is uncertain, and how many of the labels turned over were wrong.

Writes noisy.csv (a row a seed, arm, patient and organ), noisy_labels.csv (a row a seed, arm and limit of entropy) and
noisy.md. Resumes; `--arm` and `--seed` run one piece, `--tables` writes the tables anew.
"""

from __future__ import annotations

import argparse
import csv
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from train_small import organ_names

from uptake.core.types import Shape3
from uptake.evaluation.significance import holm, wilcoxon
from uptake.evaluation.statistics import summarise
from uptake.geometry.volume import Volume
from uptake.io.find import find_cases
from uptake.methods import seganypet
from uptake.methods.seganypet import Config
from uptake.networks.promptable import Promptable
from uptake.networks.unet import load_unique_state
from uptake.sampling.prompt_cases import PromptBatches, PromptCase, Target, cut_channels, cut_target, targets_of
from uptake.simulation.label_noise import LabelNoise, noisy_labels
from uptake.training import checkpoint
from uptake.training.confident import ConfidentRules, binary_entropy
from uptake.training.devices import make_fabric
from uptake.training.loop import fit
from uptake.training.prompting import PromptRules, TrainingUser
from uptake.workflows.promptable_data import prompt_cases
from uptake.workflows.train_promptable import window_dice
from uptake.workflows.training_data import with_organ_maps

HERE = Path(__file__).parent
Row = dict[str, str]


@dataclass(frozen=True)
class Arm:
    """What is learnt from, and how.

    Attributes
    ----------
    name : str
        In the tables.
    learning : ConfidentRules
    cases : {"mixed", "trusted", "clean", "none"}
        Few true and many wrong labels; the patients with true labels alone; true labels for everybody; no training.
    """

    name: str
    learning: ConfidentRules
    cases: str = "mixed"


ARMS = {
    "fine_tune": Arm("fine-tuning", ConfidentRules("fine_tune")),
    "consistency": Arm("+ consistency", ConfidentRules("consistency")),
    "cpcl": Arm("CPCL, published (XOR)", ConfidentRules("cpcl")),
    "cpcl_agreeing": Arm("CPCL, agreeing", ConfidentRules("cpcl", rectify="agreeing")),
    "cpcl_sure": Arm("CPCL, sure", ConfidentRules("cpcl", rectify="sure", entropy_limit=0.5)),
    "trusted": Arm("trusted patients alone", ConfidentRules("fine_tune"), "trusted"),
    "clean": Arm("true labels (ceiling)", ConfidentRules("fine_tune"), "clean"),
    "untrained": Arm("no training", ConfidentRules("fine_tune"), "none"),
}
BASE = "fine_tune"
SPACING_MM = 8.0
TRUSTED, HELD_OUT = 8, 20
"""Patients with true labels, and patients nobody is trained on; the rest have wrong labels."""

UNSEEN = ("stomach", "thyroid_gland", "urinary_bladder", "aorta", "pancreas")


@dataclass(frozen=True)
class Setting:
    """Errors of labels, and how long a network of how many stages is trained on windows of which side (voxels)."""

    noise: LabelNoise
    side: int
    stages: int
    steps: int


SETTINGS = {
    "random": Setting(
        LabelNoise(erosion=0.35, dilation=0.25, shift=0.3, depth_mm=(8, 16), shift_mm=(16, 32)), 24, 4, 300
    ),
    "one_sided": Setting(LabelNoise(dilation=0.9, depth_mm=(8, 16)), 20, 3, 160),
}
"""Errors in all directions, which a network averages out; and too large nearly everywhere, which it learns."""

MIN_VOXELS = 8
USER = PromptRules(rounds=5, mask_only=False, shown="all", object_logit=0.0, central_share=1.0)
"""Who clicks at the end: into the middle of the largest mistake."""

CLICKS = tuple(f"dice_{n}" for n in range(1, USER.rounds + 1))
SHOWN = ("dice_1", "dice_3", "dice_5")
LIMITS = (0.0, 0.3, 0.5, 0.6, 0.65)
"""Of the entropy, nats; 0.6 is what is trained with."""

SCORED_AT_ONCE = 32


def config_of(arm: str, noise: str, seed: int) -> Config:
    """Return the small U-Net on PET alone, a third as wide, prompted three times a step."""
    small = Config.small()
    return replace(
        small,
        channels=("pet",),
        normalisation=("asinh",),
        spacing_mm=(SPACING_MM,) * 3,
        window=(SETTINGS[noise].side,) * 3,
        features=(8, 16, 32, 64)[: SETTINGS[noise].stages],
        blocks=(1,) * SETTINGS[noise].stages,
        reach=6.0,
        jitter=4,
        prompts=replace(small.prompts, box_share=0.0, scribble_share=0.0),
        learning=ARMS[arm].learning,
        lesion_share=None,
        trusted_share=None if ARMS[arm].cases == "trusted" else 0.5,
        batch_size=4,
        steps=SETTINGS[noise].steps,
        seed=seed,
    )


def spoilt(case: PromptCase, names: Mapping[int, str], noise: str) -> PromptCase:
    """Return the case with wrong organ labels, not trusted."""
    array = np.zeros(case.channels.shape[1:], dtype=np.uint8)
    values = {name: value for value, name in names.items()}
    for target in case.targets:
        array[target.box][target.mask] = values[target.name]
    labels = Volume(array, np.diag([SPACING_MM] * 3 + [1.0]))
    wrong, _ = noisy_labels(labels, SETTINGS[noise].noise, seed=zlib.crc32(case.id.encode()), names=names)
    return PromptCase(
        case.id, case.channels, targets_of(None, wrong.array, dict(names), min_voxels=MIN_VOXELS), trusted=False
    )


def split(cohort: Path, work: Path, patients: int, noise: str) -> dict[str, list[PromptCase]]:
    """Return the cases of every kind of training, the truth of the spoilt ones, and the held-out ones."""
    names = organ_names(cohort)
    files = with_organ_maps(find_cases(cohort)[:patients], cohort / "organsTr")
    plan = config_of(BASE, noise, 0).plan()
    cases = []
    for case in prompt_cases(files, plan, work / "cache", organs=names, min_voxels=MIN_VOXELS):
        organs = tuple(target for target in case.targets if target.name != "lesion")
        cases.append(replace(case, channels=np.asarray(case.channels[:], dtype=np.float32), targets=organs))
    held, rest = cases[-HELD_OUT:], cases[:-HELD_OUT]
    seen = [replace(case, targets=tuple(t for t in case.targets if t.name not in UNSEEN)) for case in rest]
    trusted, others = seen[:TRUSTED], seen[TRUSTED:]
    wrong = [spoilt(case, names, noise) for case in others]
    return {
        "held": held,
        "trusted": trusted,
        "wrong": wrong,
        "truth": others,
        "mixed": trusted + wrong,
        "clean": trusted + [replace(case, trusted=False) for case in others],
    }


def trained(arm: str, noise: str, seed: int, cases: Sequence[PromptCase], work: Path) -> Promptable:
    """Return the trained network of one arm and seed; goes on where it was stopped."""
    config = config_of(arm, noise, seed)
    if ARMS[arm].cases == "none":
        return seganypet.build_network(config).eval()
    folder = work / f"{noise}_{arm}_{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    network = seganypet.build_network(config)
    result = fit(
        network,
        seganypet.build_optimizer(network, config),
        batches=PromptBatches(cases, config.batch_rules()),
        training_step=lambda model, batch, step: seganypet.training_step(model, batch, step, config),
        learning_rate=lambda step: seganypet.learning_rate(step, config),
        settings=config.fit_settings(),
        folder=folder,
        stamp=f"{arm} {seed} {SETTINGS[noise]}",
        fabric=make_fabric("cpu"),
    )
    network = seganypet.build_network(config).eval()
    load_unique_state(network, checkpoint.load(result.last).network)
    return network


def windows(
    cases: Sequence[PromptCase], side: int
) -> Iterator[tuple[list[tuple[PromptCase, Target, Shape3]], torch.Tensor]]:
    """Yield every organ of every case, some at a time, with the windows (b, c, z, y, x) on a voxel of each."""
    asked = []
    for case in cases:
        for target in case.targets:
            place = target.places[len(target.places) // 2]
            z, y, x = (int(c) - side // 2 for c in place)
            asked.append((case, target, (z, y, x)))
    for first in range(0, len(asked), SCORED_AT_ONCE):
        some = asked[first : first + SCORED_AT_ONCE]
        yield some, torch.from_numpy(np.stack([cut_channels(c.channels, low, (side,) * 3) for c, _, low in some]))


def cut_masks(targets: Sequence[tuple[Target, Shape3]], side: int) -> torch.Tensor:
    """Return (b, 1, z, y, x) float32."""
    return torch.from_numpy(np.stack([cut_target(t, low, (side,) * 3) for t, low in targets])[:, None]).float()


def scored(network: Promptable, cases: Sequence[PromptCase]) -> Iterator[Row]:
    """Yield Dice after each click for every organ of every case."""
    side = network.window[0]
    for some, channels in windows(cases, side):
        wanted = cut_masks([(target, low) for _, target, low in some], side)
        with torch.inference_mode():
            outputs = network(channels, TrainingUser(wanted, USER, seed=1), USER.rounds)
        dice = torch.stack([window_dice(one, wanted) for one in outputs], dim=1)
        for (case, target, _), values in zip(some, dice.tolist(), strict=True):
            row = {"case": case.id, "organ": target.name, "seen": str(target.name not in UNSEEN)}
            yield row | {name: f"{value:.4f}" for name, value in zip(CLICKS, values, strict=True)}


def doubts(network: Promptable, wrong: Sequence[PromptCase], truth: Sequence[PromptCase], seed: int) -> Iterator[Row]:
    """Yield, per limit of entropy, where the wrong training labels lie, and what turning doubtful ones over does.

    Counts are over the windows of all organs of the spoilt patients, the dialogue is the training's.
    """
    rules, side = Config.small().prompts, network.window[0]
    rules = replace(rules, box_share=0.0, scribble_share=0.0)
    true = {(case.id, target.name): target for case in truth for target in case.targets}
    counts = {limit: np.zeros(6, dtype=np.int64) for limit in LIMITS}
    for some, channels in windows(wrong, side):
        label = cut_masks([(target, low) for _, target, low in some], side)
        right = cut_masks([(true[case.id, target.name], low) for case, target, low in some], side) > 0.5
        with torch.inference_mode():
            outputs = network(channels, TrainingUser(label, rules, seed=seed), rules.rounds)
            mean = torch.stack([one.sigmoid() for one in outputs]).mean(dim=0)
        given = label > 0.5
        mistaken = given != right
        for limit in LIMITS:
            doubt = binary_entropy(mean) > limit
            opposed = doubt & ((mean > 0.5) != given)
            parts = (mistaken, doubt, doubt & mistaken, opposed, opposed & mistaken, torch.ones_like(doubt))
            counts[limit] += [int(part.sum()) for part in parts]
    for limit, (bad, doubtful, doubtful_bad, opposed_n, opposed_bad, voxels) in counts.items():
        yield {
            "limit": f"{limit:g}",
            "voxels": str(voxels),
            "wrong": str(bad),
            "doubtful": str(doubtful),
            "doubtful_and_wrong": str(doubtful_bad),
            "opposed": str(opposed_n),
            "opposed_and_wrong": str(opposed_bad),
        }


def label_dice(wrong: Sequence[PromptCase], truth: Sequence[PromptCase]) -> float:
    """Return the mean Dice of the spoilt labels with the true ones."""
    found = []
    for bad, good in zip(wrong, truth, strict=True):
        shape = bad.channels.shape[1:]
        names = {target.name: target for target in bad.targets}
        for target in good.targets:
            if target.name in names:
                a, b = (cut_target(t, (0, 0, 0), shape) for t in (target, names[target.name]))
                found.append(2 * (a & b).sum() / (a.sum() + b.sum()))
    return float(np.mean(found))


def read_rows(path: Path) -> list[Row]:
    """Return the rows of a CSV file, none where there is no file."""
    return list(csv.DictReader(path.open(encoding="utf-8"))) if path.exists() else []


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write rows as CSV."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def patient_means(rows: Sequence[Row], arm: str, seen: str, column: str, seed: str | None = None) -> dict[str, float]:
    """Return the mean of a column for each patient, over organs and, where no seed is named, seeds."""
    found: dict[str, list[float]] = {}
    for row in rows:
        if row["arm"] == arm and row["seen"] == seen and seed in (None, row["seed"]):
            found.setdefault(row["case"], []).append(float(row[column]))
    return {case: float(np.mean(values)) for case, values in found.items()}


def differences(
    rows: Sequence[Row], arm: str, seen: str, column: str, seed: str | None = None
) -> npt.NDArray[np.float64]:
    """Return arm minus fine-tuning, a number a patient, over the seeds that the arm has."""
    there = {row["seed"] for row in rows if row["arm"] == arm} & {row["seed"] for row in rows if row["arm"] == BASE}
    same = [row for row in rows if row["seed"] in there]
    own, base = (patient_means(same, one, seen, column, seed) for one in (arm, BASE))
    return np.array([own[case] - base[case] for case in sorted(base)])


def write_tables(rows: Sequence[Row], counts: Sequence[Row]) -> None:
    """Write noisy.md: Dice with intervals, paired tests against fine-tuning, differences by seed, fate of labels."""
    lines = [
        "Random errors: windows of 24³, four stages and 300 steps, a pilot; one-sided: 20³, three and 160. "
        f"Mean and 95 % interval over {HELD_OUT} held-out patients; p: Wilcoxon's signed ranks of the patients' means "
        "against fine-tuning with the same seeds, Holm over arms and clicks of a block of organs.",
        "",
        "| errors | organs | learning | seeds | 1 click | 3 clicks | 5 clicks | p, 1 click | p, 5 clicks "
        "| difference at 1 click, by seed |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for noise in SETTINGS:
        chosen = [row for row in rows if row["noise"] == noise]
        if any(row["arm"] == BASE for row in chosen):
            lines += dice_lines(chosen, noise)
    lines += [
        "",
        "Training labels of the spoilt patients under the trained network, seeds pooled. Uncertain: the entropy of the "
        "mean of the three rounds lies above the limit. XOR turns over all uncertain labels; agreeing those of them "
        "that the ensemble contradicts; sure those that it contradicts and that are not uncertain.",
        "",
        "| errors | learning | limit, nats | wrong labels | … of them uncertain | of those turned over were wrong: XOR "
        "| agreeing | sure | wrong labels after, share of before: XOR | agreeing | sure |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for noise in SETTINGS:
        for arm in ARMS:
            own = [row for row in counts if row["noise"] == noise and row["arm"] == arm]
            unlimited = [row for row in own if row["limit"] == "0"]
            for limit in LIMITS[1:] if unlimited else ():
                at_limit = [row for row in own if row["limit"] == f"{limit:g}"]
                lines.append(f"| {noise} | {ARMS[arm].name} | {limit:g} | {' | '.join(fate(at_limit, unlimited))} |")
    (HERE / "noisy.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def dice_lines(rows: Sequence[Row], noise: str) -> list[str]:
    """Return the lines of the first table for one kind of errors."""
    lines = []
    arms = [arm for arm in ARMS if any(row["arm"] == arm for row in rows)]
    for seen, name in (("True", "trained"), ("False", "never trained")):
        tested = [(arm, column) for arm in arms if arm != BASE for column in ("dice_1", "dice_5")]
        p = holm([wilcoxon(differences(rows, arm, seen, column)) for arm, column in tested])
        adjusted = dict(zip(tested, p, strict=True))
        for arm in arms:
            chosen = [
                {**row, **{column: float(row[column]) for column in SHOWN}}
                for row in rows
                if row["arm"] == arm and row["seen"] == seen
            ]
            found = summarise(chosen, metrics=SHOWN, patient="case")
            cells = [f"{f.mean:.3f} ({f.low:.3f}, {f.high:.3f})" for f in found.values()]
            tests = [f"{adjusted[arm, c]:.2g}" if arm != BASE else "–" for c in ("dice_1", "dice_5")]
            seeds = sorted({str(row["seed"]) for row in chosen})
            by_seed = [f"{differences(rows, arm, seen, 'dice_1', seed).mean():+.3f}" for seed in seeds]
            last = ", ".join(by_seed) if arm != BASE else "–"
            first = f"{noise} | {name} | {ARMS[arm].name} | {len(seeds)}"
            lines.append(f"| {first} | {' | '.join(cells)} | {' | '.join(tests)} | {last} |")
    return lines


def fate(counts: Sequence[Row], all_opposed: Sequence[Row]) -> list[str]:
    """Return the cells of one line of the second table, seeds pooled; `all_opposed` are the counts without a limit."""

    def total(rows: Sequence[Row], key: str) -> int:
        return sum(int(row[key]) for row in rows)

    bad = total(counts, "wrong")
    opposed, mended = total(counts, "opposed"), total(counts, "opposed_and_wrong")
    turned = {
        "xor": (total(counts, "doubtful"), total(counts, "doubtful_and_wrong")),
        "agreeing": (opposed, mended),
        "sure": (total(all_opposed, "opposed") - opposed, total(all_opposed, "opposed_and_wrong") - mended),
    }
    cells = [f"{bad / total(counts, 'voxels'):.1%}", f"{turned['xor'][1] / bad:.0%}"]
    cells += [f"{right / many:.0%}" if many else "–" for many, right in turned.values()]
    return cells + [f"{(bad + many - 2 * right) / bad:.2f}" for many, right in turned.values()]


def main() -> None:
    """Run what is missing."""
    parser = argparse.ArgumentParser()
    parser.add_argument("cohort", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--patients", type=int, default=80)
    parser.add_argument("--noise", choices=SETTINGS, default="one_sided")
    parser.add_argument("--arm", choices=ARMS, nargs="*", default=list(ARMS))
    parser.add_argument("--seed", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--tables", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    path, counts_path = HERE / "noisy.csv", HERE / "noisy_labels.csv"
    rows, counts = read_rows(path), read_rows(counts_path)
    if arguments.tables:
        write_tables(rows, counts)
        return
    cases = split(arguments.cohort, arguments.work, arguments.patients, arguments.noise)
    print(
        {kind: len(some) for kind, some in cases.items()},
        f"Dice of the spoilt labels {label_dice(cases['wrong'], cases['truth']):.3f}",
        flush=True,
    )
    for seed in arguments.seed:
        for arm in arguments.arm:
            named = {"noise": arguments.noise, "seed": str(seed), "arm": arm}
            if any(named.items() <= row.items() for row in rows):
                continue
            chosen = cases.get(ARMS[arm].cases, [])
            network = trained(arm, arguments.noise, seed, chosen, arguments.work)
            rows += [named | row for row in scored(network, cases["held"])]
            counts += [named | row for row in doubts(network, cases["wrong"], cases["truth"], seed)]
            write_rows(path, rows)
            write_rows(counts_path, counts)
            for seen in ("True", "False"):
                mine = [row for row in rows if row["noise"] == arguments.noise]
                means = [np.mean(list(patient_means(mine, arm, seen, c, str(seed)).values())) for c in SHOWN]
                print(
                    arguments.noise, arm, seed, "seen" if seen == "True" else "unseen", np.round(means, 3), flush=True
                )


if __name__ == "__main__":
    main()
