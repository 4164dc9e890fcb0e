"""Does masked pretraining save labels? Label curves and a five-shot probe, on simulated patients and on real sarcomas.

    python benchmarks/petct_mae/label_curve.py organs   --cohort COHORT --work WORK       (COHORT -> WORK/simulated)
    python benchmarks/petct_mae/label_curve.py pretrain --work WORK --arm joint pet ct
    python benchmarks/petct_mae/label_curve.py curve    --work WORK --arm joint
    python benchmarks/petct_mae/label_curve.py probe    --work WORK
    python benchmarks/petct_mae/label_curve.py sts      --work WORK --data DATA/sts --folds 0 1 2 3 4

COHORT is an nnU-Net raw dataset of `uptake simulate cohort` (several sites and tracers). Its task here is one class of
organs, `ORGANS`: their labels are the costly ones, and a small network learns them in hundreds of steps, where small
lesions take thousands. The sarcomas are lesions, in five folds by patient; each fold is pretrained anew on simulated
patients and the images of its own training patients. Test patients are in no pool. A command that is stopped goes on
when given again. Networks are small and grids coarse: the answer is one for this setting.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from uptake.geometry.volume import Volume
from uptake.io.find import find_cases
from uptake.io.image import read_labels
from uptake.io.write import write_json, write_volume
from uptake.methods.petct_mae import Config
from uptake.sampling.masking import MaskRules
from uptake.training.reconstruction import ReconstructionRules
from uptake.workflows.label_curve import conclude, label_curve
from uptake.workflows.labelled_split import make_split
from uptake.workflows.pretrain_mae import pretrain_petct_mae, read_exclusions
from uptake.workflows.probe import probe
from uptake.workflows.training_data import patient_of

HERE = Path(__file__).parent
RESULTS = HERE / "results"
STS_SPLITS = HERE.parent / "sts" / "splits.json"
ORGANS = ("liver", "spleen", "kidney_left", "kidney_right", "stomach", "pancreas", "heart", "heart_myocardium")
EIGHTH = MaskRules(block=(8, 8, 8))

BASE = replace(
    Config.small(),
    spacing_mm=(8.0, 8.0, 8.0),
    window=(32, 32, 32),
    masks=EIGHTH,
    features=(8, 16, 32, 64),
    blocks=(1, 1, 1, 1),
    steps=2000,
    epoch_steps=250,
    validation_batches=4,
    tile_step=0.75,
)
SARCOMA = replace(BASE, window=(24, 24, 24), steps=1500)
"""The crops are smaller than a body; the network sees 19 cm of them."""
PET, CT = ({"channels": (name,), "normalisation": ("zscore",)} for name in ("pet", "ct"))
ARMS: dict[str, dict[str, Any]] = {
    "joint": {},
    "pet": PET,
    "ct": CT,
    "coupled": {"masks": replace(EIGHTH, coupling="coupled")},
    "ratio75": {"masks": replace(EIGHTH, ratio=0.75)},
    "block4": {"masks": MaskRules(block=(4, 4, 4))},
    "hidden": {"loss": ReconstructionRules(visible=0.0)},
    "l1": {"loss": ReconstructionRules(kind="l1")},
    "long": {"steps": 6000},
}
"""What is changed against `BASE`. pet and ct together are separated pretraining."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=("organs", "pretrain", "curve", "probe", "sts"))
    parser.add_argument("--cohort", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--arm", nargs="+", default=["joint"])
    parser.add_argument("--steps", type=int, default=400, help="of each run of a curve")
    parser.add_argument("--fractions", type=float, nargs="+", default=[0.1, 1.0])
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--whole", type=int, default=2, help="initialisations with all labels, at most")
    parser.add_argument("--folds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--mode", default="full")
    parser.add_argument("--updates", type=int, default=1000, help="of each linear map")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.work.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    stages = {"organs": organs, "pretrain": pretrain, "curve": curve, "probe": probed, "sts": sarcomas}
    stages[options.stage](options)
    print(f"{options.stage}: {time.perf_counter() - began:.0f} s")


def organs(options: argparse.Namespace) -> None:
    """Write the cohort with `ORGANS` as its one class, and its split by patient."""
    source, target = options.cohort.resolve(), options.work / "simulated"
    names = json.loads((source / "organ_labels.json").read_text())
    values = [int(value) for value, name in names.items() if name in ORGANS]
    assert len(values) == len(ORGANS)
    (target / "labelsTr").mkdir(parents=True, exist_ok=True)
    if not (target / "imagesTr").exists():
        (target / "imagesTr").symlink_to(source / "imagesTr", target_is_directory=True)
    content = json.loads((source / "dataset.json").read_text())
    write_json({**content, "name": f"{content['name']}; organs as one class"}, target / "dataset.json")
    for path in sorted((source / "organsTr").glob("*.nii.gz")):
        if not (target / "labelsTr" / path.name).exists():
            found, _ = read_labels(path)
            mask = np.isin(np.asarray(found.array), values).astype(np.uint8)
            write_volume(Volume(mask, found.affine), target / "labelsTr" / path.name)
    parts = make_split({one.id: patient_of(one) for one in find_cases(target)}, seed=0)
    write_json(parts.as_json(), options.work / "split.json")
    print({name: len(ids) for name, ids in parts.as_json().items()})


def pretrained(sources: list[Path], out: Path, work: Path, config: Config, exclude: tuple[str, ...]) -> str:
    """Pretrain, or say where the finished bundle lies."""
    if not (out / "bundle" / "card.json").is_file():
        # What is on the grid depends on the plan alone, so that arms and folds need not bring scans there again.
        shared = work / ("cache_" + "_".join(config.channels))
        shared.mkdir(parents=True, exist_ok=True)
        out.mkdir(exist_ok=True)
        if not (out / "cache").exists():
            (out / "cache").symlink_to(shared.resolve(), target_is_directory=True)
        found = pretrain_petct_mae(
            sources,
            out,
            config=config,
            exclude=exclude,
            device="cpu",
            on_epoch=lambda report: print(report.step, f"explained {report.row['explained']:.3f}", flush=True),
        )
        print(out.name, found, flush=True)
    return str(out / "bundle")


def pretrain(options: argparse.Namespace) -> None:
    exclude = read_exclusions(options.work / "split.json")
    for arm in options.arm:
        config = replace(BASE, **ARMS[arm])
        pretrained([options.work / "simulated"], options.work / f"pretrain_{arm}", options.work, config, exclude)


def tuning(base: Config, options: argparse.Namespace) -> Config:
    return base.for_segmentation(
        steps=options.steps, epoch_steps=max(50, options.steps // 4), validation_batches=4, mode=options.mode
    )


def told(done: int, wanted: int) -> None:
    print(f"run {done} of {wanted}", flush=True)


def curve(options: argparse.Namespace) -> None:
    name = f"curve_{options.steps}" + ("" if options.mode == "full" else f"_{options.mode}")
    found = label_curve(
        options.work / "simulated",
        options.work / name,
        {arm: str(options.work / f"pretrain_{arm}" / "bundle") for arm in options.arm},
        config=tuning(BASE, options),
        fractions=options.fractions,
        draws=options.draws,
        whole_runs=min(options.draws, options.whole),
        split=options.work / "split.json",
        device="cpu",
        on_run=told,
    )
    keep(options.work / name, RESULTS / name)
    report(found)


def sarcomas(options: argparse.Namespace) -> None:
    """Pretrain and draw the curve of each fold, then put the folds together: every patient is tested once."""
    rows: list[Mapping[str, Any]] = []
    plain = f"sts_{options.steps}"
    name = (
        plain + ("" if options.mode == "full" else f"_{options.mode}") + ("" if options.arm == ["joint"] else "_arms")
    )
    patients = {one.id: patient_of(one) for one in find_cases(options.data)}
    for fold in options.folds:
        place = options.work / f"sts_fold_{fold}"
        place.mkdir(parents=True, exist_ok=True)
        parts = make_split(patients, test=json.loads(STS_SPLITS.read_text())[fold]["val"], seed=0)
        write_json(parts.as_json(), place / "split.json")
        sources = [options.work / "simulated", options.data]
        arms = {
            arm: pretrained(sources, place / f"pretrain_{arm}", options.work, replace(SARCOMA, **ARMS[arm]), parts.test)
            for arm in options.arm
        }
        if name != plain:
            # What is done is not done again; from scratch nothing is kept as it is, so that any mode will do.
            (place / name / "runs").mkdir(parents=True, exist_ok=True)
            for part in ("cache", "runs/scratch", *(["runs/joint"] if options.mode == "full" else [])):
                if not (place / name / part).exists():
                    (place / name / part).symlink_to((place / plain / part).resolve(), target_is_directory=True)
        found = label_curve(
            options.data,
            place / name,
            arms,
            config=tuning(SARCOMA, options),
            fractions=options.fractions,
            draws=options.draws,
            whole_runs=min(options.draws, options.whole),
            split=place / "split.json",
            device="cpu",
            on_run=told,
        )
        rows += [{"fold": fold, **row} for row in found.rows]
        (options.work / name).mkdir(exist_ok=True)
        report(conclude(rows, options.work / name))
        keep(options.work / name, RESULTS / name)


def keep(out: Path, place: Path) -> None:
    place.mkdir(parents=True, exist_ok=True)
    for file in ("curve.csv", "pairs.csv", "labels_saved.csv", "scores.csv", "curve.png"):
        shutil.copyfile(out / file, place / file)


def report(found: Any) -> None:
    for one in found.points:
        print(one)
    for pair in found.pairs:
        print(pair.a, pair.a_fraction, "-", pair.b, pair.b_fraction, pair.comparison, pair.equivalence, flush=True)
    for worth in found.worth:
        print(worth, flush=True)


def probed(options: argparse.Namespace) -> None:
    """Fit linear maps on joint features, on those of PET and CT apart, and on both of these side by side."""
    folders = {arm: options.work / f"pretrain_{arm}" / "bundle" for arm in ARMS}
    arms = {"joint": str(folders["joint"]), "separated": f"{folders['pet']}+{folders['ct']}"}
    arms |= {arm: str(folders[arm]) for arm in options.arm if arm not in arms and folders[arm].exists()}
    found = probe(
        options.work / "simulated",
        options.work / f"probe_{options.updates}",
        arms,
        draws=options.draws,
        updates=options.updates,
        split=options.work / "split.json",
        device="cpu",
        on_run=told,
    )
    place = RESULTS / f"probe_{options.updates}"
    place.mkdir(parents=True, exist_ok=True)
    for file in ("scores.csv", "summary.json"):
        shutil.copyfile(options.work / place.name / file, place / file)
    for arm, scores in found.summary.items():
        print(arm, scores["dice"])
    for names, one in found.comparisons.items():
        print(*names, one)


if __name__ == "__main__":
    main()
