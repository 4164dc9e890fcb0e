"""Tables and figure of the ladder from ``cases.csv``: means with intervals, each rung against the one before, shifts.

Usage: python benchmarks/ladder/tables.py

A patient's score is the mean over the seeds of a rung; intervals are bootstrapped over patients, tests are paired by
patient (`uptake.evaluation`). The change of every seed stands beside it: one whose sign is not theirs all is none.
Writes ``ladder.csv``, ``ladder.md`` and ``ladder.png`` beside this file.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from ladder import CASES, RUNGS, SHIFT_MM

from uptake.core.figures import new_figure, png_bytes
from uptake.evaluation.comparison import Comparison, compare_paired
from uptake.evaluation.intervals import mean_interval
from uptake.io.write import write_csv, write_text

HERE = Path(__file__).parent
INTERVAL = "percentile"
"""Groups here are as small as five patients, of whom some have no score; the others need more."""
METRICS = {"dice": ("Dice", 3), "fp_volume_ml": ("FPvol (mL)", 2), "fn_volume_ml": ("FNvol (mL)", 2)}

Scores = Mapping[tuple[str, float], Mapping[str, Mapping[str, dict[int, float]]]]
"""(rung, shift) -> metric -> patient -> seed -> score."""


def read() -> tuple[Scores, dict[str, str], dict[str, list[int]]]:
    """Return the scores, each patient's tracer, and the seeds of each rung."""
    scores: dict[tuple[str, float], dict[str, dict[str, dict[int, float]]]] = defaultdict(
        lambda: {metric: defaultdict(dict) for metric in METRICS}
    )
    tracer, seeds = {}, defaultdict(set)
    with CASES.open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream):
            tracer[row["case"]] = row["tracer"]
            seeds[row["rung"]].add(int(row["seed"]))
            for metric in METRICS:
                scores[row["rung"], float(row["shift_mm"])][metric][row["case"]][int(row["seed"])] = float(
                    row[metric] or "nan"
                )
    return scores, tracer, {rung: sorted(found) for rung, found in seeds.items()}


def means(found: Mapping[str, Mapping[int, float]], patients: Sequence[str], seeds: Sequence[int]) -> np.ndarray:
    """Return each patient's mean over `seeds`, (n,); NaN where the score is undefined (no lesion)."""
    return np.array([np.mean([found[patient][seed] for seed in seeds]) for patient in patients])


def before(rungs: Sequence[str], number: int, seeds: Mapping[str, list[int]]) -> tuple[str, list[int]] | None:
    """Return the nearest rung below that was climbed with the same seeds, and those seeds."""
    for name in reversed(rungs[:number]):
        common = sorted(set(seeds[name]) & set(seeds[rungs[number]]))
        if common:
            return name, common
    return None


def compared(after: np.ndarray, before: np.ndarray) -> Comparison:
    return compare_paired(after, before, interval=INTERVAL)


