"""Score the checkpoints of cross_validate.py again with today's inference code (windows over the body, OpenVINO).

Usage: python benchmarks/sts/rescore.py --data ../shared/data/sts --work /tmp/sts
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch

import uptake
from uptake.evaluation.overlap import dice
from uptake.harmonise.onto import harmonise
from uptake.harmonise.plan import fingerprint, plan_from
from uptake.harmonise.restore import restore
from uptake.methods import lesiontracer
from uptake.networks.unet import load_unique_state
from uptake.training import checkpoint


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="work folder of cross_validate.py")
    args = parser.parse_args()
    config = lesiontracer.Config.small()
    schemes = dict(zip(config.channels, config.normalisation, strict=True))
    cases = {path.name: uptake.read(path) for path in sorted(args.data.iterdir()) if path.is_dir()}
    scores = []
    for number, fold in enumerate(json.loads((Path(__file__).parent / "splits.json").read_text())):
        plan = plan_from(fingerprint(cases[name] for name in sorted(fold["train"])), schemes=schemes)
        network = lesiontracer.build_network(config)
        load_unique_state(network, checkpoint.load(args.work / f"fold_{number}" / "last.ckpt").network)
        for name in fold["val"]:
            harmonised, trace = harmonise(cases[name], plan)
            found = lesiontracer.predict([network], harmonised, config, dtype=torch.bfloat16, engine="openvino")
            mask = restore(found, trace).labels.array > 0
            scores.append(dice(mask, cases[name].lesions.array > 0))
        print(f"after fold {number}: mean Dice {np.mean(scores):.4f} over {len(scores)} patients", flush=True)


if __name__ == "__main__":
    main()
