"""The presets `published` and `best` at equal training: Dice per click on lesions of patients nobody was trained on.

    python benchmarks/seganypet/presets.py COHORT --sts STS_FOLDER --work WORK [--preset NAME] [--seed N] [--steps 160]
    python benchmarks/seganypet/presets.py COHORT --sts STS_FOLDER --work WORK --tables

Same small promptable U-Net, voxels, windows (120 mm), training patients, seeds, steps, batches, rounds and schedule,
and lesions with true labels alone. All else is each preset's own: published sees PET, z-scored in each window that lies
on the true box, large lesions alone, uniform clicks, the newest click alone, and one round without any; best sees CT
too, half of its windows lie on clicks, lesions of all sizes, half of the clicks in the middle of the mistake, all
clicks or the newest, boxes and strokes as first prompts. `DEPARTURES` are published with one of these alone.

Held out: simulated patients and a fold of the sarcomas. The first click lies anywhere in the lesion, further ones in
the middle of the largest mistake; the window lies on the first click, as in use, or on the true box (oracle). Voxels of
the lesion outside of the window count as missed. Writes presets.csv (a row a seed, preset, way of asking and lesion)
and presets.md. Resumes.
"""

from __future__ import annotations

import argparse
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from noisy import Row, read_rows, write_rows
from train_small import sts_split

from uptake.core.types import Mask, Shape3
from uptake.evaluation.interactive import click_curve
from uptake.evaluation.significance import holm, wilcoxon
from uptake.evaluation.simulated_users import next_click
from uptake.evaluation.statistics import summarise
from uptake.io.find import find_cases
from uptake.methods import seganypet
from uptake.methods.seganypet import Config
from uptake.networks.promptable import NEGATIVE, NOT_A_POINT, POSITIVE, Clicks, Promptable
from uptake.networks.unet import load_unique_state
from uptake.sampling.prompt_cases import PromptBatches, PromptCase, Target, cut_channels, cut_target
from uptake.training import checkpoint
from uptake.training.confident import ConfidentRules
from uptake.training.devices import make_fabric
from uptake.training.loop import fit
from uptake.workflows.promptable_data import prompt_cases

HERE = Path(__file__).parent
SPACING_MM, SIDE = 6.0, 20
WINDOW: Shape3 = (SIDE, SIDE, SIDE)
VOXEL_ML = SPACING_MM**3 / 1000
LARGE_VOXELS = 8
"""500 voxels of 1.5 mm, what the published training takes, are 1.7 mL: eight voxels here."""

ROUNDS = 3
CLICKS = tuple(f"dice_{n}" for n in range(1, 6))
TRAINING, HELD_OUT = 30, 20
"""Simulated patients."""

AT_ONCE = 32


@dataclass(frozen=True)
class Asking:
    """How a trained network is asked.

    Attributes
    ----------
    preset : str
    name : str
        In the tables.
    window : {"click", "oracle"}
    shown : {"newest", "all"}
        Clicks of a round.
    ct : bool
        Whether there is a CT; without one its channel is 0.
    """

    preset: str
    name: str
    window: str
    shown: str
    ct: bool = True


ASKED = {
    "published_oracle": Asking("published", "published, true box", "oracle", "newest"),
    "published_click": Asking("published", "published, on the click", "click", "newest"),
    "published_all": Asking("published", "published, on the click, all clicks shown", "click", "all"),
    "best_oracle": Asking("best", "best, true box", "oracle", "all"),
    "best_click": Asking("best", "best, on the click", "click", "all"),
    "best_pet": Asking("best", "best, on the click, PET alone", "click", "all", ct=False),
    "+ct": Asking("+ct", "published + CT and asinh", "click", "newest"),
    "+clicks": Asking("+clicks", "published + windows on clicks", "click", "newest"),
    "+all": Asking("+all", "published + all clicks, no silent rounds", "click", "all"),
    "+small": Asking("+small", "published + lesions of all sizes", "click", "newest"),
}
DEPARTURES = ("+ct", "+clicks", "+all", "+small")
BASE = "published_click"


