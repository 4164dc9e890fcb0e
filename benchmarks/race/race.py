"""Race: `uptake segment` against nnU-Net's predictor, the same weights, files in and files out, on one CPU.

    python benchmarks/race/race.py prepare --work WORK --cohort COHORT --pet DATA/wholebody/STS_001/pet.nii.gz
    python benchmarks/race/race.py run --work WORK --rival-python PYTHON_WITH_NNUNETV2 --rounds 3
    python benchmarks/race/race.py table --work WORK

`prepare` writes two cases, each with its model as an nnU-Net folder and as the bundle that is imported from it:

  phantom  the weights of the shipped phantom-lesion-small (4 mm, windows of 64 x 48 x 48) on a simulated FDG patient of
           COHORT (`uptake simulate cohort` at 4 mm), whose field is widened with air to the 800 mm of a scanner's
           (200 x 200 voxels, as autoPET's 400 x 400 of 2 mm). nnU-Net has no asinh, so both read asinh(SUV).
  finer    a residual encoder of half ResEnc-L's width with random weights, windows of 128, on the real PET STS_001 and
           LesionTracer's grid (3 x 2.04 x 2.04 mm): resampling both ways, and windows so large that none is air. Its
           CT is made of the PET: 40 HU in the largest piece with uptake, -1000 elsewhere.

`run` starts every contestant in a process of its own and writes a row per run to race.csv; rows that are there are not
run again, so it can be stopped and goes on. Contestants take turns within a round, so that whatever else the machine
does hits all alike. nnU-Net runs through `predict_from_files_sequential`, the one of its ways that starts no further
processes. `uptake segment` runs as a user would run it, with tables, pictures and report, but for the input gate, which
nnU-Net has no counterpart of. Wall and CPU seconds are of the whole process; peak memory is its largest resident set.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

COLUMNS = ("model", "flips", "tile_step", "contestant", "round", "wall_s", "cpu_s", "peak_mib", "load")
SETTINGS = (("phantom", 1, 0.5), ("phantom", 1, 0.75), ("phantom", 1, 1.0), ("finer", 1, 0.5))
RIVAL = "nnU-Net 2.8.1, fp32"
OURS = {
    "uptake, fp32": ("float32", "auto"),
    "uptake, bf16": ("bfloat16", "auto"),
    "uptake, fp32, torch": ("float32", "torch"),
}
PATIENT = "sim_04001"
FIELD = 200
"""Voxels of 4 mm across."""

FINER_SPACING = [3.0, 2.0364201068878174, 2.0364201068878174]
FEATURES, BLOCKS = [16, 32, 64, 128, 160, 160], [1, 3, 4, 6, 6, 6]

RIVAL_CODE = """
import sys, torch
torch.set_num_threads(int(sys.argv[5]))
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
model, inputs, out, flips = sys.argv[1:5]
step = float(sys.argv[6])
predictor = nnUNetPredictor(tile_step_size=step, use_mirroring=flips == "8", perform_everything_on_device=False,
                            device=torch.device("cpu"), allow_tqdm=False)
