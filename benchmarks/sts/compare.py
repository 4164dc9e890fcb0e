"""Put our cross-validation, nnU-Net's and the fixed-threshold rules side by side, patient by patient.

Usage: python benchmarks/sts/compare.py --data ../shared/data/sts [--nnunet /tmp/nnunet]

All masks are scored by the same function (`uptake.evaluation`) on the scans' own grids. The threshold rules get what
the networks get: the whole crop, SUV. Writes ``comparison.csv`` and ``comparison.md`` beside this file.
"""

from __future__ import annotations

import argparse
import csv
import math
from pathlib import Path

import numpy as np

import uptake
from uptake.evaluation.comparison import compare_paired
from uptake.evaluation.overlap import dice
from uptake.evaluation.statistics import summarise
from uptake.io.image import read_labels
from uptake.io.write import write_csv, write_text

HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--nnunet", type=Path, help="work folder of nnunet_cv.py")
    args = parser.parse_args()
    with (HERE / "uptake_cases.csv").open() as file:
        ours = {row["case"]: (int(row["fold"]), float(row["dice"])) for row in csv.DictReader(file)}
    known = HERE / "comparison.csv"
    nnunet = {}
    if args.nnunet:
        for mask in args.nnunet.glob("results/Dataset501_STS/*/fold_*/validation/*.nii.gz"):
            nnunet[mask.name.removesuffix(".nii.gz")] = read_labels(mask)[0].array > 0
    elif known.exists():
        with known.open() as file:
            nnunet = {row["case"]: float(row["nnunet"]) for row in csv.DictReader(file) if row["nnunet"]}
    rows = []
    for name, (fold, score) in sorted(ours.items()):
        case = uptake.read(args.data / name)
        suv, reference = case.pet.array, case.lesions.array > 0
        row = {"case": name, "fold": fold, "uptake": score}
        found = nnunet.get(name, math.nan)
        row["nnunet"] = found if isinstance(found, float) else dice(found, reference)
        row["suv_1.5"] = dice(suv >= 1.5, reference)
        row["suv_2.5"] = dice(suv >= 2.5, reference)
        row["41_percent"] = dice(suv >= 0.41 * suv.max(), reference)
        row["41_percent_told_lesion_max"] = dice(suv >= 0.41 * suv[reference].max(), reference)
        rows.append(row)
    write_csv(rows, known, columns=list(rows[0]))
    methods = [key for key in rows[0] if key not in ("case", "fold")]
    if all(math.isnan(row["nnunet"]) for row in rows):
        methods.remove("nnunet")
    found = summarise(rows, metrics=methods, interval="percentile")
    lines = [
        f"{len(rows)} patients, five folds by patient, whole crops; Dice, 95 % percentile bootstrap over patients.",
        "",
        "| method | patients | mean Dice | 95 % interval | median | ours minus it | 95 % interval | Wilcoxon p |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for method in methods:
        one = found[method]
        line = f"| {method} | {one.n} | {one.mean:.4f} | {one.low:.4f} to {one.high:.4f} | {one.median:.4f} "
        if method != "uptake":
            pair = compare_paired([row["uptake"] for row in rows], [row[method] for row in rows], interval="percentile")
            line += f"| {pair.difference:+.4f} | {pair.low:+.4f} to {pair.high:+.4f} | {pair.p:.2g} |"
        else:
            line += "| | | |"
        lines.append(line)
    if "nnunet" in methods:
        paired = [row for row in rows if not math.isnan(row["nnunet"])]
        better = np.sum([row["uptake"] > row["nnunet"] for row in paired])
        lines += ["", f"Ours is higher than nnU-Net in {better} of {len(paired)} patients."]
        lines += [f"Ours on the patients that nnU-Net was scored on: {np.mean([row['uptake'] for row in paired]):.4f}."]
    write_text("\n".join(lines) + "\n", HERE / "comparison.md")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
