"""Tables and figure of the race: organ Dice of every comparator, paired tests, and denoising against plain filters.

Usage: python benchmarks/ldos/tables.py --work WORK [--filters]

WORK is that of `race.py`. A patient's score is the mean over organs, then over seeds; intervals are bootstrapped over
patients, tests are paired by patient and adjusted for the four comparisons (Holm). Writes ``organs.csv`` (a row a run
and patient), ``ladder.csv``, ``denoising.csv``, ``race.md`` and ``race.png`` beside this file.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from filters import FILTERS, Matched, noise_in, of_equal_noise
from race import CONFIG, SPACING_MM, split

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
    "ldos-residual": "LDOS, residual output",
}  # fmt: skip
BODY_SUV = 0.1


def organ_rows(work: Path) -> list[dict[str, Any]]:
    """Return the rows of every finished run."""
    found = [json.loads(path.read_text())["rows"] for path in sorted(work.glob("*/rows.json"))]
    return [row for rows in found for row in rows]


def mean_dice(row: dict[str, Any]) -> float:
    """Return the mean over the organs that the patient has."""
    return float(np.mean([float(row[organ]) for organ in ORGANS if row[organ] not in ("", None)]))


def per_patient(rows: list[dict[str, Any]]) -> dict[str, dict[str, list[float]]]:
    """Return arm -> patient -> mean Dice of each seed."""
    result: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        result[row["arm"]][row["case"]].append(mean_dice(row))
    return result


def arm_table(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a row an arm and group: mean Dice, interval, spread of seeds, LDOS minus the arm with tests."""
    scores = per_patient(rows)
    tracer = {row["case"]: row["tracer"] for row in rows}
    groups = {"all": sorted(tracer), **{t: sorted(c for c in tracer if tracer[c] == t) for t in set(tracer.values())}}
    result = []
    for group, patients in groups.items():
        table = []
        for arm in (arm for arm in NAMES if arm in scores):
            values = np.array([np.mean(scores[arm][p]) for p in patients])
            seeds = np.mean([scores[arm][p] for p in patients], axis=0)
            interval = mean_interval(values)
            table.append(
                {
                    "group": group, "arm": arm, "patients": len(patients), "seeds": len(seeds),
                    "dice": values.mean(), "low": interval.low, "high": interval.high,
                    "lowest_seed": seeds.min(), "highest_seed": seeds.max(),
                }
            )  # fmt: skip
            if arm != "ldos" and "ldos" in scores:
                ours = np.array([np.mean(scores["ldos"][p]) for p in patients])
                change = compare_paired(ours, values)
                table[-1] |= {
                    "ldos_minus": change.difference, "minus_low": change.low, "minus_high": change.high,
                    "p_wilcoxon": change.p, "patients_better": change.larger,
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
        kept = np.load(path)
        low, full, labels = kept["low"], kept["full"], kept["labels"]
        body, liver = full > BODY_SUV, labels == LIVER
        images: dict[str, Matched] = {"low dose": Matched(low, 0.0, noise_in(low, liver, SPACING_MM), True)}
        for arm in NAMES:
            for folder in sorted(work.glob(f"{arm}_[0-9]")):
                made = folder / f"{path.stem}.npz"
                if made.exists() and (folder / "rows.json").exists():
                    image = np.load(made)["suv"].astype(np.float32)
                    images[folder.name] = Matched(image, 0.0, noise_in(image, liver, SPACING_MM), True)
        if "ldos_0" in images and with_filters:
            for name in FILTERS:
                images[name] = of_equal_noise(name, low, SPACING_MM, liver, images["ldos_0"].cov)
        for name, found in images.items():
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


def save(rows: list[dict[str, Any]], name: str) -> None:
    """Write one table."""
    plain = rounded(rows)
    write_csv(plain, HERE / name, columns=list(plain[0]))


def markdown(arms: list[dict[str, Any]], images: list[dict[str, Any]], rows: list[dict[str, Any]]) -> str:
    """Return the page."""
    lines = [
        "# LDOS and its comparators on simulated patients",
        "",
        f"Made by `benchmarks/ldos/tables.py` from runs of `race.py`: {CONFIG.steps} steps of one window, "
        f"{SPACING_MM[0]:g} mm voxels, 5 % dose, 18 organs. Simulated patients; nothing here is about real ones.",
        "",
        "| Patients | Method | Mean organ Dice (95 % interval) | Seeds | LDOS minus it (95 % interval) | p (Holm) |",
        "|---|---|---|---|---|---|",
    ]
    for row in arms:
        change = (
            f"{row['ldos_minus']:+.3f} ({row['minus_low']:+.3f} to {row['minus_high']:+.3f}) | {row['p_holm']:.2g}"
            if "ldos_minus" in row
            else "– | –"
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
    for name in dict.fromkeys(row["image"] for row in images):
        chosen = [row for row in images if row["image"] == name]
        bias = np.array([[float(r[f"bias_{o}"]) if r[f"bias_{o}"] != "" else np.nan for o in ORGANS] for r in chosen])
        means = {key: np.mean([row[key] for row in chosen]) for key in ("psnr_db", "ssim", "nrmse", "liver_noise")}
        lines.append(
            f"| {name} | {means['psnr_db']:.2f} | {means['ssim']:.4f} | {means['nrmse']:.4f} | "
            f"{means['liver_noise']:.4f} | {np.nanmean(bias):+.1f}, {np.nanmean(np.abs(bias)):.1f} |"
        )
    return "\n".join(lines) + "\n"


def picture(arms: list[dict[str, Any]], images: list[dict[str, Any]]) -> bytes:
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
    names = list(dict.fromkeys(row["image"] for row in images))
    right.boxplot([[row["psnr_db"] for row in images if row["image"] == name] for name in names])
    right.set_xticks(range(1, len(names) + 1), names, rotation=40, ha="right", fontsize=7)
    right.set_ylabel("PSNR (dB)")
    return png_bytes(figure)


def main() -> None:
    """Write everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--filters", action="store_true", help="also tune the filters (non-local means: scikit-image)")
    given = parser.parse_args()
    rows = organ_rows(given.work)
    arms = arm_table(rows)
    images = denoising_rows(given.work, given.filters)
    save(rows, "organs.csv")
    save(arms, "ladder.csv")
    save(images, "denoising.csv")
    text = markdown(arms, images, rows)
    write_text(text, HERE / "race.md")
    (HERE / "race.png").write_bytes(picture(arms, images))
    print(text)


if __name__ == "__main__":
    main()
