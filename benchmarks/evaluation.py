"""Time scores: `uptake` against MedPy, MONAI and the official autoPET loop on one real pair of organ maps, in one run.

Usage: python benchmarks/evaluation.py --data DATA [--scan fdg_36bb0257fc] [--shift 2 -1 1] [--medpy-organs 0]

The prediction is the reference moved by whole voxels. Every tool gets both label maps in memory, as a NIfTI reader
leaves them, and returns Dice, HD95, average surface distance and (MONAI and ours) surface Dice at 2 mm of every organ;
their numbers are compared before their times are. MONAI's time includes the one-hot channels it needs. The memory of
ours is taken in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from uptake.evaluation.detection import false_volumes
from uptake.evaluation.labels import evaluate_labels

SHARED = ("dice", "hd95_mm", "hd95_max_mm", "asd_mm", "surface_dice_2mm_voxels")
TOLERANCE_MM = 2.0
COMPONENTS = 2000


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    found = call()
    return time.perf_counter() - began, found


def ours(prediction: np.ndarray, reference: np.ndarray, spacing: tuple, metrics: tuple, threads: int) -> dict:
    names = {int(label): str(label) for label in np.unique(reference) if label}
    found = evaluate_labels(prediction, reference, spacing, labels=names, metrics=metrics, threads=threads)
    return {int(scores.label): scores.scores for scores in found}


def medpy(prediction: np.ndarray, reference: np.ndarray, spacing: tuple, labels: list[int]) -> dict:
    from medpy.metric import binary

    found = {}
    for label in labels:
        a, b = prediction == label, reference == label
        found[label] = {
            "dice": binary.dc(a, b),
            "hd95_mm": binary.hd95(a, b, voxelspacing=spacing),
            "asd_mm": binary.assd(a, b, voxelspacing=spacing),
        }
    return found


def monai(prediction: np.ndarray, reference: np.ndarray, spacing: tuple, labels: list[int]) -> dict:
    import torch
    from monai import metrics
    from monai.networks import one_hot

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        size = max(labels) + 1
        # One byte per voxel and channel; MONAI's default, single precision, would take four.
        first, second = (
            one_hot(torch.from_numpy(array)[None, None], size, dtype=torch.uint8) for array in (prediction, reference)
        )
        common = {"include_background": False, "spacing": list(spacing)}
        dice = metrics.compute_dice(first, second, include_background=False)[0]
        hd95 = metrics.compute_hausdorff_distance(first, second, percentile=95, **common)[0]
        asd = metrics.compute_average_surface_distance(first, second, symmetric=True, **common)[0]
        nsd = metrics.compute_surface_dice(first, second, [TOLERANCE_MM] * (size - 1), **common)[0]
    return {
        label: {
            "dice": float(dice[label - 1]),
            "hd95_max_mm": float(hd95[label - 1]),
            "asd_mm": float(asd[label - 1]),
            "surface_dice_2mm_voxels": float(nsd[label - 1]),
        }
        for label in labels
    }


def official_loop(mask: np.ndarray, other: np.ndarray, tested: int) -> tuple[float, float, int]:
    """Time the false-volume loop of the official autoPET code: labelling, and the first `tested` components."""
    import cc3d

    labelling, components = timed(lambda: cc3d.connected_components(mask.astype(int), connectivity=18))
    count = int(components.max())

    def loop() -> float:
        total = 0
        for index in range(1, min(count, tested) + 1):
            component = np.isin(components, index)
            if (component * other).sum() == 0:
                total += component.sum()
        return float(total)

    return labelling, timed(loop)[0], count


def noise(reference: np.ndarray, count: int) -> np.ndarray:
    """Return the organ of label 5 with `count` specks of 1 to 27 voxels anywhere else."""
    rng = np.random.default_rng(0)
    mask = reference == 5
    lattice = np.stack(np.meshgrid(*[np.arange(4, n - 4, 8) for n in mask.shape], indexing="ij"), -1).reshape(-1, 3)
    free = [c for c in lattice if not mask[tuple(slice(v - 4, v + 5) for v in c)].any()]
    for at in rng.choice(len(free), count, replace=False):
        size = int(rng.integers(1, 4))
        mask[tuple(slice(v, v + size) for v in free[at])] = True
    return mask


def difference(first: dict, second: dict) -> float:
    """Return the largest difference between two tools, relative above 1, over the scores that both have."""
    pairs = [
        (float(first[label][name]), float(value)) for label, scores in second.items() for name, value in scores.items()
    ]
    return max(abs(a - b) / max(1.0, abs(b)) for a, b in pairs)


def memory(prediction: Path, reference: Path, spacing: tuple, task: str) -> None:
    """Print the peak memory of scoring two maps, with and without them, as JSON: run in a process of its own."""
    # Every library is loaded before the count starts.
    import cc3d  # noqa: F401
    import psutil
    import scipy.ndimage
    import scipy.spatial  # noqa: F401

    evaluate_labels(*np.zeros((2, 4, 4, 4), np.uint8), spacing)
    before = psutil.Process().memory_info().rss
    a, b = np.load(prediction), np.load(reference)
    if task == "organs":
        ours(a, b, spacing, ("overlap", "surface", "surfels"), 1)
    else:
        evaluate_labels(a, b, spacing, metrics=["components", "detection"])
    peak = peak_memory()
    print(json.dumps({"maps": a.nbytes + b.nbytes, "added": peak - before, "peak": peak}))


def peak_memory() -> int:
    """Return the largest memory of this process, bytes. On Linux `ru_maxrss` would hold the parent's memory as well."""
    status = Path("/proc/self/status")
    if status.exists():
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if "VmHWM" in line) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def measured_memory(prediction: np.ndarray, reference: np.ndarray, spacing: tuple, task: str) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / name for name in ("prediction.npy", "reference.npy")]
        for file, array in zip(files, (prediction, reference), strict=True):
            np.save(file, array)
        command = [sys.executable, __file__, "--memory", task, *map(str, files), "--spacing", *map(str, spacing)]
        ran = subprocess.run(command, capture_output=True, text=True, check=True, env=dict(os.environ))
    return json.loads(ran.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with anatomy/autopet_organs")
    parser.add_argument("--scan", default="fdg_36bb0257fc")
    parser.add_argument("--shift", type=int, nargs=3, default=(2, -1, 1), help="voxels")
    parser.add_argument("--repeats", type=int, default=3, help="of the fast ones; the best counts")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--medpy-organs", type=int, default=0, help="time MedPy on so many organs only; 0 is all")
    parser.add_argument(
        "--components-timed", type=int, default=40, help="of the official loop, which is linear in them"
    )
    parser.add_argument("--skip", nargs="*", default=(), choices=("medpy", "monai", "loop", "memory"))
    parser.add_argument("--memory", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--spacing", type=float, nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.memory:
        memory(Path(args.memory[1]), Path(args.memory[2]), tuple(args.spacing), args.memory[0])
        return

    from uptake.io.image import read_labels

    volume = read_labels(args.data / "anatomy" / "autopet_organs" / f"{args.scan}.nii.gz")[0]
    spacing, reference = volume.spacing_mm, np.asarray(volume.array)
    prediction = np.asfortranarray(np.roll(reference, args.shift, (0, 1, 2)))
    labels = [int(label) for label in np.unique(reference) if label]
    print(
        f"{args.scan}: {reference.shape} {reference.dtype}, {len(labels)} organs, moved by {tuple(args.shift)} voxels"
    )

    best = {"same scores": SHARED, "all overlap and surface scores": ("overlap", "surface", "surfels")}
    times: dict[str, float] = {}
    for name, metrics in best.items():
        runs = [
            timed(lambda metrics=metrics: ours(prediction, reference, spacing, metrics, args.threads))
            for _ in range(args.repeats)
        ]
        times[name] = min(run[0] for run in runs)
        scores = runs[0][1]
        print(f"ours, {name}: {times[name]:.3f} s")
    if "monai" not in args.skip:
        seconds, found = min(
            (timed(lambda: monai(prediction, reference, spacing, labels)) for _ in range(2)), key=lambda run: run[0]
        )
        print(f"MONAI, one-hot included: {seconds:.2f} s, {seconds / times['same scores']:.1f} times ours")
        print(f"  largest difference {difference(scores, found):.1e}")
    if "medpy" not in args.skip:
        chosen = labels[: args.medpy_organs or None]
        seconds, found = timed(lambda: medpy(prediction, reference, spacing, chosen))
        whole = seconds * len(labels) / len(chosen)
        print(
            f"MedPy, {len(chosen)} of {len(labels)} organs, without surface Dice: {seconds:.1f} s; "
            f"for all {whole:.0f} s, {whole / times['same scores']:.0f} times ours"
        )
        print(f"  largest difference {difference(scores, found):.1e}")
    specks, organ = noise(reference, COMPONENTS), reference == 5
    runs = [timed(lambda: evaluate_labels(specks, organ, spacing, metrics=["components"])) for _ in range(args.repeats)]
    components = min(run[0] for run in runs)
    volumes = runs[0][1][0].scores
    print(f"ours, false volumes with {volumes['fp_components']} false components: {components:.3f} s")
    check = false_volumes(specks, organ, voxel_ml=volume.voxel_volume_ml)
    assert check["fp_volume_ml"] == volumes["fp_volume_ml"]
    if "loop" not in args.skip:
        labelling, loop, count = official_loop(specks, organ, args.components_timed)
        whole = labelling + loop * count / min(count, args.components_timed)
        print(
            f"official loop, {args.components_timed} of {count} components in {loop:.1f} s, labelling "
            f"{labelling:.2f} s; for all {whole:.0f} s, {whole / components:.0f} times ours"
        )
    if "memory" not in args.skip:
        for task, pair in (
            ("organs", (prediction, reference)),
            ("components", (np.asfortranarray(specks.astype(np.uint8)), np.asfortranarray(organ.astype(np.uint8)))),
        ):
            used = measured_memory(*pair, spacing, task)
            print(
                f"memory, {task}: {used['added'] / 2**20:.0f} MiB with both maps ({used['maps'] / 2**20:.0f} MiB), "
                f"{used['added'] / used['maps']:.2f} times them; whole process {used['peak'] / 2**20:.0f} MiB"
            )


if __name__ == "__main__":
    main()
