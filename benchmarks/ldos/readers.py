"""How much of the full dose does a denoised image give back? The full-dose network reads other images.

Usage: python benchmarks/ldos/readers.py --work WORK

WORK is that of `race.py` with finished runs. For each seed the network trained on full doses (FDPET) finds the organs
of the held-out patients in the full-dose image, in the low-dose image, and in what LDOS of the same seed made of it.
Beside them stand what LDOS and LDPET find in the low-dose image themselves. Writes ``readers.csv`` beside this file.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from race import images
from scipy.ndimage import uniform_filter

from uptake.cases import HarmonisedCase, Scale
from uptake.harmonise.normalise import scaled
from uptake.io.write import write_csv
from uptake.methods import ldos
from uptake.methods.ldos import Config
from uptake.networks.unet import load_unique_state
from uptake.sampling.dose_pairs import BODY_SUV
from uptake.training import checkpoint

HERE = Path(__file__).parent


def case_of(name: str, image: np.ndarray, full: np.ndarray) -> HarmonisedCase:
    """Return an image as a network's input, normalised by itself, with the body of the full dose."""
    scale = Scale(float(image.mean()), float(image.std()))
    return HarmonisedCase(name, scaled(image, scale)[None], None, uniform_filter(full, 3) > BODY_SUV, scales=(scale,))


def mean_dice(found: np.ndarray, labels: np.ndarray, organs: int) -> float:
    """Return the mean Dice over the organs that either has."""
    pairs = [(found == number, labels == number) for number in range(1, organs + 1)]
    return float(np.mean([2 * (a & b).sum() / (a.sum() + b.sum()) for a, b in pairs if a.any() or b.any()]))


def trained(folder: Path) -> tuple[Any, Config, list[dict[str, Any]]]:
    """Return the network of a finished run, its settings and its scores."""
    kept = json.loads((folder / "rows.json").read_text())
    config = Config.from_json(kept["config"])
    network = ldos.build_network(config)
    load_unique_state(network, checkpoint.load(folder / "last.ckpt").network)
    return network.eval(), config, kept["rows"]


def own_scores(folder: Path, organs: tuple[str, ...]) -> dict[str, float]:
    """Return the mean Dice of every patient in a finished run."""
    rows = json.loads((folder / "rows.json").read_text())["rows"]
    return {row["case"]: float(np.mean([row[organ] for organ in organs if row[organ] != ""])) for row in rows}


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    work = parser.parse_args().work
    torch.set_num_threads(1)
    rows = []
    for folder in sorted(work.glob("fdpet_[0-9]")):
        seed = folder.name.rpartition("_")[2]
        if not (work / f"ldos_{seed}" / "rows.json").exists():
            continue
        network, config, scores = trained(folder)
        own = {arm: own_scores(work / f"{arm}_{seed}", config.labels[1:]) for arm in ("ldos", "ldpet")}
        for name in [row["case"] for row in scores]:
            path = work / "cases" / f"{name}.npz"
            low, full = images(path)
            denoised = np.load(work / f"ldos_{seed}" / f"{name}.npz")["suv"].astype(np.float32)
            row: dict[str, Any] = {"seed": seed, "case": name}
            row |= {arm: round(scores_of[name], 5) for arm, scores_of in own.items()}
            for kind, image in (("full", full), ("low", low), ("denoised", denoised)):
                prediction = ldos.predict([network], case_of(name, image, full), config, dtype=torch.bfloat16)
                dice = mean_dice(prediction.logits.argmax(0), np.load(path)["labels"], len(config.labels) - 1)
                row[f"fdpet_reads_{kind}"] = round(dice, 5)
            rows.append(row)
        columns = [key for key in rows[-1] if key not in ("seed", "case")]
        print(seed, {key: round(float(np.mean([r[key] for r in rows if r["seed"] == seed])), 4) for key in columns})
    write_csv(rows, HERE / "readers.csv", columns=list(rows[0]))


if __name__ == "__main__":
    main()
