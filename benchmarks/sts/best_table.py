"""Put the cross-validation of the preset `best`, and of it without single departures, beside the old figure.

Usage: python benchmarks/sts/best_table.py --runs WORK [WORK ...]     (work folders of cross_validate.py; or none)

Each folder holds one or more folds of one configuration, named by its bundles' cards. Rows are gathered in
``best_cases.csv`` (folders seen before stay there); compared patient by patient with ``uptake_cases.csv``, the preset
`small` at 1,000 steps, and, where runs of equally many steps exist, with `best`. Writes ``best.md``.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from uptake.evaluation.comparison import compare_paired
from uptake.evaluation.intervals import mean_interval
from uptake.io.write import write_csv, write_text

HERE = Path(__file__).parent
CASES = HERE / "best_cases.csv"
COLUMNS = (
    "preset",
    "steps",
    "window",
    "fold",
    "case",
    "dice",
    "sensitivity",
    "precision",
    "fp_volume_ml",
    "fn_volume_ml",
)
OLD = ("small", "1000", "64 40 40 of 3.3 5.5 5.5 mm")
BEST = "best at the size of small"

Run = tuple[str, str, str]
"""Preset, steps and window (z y x)."""


def rows_of(work: Path) -> list[dict[str, str]]:
    """Return the rows of a work folder, with the preset and steps that its bundles name."""
    card = json.loads(next(iter(sorted(work.glob("fold_*/bundle/card.json")))).read_text())
    config, spacing = card["config"], card["plan"]["spacing_mm"]
    with (work / "cases.csv").open(encoding="utf-8", newline="") as stream:
        found = list(csv.DictReader(stream))
    window = f"{' '.join(map(str, config['window']))} of {' '.join(f'{mm:.1f}' for mm in spacing)} mm"
    run = {"preset": config["preset"], "steps": str(config["steps"]), "window": window}
    return [{**run, **row} for row in found]


def gathered(works: list[Path]) -> list[dict[str, str]]:
    """Return the rows of ``best_cases.csv`` and of the folders, the newest of each patient, and write them."""
    rows: list[dict[str, str]] = []
    if CASES.exists():
        with CASES.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
    for work in works:
        rows += rows_of(work)
    newest = {
        (row["preset"], row["steps"], row["window"], row["case"]): {key: row[key] for key in COLUMNS} for row in rows
    }
    kept = [newest[key] for key in sorted(newest)]
    write_csv(kept, CASES, columns=list(COLUMNS))
    return kept


def old_rows() -> list[dict[str, str]]:
    with (HERE / "uptake_cases.csv").open(encoding="utf-8", newline="") as stream:
        return [{"preset": OLD[0], "steps": OLD[1], "window": OLD[2], **row} for row in csv.DictReader(stream)]


def difference(a: Mapping[str, float], b: Mapping[str, float]) -> str:
    """Return a minus b over the patients of both, with its interval, p, and how often a is higher."""
    both = sorted(set(a) & set(b))
    found = compare_paired([a[case] for case in both], [b[case] for case in both], interval="percentile")
    return (
        f"{found.difference:+.4f} ({found.low:+.4f} to {found.high:+.4f}), p {found.p:.2g}, "
        f"higher in {found.larger} of {len(both)}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, nargs="*", default=[])
    args = parser.parse_args()
    scores: dict[Run, dict[str, float]] = {}
    for row in old_rows() + gathered(args.runs):
        scores.setdefault((row["preset"], row["steps"], row["window"]), {})[row["case"]] = float(row["dice"])
    lines = [
        "Dice on whole crops, five folds by patient; 95 % percentile bootstrap over patients, Wilcoxon p.",
        "",
        "| preset | steps | window | patients | mean Dice | 95 % interval | median | minus the first row "
        "| minus `best` at its steps and window |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for (preset, steps, window), found in scores.items():
        values = np.array(list(found.values()))
        interval = mean_interval(values, method="percentile")
        cells = [preset, steps, window, str(values.size), f"{values.mean():.4f}"]
        cells += [f"{interval.low:.4f} to {interval.high:.4f}", f"{np.median(values):.4f}"]
        cells.append("" if (preset, steps, window) == OLD else difference(found, scores[OLD]))
        partner = scores.get((BEST, steps, window))
        cells.append("" if partner is None or preset == BEST else difference(found, partner))
        lines.append("| " + " | ".join(cells) + " |")
    write_text("\n".join(lines) + "\n", HERE / "best.md")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
