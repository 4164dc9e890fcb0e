"""How often do nominal 95 % bootstrap intervals of a mean cover the truth? By method, kind of score and patients.

Usage: python benchmarks/coverage.py

Writes ``coverage.md`` beside this file. 4,000 simulated cohorts per cell, 2,000 draws each; about three minutes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from uptake.evaluation.intervals import mean_interval
from uptake.io.write import write_text

COHORTS = 4000
PATIENTS = (10, 20, 30, 50, 100, 200)
METHODS = ("percentile", "bca", "studentised")


def normal(rng, patients):
    return rng.normal(0.6, 0.2, patients), None, 0.6


def like_dice(rng, patients):
    good, bad = rng.beta(8, 2, patients), rng.beta(1, 4, patients)
    return np.where(rng.random(patients) < 0.15, bad, good), None, 0.85 * 0.8 + 0.15 * 0.2


def like_volumes(rng, patients):
    volumes = rng.lognormal(0, 1, patients)
    return np.where(rng.random(patients) < 0.3, 0.0, volumes), None, 0.7 * np.exp(0.5)


def several_scans(rng, patients):
    owners = np.repeat(np.arange(patients), rng.integers(1, 4, patients))
    return 0.7 * rng.beta(6, 2, patients)[owners] + 0.3 * rng.beta(6, 2, len(owners)), owners, 0.75


KINDS = {
    "normal": normal,
    "like Dice (skewed, 0 to 1)": like_dice,
    "like volumes (long tail, many zeros)": like_volumes,
    "one to three scans a patient": several_scans,
}


def main() -> None:
    lines = [
        f"Share of {COHORTS:,} simulated cohorts whose nominal 95 % interval of the mean holds the truth, in per cent.",
        "",
        "| scores | method | " + " | ".join(f"{n} patients" for n in PATIENTS) + " |",
        "|---|---|" + "---:|" * len(PATIENTS),
    ]
    for kind, scores in KINDS.items():
        for method in METHODS:
            cells = []
            for patients in PATIENTS:
                rng = np.random.default_rng(5)
                covered = 0
                for _ in range(COHORTS):
                    values, owners, truth = scores(rng, patients)
                    found = mean_interval(values, owners, method=method, draws=2000)
                    covered += found.low <= truth <= found.high
                cells.append(f"{100 * covered / COHORTS:.1f}")
            lines.append(f"| {kind} | {method} | " + " | ".join(cells) + " |")
            print(lines[-1], flush=True)
    write_text("\n".join(lines) + "\n", Path(__file__).parent / "coverage.md")


if __name__ == "__main__":
    main()
