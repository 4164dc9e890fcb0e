"""Train nnU-Net 2.8.1 on the STS folds with the network, window, batch and steps of our own run.

What is made equal to ``cross_validate.py``: the folds (``splits.json``), the two input channels (CT on the PET grid,
PET in SUV), the window (40 x 64 x 40 voxels of 5.47 x 3.27 x 5.47 mm, nnU-Net's own plan), the batch (2), the network
(ResidualEncoderUNet, features 16-32-64-128, blocks 1-2-2-2, one convolution per decoder level, deep supervision), the
number of optimiser steps, and the test-time mirroring (all eight flips). What is left to nnU-Net: its normalisation
(both channels named CT, the PET/CT convention), its augmentation, its optimiser (SGD 1e-2, Nesterov 0.99, polynomial
decay), its loss and its sliding window. nnU-Net fingerprints all 41 cases, the held-out ones included.

Usage: python benchmarks/sts/nnunet_cv.py --data ../shared/data/sts --work /tmp/nnunet --steps 1000
Needs: pip install "uptake[bench]"
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent


def make_raw(data: Path, raw: Path) -> list[str]:
    import nibabel as nib
    import numpy as np

    out = raw / "Dataset501_STS"
    (out / "imagesTr").mkdir(parents=True, exist_ok=True)
    (out / "labelsTr").mkdir(exist_ok=True)
    cases = sorted(p.name for p in data.iterdir() if (p / "lesion.nii.gz").exists())
    for case in cases:
        affine = nib.load(data / case / "pet.nii.gz").affine
        for source, target, dtype in (
            ("ct_on_pet", f"imagesTr/{case}_0000", np.float32),
            ("pet", f"imagesTr/{case}_0001", np.float32),
            ("lesion", f"labelsTr/{case}", np.uint8),
        ):
            array = np.asarray(nib.load(data / case / f"{source}.nii.gz").dataobj).astype(dtype)
            nib.save(nib.Nifti1Image(array, affine), out / f"{target}.nii.gz")
    dataset = {
        "channel_names": {"0": "CT", "1": "CT"},
        "labels": {"background": 0, "lesion": 1},
        "numTraining": len(cases),
        "file_ending": ".nii.gz",
    }
    (out / "dataset.json").write_text(json.dumps(dataset, indent=1))
    return cases


def make_plan(pre: Path) -> dict:
    plan_file = pre / "Dataset501_STS" / "nnUNetPlans.json"
    plans = json.loads(plan_file.read_text())
    arch = plans["configurations"]["3d_fullres"]["architecture"]
    arch["network_class_name"] = "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet"
    kwargs = arch["arch_kwargs"]
    kwargs["features_per_stage"] = [16, 32, 64, 128]
    kwargs.pop("n_conv_per_stage", None)
    kwargs["n_blocks_per_stage"] = [1, 2, 2, 2]
    kwargs["n_conv_per_stage_decoder"] = [1, 1, 1]
    plan_file.write_text(json.dumps(plans, indent=1))
    return plans


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--folds", type=int, nargs="*", default=[0, 1, 2, 3, 4])
    args = parser.parse_args()
    work = args.work.resolve()
    for name in ("raw", "preprocessed", "results"):
        os.environ[f"nnUNet_{name}"] = str(work / name)
        (work / name).mkdir(parents=True, exist_ok=True)
    os.environ["nnUNet_n_proc_DA"] = "0"
    os.environ["nnUNet_compile"] = "f"
    make_raw(args.data, work / "raw")
    if not (work / "preprocessed" / "Dataset501_STS" / "nnUNetPlans_3d_fullres").exists():
        command = [str(Path(sys.executable).parent / "nnUNetv2_plan_and_preprocess"), "-d", "501", "-c", "3d_fullres"]
        subprocess.run([*command, "-np", "2"], check=True, stdout=subprocess.DEVNULL)
    plans = make_plan(work / "preprocessed")
    splits = (HERE / "splits.json").read_text()
    (work / "preprocessed" / "Dataset501_STS" / "splits_final.json").write_text(splits)

    import torch
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    dataset = json.loads((work / "raw" / "Dataset501_STS" / "dataset.json").read_text())
    for fold in args.folds:
        torch.manual_seed(fold)
        started = time.time()
        trainer = nnUNetTrainer(
            plans=dict(plans, continue_training=False),
            configuration="3d_fullres",
            fold=fold,
            dataset_json=dataset,
            device=torch.device("cpu"),
        )
        trainer.num_iterations_per_epoch = 50
        trainer.num_val_iterations_per_epoch = 1  # pseudo-Dice only; it steers nothing
        trainer.num_epochs = args.steps // 50
        trainer.run_training()
        trained = time.time()
        trainer.perform_actual_validation(False)
        print(f"fold {fold}: {trained - started:.0f} s training, {time.time() - trained:.0f} s validation", flush=True)


if __name__ == "__main__":
    main()
