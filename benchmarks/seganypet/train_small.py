"""Train the shipped promptable bundle: simulated patients and the training folds of the soft-tissue sarcomas.

python benchmarks/seganypet/train_small.py COHORT --sts STS_FOLDER --work WORK [--steps N]

COHORT is an nnU-Net raw folder from `uptake simulate cohort` with organsTr. Held out: its last fifth of patients, and
the fold of the sarcomas that STS_001 is in. Resumes.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import torch

from uptake.io.find import find_cases
from uptake.methods.seganypet import Config
from uptake.sampling.splits import patient_folds
from uptake.workflows.promptable_data import prompt_cases
from uptake.workflows.train import About
from uptake.workflows.train_promptable import train_promptable
from uptake.workflows.training_data import with_organ_maps

ORGANS = (
    "spleen", "kidney_right", "kidney_left", "liver", "stomach", "pancreas", "lung_upper_lobe_left",
    "lung_lower_lobe_left", "lung_upper_lobe_right", "lung_middle_lobe_right", "lung_lower_lobe_right",
    "thyroid_gland", "urinary_bladder", "heart", "aorta", "brain",
)  # fmt: skip
STS_FOLDS, STS_SHOWN = 5, "STS_001"


def organ_names(cohort: Path) -> dict[int, str]:
    """Return label -> name of the organs that are prompted for."""
    table = json.loads((cohort / "organ_labels.json").read_text())
    return {int(value): name for value, name in table.items() if name in ORGANS}


def sts_split(folder: Path):
    """Return training and held-out sarcoma studies; STS_001 is held out."""
    files = find_cases(folder)
    folds = patient_folds([one.id for one in files], folds=STS_FOLDS)
    held = next(fold.validation for fold in folds if STS_SHOWN in fold.validation)
    return [one for one in files if one.id not in held], [one for one in files if one.id in held]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("cohort", type=Path)
    parser.add_argument("--sts", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=Config.small().steps)
    parser.add_argument("--patients", type=int, default=80)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    config = replace(Config.small(), steps=arguments.steps)
    plan, cache = config.plan(), arguments.work / "cache"
    simulated = with_organ_maps(find_cases(arguments.cohort)[: arguments.patients], arguments.cohort / "organsTr")
    cut = len(simulated) * 4 // 5
    train_sts, held_sts = sts_split(arguments.sts)
    options = {"organs": organ_names(arguments.cohort), "min_voxels": 2}
    train = prompt_cases(simulated[:cut], plan, cache, **options) + prompt_cases(train_sts, plan, cache, min_voxels=2)
    held = prompt_cases(simulated[cut:], plan, cache, **options) + prompt_cases(held_sts, plan, cache, min_voxels=2)
    print(len(train), "training cases,", len(held), "held out", flush=True)
    train_promptable(
        train,
        held,
        arguments.work / "run",
        config,
        device="cpu",
        about=About(
            "phantom-prompt-small",
            "clicks, boxes and scribbles to lesions and organs, on PET with or without CT",
            f"{cut} simulated patients (FDG, FAPI-04, PSMA-1007, 8 sites) and {len(train_sts)} patients of the TCIA "
            "Soft-tissue-Sarcoma collection (FDG PET/CT, cropped around the tumour); doi:10.7937/K9/TCIA.2015.7GO2GSKS",
            "Apache-2.0 (simulated); CC BY 3.0 (sarcomas)",
            "CC BY 4.0",
            (
                "Trained mostly on simulated patients, and on real ones with soft-tissue sarcoma only.",
                "Voxels of 4 mm: lesions below about 6 mm are lost, edges are no finer than that.",
                "It answers prompts; it finds nothing by itself.",
            ),
        ),
        on_epoch=lambda report: print(report.step, {k: round(v, 3) for k, v in report.row.items()}, flush=True),
    )


if __name__ == "__main__":
    main()