predictor.initialize_from_trained_model_folder(model, use_folds=(0,), checkpoint_name="checkpoint_final.pth")
predictor.predict_from_files_sequential(inputs, out)
"""


def prepare(args: argparse.Namespace) -> None:
    """Write the cases, the model folders and their bundles."""
    import nibabel as nib
    import numpy as np
    from scipy import ndimage

    def write(model: str, hu: Any, suv: Any, affine: Any) -> None:
        images = args.work / model / "images"
        images.mkdir(parents=True, exist_ok=True)
        for number, array in enumerate((hu, suv)):
            nib.save(nib.Nifti1Image(array.astype(np.float32), affine), images / f"whole_000{number}.nii.gz")

    found = [nib.load(args.cohort / "imagesTr" / f"{PATIENT}_000{number}.nii.gz") for number in range(2)]
    ct, pet = (nib.as_closest_canonical(one).slicer[::-1] for one in found)  # LAS, as the model wants it
    missing = [FIELD - n for n in pet.shape[:2]]
    pad = [*((n // 2, n - n // 2) for n in missing), (0, 0)]
    affine = pet.affine.copy()
    affine[:3, 3] -= affine[:3, :3] @ [before for before, _ in pad]
    write(
        "phantom",
        np.pad(ct.get_fdata(dtype=np.float32), pad, constant_values=-1000.0),
        np.arcsinh(np.pad(pet.get_fdata(dtype=np.float32), pad)),
        affine,
    )
    real = nib.load(args.pet)
    suv = real.get_fdata(dtype=np.float32)
    # The noise of the outermost slices is no body: the largest piece after an opening is.
    pieces, _ = ndimage.label(ndimage.binary_opening(ndimage.gaussian_filter(suv, 1.5) > 0.2, iterations=2))
    body = ndimage.binary_closing(pieces == 1 + np.bincount(pieces.ravel())[1:].argmax(), iterations=4)
    write("finer", np.where(body, 40.0, -1000.0), suv, real.affine)
    for name, make in (("phantom", _phantom), ("finer", _finer)):
        folder = args.work / name / "nnunet"
        if not folder.exists():
            make(folder)
        bundle = args.work / name / "bundle"
        command = [sys.executable, "-m", "uptake", "import-weights", str(folder), "-o", str(bundle), "--folds", "0"]
        subprocess.run([*command, "--channels", "ct,pet"], check=True)


def _phantom(folder: Path) -> None:
    """Write the shipped demo model as an nnU-Net folder that reads asinh(SUV)."""
    from uptake.workflows.bundles import load_bundle

    bundle = load_bundle("phantom-lesion-small")
    config = bundle.config
    ct, pet = bundle.plan.channels
    rules = {
        "0": {"percentile_00_5": ct.lower, "percentile_99_5": ct.upper, "mean": ct.mean, "std": ct.std},
        "1": {"percentile_00_5": -9.0, "percentile_99_5": 9.0, "mean": pet.mean, "std": pet.std},  # asinh(SUV) of 4000
    }
    _write_folder(
        folder, bundle.network(), spacing=list(bundle.plan.spacing_mm), window=list(config.window),
        features=list(config.features), blocks=list(config.blocks), rules=rules,
    )  # fmt: skip


def _finer(folder: Path) -> None:
    """Write a residual encoder of half ResEnc-L's width; its lesion is the upper hundredth of noise."""
    import torch

    from uptake.networks.unet import unet

    torch.manual_seed(0)
    network = unet(2, 2, features=FEATURES, blocks=BLOCKS)
    for name, parameter in network.named_parameters():
        if parameter.ndim == 1 and ".norm." in name:
            torch.nn.init.normal_(parameter, 1.0 if name.endswith("weight") else 0.0, 0.3)
    network.decoder.deep_supervision = False
    with torch.inference_mode():
        logits = network.eval()(torch.randn(1, 2, 64, 64, 64))[0]
        network.decoder.seg_layers[-1].bias[1] -= torch.quantile((logits[1] - logits[0]).flatten()[::3], 0.99)
    rules = {
        "0": {"percentile_00_5": -832.06, "percentile_99_5": 1127.76, "mean": 107.73, "std": 286.34},
        "1": {"percentile_00_5": 1.04, "percentile_99_5": 51.21, "mean": 7.06, "std": 7.96},
    }
    _write_folder(
        folder, network, spacing=FINER_SPACING, window=[128] * 3, features=FEATURES, blocks=BLOCKS, rules=rules
    )


