"""Time segmentation in memory: `uptake` against nnU-Net's predictor on an equal network, STS crop and whole body.

Usage: python benchmarks/inference.py --data ../shared/data --bundle sts-lesion-small [--nnunet /tmp/nnunet] [--flips 8]

Both predict from arrays already read, on the same threads, with the same window, step 0.5 and the same flips; times are
from raw image to a mask on the scan's grid (resampling there and back included). A network is compiled once for all
cases of a cohort: the first case of a bundle, which pays for it, is timed apart. The gate is off. The whole-body scan
has no CT: nnU-Net gets a channel of air, `uptake` the absent channel it was trained with.
nnU-Net: the fold-0 network of nnunet_cv.py.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import time
from pathlib import Path

import numpy as np
import torch

import uptake
from uptake.cases import Case


def ours(case: Case, bundle: object, precision: str, flips: int) -> float:
    began = time.perf_counter()
    uptake.segment(
        case,
        model=bundle,
        settings=uptake.SegmentSettings(mirror=flips > 1, precision=precision),
        device="cpu",
        gate=False,
    )
    return time.perf_counter() - began


def nnunet_predictor(work: Path, flips: int) -> object:
    for name in ("raw", "preprocessed", "results"):
        os.environ[f"nnUNet_{name}"] = str(work / name)
    os.environ["nnUNet_compile"] = "f"
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    predictor = nnUNetPredictor(
        use_mirroring=flips > 1, perform_everything_on_device=False, device=torch.device("cpu"), allow_tqdm=False
    )
    (folder,) = (work / "results" / "Dataset501_STS").glob("*__3d_fullres")
    predictor.initialize_from_trained_model_folder(str(folder), use_folds=(0,), checkpoint_name="checkpoint_final.pth")
    return predictor


def theirs(case: Case, predictor: object) -> float:
    from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape

    pet = case.pet.array.transpose(2, 1, 0)
    ct = np.full_like(pet, -1024.0) if case.ct is None else case.ct.array.transpose(2, 1, 0)
    properties = {
        "spacing": [float(v) for v in case.pet.spacing_mm[::-1]],
        "sitk_stuff": {"spacing": case.pet.spacing_mm, "origin": (0, 0, 0), "direction": np.eye(3).ravel().tolist()},
    }
    began = time.perf_counter()
    preprocessor = predictor.configuration_manager.preprocessor_class(verbose=False)
    data, _, properties = preprocessor.run_case_npy(
        np.stack([ct, pet]).astype(np.float32),
        None,
        properties,
        predictor.plans_manager,
        predictor.configuration_manager,
        predictor.dataset_json,
    )
    logits = predictor.predict_logits_from_preprocessed_data(torch.as_tensor(np.asarray(data))).cpu()
    convert_predicted_logits_to_segmentation_with_correct_shape(
        logits,
        predictor.plans_manager,
        predictor.configuration_manager,
        predictor.plans_manager.get_label_manager(predictor.dataset_json),
        properties,
    )
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--bundle", default="sts-lesion-small")
    parser.add_argument("--nnunet", type=Path)
    parser.add_argument("--flips", type=int, choices=(1, 8), default=8)
    parser.add_argument("--crop-only", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    bundle = uptake.load_bundle(args.bundle)
    crop = uptake.read(args.data / "sts" / "STS_001", labels=False)
    body = uptake.read(args.data / "wholebody" / "STS_001", labels=False)
    predictor = nnunet_predictor(args.nnunet, args.flips) if args.nnunet else None
    for precision in ("auto", "float32"):
        print(f"first case of a bundle, {precision}: {ours(crop, bundle, precision, args.flips):.2f} s", flush=True)
    found: dict[str, dict[str, list[float]]] = {}
    scans = (("sts crop", crop, args.rounds), ("whole body", body, max(1, args.rounds - 2)))
    for name, case, rounds in scans[: 1 if args.crop_only else 2]:
        times: dict[str, list[float]] = {"uptake (auto)": [], "uptake (float32)": [], "nnU-Net": []}
        for _ in range(rounds):  # interleaved, so that whatever else the machine does hits all alike
            times["uptake (auto)"].append(ours(case, bundle, "auto", args.flips))
            times["uptake (float32)"].append(ours(case, bundle, "float32", args.flips))
            if predictor is not None:
                times["nnU-Net"].append(theirs(case, predictor))
        found[name] = {key: [round(t, 2) for t in value] for key, value in times.items() if value}
        print(name, json.dumps(found[name]), flush=True)
        best = {key: min(value) for key, value in found[name].items()}
        if "nnU-Net" in best:
            print({key: f"{best['nnU-Net'] / value:.2f} times as fast as nnU-Net" for key, value in best.items()})
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{torch.get_num_threads()} threads, flips {args.flips}; peak memory of the whole process {peak:.0f} MiB")


if __name__ == "__main__":
    main()
