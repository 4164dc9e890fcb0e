"""Samples per second of masked pretraining: our batches against MONAI's dataset and transforms, in one run.

    python benchmarks/petct_mae/throughput.py --cohort COHORT --work WORK --cases 8 --setting small published

Both arms start from the same harmonised scans on disk and feed the same network, loss and optimiser, in turn, in one
process with one compute thread. MONAI: PersistentDataset, RandZoomd, SpatialPadd, RandSpatialCropd and DataLoader, as
its tutorials build self-supervised pretraining; with and without a worker process. Ours: windows cut from Blosc2 in a
thread, one batch ahead. "load" is the batches alone, "step" with the network; "waiting" is the share of a step in which
the network waited for its batch. "memory" is the largest resident size of the process, and so an upper bound.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import resource
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from uptake.cases import HarmonisedCase
from uptake.harmonise.onto import harmonise
from uptake.io.find import find_cases
from uptake.io.read import read_case
from uptake.methods import petct_mae
from uptake.methods.petct_mae import Config
from uptake.sampling.masking import MaskedBatch, MaskedWindows, hidden_voxels, imputed
from uptake.sampling.pool import StoredCases, StoredName
from uptake.sampling.store import store
from uptake.training.loop import _Prefetch

RESULTS = Path(__file__).parent / "results"

SETTINGS = {
    "small": Config.small(),
    # The published window, grid and blocks, on the small network: what loading costs does not depend on the network.
    "published": replace(
        Config.published(),
        backbone="resenc_small",
        features=(8, 16, 32, 64),
        checkpointing=False,
        batch_size=2,
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cohort", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--cases", type=int, default=8)
    parser.add_argument("--batches", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--load-only", action="store_true", help="leave the network out")
    parser.add_argument("--setting", nargs="+", default=["small"], choices=list(SETTINGS))
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    for name in options.setting:
        config = SETTINGS[name]
        ours, theirs = prepared(options, name, config)
        for number in range(options.rounds):
            for arm, source in (
                ("uptake", lambda c=config, o=ours: our_batches(o, c)),
                ("MONAI, in the process", lambda c=config, t=theirs: monai_batches(t, c, 0)),
                ("MONAI, one worker", lambda c=config, t=theirs: monai_batches(t, c, 1)),
            ):
                rows.append({"setting": name, "arm": arm, "round": number, **measured(source, config, options)})
                print(rows[-1], flush=True)
    RESULTS.mkdir(exist_ok=True)
    with (RESULTS / "throughput.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    for name in options.setting:
        for stage in ("load_per_s", "load_cpu_s", "step_per_s", "waiting"):
            median = {
                arm: statistics.median(row[stage] for row in rows if row["setting"] == name and row["arm"] == arm)
                for arm in dict.fromkeys(row["arm"] for row in rows)
            }
            print(name, stage, {arm: round(value, 3) for arm, value in median.items()})


def prepared(options: argparse.Namespace, name: str, config: Config) -> tuple[StoredCases, list[dict[str, str]]]:
    """Return the same harmonised scans as both arms want them on disk."""
    place = options.work / name
    plan, names, files = config.plan(), [], []
    for found in find_cases(options.cohort)[: options.cases]:
        array = place / "npy" / f"{found.id}.npy"
        if not array.exists():
            case = read_case(replace(found, lesions=None, organs=None), labels=False)
            harmonised: HarmonisedCase = harmonise(case, plan)[0]
            store(place / "blosc2", replace(harmonised, labels=harmonised.body.astype(np.uint8)), "race")
            array.parent.mkdir(parents=True, exist_ok=True)
            np.save(array, harmonised.channels)
        names.append(StoredName(place / "blosc2", found.id, "race"))
        files.append({"image": str(array)})
    sizes = {"scans": len(names), "shape": np.load(files[0]["image"], mmap_mode="r").shape}
    print(name, json.dumps(sizes))
    return StoredCases(names), files


def our_batches(cases: StoredCases, config: Config) -> Iterator[MaskedBatch]:
    source = MaskedWindows(cases, config.batch_rules(config.spacing_mm), config.masks)
    with _Prefetch(source, start=0, stop=10**6, rank=0) as cuts:
        while True:
            yield source.finished(next(cuts), torch.device("cpu"))


def monai_batches(files: list[dict[str, str]], config: Config, workers: int) -> Iterator[MaskedBatch]:
    from monai.data import DataLoader, PersistentDataset
    from monai.transforms import Compose, LoadImaged, RandSpatialCropd, RandZoomd, SpatialPadd

    window = config.window
    transforms = Compose(
        [
            LoadImaged("image", reader="NumpyReader", channel_dim=0),
            RandZoomd("image", prob=0.5, min_zoom=0.9, max_zoom=1.1, mode="trilinear", keep_size=False),
            SpatialPadd("image", window),
            RandSpatialCropd("image", window, random_size=False),
        ]
    )
    cache = Path(files[0]["image"]).parent.parent / "monai"
    dataset = PersistentDataset(files * 64, transforms, cache_dir=cache)
    loader = DataLoader(dataset, batch_size=config.batch_size, shuffle=True, drop_last=True, num_workers=workers)
    grid = [-(-n // b) for n, b in zip(window, config.masks.block, strict=True)]
    for batch in loader:
        target = batch["image"].as_tensor()
        blocks = torch.rand(*target.shape[:2], *grid) < config.masks.ratio
        hidden = hidden_voxels(blocks, config.masks.block, window)
        yield MaskedBatch(
            imputed(target, hidden), target, hidden, torch.ones(target.shape[0], *window, dtype=torch.bool)
        )


def measured(
    source: Callable[[], Iterator[MaskedBatch]], config: Config, options: argparse.Namespace
) -> dict[str, float]:
    """Return samples per second of loading alone and of whole steps, after two batches that do not count.

    CPU seconds of this process (its threads, not its workers) hold on a busy machine too.
    """
    batches = options.batches
    samples = batches * config.batch_size
    stream = source()
    for _ in range(2):
        next(stream)
    began, began_cpu = time.perf_counter(), time.process_time()
    for _ in range(batches):
        next(stream)
    load = samples / (time.perf_counter() - began)
    cpu = (time.process_time() - began_cpu) / samples
    if options.load_only:
        stream.close()
        return {
            "load_per_s": load,
            "load_cpu_s": cpu,
            "step_per_s": math.nan,
            "waiting": math.nan,
            "memory_gib": memory(),
        }
    network = petct_mae.build_network(config)
    optimizer = petct_mae.build_optimizer(network, config)
    waited, began = 0.0, time.perf_counter()
    for number in range(batches):
        asked = time.perf_counter()
        batch = next(stream)
        waited += time.perf_counter() - asked
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=torch.cpu._is_avx512_bf16_supported()):
            loss = petct_mae.training_step(network, batch, config, number)["loss"]
        loss.backward()
        optimizer.step()
    seconds = time.perf_counter() - began
    stream.close()
    return {
        "load_per_s": load,
        "load_cpu_s": cpu,
        "step_per_s": samples / seconds,
        "waiting": waited / seconds,
        "memory_gib": memory(),
    }


def memory() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2


if __name__ == "__main__":
    main()