def _write_folder(
    folder: Path,
    network: Any,
    *,
    spacing: list[float],
    window: list[int],
    features: list[int],
    blocks: list[int],
    rules: dict[str, dict[str, float]],
) -> None:
    """Write weights as nnU-Net lays them out."""
    import torch

    names = {"0": "CT", "1": "PET"}
    labels = {"background": 0, "lesion": 1}
    dataset = {"channel_names": names, "labels": labels, "numTraining": 1, "file_ending": ".nii.gz"}
    spline = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}
    resampling = "resample_data_or_seg_to_shape"
    stages = len(features)
    arguments = {
        "n_stages": stages, "features_per_stage": features, "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": [[3, 3, 3]] * stages, "strides": [[1, 1, 1], *[[2, 2, 2]] * (stages - 1)],
        "n_blocks_per_stage": blocks, "n_conv_per_stage_decoder": [1] * (stages - 1), "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d", "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "dropout_op": None, "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU", "nonlin_kwargs": {"inplace": True},
    }  # fmt: skip
    configuration = {
        "data_identifier": "nnUNetPlans_3d_fullres", "preprocessor_name": "DefaultPreprocessor", "batch_size": 2,
        "patch_size": window, "median_image_size_in_voxels": [float(2 * n) for n in window], "spacing": spacing,
        "normalization_schemes": ["CTNormalization"] * 2, "use_mask_for_norm": [False] * 2,
        "resampling_fn_data": resampling, "resampling_fn_data_kwargs": spline,
        "resampling_fn_seg": resampling, "resampling_fn_seg_kwargs": {**spline, "is_seg": True, "order": 1},
        "resampling_fn_probabilities": resampling, "resampling_fn_probabilities_kwargs": {**spline, "order": 1},
        "batch_dice": False,
        "architecture": {
            "network_class_name": "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet",
            "arch_kwargs": arguments, "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
    }  # fmt: skip
    unused = {"max": 3000.0, "median": 40.0, "min": -1000.0}
    plans = {
        "dataset_name": "Dataset900_Race", "plans_name": "nnUNetPlans", "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2], "transpose_backward": [0, 1, 2], "label_manager": "LabelManager",
        "experiment_planner_used": "ExperimentPlanner", "original_median_spacing_after_transp": spacing,
        "original_median_shape_after_transp": [2 * n for n in window],
        "foreground_intensity_properties_per_channel": {key: {**unused, **rule} for key, rule in rules.items()},
        "configurations": {"3d_fullres": configuration},
    }  # fmt: skip
    (folder / "fold_0").mkdir(parents=True)
    (folder / "plans.json").write_text(json.dumps(plans))
    (folder / "dataset.json").write_text(json.dumps(dataset))
    init = {"plans": plans, "configuration": "3d_fullres", "fold": 0, "dataset_json": dataset}
    content = {
        "network_weights": network.state_dict(), "init_args": init, "trainer_name": "nnUNetTrainer",
        "inference_allowed_mirroring_axes": (0, 1, 2), "current_epoch": 1,
    }  # fmt: skip
    torch.save(content, folder / "fold_0" / "checkpoint_final.pth")


def run(args: argparse.Namespace) -> None:
    """Run whatever is not in race.csv yet."""
    key = ("model", "flips", "tile_step", "contestant", "round")
    done = {tuple(row[name] for name in key) for row in _rows(args.work)}
    for number in range(args.rounds):
        for model, flips, step in SETTINGS:
            if args.only and not f"{model}-{flips}-{step:g}".startswith(args.only):
                continue
            for contestant in (RIVAL, *OURS):
                if (model, str(flips), f"{step:g}", contestant, str(number)) in done:
                    continue
                given = args.contestant
                if given and not (contestant.endswith(given) or contestant.startswith(f"{given} ")):
                    continue
                _run_one(args, model, flips, step, contestant, number)


def _run_one(args: argparse.Namespace, model: str, flips: int, step: float, contestant: str, number: int) -> None:
    out = _folder(args.work, model, flips, step, contestant)
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    threads = str(args.threads)
    environment = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "nnUNet_compile": "f"}
    environment |= {f"nnUNet_{part}": str(args.work / "nnunet_env") for part in ("raw", "preprocessed", "results")}
    if contestant == RIVAL:
        given = (args.work / model / "nnunet", args.work / model / "images", out, flips, threads, step)
        command = [args.rival_python, "-c", RIVAL_CODE, *map(str, given)]
    else:
        precision, engine = OURS[contestant]
        place = args.work / model
        command = [sys.executable, "-m", "uptake", "segment", str(place / "images"), "-o", str(out)]
        command += ["-m", str(place / "bundle"), "--precision", precision, "--engine", engine, "--device", "cpu"]
        command += ["--mirror" if flips == 8 else "--no-mirror", "--tile-step", f"{step:g}"]
        command += ["--no-gate", "--assume-suv", "-q"]
    load = os.getloadavg()[0]
    began = time.perf_counter()
    with (out / "log.txt").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - began
    if status:
        raise SystemExit(f"{contestant} failed: {(out / 'log.txt').read_text()[-2000:]}")
    setting = {"model": model, "flips": flips, "tile_step": f"{step:g}", "contestant": contestant, "round": number}
    row = setting | {
        "wall_s": round(wall, 2),
        "cpu_s": round(usage.ru_utime + usage.ru_stime, 2),
        "peak_mib": round(usage.ru_maxrss / 1024),
        "load": round(load, 1),
    }
    file = args.work / "race.csv"
    new = not file.exists()
    with file.open("a", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS)
        if new:
            writer.writeheader()
        writer.writerow(row)
    print(json.dumps(row), flush=True)


