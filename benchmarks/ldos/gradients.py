"""What does the denoising loss send into the shared encoder? Its gradient against that of the organs.

Usage: python benchmarks/ldos/gradients.py --work WORK

WORK is that of `race.py` (its prepared pairs, and its runs where there are any). For each form of the denoised image,
for a fresh network and trained ones, means of eight batches: the ratio of the norms of the two gradients in the encoder
(denoising over organs), their cosine, and the two losses. Writes ``gradients.csv`` beside this file.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from race import CONFIG, SPACING_MM, load, split

from uptake.io.write import write_csv
from uptake.methods import ldos
from uptake.networks.denoise_segment_net import OUTPUTS
from uptake.networks.unet import load_unique_state
from uptake.sampling.dose_pairs import PairBatch, PairBatches
from uptake.sampling.store import training_case
from uptake.training import checkpoint
from uptake.training.joint_losses import denoising_loss, organ_loss

HERE = Path(__file__).parent
BATCHES, CASES = 8, 12
RUNS = {"window": "ldos_0", "residual": "ldos-residual_0"}
"""Output -> the run of `race.py` that was trained with it."""


def measured(network: Any, batch: PairBatch) -> tuple[float, float, float, float]:
    """Return norm ratio, cosine, denoising loss and organ loss of one batch."""
    logits, images = network(batch.channels, denoise=True)
    assert batch.target is not None
    losses = (denoising_loss(images, batch.target), organ_loss(logits, batch.labels[:, 0]))
    weights = list(network.encoder.parameters())
    clean, organs = (
        torch.cat([g.flatten() for g in torch.autograd.grad(loss, weights, retain_graph=True)]) for loss in losses
    )
    cosine = torch.nn.functional.cosine_similarity(clean, organs, dim=0)
    return float(clean.norm() / organs.norm()), float(cosine), losses[0].item(), losses[1].item()


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    work = parser.parse_args().work
    torch.set_num_threads(1)
    cases = [training_case(load(path, "low")) for path in split(work)[0][:CASES]]
    source = PairBatches(cases, CONFIG.pair_rules(SPACING_MM))
    batches = [source.finished(source.cut(n), torch.device("cpu")) for n in range(BATCHES)]
    rows = []
    for output in OUTPUTS:
        network = ldos.build_network(replace(CONFIG, output=output))
        states = {"fresh": None}
        trained = work / RUNS.get(output, "none") / "last.ckpt"
        if trained.exists():
            found = checkpoint.load(trained)
            states[f"after {found.step} steps"] = found.network
        for name, state in states.items():
            if state is not None:
                load_unique_state(network, state)
            mean = np.mean([measured(network, batch) for batch in batches], axis=0)
            columns = ("norm_ratio", "cosine", "denoising_loss", "organ_loss")
            rows.append({"output": output, "network": name, **{c: f"{v:.4g}" for c, v in zip(columns, mean)}})
            print(rows[-1], flush=True)
    write_csv(rows, HERE / "gradients.csv", columns=list(rows[0]))


if __name__ == "__main__":
    main()
