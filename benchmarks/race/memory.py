"""What `uptake segment --max-ram-gb` asks for against what the process takes, on the race's simulated patient.

    python benchmarks/race/memory.py --work WORK

WORK is `race.py prepare`'s. The weights of the phantom model stand as three folds, so that networks can be held
together or one after the other. A run that is granted far too little names the least; then that is granted, and a
little and much more. Rows go to memory.csv: what was granted, what the refusal named, how many networks were held at a
time, folds that were run, and the largest resident set of the process as the system counted it.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

COLUMNS = ("engine", "precision", "granted_gb", "named_least_gb", "peak_gb", "networks_at_a_time", "folds", "held")
FOLDS = 3
MORE_GB = (0.0, 0.06, 0.5)
FAR_TOO_LITTLE_GB = 0.05


def bundle_of_folds(work: Path) -> Path:
    """Return the phantom model with its weights as three folds."""
    from uptake.workflows.bundles import load_bundle
    from uptake.zoo.bundle import save_bundle

    folder = work / "phantom" / "bundle_of_folds"
    if not folder.exists():
        one = load_bundle(work / "phantom" / "bundle")
        states = {str(fold): one.states[one.folds[0]] for fold in range(FOLDS)}
        save_bundle(replace(one.card, name="three folds"), states, folder)
    return folder


def one_run(args: argparse.Namespace, bundle: Path, engine: str, granted_gb: float) -> tuple[str, float, dict]:
    """Return the refusal or "", the peak in GB (1e9 bytes) and run.json's ensemble."""
    out = args.work / "phantom" / "memory"
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "uptake", "segment", str(args.work / "phantom" / "images"), "-o", str(out)]
    command += ["-m", str(bundle), "--precision", args.precision, "--engine", engine, "--device", "cpu", "--no-mirror"]
    command += ["--tile-step", "1", "--no-gate", "--assume-suv", "-q", "--max-ram-gb", f"{granted_gb:.2f}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    peak_gb = usage.ru_maxrss * 1024 / 1e9
    if os.waitstatus_to_exitcode(status):
        return said, peak_gb, {}
    run = json.loads((out / "whole" / "run.json").read_text())
    return "", peak_gb, run["settings"]["ensemble"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--precision", default="bfloat16")
    parser.add_argument("--engines", nargs="+", default=["openvino"])
    args = parser.parse_args()
    bundle = bundle_of_folds(args.work)
    rows = []
    for engine in args.engines:
        said, _, _ = one_run(args, bundle, engine, FAR_TOO_LITTLE_GB)
        found = re.search(r"The least is ([\d.]+) GB", said)
        if found is None:
            raise SystemExit(f"no least was named: {said}")
        least = float(found[1])
        for more in MORE_GB:
            said, peak_gb, made = one_run(args, bundle, engine, least + more)
            if said:
                raise SystemExit(said)
            row = {
                "engine": engine, "precision": args.precision, "granted_gb": round(least + more, 2),
                "named_least_gb": least, "peak_gb": round(peak_gb, 3),
                "networks_at_a_time": made["networks_at_a_time"], "folds": len(made["folds"]),
                "held": peak_gb <= least + more,
            }  # fmt: skip
            print(json.dumps(row), flush=True)
            rows.append(row)
    with (args.work / "memory.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
