"""Cross-validate LesionTracer's `small` preset on the 41 public soft-tissue sarcoma patients, then train on all.

Usage:
    python benchmarks/sts/cross_validate.py --data ../shared/data/sts --work /tmp/sts               (five folds)
    python benchmarks/sts/cross_validate.py --data ../shared/data/sts --work /tmp/sts_all --all     (the shipped bundle)

Five folds by patient (``splits.json``), each planned, normalised and trained without its held-out patients; scores on
whole scans on their own grid, all eight flips averaged. A stopped run goes on when the same command is given again.
Copies the per-case table to ``uptake_cases.csv`` beside this file.
"""

from __future__ import annotations

import argparse
import json
import shutil
from dataclasses import replace
from pathlib import Path

from uptake.methods.lesiontracer import Config
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
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--folds", type=int, nargs="*", default=[0, 1, 2, 3, 4])
    parser.add_argument("--all", action="store_true", help="one model on every patient, as shipped")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    args = parser.parse_args()
    config = replace(Config.small(), steps=args.steps)
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
    if not args.all and len(args.folds) == 5:
        shutil.copy(args.work / "cases.csv", HERE / "uptake_cases.csv")
        summary = json.loads((args.work / "summary.json").read_text())
        summary_file.write_text(json.dumps({**summary, "steps": args.steps}, indent=1) + "\n")


if __name__ == "__main__":
    main()
