"""Tables and figure of the race: organ Dice of every comparator, paired tests, and denoising against plain filters.

Usage: python benchmarks/ldos/tables.py --work WORK [--out FOLDER] [--filters]

WORK is that of `race.py`. A patient's score is the mean over organs, then over seeds; intervals are bootstrapped over
patients, tests are paired by patient and adjusted for the comparisons (Holm). They say what holds for these networks on
other patients. What holds for other seeds stands beside them: the difference seed by seed, with its t interval. Two
methods are compared on the seeds that both have. Writes ``organs.csv`` (a row a run and patient), ``ladder.csv``,
``denoising.csv``, ``race.md`` and ``race.png`` into FOLDER, by default beside this file.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filters import FILTERS, Matched, noise_in, of_equal_noise
from race import CONFIG, SPACING_MM, images, split
from scipy.stats import t as student

from uptake.core.figures import new_figure, png_bytes
from uptake.evaluation.comparison import compare_paired
from uptake.evaluation.image_quality import image_quality
from uptake.evaluation.intervals import mean_interval
from uptake.evaluation.significance import holm
from uptake.io.write import write_csv, write_text

HERE = Path(__file__).parent
ORGANS = CONFIG.labels[1:]
LIVER = CONFIG.labels.index("liver")
NAMES = {
    "ldos": "LDOS", "ldpet": "LDPET", "fdpet": "FDPET", "fake-fdpet": "Fake-FDPET", "ldos-ow": "LDOS/ow",
    "ldos-residual": "LDOS, residual output", "ldos-light": "LDOS, denoising at a fifth",
    "denoised-first": "LDPET from a denoiser's encoder",
}  # fmt: skip
BODY_SUV = 0.1
OURS = "ldos"


@dataclass(frozen=True)
class Design:
    """What all runs of a race share."""

    steps: int
    window: tuple[int, ...]
    patients: int
    noise_dose: float


def runs(work: Path) -> tuple[list[dict[str, Any]], Design]:
    """Return the rows of every finished run, and what they share; refuse runs that do not."""
    found = [json.loads(path.read_text()) for path in sorted(work.glob("*/rows.json"))]
    designs = {
        Design(one["config"]["steps"], tuple(one["config"]["window"]), one["patients"], one["noise_dose"])
        for one in found
    }
    if len(designs) != 1:
        raise SystemExit(f"{work}: runs of one design were expected, came {designs}.")
    return [row for one in found for row in one["rows"]], designs.pop()


def mean_dice(row: dict[str, Any]) -> float:
    """Return the mean over the organs that the patient has."""
    return float(np.mean([float(row[organ]) for organ in ORGANS if row[organ] not in ("", None)]))


def per_seed(rows: list[dict[str, Any]]) -> dict[str, dict[int, dict[str, float]]]:
    """Return arm -> seed -> patient -> mean Dice."""
    result: dict[str, dict[int, dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
    for row in rows:
        result[row["arm"]][int(row["seed"])][row["case"]] = mean_dice(row)
    return result


def by_seed(differences: np.ndarray) -> dict[str, Any]:
    """Return the differences of each seed and, from two seeds on, their 95 % t interval."""
    found: dict[str, Any] = {"by_seed": " ".join(f"{d:+.3f}" for d in differences)}
    if len(differences) > 1:
        reach = student.ppf(0.975, len(differences) - 1) * differences.std(ddof=1) / np.sqrt(len(differences))
        found |= {"seeds_low": differences.mean() - reach, "seeds_high": differences.mean() + reach}
    return found


def arm_table(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a row an arm and group: mean Dice, interval, spread of seeds, LDOS minus the arm with tests."""
    scores = per_seed(rows)
    tracer = {row["case"]: row["tracer"] for row in rows}
    groups = {
        "all": sorted(tracer),
        **{t: sorted(c for c in tracer if tracer[c] == t) for t in sorted({*tracer.values()})},
    }
    result = []
    for group, patients in groups.items():
        table = []
        for arm in (arm for arm in NAMES if arm in scores):
            values = np.array([[scores[arm][seed][p] for p in patients] for seed in sorted(scores[arm])])
            interval = mean_interval(values.mean(0))
            table.append(
                {
                    "group": group, "arm": arm, "patients": len(patients), "seeds": len(values),
                    "dice": values.mean(), "low": interval.low, "high": interval.high,
                    "lowest_seed": values.mean(1).min(), "highest_seed": values.mean(1).max(),
                }
            )  # fmt: skip
            shared = sorted(set(scores[arm]) & set(scores.get(OURS, {})))
            if arm != OURS and shared:
                ours, theirs = (
                    np.array([[scores[name][seed][p] for p in patients] for seed in shared]) for name in (OURS, arm)
                )
                change = compare_paired(ours.mean(0), theirs.mean(0))
                table[-1] |= {
                    "shared_seeds": len(shared), "ldos_minus": change.difference, "minus_low": change.low,
                    "minus_high": change.high, "p_wilcoxon": change.p, "patients_better": change.larger,
                    **by_seed((ours - theirs).mean(1)),
                }  # fmt: skip
        tested = [row for row in table if "p_wilcoxon" in row]
        for row, p in zip(tested, holm([row["p_wilcoxon"] for row in tested]), strict=True):
            row["p_holm"] = float(p)
        result += table
    return result


