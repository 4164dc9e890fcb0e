"""Measure what one simulated patient costs: processor time, wall time and peak memory at 4 and 2 mm.

Usage: python benchmarks/simulation/timing.py [--spacings 4 2] [--recons 2x16 4x20psf] [--threads 2]

Each row is one process of its own, from the import to the last array: truth, CT, breathing, full dose and 5 %, labels.
Writes timing.csv and timing.md beside this file. Wall time means little without the load, which stands beside it.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import resource
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

HERE = Path(__file__).parent
SEED = 20_003
RECONS = {"2x16": (2, 16, 0.0), "3x21psf": (3, 21, 4.5)}
COLUMNS = ("voxel_mm", "recon", "threads", "voxels", "truth_cpu_s", "scan_cpu_s", "cpu_s", "wall_s", "peak_gb", "load")
AIMS = {4.0: "under 15 s on two cores and 2 GB", 2.0: "under two minutes on two cores"}


def measure(spacing: float, recon: str, threads: int) -> dict[str, object]:
    """Simulate one patient in this process and return a row."""
    began, load = time.perf_counter(), os.getloadavg()[0]
    from uptake.simulation import scan_patient, simulate_truth
    from uptake.simulation.osem import Recon
    from uptake.simulation.site import Site

    iterations, subsets, psf = RECONS[recon]
    truth = simulate_truth(SEED, spacing_mm=(spacing,) * 3, n_lesions=8)
    made = time.process_time()
    site = replace(Site(), recon=Recon(iterations, subsets, psf, 5.0))
    scan = scan_patient(truth, site, seed=SEED, fractions=(1.0, 0.05), threads=threads)
    cpu = time.process_time()
    return {
        "voxel_mm": spacing, "recon": recon, "threads": threads, "voxels": "x".join(map(str, scan.ct.shape)),
        "truth_cpu_s": round(made, 1), "scan_cpu_s": round(cpu - made, 1), "cpu_s": round(cpu, 1),
        "wall_s": round(time.perf_counter() - began, 1),
        "peak_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2),
        "load": round((load + os.getloadavg()[0]) / 2, 1),
    }  # fmt: skip


def write(rows: list[dict[str, object]]) -> None:
    with (HERE / "timing.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    text = [
        "# What one simulated patient costs", "",
        "Made by `python benchmarks/simulation/timing.py`, two threads for the projector, one process per row: truth,",
        "CT, breathing, full dose and 5 %, labels. `cpu s` is processor time over both threads, import included; `wall",
        "s` was taken beside other work on two cores (`load` of 2 is a busy machine): idle, it lies between a half and",
        "all of `cpu s`. The aims are " + "; ".join(f"{mm:g} mm: {aim}" for mm, aim in AIMS.items()) + ".", "",
        "| voxel mm | OSEM | voxels | truth, cpu s | scan, cpu s | cpu s | wall s | load | peak GB |",
        "|---|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for row in rows:
        keys = ("voxel_mm", "recon", "voxels", "truth_cpu_s", "scan_cpu_s", "cpu_s", "wall_s", "load", "peak_gb")
        text.append("| " + " | ".join(str(row[key]) for key in keys) + " |")
    (HERE / "timing.md").write_text("\n".join(text) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spacings", nargs="+", type=float, default=[4.0, 2.0])
    parser.add_argument("--recons", nargs="+", choices=list(RECONS), default=list(RECONS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--one", action="store_true", help="measure in this process and print the row")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.spacings[0], options.recons[0], options.threads)))
        return
    path = HERE / "timing.csv"
    rows: list[dict[str, object]] = []
    if path.exists():
        with path.open(encoding="utf-8") as file:
            rows = [dict(row) for row in csv.DictReader(file)]
    for spacing in options.spacings:
        for recon in options.recons:
            command = [sys.executable, __file__, "--one", "--spacings", str(spacing), "--recons", recon]
            done = subprocess.run([*command, "--threads", str(options.threads)], check=True, capture_output=True)
            made = json.loads(done.stdout.decode().splitlines()[-1])
            print(made, flush=True)
            same = {(float(str(row["voxel_mm"])), row["recon"]) for row in rows} & {(spacing, recon)}
            rows = [r for r in rows if (float(str(r["voxel_mm"])), r["recon"]) not in same] + [made]
            rows.sort(key=lambda r: (-float(str(r["voxel_mm"])), str(r["recon"])))
            write(rows)


if __name__ == "__main__":
    main()
