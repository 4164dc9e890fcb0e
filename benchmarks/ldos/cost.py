"""What do organs cost with the denoising decoder dropped? CPU time of one window against the baseline's.

Usage: python benchmarks/ldos/cost.py [--rounds 15]

One window of the small preset (64 x 32 x 48), one thread, float32, contestants in turn within each round; medians of
CPU time (`time.process_time`, so that other work on the machine does not count). Writes ``cost.csv`` beside this file.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from uptake.io.write import write_csv
from uptake.methods.ldos import Config, build_network
from uptake.networks.denoise_segment_net import Finest, without_denoiser
from uptake.networks.unet import load_unique_state, unique_state

HERE = Path(__file__).parent


def main() -> None:
    """Time the three, write and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    config = Config.small()
    joint, baseline = build_network(config).eval(), build_network(config.comparator("ldpet")).eval()
    load_unique_state(baseline, without_denoiser(unique_state(joint)))
    contestants = {
        "baseline (LDPET), organs": Finest(baseline, labels=True, denoised=False),
        "LDOS, organs": Finest(joint, labels=True, denoised=False),
        "LDOS, organs and image": Finest(joint, labels=True, denoised=True),
    }
    window = torch.randn(1, 1, *config.window, generator=torch.Generator().manual_seed(0))
    spent: dict[str, list[float]] = {name: [] for name in contestants}
    with torch.inference_mode():
        logits = [network(window)[:, : len(config.labels)] for network in contestants.values()]
        assert torch.equal(logits[0], logits[1]) and torch.equal(logits[0], logits[2])
        for _ in range(rounds):
            for name, network in contestants.items():
                began = time.process_time()
                network(window)
                spent[name].append(time.process_time() - began)
    first = float(np.median(next(iter(spent.values()))))
    rows = [
        {
            "contestant": name, "rounds": rounds, "cpu_seconds": f"{np.median(times):.4f}",
            "times_baseline": f"{np.median(times) / first:.3f}",
            "low": f"{np.percentile(times, 25) / first:.3f}", "high": f"{np.percentile(times, 75) / first:.3f}",
        }
        for name, times in spent.items()
    ]  # fmt: skip
    write_csv(rows, HERE / "cost.csv", columns=list(rows[0]))
    for row in rows:
        print(row)


if __name__ == "__main__":
    main()