def denoising_rows(work: Path, with_filters: bool) -> list[dict[str, Any]]:
    """Return scores of low dose, filters and denoisers on the held-out patients, on the race's voxels.

    Filters are tuned on each patient to the noise that LDOS (seed 0) leaves in the liver: what they do better or worse
    at that noise is theirs.
    """
    result = []
    for path in split(work)[1]:
        kept, (low, full) = np.load(path), images(path)
        labels = kept["labels"]
        body, liver = full > BODY_SUV, labels == LIVER
        shown: dict[str, Matched] = {"low dose": Matched(low, 0.0, noise_in(low, liver, SPACING_MM), True)}
        for arm in NAMES:
            for folder in sorted(work.glob(f"{arm}_[0-9]")):
                made = folder / f"{path.stem}.npz"
                if made.exists() and (folder / "rows.json").exists():
                    image = np.load(made)["suv"].astype(np.float32)
                    shown[folder.name] = Matched(image, 0.0, noise_in(image, liver, SPACING_MM), True)
        if f"{OURS}_0" in shown and with_filters:
            for name in FILTERS:
                shown[name] = of_equal_noise(name, low, SPACING_MM, liver, shown[f"{OURS}_0"].cov)
        for name, found in shown.items():
            quality = image_quality(found.image, full, body=body)
            row: dict[str, Any] = {
                "case": path.stem, "tracer": str(kept["tracer"]), "image": name, "strength": found.strength,
                "liver_noise": found.cov, "reached": found.reached, "psnr_db": quality.psnr_db,
                "ssim": quality.ssim, "nrmse": quality.nrmse,
            }  # fmt: skip
            for number, organ in enumerate(ORGANS, start=1):
                inside = labels == number
                row[f"bias_{organ}"] = (
                    100 * (found.image[inside].mean() / full[inside].mean() - 1) if inside.any() else ""
                )
            result.append(row)
    return result


def rounded(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows with floats to five digits, every column in each."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    return [
        {k: f"{row[k]:.5g}" if isinstance(row.get(k), float | np.floating) else row.get(k, "") for k in columns}
        for row in rows
    ]


def save(rows: list[dict[str, Any]], path: Path) -> None:
    """Write one table."""
    plain = rounded(rows)
    write_csv(plain, path, columns=list(plain[0]))