def config_of(preset: str, seed: int, steps: int) -> Config:
    """Return a preset with what all share: network, grid, steps, rounds, schedule."""
    published, best = Config.published(), Config.best()
    start = best if preset == "best" else published
    shared = replace(
        start,
        network="unet",
        refine=0,
        features=(8, 16, 32),
        blocks=(1, 1, 1),
        reach=8.0,
        transpose=(0, 1, 2),
        spacing_mm=(SPACING_MM,) * 3,
        window=WINDOW,
        learning=ConfidentRules("fine_tune"),
        lesion_share=None,
        jitter=5,
        min_voxels=1 if preset in ("best", "+small") else LARGE_VOXELS,
        prompts=replace(start.prompts, rounds=ROUNDS, box_slack=1),
        batch_size=4,
        accumulate=1,
        steps=steps,
        epoch_steps=50,
        validation_batches=0,
        learning_rate=2e-3,
        prompt_rate=1.0,
        weight_decay=1e-2,
        clip_norm=12.0,
        schedule="cosine",
        seed=seed,
    )
    if preset == "+ct":
        return replace(
            shared, channels=best.channels, normalisation=best.normalisation, window_zscore=False,
            ct_dropout=best.ct_dropout,
        )  # fmt: skip
    if preset == "+clicks":
        return replace(shared, centre=best.centre)
    if preset == "+all":
        return replace(shared, prompts=replace(shared.prompts, mask_only=False, shown="all"))
    return shared


def shaped(cases: Sequence[PromptCase], config: Config) -> list[PromptCase]:
    """Return the cases as a configuration wants them: without CT and in SUV, or as they are."""
    if config.ct is not None:
        return list(cases)
    return [replace(case, channels=np.sinh(case.channels[:1])) for case in cases]


def load(cohort: Path, sts: Path, work: Path) -> dict[str, list[PromptCase]]:
    """Return training and held-out cases, PET as asinh(SUV) and CT, on the shared grid."""
    simulated = find_cases(cohort)
    train_sts, held_sts = sts_split(sts)
    plan = config_of("best", 0, 1).plan()

    def made(files: Sequence) -> list[PromptCase]:
        cases = prompt_cases(files, plan, work / "cache")
        return [replace(case, channels=np.asarray(case.channels[:], dtype=np.float32)) for case in cases]

    return {
        "train": made([*simulated[:TRAINING], *train_sts]),
        "simulated": made(simulated[-HELD_OUT:]),
        "sarcoma": made(held_sts),
    }


def trained(preset: str, seed: int, steps: int, cases: Sequence[PromptCase], work: Path) -> Promptable:
    """Return the trained network of one preset and seed; goes on where it was stopped."""
    config = config_of(preset, seed, steps)
    folder = work / f"{preset.strip('+')}_{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    network = seganypet.build_network(config)
    large = [
        replace(case, targets=tuple(t for t in case.targets if int(t.mask.sum()) >= config.min_voxels))
        for case in shaped(cases, config)
    ]
    result = fit(
        network,
        seganypet.build_optimizer(network, config),
        batches=PromptBatches(large, config.batch_rules()),
        training_step=lambda model, batch, step: seganypet.training_step(model, batch, step, config),
        learning_rate=lambda step: seganypet.learning_rate(step, config),
        settings=config.fit_settings(),
        folder=folder,
        stamp=f"{preset} {seed} {steps}",
        fabric=make_fabric("cpu"),
    )
    network = seganypet.build_network(config).eval()
    load_unique_state(network, checkpoint.load(result.last).network)
    return network