def main() -> None:
    scores, tracer, seeds = read()
    rungs = [rung for rung in RUNGS if rung.name in seeds]
    patients = sorted(tracer)
    groups = {
        "all": patients,
        **{name: [p for p in patients if tracer[p] == name] for name in sorted(set(tracer.values()))},
    }
    rows = []
    for number, rung in enumerate(rungs):
        for group, members in groups.items():
            for metric in METRICS:
                here = means(scores[rung.name, 0.0][metric], members, seeds[rung.name])
                defined = here[np.isfinite(here)]
                found = mean_interval(defined, method=INTERVAL)
                each = [
                    float(np.nanmean([scores[rung.name, 0.0][metric][p][seed] for p in members]))
                    for seed in seeds[rung.name]
                ]
                row = {
                    "rung": rung.name, "group": group, "metric": metric, "patients": defined.size,
                    "seeds": len(seeds[rung.name]), "mean": float(defined.mean()), "low": found.low,
                    "high": found.high, "lowest_seed": min(each), "highest_seed": max(each),
                }  # fmt: skip
                below = before([one.name for one in rungs], number, seeds)
                if below is not None:
                    name, common = below
                    change = compared(
                        means(scores[rung.name, 0.0][metric], members, common),
                        means(scores[name, 0.0][metric], members, common),
                    )
                    by_seed = [
                        np.nanmean(
                            means(scores[rung.name, 0.0][metric], members, [seed])
                            - means(scores[name, 0.0][metric], members, [seed])
                        )
                        for seed in common
                    ]
                    row |= {
                        "against": name, "change_by_seed": " ".join(f"{one:+.4g}" for one in by_seed),
                        "change": change.difference, "change_low": change.low, "change_high": change.high,
                        "p_wilcoxon": change.p, "p_sign_flip": change.p_sign_flip,
                    }  # fmt: skip
                rows.append(row)
    columns = list(max(rows, key=len))
    plain = [{k: f"{v:.5g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows]
    write_csv([{k: row.get(k, "") for k in columns} for row in plain], HERE / "ladder.csv", columns=columns)
    write_text(page(rows, groups, scores, seeds, patients), HERE / "ladder.md")
    (HERE / "ladder.png").write_bytes(picture(rows, [rung.name for rung in rungs], seeds))
    print((HERE / "ladder.md").read_text())


def page(
    rows: Sequence[Mapping[str, object]],
    groups: Mapping[str, Sequence[str]],
    scores: Scores,
    seeds: Mapping[str, list[int]],
    patients: Sequence[str],
) -> str:
    """Return the tables as Markdown."""
    words = {rung.name: rung.words for rung in RUNGS}
    parts = []
    for group, members in groups.items():
        parts += [f"**{group}**, {len(members)} held-out patients", ""]
        heads = ["step", "seeds"]
        for name, _ in METRICS.values():
            heads += [name, "change (95 %), p"]
        parts += ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
        order = list(dict.fromkeys(row["rung"] for row in rows))
        for rung in order:
            previous = order[max(0, order.index(rung) - 1)]
            cells = [words[str(rung)], ", ".join(map(str, seeds[str(rung)]))]
            for metric, (_, digits) in METRICS.items():
                row = next(r for r in rows if (r["rung"], r["group"], r["metric"]) == (rung, group, metric))
                text = f"{row['mean']:.{digits}f} [{row['low']:.{digits}f}, {row['high']:.{digits}f}]"
                if row["seeds"] > 1:
                    text += f"; seeds {row['lowest_seed']:.{digits}f} to {row['highest_seed']:.{digits}f}"
                cells.append(text)
                cells.append(
                    f"{row['change']:+.{digits}f} [{row['change_low']:+.{digits}f}, {row['change_high']:+.{digits}f}], "
                    f"{row['p_wilcoxon']:.2g}"
                    + (f"; by seed {row['change_by_seed']}" if row["seeds"] > 1 else "")
                    + ("" if row["against"] == previous else f" (against {row['against']})")
                    if "change" in row
                    else "–"
                )
            parts.append("| " + " | ".join(cells) + " |")
        parts.append("")
    parts += [f"**CT shifted by {SHIFT_MM:g} mm to the front and to the left**", ""]
    parts += ["| step | " + " | ".join(f"change of {name} (95 %), p" for name, _ in METRICS.values()) + " |"]
    parts += ["|---|" + "---|" * len(METRICS)]
    changes: dict[str, dict[str, np.ndarray]] = {}
    for rung in (rung for rung, shift in scores if shift):
        cells = [words[rung]]
        changes[rung] = {}
        for metric, (_, digits) in METRICS.items():
            moved = means(scores[rung, SHIFT_MM][metric], patients, seeds[rung])
            still = means(scores[rung, 0.0][metric], patients, seeds[rung])
            changes[rung][metric] = moved - still
            cells.append(_change(compared(moved, still), digits))
        parts.append("| " + " | ".join(cells) + " |")
    if {"resenc", "misalign"} <= set(changes):
        cells = ["misalignment minus without"]
        for metric, (_, digits) in METRICS.items():
            cells.append(_change(compared(changes["misalign"][metric], changes["resenc"][metric]), digits))
        parts.append("| " + " | ".join(cells) + " |")
    return "\n".join(parts) + "\n"


def _change(found: Comparison, digits: int) -> str:
    return f"{found.difference:+.{digits}f} [{found.low:+.{digits}f}, {found.high:+.{digits}f}], {found.p:.2g}"


def picture(rows: Sequence[Mapping[str, object]], rungs: Sequence[str], seeds: Mapping[str, list[int]]) -> bytes:
    """Return the three scores along the ladder, seeds in brackets: mean with its interval, extremes of the seeds."""
    figure = new_figure((10.5, 3.6))
    words = {rung.name: rung.words for rung in RUNGS}
    for number, (metric, (name, _)) in enumerate(METRICS.items()):
        axes = figure.add_axes((0.06 + 0.325 * number, 0.33, 0.26, 0.6))
        found = [
            next(r for r in rows if (r["rung"], r["group"], r["metric"]) == (rung, "all", metric)) for rung in rungs
        ]
        x = np.arange(len(rungs))
        mean = np.array([r["mean"] for r in found], dtype=float)
        low, high = (np.array([r[key] for r in found], dtype=float) for key in ("low", "high"))
        axes.errorbar(x, mean, yerr=[mean - low, high - mean], fmt="o-", color="#1f4e79", capsize=3, linewidth=1)
        for key in ("lowest_seed", "highest_seed") if max(map(len, seeds.values())) > 1 else ():
            axes.plot(x, [r[key] for r in found], ".", color="#c0504d", markersize=4)
        axes.set_xticks(
            x,
            [f"{words[rung]} ({', '.join(map(str, seeds[rung]))})" for rung in rungs],
            rotation=35,
            ha="right",
            fontsize=7,
        )
        axes.set_title(name, fontsize=9)
        axes.tick_params(labelsize=7)
        if metric != "dice":
            axes.set_ylim(bottom=0.0)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    return png_bytes(figure)


if __name__ == "__main__":
    main()
