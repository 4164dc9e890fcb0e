"""Dice per click of a promptable bundle: lesions of simulated patients and sarcomas, all held out of its training.

python benchmarks/seganypet/clicks.py BUNDLE COHORT --sts STS_FOLDER [--patients 60] [--limit 12] [--window click]

The split is that of train_small.py. Writes clicks_<window>.csv (a row an object) and clicks_<window>.md here. Resumes:
objects that are in the csv already are not asked again.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
import torch
from train_small import sts_split

from uptake.evaluation.interactive import click_curve, clicks_to
from uptake.evaluation.statistics import summarise
from uptake.geometry.components import connected_components
from uptake.io.find import find_cases
from uptake.io.read import read_case
from uptake.workflows.interact import object_dice
from uptake.workflows.session import Session

HERE = Path(__file__).parent
CLICKS = 5
MOST_LESIONS = 4
"""Objects asked for in a case, the largest first."""

WANTED = 0.85


def targets(case):
    """Return the largest lesions of a case, each as a mask of its own, with its volume in mL."""
    pieces = connected_components(case.lesions.array > 0)
    order = np.argsort(-pieces.voxels, kind="stable")[:MOST_LESIONS]
    for number in order:
        yield int(number), pieces.labels == number + 1, float(pieces.voxels[number]) * case.pet.voxel_volume_ml


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("bundle", type=Path)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("--sts", type=Path, required=True)
    parser.add_argument("--patients", type=int, default=60)
    parser.add_argument("--limit", type=int, default=12, help="cases of each kind")
    parser.add_argument("--window", default="click", choices=("click", "oracle"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    simulated = find_cases(arguments.cohort)[: arguments.patients]
    kinds = {"simulated": simulated[len(simulated) * 4 // 5 :], "sarcoma": sts_split(arguments.sts)[1]}
    path = HERE / f"clicks_{arguments.window}.csv"
    rows = list(csv.DictReader(path.open(encoding="utf-8"))) if path.exists() else []
    done = {(row["case"], row["object"]) for row in rows}
    session = Session(arguments.bundle, device="cpu")
    for kind, files in kinds.items():
        for one in files[: arguments.limit]:
            case = read_case(one)
            wanted = [t for t in targets(case) if (case.id, str(t[0])) not in done]
            if not wanted:
                continue
            session.set_image(case)
            for number, mask, ml in wanted:
                dice = object_dice(session, mask, clicks=CLICKS, window=arguments.window, seed=number)
                row = {"kind": kind, "case": case.id, "object": number, "ml": f"{ml:.4g}"}
                row |= {f"dice_{n}": f"{value:.4f}" for n, value in enumerate(dice, start=1)}
                rows.append(row)
                print(row, flush=True)
                with path.open("w", newline="", encoding="utf-8") as file:
                    writer = csv.DictWriter(file, fieldnames=list(row), lineterminator="\n")
                    writer.writeheader()
                    writer.writerows(rows)
    write_summary(rows, arguments.window)


def write_summary(rows, window):
    """Write mean Dice per click with intervals over patients, area under the curve, and clicks to 85 %."""
    columns = [f"dice_{n}" for n in range(1, CLICKS + 1)]
    lines = [
        f"Window on the {'click' if window == 'click' else 'true box (oracle)'}; first click anywhere in it, then "
        "at the centre of the largest mistake; mean and 95 % interval over patients.",
        "",
        "| objects | n | "
        + " | ".join(f"{n} click{'s' * (n > 1)}" for n in range(1, CLICKS + 1))
        + " | area | ≥ 0.85 |",
        "|---|---|" + "---|" * (CLICKS + 2),
    ]
    for kind in dict.fromkeys(row["kind"] for row in rows):
        chosen = [{**row, **{c: float(row[c]) for c in columns}} for row in rows if row["kind"] == kind]
        found = summarise(chosen, metrics=columns, patient="case")
        curves = [[row[c] for c in columns] for row in chosen]
        area = np.mean([click_curve(curve).auc_fraction for curve in curves])
        reached = np.mean([not np.isnan(clicks_to(curve, WANTED)) for curve in curves])
        cells = [f"{found[c].mean:.3f} ({found[c].low:.3f}, {found[c].high:.3f})" for c in columns]
        lines.append(f"| {kind} | {len(chosen)} | {' | '.join(cells)} | {area:.3f} | {reached:.0%} |")
    (HERE / f"clicks_{window}.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
