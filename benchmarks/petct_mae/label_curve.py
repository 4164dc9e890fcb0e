"""Does masked pretraining save labels? A label curve and a five-shot probe on a simulated multi-site cohort.

    python benchmarks/petct_mae/label_curve.py split    --cohort COHORT --work WORK
    python benchmarks/petct_mae/label_curve.py pretrain --cohort COHORT --work WORK --arm joint pet ct
    python benchmarks/petct_mae/label_curve.py curve    --cohort COHORT --work WORK --arm joint
    python benchmarks/petct_mae/label_curve.py probe    --cohort COHORT --work WORK

COHORT is an nnU-Net raw dataset of `uptake simulate cohort`. A command that is stopped goes on when given again. The
network is small and the grid coarse, so that the answer is one for this setting, and said to be.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from dataclasses import replace
from pathlib import Path

import torch

from uptake.io.find import find_cases
from uptake.methods.petct_mae import Config
from uptake.sampling.masking import MaskRules
from uptake.workflows.label_curve import label_curve
from uptake.workflows.labelled_split import make_split
from uptake.workflows.pretrain_mae import pretrain_petct_mae, read_exclusions
from uptake.workflows.probe import probe
from uptake.workflows.training_data import patient_of

RESULTS = Path(__file__).parent / "results"

BASE = replace(
    Config.small(),
    spacing_mm=(6.0, 6.0, 6.0),
    window=(32, 32, 32),
    masks=MaskRules(block=(8, 8, 8)),
    features=(8, 16, 32),
    blocks=(1, 1, 1),
    steps=600,
    epoch_steps=150,
    validation_batches=4,
)
ARMS = {
    "joint": {},
    "pet": {"channels": ("pet",), "normalisation": ("zscore",)},
    "ct": {"channels": ("ct",), "normalisation": ("zscore",)},
    "coupled": {"masks": MaskRules(block=(8, 8, 8), coupling="coupled")},
    "ratio75": {"masks": MaskRules(block=(8, 8, 8), ratio=0.75)},
}
"""What is changed against `BASE`. pet and ct together are separated pretraining."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=("split", "pretrain", "curve", "probe"))
    parser.add_argument("--cohort", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--arm", nargs="+", default=["joint"])
    parser.add_argument("--steps", type=int, default=200, help="of each run of the curve")
    parser.add_argument("--fractions", type=float, nargs="+", default=[0.1, 1.0])
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--mode", default="full")
    parser.add_argument("--updates", type=int, default=200, help="of each linear map")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.work.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    {"split": split, "pretrain": pretrain, "curve": curve, "probe": probed}[options.stage](options)
    print(f"{options.stage}: {time.perf_counter() - began:.0f} s")


def split(options: argparse.Namespace) -> None:
    patients = {one.id: patient_of(one) for one in find_cases(options.cohort)}
    parts = make_split(patients, seed=0)
    (options.work / "split.json").write_text(json.dumps(parts.as_json(), indent=1))
    print({name: len(ids) for name, ids in parts.as_json().items()})


def pretrain(options: argparse.Namespace) -> None:
    exclude = read_exclusions(options.work / "split.json")
    for arm in options.arm:
        found = pretrain_petct_mae(
            [options.cohort],
            options.work / f"pretrain_{arm}",
            config=replace(BASE, **ARMS[arm]),
            name=f"simulated-{arm}",
            exclude=exclude,
            device="cpu",
            on_epoch=lambda report: print(report.step, f"explained {report.row['explained']:.3f}", flush=True),
        )
        print(arm, found)


def bundle(options: argparse.Namespace, arm: str) -> str:
    return str(options.work / f"pretrain_{arm}" / "bundle")


def curve(options: argparse.Namespace) -> None:
    config = replace(BASE, **ARMS[options.arm[0]]).for_segmentation(
        steps=options.steps, epoch_steps=max(50, options.steps // 4), validation_batches=4, mode=options.mode
    )
    name = f"curve_{options.steps}" + ("" if options.mode == "full" else f"_{options.mode}")
    out = options.work / name
    found = label_curve(
        options.cohort,
        out,
        {arm: bundle(options, arm) for arm in options.arm},
        config=config,
        fractions=options.fractions,
        draws=options.draws,
        split=options.work / "split.json",
        device="cpu",
        on_run=lambda done, wanted: print(f"run {done} of {wanted}", flush=True),
    )
    place = RESULTS / name
    place.mkdir(parents=True, exist_ok=True)
    for file in ("curve.csv", "pairs.csv", "scores.csv", "curve.png"):
        shutil.copyfile(out / file, place / file)
    for one in found.points:
        print(one)
    for pair in found.pairs:
        print(pair.a, pair.a_fraction, "-", pair.b, pair.b_fraction, pair.comparison, pair.equivalence)


def probed(options: argparse.Namespace) -> None:
    arms = {"joint": bundle(options, "joint"), "separated": f"{bundle(options, 'pet')}+{bundle(options, 'ct')}"}
    for name in ("pet", "ct", "coupled"):
        if Path(bundle(options, name)).exists():
            arms[name] = bundle(options, name)
    found = probe(
        options.cohort,
        options.work / "probe",
        arms,
        draws=options.draws,
        updates=options.updates,
        split=options.work / "split.json",
        device="cpu",
        on_run=lambda done, wanted: print(f"run {done} of {wanted}", flush=True),
    )
    place = RESULTS / "probe"
    place.mkdir(parents=True, exist_ok=True)
    for file in ("scores.csv", "summary.json"):
        shutil.copyfile(options.work / "probe" / file, place / file)
    for arm, scores in found.summary.items():
        print(arm, scores["dice"])
    for names, one in found.comparisons.items():
        print(*names, one)


if __name__ == "__main__":
    main()