class LesionUser:
    """Callable (round, last logits) -> clicks, for windows whose lesions `wanted` (b, z, y, x) are known."""

    def __init__(self, wanted: Sequence[Mask], first: Sequence[Shape3], shown: str) -> None:
        self.wanted, self.shown = wanted, shown
        self.clicks = [[(place, True)] for place in first]
        self.rng = np.random.default_rng(0)

    def __call__(self, number: int, logits: torch.Tensor | None) -> Clicks:
        """Return all clicks so far, or the newest of each window."""
        if logits is not None:
            for want, found, clicks in zip(self.wanted, (logits[:, 0] > 0).numpy(), self.clicks, strict=True):
                click = next_click(found, want, self.rng, rule="centre")
                if click is not None:
                    clicks.append((click.place, click.positive))
        told = [clicks[-1:] if self.shown == "newest" else clicks for clicks in self.clicks]
        most = max(map(len, told))
        points = torch.zeros(len(told), most, 3)
        kinds = torch.full((len(told), most), NOT_A_POINT, dtype=torch.int64)
        for sample, clicks in enumerate(told):
            for n, (place, positive) in enumerate(clicks):
                points[sample, n] = torch.tensor(place, dtype=torch.float32)
                kinds[sample, n] = POSITIVE if positive else NEGATIVE
        return Clicks(points, kinds)


def asked_of(case: PromptCase, number: int, target: Target, window: str) -> tuple[Shape3, Shape3]:
    """Return where the window of a lesion begins, and the first click in it, voxels; the click is always the same."""
    rng = np.random.default_rng([zlib.crc32(case.id.encode()), number])
    click = target.places[rng.integers(len(target.places))]
    lower = (target.centre if window == "oracle" else click) - SIDE // 2
    if window == "oracle" and not ((click >= lower) & (click < lower + SIDE)).all():
        inside = target.places[((target.places >= lower) & (target.places < lower + SIDE)).all(axis=1)]
        click = inside[rng.integers(len(inside))] if len(inside) else lower + SIDE // 2
    z, y, x = (int(n) for n in lower)
    a, b, c = (int(n) for n in click - lower)
    return (z, y, x), (a, b, c)


def scored(network: Promptable, cases: Sequence[PromptCase], asking: Asking, config: Config) -> Iterator[Row]:
    """Yield a row with Dice after each click for every lesion."""
    waiting = []
    for case in shaped(cases, config):
        for number, target in enumerate(case.targets):
            waiting.append((case, number, target, *asked_of(case, number, target, asking.window)))
    for start in range(0, len(waiting), AT_ONCE):
        some = waiting[start : start + AT_ONCE]
        wanted = [cut_target(target, lower, WINDOW) for _, _, target, lower, _ in some]
        channels = torch.from_numpy(
            np.stack([cut_channels(case.channels, lower, WINDOW) for case, *_, lower, _ in some])
        )
        if config.ct is not None and not asking.ct:
            channels[:, config.ct] = 0.0
        user = LesionUser(wanted, [first for *_, first in some], asking.shown)
        with torch.inference_mode():
            outputs = network(seganypet.prepared(channels, config), user, len(CLICKS))
        found = [(one[:, 0] > 0).numpy() for one in outputs]
        for sample, (case, number, target, _, _) in enumerate(some):
            voxels = int(target.mask.sum())
            row = {"case": case.id, "lesion": str(number), "ml": f"{voxels * VOXEL_ML:.4g}"}
            for name, masks in zip(CLICKS, found, strict=True):
                both = int((masks[sample] & wanted[sample]).sum())
                row[name] = f"{2 * both / (int(masks[sample].sum()) + voxels):.4f}"
            yield row


