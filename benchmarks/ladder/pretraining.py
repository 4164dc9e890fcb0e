"""Make the start for the ladder's last rungs: multi-dataset pretraining on other patients and tasks.

Usage: python benchmarks/ladder/pretraining.py --cohort COHORT --work WORK [--steps 600]

The PSMA-1007 patients of the cohort (the ladder takes FDG and FAPI-04) become three nnU-Net raw datasets of different
channels and labels: CT alone with ten organs, CT and PET with lesions, low-dose PET alone with eighteen organs. One
body learns all three (`uptake pretrain lesiontracer`). Writes WORK/start/bundle.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from ladder import SPACING_MM, configurations

from uptake.core.anatomy import class_table, classes_of
from uptake.geometry import Volume
from uptake.io.image import read_labels
from uptake.io.write import write_volume
from uptake.methods.lesiontracer import Config
from uptake.workflows.pretrain import pretrain_lesiontracer
from uptake.workflows.training_data import organ_names

TRACER = "PSMA-1007"


def make_datasets(cohort: Path, raw: Path) -> list[Path]:
    """Write the three datasets and return their folders; images are links."""
    records = sorted((cohort / "cases").glob("*.json"))
    cases = [path.stem for path in records if json.loads(path.read_text())["parameters"]["tracer"] == TRACER]
    names = organ_names(cohort / "organ_labels.json")
    plain, low_dose = cohort / "imagesTr", cohort / "imagesTr_dose_0.05"
    wanted = {
        "Dataset001_CTOrgans": ({"CT": (plain, "0000")}, classes_of("lesiontracer")),
        "Dataset002_PETCTLesions": ({"CT": (plain, "0000"), "PET": (plain, "0001")}, None),
        "Dataset003_LowDosePETOrgans": ({"PET": (low_dose, "0001")}, classes_of("ldos")),
    }
    folders = []
    for name, (channels, organs) in wanted.items():
        folder = raw / name
        (folder / "imagesTr").mkdir(parents=True, exist_ok=True)
        (folder / "labelsTr").mkdir(exist_ok=True)
        for case in cases:
            for number, (source, suffix) in enumerate(channels.values()):
                link = folder / "imagesTr" / f"{case}_{number:04d}.nii.gz"
                if not link.exists():
                    link.symlink_to((source / f"{case}_{suffix}.nii.gz").resolve())
            target = folder / "labelsTr" / f"{case}.nii.gz"
            if target.exists():
                continue
            if organs is None:
                target.symlink_to((cohort / "labelsTr" / f"{case}.nii.gz").resolve())
            else:
                given, _ = read_labels(cohort / "organsTr" / f"{case}.nii.gz")
                table = class_table(names, organs)
                write_volume(Volume(table[np.asarray(given.array)], given.affine), target)
        labels = ("background", "lesion") if organs is None else organs
        content = {
            "channel_names": dict(enumerate(channels)),
            "labels": {label: number for number, label in enumerate(labels)},
            "numTraining": len(cases),
            "file_ending": ".nii.gz",
        }
        (folder / "dataset.json").write_text(json.dumps(content, indent=1))
        folders.append(folder)
    return folders


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cohort", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=600)
    args = parser.parse_args()
    body = configurations(args.steps, 0)["resenc"]
    config = replace(
        Config.pretraining_small(),
        preset="ladder, pretraining",
        spacing_mm=SPACING_MM,
        window=body.window,
        features=body.features,
        blocks=body.blocks,
        decoder_convs=body.decoder_convs,
        batch_size=3,
        steps=args.steps,
        epoch_steps=50,
    )
    result = pretrain_lesiontracer(
        make_datasets(args.cohort, args.work / "raw"),
        args.work / "start",
        config=config,
        name="ladder-start",
        device="cpu",
        on_epoch=lambda report: print(
            f"step {report.step} loss {report.row['train_loss_per_sample']:+.3f} {report.row['seconds']:.0f} s",
            flush=True,
        ),
    )
    print(result)


if __name__ == "__main__":
    main()
