"""Does the memory of masked pretraining grow with the pool? Windows from 50, 500 and 5,000 stored cases.

    python benchmarks/petct_mae/pool_memory.py --work WORK

WORK is that of `label_curve.py` after its stage pretrain: the cases in its cache are linked under new names until there
are 5,000. Each pool is read by a process of its own; rows go to results/pool_memory.csv.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

from label_curve import BASE

from uptake.io.write import write_csv
from uptake.sampling.masking import MaskedWindows
from uptake.sampling.pool import StoredCases, StoredName
from uptake.training.devices import make_fabric

RESULTS = Path(__file__).parent / "results"
SIZES = (50, 500, 5000)
BATCHES = 1000
"""Of two windows each, from cases drawn at random: of 50 cases each is opened about 40 times, of 5,000 a third once."""


def linked(source: Path, target: Path, count: int) -> None:
    """Fill `target` with `count` cases whose files are those of the cases in `source`, by hard links."""
    cases = sorted(path for path in source.iterdir() if (path / "stamp.json").is_file())
    for number in range(count):
        place = target / f"case_{number:05d}"
        if not place.exists():
            place.mkdir(parents=True)
            for file in cases[number % len(cases)].iterdir():
                os.link(file, place / file.name)


def measure(folder: Path, size: int) -> None:
    """Cut windows from the first `size` cases and print what it took."""
    names = [f"case_{number:05d}" for number in range(size)]
    pool = StoredCases(
        [StoredName(folder, name, json.loads((folder / name / "stamp.json").read_text())["stamp"]) for name in names]
    )
    windows = MaskedWindows(pool, BASE.batch_rules(BASE.spacing_mm), BASE.masks)
    device = make_fabric("cpu").device
    windows.finished(windows.cut(BATCHES), device)
    before = resource.getrusage(resource.RUSAGE_SELF)
    began = time.process_time()
    for step in range(BATCHES):
        windows.finished(windows.cut(step), device)
    spent, after = time.process_time() - began, resource.getrusage(resource.RUSAGE_SELF)
    row = {
        "cases": size,
        "windows": BATCHES * BASE.batch_size,
        "peak_MiB": round(after.ru_maxrss / 1024, 1),
        "grown_MiB": round((after.ru_maxrss - before.ru_maxrss) / 1024, 1),
        "cpu_ms_per_window": round(1000 * spent / (BATCHES * BASE.batch_size), 2),
    }
    print(json.dumps(row))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--size", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    folder = options.work / "linked"
    if options.size:
        measure(folder, options.size)
        return
    linked(options.work / "cache_pet_ct" / "simulated", folder, max(SIZES))
    rows = []
    for size in SIZES:
        command = [sys.executable, __file__, "--work", str(options.work), "--size", str(size)]
        found = subprocess.run(
            command, check=True, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        rows.append(json.loads(found.stdout.splitlines()[-1]))
        print(rows[-1], flush=True)
    write_csv(rows, RESULTS / "pool_memory.csv", columns=list(rows[0]))


if __name__ == "__main__":
    main()
