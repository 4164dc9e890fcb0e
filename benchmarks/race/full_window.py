"""One window of the published network (ResEnc-L, 102 M parameters) through every engine: time, memory, logits.

    python benchmarks/race/full_window.py --work WORK [--side 128] [--threads 1]

Each engine runs in a process of its own: the first window with all that has to be made ready for it, then one timed
window. Weights are random (norms drawn about 1 and 0, so that no block is the identity), the same for all, and the
logits are held against torch in float32. "openvino" is the network traced by torch, "graph" the one that is written in
OpenVINO's operations from a file of weights, without torch. Rows that are in full_window.csv are not run again.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

ENGINES = tuple(
    (engine, precision) for engine in ("torch", "openvino", "graph") for precision in ("float32", "bfloat16")
)
SHAPE = {"features": (32, 64, 128, 256, 320, 320), "blocks": (1, 3, 4, 6, 6, 6)}
WEIGHTS = "resenc_l.safetensors"
COLUMNS = (
    "side", "engine", "precision", "threads", "ready_s", "wall_s", "cpu_s", "peak_mib", "largest_logit_difference",
    "labels_equal", "load",
)  # fmt: skip


def one(side: int, engine: str, precision: str, out: Path) -> None:
    """Run one engine in this process and write its logits and its times."""
    if engine == "graph":
        graph(side, precision, out)
        return
    import torch

    from uptake.inference.compiled import compiled
    from uptake.networks.unet import unet

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    torch.manual_seed(0)
    network = unet(2, 2, **SHAPE, deep_supervision=False).eval()
    for name, parameter in network.named_parameters():
        if ".norm." in name:
            torch.nn.init.normal_(parameter, 1.0 if name.endswith("weight") else 0.0, 0.2)
    window = torch.from_numpy(image(side))
    dtype = getattr(torch, precision)
    began = time.perf_counter()
    if engine == "openvino":
        predict = compiled(network, channels=2, window=(side,) * 3, smallest=(64,) * 3, dtype=dtype)
    else:
        predict = network
    with torch.inference_mode(), torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
        predict(window)
        ready = time.perf_counter() - began
        wall, cpu = time.perf_counter(), time.process_time()
        logits = predict(window)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    np.save(out, logits.float().numpy())
    tell(ready, wall, cpu)
    weights = out.parent / WEIGHTS
    if not weights.exists():
        from safetensors.torch import save_file

        from uptake.networks.unet import unique_state

        save_file(unique_state(network), weights)


def graph(side: int, precision: str, out: Path) -> None:
    """Run the network that is written in OpenVINO's operations; torch is not loaded."""
    from safetensors.numpy import load_file

    from uptake.inference.compiled import program_of
    from uptake.inference.unet_graph import unet_graph

    arrays = load_file(out.parent / WEIGHTS)
    window = image(side)
    began = time.perf_counter()
    predict = program_of(unet_graph(arrays, 2, 2, window=(side,) * 3, **SHAPE), precision)
    predict(window)
    ready = time.perf_counter() - began
    wall, cpu = time.perf_counter(), time.process_time()
    logits = predict(window)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    np.save(out, logits)
    assert "torch" not in sys.modules
    tell(ready, wall, cpu)


def image(side: int) -> np.ndarray:
    """Return the window that all see."""
    return np.random.default_rng(1).normal(size=(1, 2, side, side, side)).astype(np.float32)


def tell(ready: float, wall: float, cpu: float) -> None:
    """Print the times and the peak of memory, MiB."""
    import resource

    print(ready, wall, cpu, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--one", nargs=2, metavar=("ENGINE", "PRECISION"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    if args.one:
        one(args.side, *args.one, args.work / f"{args.side}_{'_'.join(args.one)}.npy")
        return
    table = args.work / "full_window.csv"
    rows = list(csv.DictReader(table.open(newline=""))) if table.exists() else []
    done = {(row["side"], row["engine"], row["precision"]) for row in rows}
    for engine, precision in ENGINES:
        if (str(args.side), engine, precision) in done:
            continue
        environment = {**os.environ, "OMP_NUM_THREADS": str(args.threads)}
        command = [
            sys.executable,
            __file__,
            "--work",
            str(args.work),
            "--side",
            str(args.side),
            "--one",
            engine,
            precision,
        ]
        load = round(os.getloadavg()[0], 1)
        ran = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
        ready, wall, cpu, peak = (round(float(v), 2) for v in ran.stdout.split())
        found, reference = (
            np.load(args.work / f"{args.side}_{name}.npy", mmap_mode="r")
            for name in (f"{engine}_{precision}", "torch_float32")
        )
        difference = float(np.abs(found - reference).max())
        equal = float((found.argmax(axis=1) == reference.argmax(axis=1)).mean())
        values = (
            args.side,
            engine,
            precision,
            args.threads,
            ready,
            wall,
            cpu,
            round(peak),
            f"{difference:.2g}",
            equal,
            load,
        )
        rows.append(dict(zip(COLUMNS, map(str, values), strict=True)))
        with table.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)
        print(rows[-1], flush=True)


if __name__ == "__main__":
    main()