def markdown(
    arms: list[dict[str, Any]], pictures: list[dict[str, Any]], rows: list[dict[str, Any]], design: Design
) -> str:
    """Return the page."""
    lines = [
        "# LDOS and its comparators on simulated patients",
        "",
        f"Made by `benchmarks/ldos/tables.py` from runs of `race.py`: {design.steps} steps of one window of "
        f"{design.window[0]} x {design.window[1]} x {design.window[2]} voxels of {SPACING_MM[0]:g} mm, noise of "
        f"{100 * design.noise_dose:g} % dose, {design.patients} patients to learn from, "
        "18 organs. Simulated patients; nothing here is about real ones.",
        "",
        "| Patients | Method | Mean organ Dice (95 % interval) | Seeds | LDOS minus it (95 % interval over patients) "
        "| p (Holm) | Seed by seed (95 % interval over seeds) |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in arms:
        change = (
            f"{row['ldos_minus']:+.3f} ({row['minus_low']:+.3f} to {row['minus_high']:+.3f}) | {row['p_holm']:.2g} | "
            + row["by_seed"]
            + (f" ({row['seeds_low']:+.3f} to {row['seeds_high']:+.3f})" if "seeds_low" in row else "")
            if "ldos_minus" in row
            else "– | – | –"
        )
        lines.append(
            f"| {row['group']}, n = {row['patients']} | {NAMES[row['arm']]} | {row['dice']:.3f} "
            f"({row['low']:.3f} to {row['high']:.3f}) | {row['seeds']}: {row['lowest_seed']:.3f} to "
            f"{row['highest_seed']:.3f} | {change} |"
        )
    lines += ["", "| Organ | " + " | ".join(NAMES[a] for a in NAMES if any(r["arm"] == a for r in rows)) + " |"]
    shown = [arm for arm in NAMES if any(row["arm"] == arm for row in rows)]
    lines.append("|---|" + "---|" * len(shown))
    for organ in ORGANS:
        values = [np.mean([float(r[organ]) for r in rows if r["arm"] == arm and r[organ] != ""]) for arm in shown]
        lines.append(f"| {organ} | " + " | ".join(f"{value:.2f}" for value in values) + " |")
    lines += [
        "",
        "| Image | PSNR (dB) | SSIM | NRMSE | Noise in the liver | SUVmean bias of organs: mean, absolute (%) |",
        "|---|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(row["image"] for row in pictures):
        chosen = [row for row in pictures if row["image"] == name]
        bias = np.array([[float(r[f"bias_{o}"]) if r[f"bias_{o}"] != "" else np.nan for o in ORGANS] for r in chosen])
        means = {key: np.mean([row[key] for row in chosen]) for key in ("psnr_db", "ssim", "nrmse", "liver_noise")}
        lines.append(
            f"| {name} | {means['psnr_db']:.2f} | {means['ssim']:.4f} | {means['nrmse']:.4f} | "
            f"{means['liver_noise']:.4f} | {np.nanmean(bias):+.1f}, {np.nanmean(np.abs(bias)):.1f} |"
        )
    return "\n".join(lines) + "\n"


def picture(arms: list[dict[str, Any]], pictures: list[dict[str, Any]]) -> bytes:
    """Return organ Dice by method, and PSNR by image."""
    figure = new_figure((10.0, 3.8))
    figure.set_layout_engine("constrained")
    left, right = figure.subplots(1, 2)
    chosen = [row for row in arms if row["group"] == "all"]
    for n, row in enumerate(chosen):
        error = [[row["dice"] - row["low"]], [row["high"] - row["dice"]]]
        left.errorbar([n], [row["dice"]], yerr=error, fmt="o", color="#1f4e79", capsize=4)
        left.plot([n, n], [row["lowest_seed"], row["highest_seed"]], color="#c0504d", linewidth=3, alpha=0.5)
    left.set_xticks(range(len(chosen)), [NAMES[row["arm"]] for row in chosen], rotation=20, ha="right")
    left.set_ylabel("mean organ Dice")
    left.set_title("interval over patients; red: spread of seeds", fontsize=9)
    names = list(dict.fromkeys(row["image"] for row in pictures))
    right.boxplot([[row["psnr_db"] for row in pictures if row["image"] == name] for name in names])
    right.set_xticks(range(1, len(names) + 1), names, rotation=40, ha="right", fontsize=7)
    right.set_ylabel("PSNR (dB)")
    return png_bytes(figure)


def main() -> None:
    """Write everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=HERE)
    parser.add_argument("--filters", action="store_true", help="also tune the filters (non-local means: scikit-image)")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    rows, design = runs(given.work)
    arms = arm_table(rows)
    pictures = denoising_rows(given.work, given.filters)
    save(rows, given.out / "organs.csv")
    save(arms, given.out / "ladder.csv")
    save(pictures, given.out / "denoising.csv")
    text = markdown(arms, pictures, rows, design)
    write_text(text, given.out / "race.md")
    (given.out / "race.png").write_bytes(picture(arms, pictures))
    print(text)


if __name__ == "__main__":
    main()