def _agreement(work: Path, model: str, flips: int, step: float, contestant: str) -> str:
    """Return in words how the last masks of a contestant and of nnU-Net agree."""
    import nibabel as nib
    import numpy as np

    masks = []
    for name in (contestant, RIVAL):
        out = _folder(work, model, flips, step, name)
        file = next(iter(out.glob("whole*.nii.gz")), None) or out / "whole" / "lesions.nii.gz"
        if not file.exists():
            return "–"
        masks.append(np.asarray(nib.load(file).dataobj) > 0)
    one, other = masks
    dice = 2 * np.count_nonzero(one & other) / max(1, np.count_nonzero(one) + np.count_nonzero(other))
    return f"{100 * float((one == other).mean()):.4f} %, Dice {dice:.4f} ({np.count_nonzero(other)} voxels)"


def _folder(work: Path, model: str, flips: int, step: float, contestant: str) -> Path:
    return work / model / f"{contestant.replace(', ', '_').replace(' ', '_')}_{flips}_{step:g}"


def _rows(work: Path) -> list[dict[str, str]]:
    file = work / "race.csv"
    if not file.exists():
        return []
    with file.open(newline="") as stream:
        return list(csv.DictReader(stream))


def table(args: argparse.Namespace) -> None:
    """Print medians and ratios as a Markdown table."""
    rows = _rows(args.work)
    heads = (
        "model",
        "flips",
        "tile step",
        "contestant",
        "runs",
        "wall s",
        "CPU s",
        "peak MiB",
        "times as fast (wall, CPU)",
        "memory",
    )
    print("| " + " | ".join((*heads, "same labels")) + " |")
    print("|---" * (len(heads) + 1) + "|")
    for model, flips, step in SETTINGS:
        rival: dict[str, float] = {}
        for contestant in (RIVAL, *OURS):
            wanted = (model, str(flips), f"{step:g}", contestant)
            mine = [r for r in rows if tuple(r[k] for k in ("model", "flips", "tile_step", "contestant")) == wanted]
            if not mine or not (rival or contestant == RIVAL):
                continue
            median = {key: statistics.median(float(r[key]) for r in mine) for key in ("wall_s", "cpu_s", "peak_mib")}
            rival = rival or median
            wall, cpu, peak = (median[key] for key in ("wall_s", "cpu_s", "peak_mib"))
            cells = (
                *(model, flips, f"{step:g}", contestant, len(mine), f"{wall:.1f}", f"{cpu:.1f}", f"{peak:.0f}"),
                f"{rival['wall_s'] / wall:.2f}, {rival['cpu_s'] / cpu:.2f}",
                f"{peak / rival['peak_mib']:.2f}",
                _agreement(args.work, model, flips, step, contestant),
            )
            print("| " + " | ".join(map(str, cells)) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True)
    for function in (prepare, run, table):
        verb = verbs.add_parser(function.__name__, help=(function.__doc__ or "").splitlines()[0])
        verb.set_defaults(function=function)
        verb.add_argument("--work", type=Path, required=True)
        if function is prepare:
            verb.add_argument("--pet", type=Path, required=True)
            verb.add_argument("--cohort", type=Path, required=True)
        if function is run:
            verb.add_argument("--rival-python", required=True)
            verb.add_argument("--rounds", type=int, default=3)
            verb.add_argument("--threads", type=int, default=1)
            verb.add_argument("--only", help="one setting, such as finer-1-0.5")
            verb.add_argument("--contestant", help="its name, or the last or first words of it")
    args = parser.parse_args()
    args.function(args)


if __name__ == "__main__":
    main()
