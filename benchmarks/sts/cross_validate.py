"""Cross-validate LesionTracer on the 41 public soft-tissue sarcoma patients, then train on all.

Usage:
    python benchmarks/sts/cross_validate.py --data ../shared/data/sts --work /tmp/sts               (five folds)
    python benchmarks/sts/cross_validate.py --data ../shared/data/sts --work /tmp/sts_all --all     (the shipped bundle)
    python benchmarks/sts/cross_validate.py --preset best --steps 500 --data ... --work ...         (beside `small`)
    python benchmarks/sts/cross_validate.py --preset best --without pet-scale ...                   (one departure less)

Five folds by patient (``splits.json``), each planned, normalised and trained without its held-out patients; scores on
whole scans on their own grid, all eight flips averaged. A stopped run goes on when the same command is given again.
Copies the per-case table of `small` to ``uptake_cases.csv`` beside this file; `best_table.py` gathers the others.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from uptake.core.types import Shape3, Vector3
from uptake.methods.lesiontracer import DEPARTURES, Config
from uptake.training.protocol import EpochReport
from uptake.workflows.train import About, train

HERE = Path(__file__).parent

ABOUT = About(
    name="sts-lesion-small",
    summary="soft-tissue sarcoma on cropped FDG PET/CT of limbs, real patients",
    data=(
        "41 patients of the TCIA Soft-tissue-Sarcoma collection (FDG PET/CT, GE Discovery ST, one site), cropped to "
        "5 cm around the tumour, as distributed by the IBSI validation data set; doi:10.7937/K9/TCIA.2015.7GO2GSKS"
    ),
    data_licence="CC BY 3.0",
    weights_licence="CC BY 4.0",
    limits=(
        "Trained on crops that end 5 cm from a tumour: it has never seen a brain, a heart or most of a bladder, and "
        "marks them as lesions on whole-body scans.",
        "One tumour type (soft-tissue sarcoma of the extremities), one scanner, one lesion in nearly every scan.",
        "The reference is the anatomical tumour drawn on MRI, not the avid part; parts without uptake belong to it.",
        "41 patients: plumbing and small experiments, not a claim about lesion detection.",
    ),
)

SIZE = (
    "spacing_mm", "separate_z", "window", "features", "blocks", "batch_size", "steps", "epoch_steps",
    "validation_batches", "optimiser", "learning_rate", "weight_decay", "schedule",
)  # fmt: skip
"""Fields in which `best` is brought to the size of `small`: network, window, voxels, and an optimiser for few steps."""

UNLABELLED = "organ-ids"
"""The one departure that needs organ maps, which these patients have none of."""


def settings(
    preset: str,
    without: Sequence[str],
    steps: int,
    *,
    window: Shape3 | None = None,
    spacing_mm: Vector3 | None = None,
) -> Config:
    """Return `small`, or `best` at the size of `small` with its departures but those in `without`, for `steps` steps.

    `small` holds the same five departures; low resolution happens to 10 % of its samples, to 25 % of those of `best`.
    Windows and voxels are those of `small` where none are given.
    """
    small = replace(Config.small(), window=window or Config.small().window, spacing_mm=spacing_mm)
    if preset == "small":
        return replace(small, steps=steps)
    best = Config.best(without=(UNLABELLED, *without))
    words = "".join(f", without {name}" for name in without)
    own = {name: getattr(small, name) for name in SIZE} | {"steps": steps, "validation_batches": 0, "organs": ()}
    return replace(best, preset=f"best at the size of small{words}", **own)


def say(fold: str, report: EpochReport) -> None:
    row = report.row
    print(
        f"fold {fold} step {report.step}/{report.steps} loss {row['train_loss']:+.4f} "
        f"held-out windows {row['validation_loss']:+.4f} Dice {row['pseudo_dice']:.3f} {row['seconds']:.0f} s",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--preset", choices=("small", "best"), default="small")
    parser.add_argument("--without", nargs="*", default=[], choices=[n for n in DEPARTURES if n != UNLABELLED])
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--window", type=int, nargs=3, help="z y x voxels; the preset's without it")
    parser.add_argument("--spacing", type=float, nargs=3, help="z y x mm; the median of the training cases without it")
    parser.add_argument("--folds", type=int, nargs="*", default=[0, 1, 2, 3, 4])
    parser.add_argument("--all", action="store_true", help="one model on every patient, as shipped")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    args = parser.parse_args()
    window, spacing_mm = (None if given is None else tuple(given) for given in (args.window, args.spacing))
    config = settings(args.preset, args.without, args.steps, window=window, spacing_mm=spacing_mm)
    about = ABOUT
    summary_file = HERE / "uptake_summary.json"
    if args.all and summary_file.exists():
        measured = json.loads(summary_file.read_text())
        score = {
            "protocol": f"five-fold cross-validation by patient of the same settings at {measured['steps']} steps, "
            "whole crops; this bundle itself was trained on all patients",
            "cases": measured["cases"],
            "metrics": measured["metrics"],
            "table": "benchmarks/sts/uptake_cases.csv",
        }
        about = replace(ABOUT, scores=(score,))
    result = train(
        "lesiontracer",
        args.data,
        args.work,
        config=config,
        about=about,
        folds=["all"] if args.all else args.folds,
        splits=HERE / "splits.json",
        separate_plans=not args.all,
        device=args.device,
        precision=args.precision,
        stored_as="float16",
        on_epoch=say,
    )
    print(json.dumps(result.summary, indent=1))
    if config == Config.small() and not args.all and len(args.folds) == 5:
        shutil.copy(args.work / "cases.csv", HERE / "uptake_cases.csv")
        summary = json.loads((args.work / "summary.json").read_text())
        summary_file.write_text(json.dumps({**summary, "steps": args.steps}, indent=1) + "\n")


if __name__ == "__main__":
    main()