def blocks(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Return the rows of each group of lesions in the table."""
    least = LARGE_VOXELS * VOXEL_ML
    simulated = [row for row in rows if row["kind"] == "simulated"]
    return {
        f"simulated, {least:.1f} mL or more": [row for row in simulated if float(row["ml"]) >= least - 1e-6],
        f"simulated, below {least:.1f} mL": [row for row in simulated if float(row["ml"]) < least - 1e-6],
        "sarcomas": [row for row in rows if row["kind"] == "sarcoma"],
    }


def area(row: Row) -> float:
    """Return the area under the curve of Dice over clicks, as a share of the most there can be."""
    return float(click_curve([float(row[name]) for name in CLICKS]).auc_fraction)


def patient_areas(rows: Sequence[Row], asking: str, seed: str | None = None) -> dict[str, float]:
    """Return the mean area of each patient over lesions and, where no seed is named, seeds."""
    found: dict[str, list[float]] = {}
    for row in rows:
        if row["asking"] == asking and seed in (None, row["seed"]):
            found.setdefault(row["case"], []).append(area(row))
    return {case: float(np.mean(values)) for case, values in found.items()}


def write_table(rows: Sequence[Row]) -> None:
    """Write presets.md: Dice per click, area under the curve, paired tests of areas against published on the click."""
    seeds = sorted({row["seed"] for row in rows if row["asking"] == BASE})
    lines = [
        f"Seeds {', '.join(seeds)} (departures: those with a difference); mean over lesions and seeds, 95 % interval "
        "over patients; area under Dice of clicks 1 to 5; p: Wilcoxon's signed ranks of the patients' areas against "
        "published on the click, Holm within a block.",
        "",
        "| lesions | preset, window | " + " | ".join(f"{n} click{'s' * (n > 1)}" for n in range(1, 6))
        + " | area | p | difference of areas, by seed |",
        "|---|---|" + "---|" * 8,
    ]  # fmt: skip
    for name, chosen in blocks(rows).items():
        there = [one for one in ASKED if any(row["asking"] == one for row in chosen)]
        others = [one for one in there if one != BASE]
        base, p = patient_areas(chosen, BASE), []
        for one in others:
            own_seeds = {row["seed"] for row in chosen if row["asking"] == one}
            same = [row for row in chosen if row["seed"] in own_seeds]
            own, reference = patient_areas(same, one), patient_areas(same, BASE)
            p.append(wilcoxon(np.array([own[case] - reference[case] for case in sorted(base)])))
        adjusted = dict(zip(others, holm(p), strict=True))
        for one in there:
            mine = [
                {**row, **{c: float(row[c]) for c in CLICKS}, "area": area(row)}
                for row in chosen
                if row["asking"] == one
            ]
            found = summarise(mine, metrics=[*CLICKS, "area"], patient="case")
            cells = [f"{found[c].mean:.3f}" for c in CLICKS]
            shown = found["area"]
            cells.append(f"{shown.mean:.3f} ({shown.low:.3f}, {shown.high:.3f})")
            test, by_seed = "–", "–"
            if one != BASE:
                test = f"{adjusted[one]:.2g}"
                differences = []
                for seed in sorted({str(row["seed"]) for row in mine}):
                    own, reference = patient_areas(chosen, one, seed), patient_areas(chosen, BASE, seed)
                    differences.append(f"{np.mean([own[case] - reference[case] for case in own]):+.3f}")
                by_seed = ", ".join(differences)
            lines.append(f"| {name} ({len(mine)}) | {ASKED[one].name} | {' | '.join(cells)} | {test} | {by_seed} |")
    (HERE / "presets.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    """Run what is missing."""
    parser = argparse.ArgumentParser()
    parser.add_argument("cohort", type=Path)
    parser.add_argument("--sts", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument(
        "--preset", choices=("published", "best", *DEPARTURES), nargs="*", default=["published", "best"]
    )
    parser.add_argument("--seed", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=160)
    parser.add_argument("--tables", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    path = HERE / "presets.csv"
    rows = read_rows(path)
    if arguments.tables:
        write_table(rows)
        return
    cases = load(arguments.cohort, arguments.sts, arguments.work)
    print({kind: (len(some), sum(len(c.targets) for c in some)) for kind, some in cases.items()}, flush=True)
    for seed in arguments.seed:
        for preset in arguments.preset:
            wanted = [name for name, asking in ASKED.items() if asking.preset == preset]
            if all(any(row["seed"] == str(seed) and row["asking"] == name for row in rows) for name in wanted):
                continue
            network = trained(preset, seed, arguments.steps, cases["train"], arguments.work)
            for name in wanted:
                named = {"seed": str(seed), "asking": name}
                config = config_of(preset, seed, arguments.steps)
                for kind in ("simulated", "sarcoma"):
                    new = [named | {"kind": kind} | row for row in scored(network, cases[kind], ASKED[name], config)]
                    print(
                        name,
                        seed,
                        kind,
                        [round(float(np.mean([float(r[c]) for r in new])), 3) for c in CLICKS],
                        flush=True,
                    )
                    rows += new
            write_rows(path, rows)


if __name__ == "__main__":
    main()
