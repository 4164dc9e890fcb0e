"""A real whole body at 5 % of its dose: noise injected, denoised, organs found; timed, measured, drawn.

    python benchmarks/ldos/wholebody.py PET --lesion MASK --model phantom-ldos-small --out OUT

PET is a full-dose scan in SUV. Its twin is made as `uptake simulate lowdose` makes it. There is no organ truth, so no
Dice is claimed: the numbers are noise and uptake against the full dose, organ volumes, seconds. OUT gets wholebody.json
and wholebody.png.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch

from uptake.core.figures import new_figure, png_bytes
from uptake.evaluation.image_quality import image_quality
from uptake.evaluation.site_features import body_mask
from uptake.geometry.volume import Volume
from uptake.io.image import read_labels
from uptake.io.read import read
from uptake.quantification.drawing import panel, scale_bar, show_part, side_letters
from uptake.quantification.suv_metrics import peak_kernel, suv_peak
from uptake.quantification.views import display, outline
from uptake.workflows.bundles import load_bundle
from uptake.workflows.denoise import DenoiseSettings, Denoising, denoise, noise_of
from uptake.workflows.simulate_lowdose import LowDoseSettings, low_doses

DOSE = 0.05
SUV_MAX = 7.0
HEIGHT_IN = 5.4


def main() -> None:
    """Make the twin (once), denoise it, measure, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pet", type=Path)
    parser.add_argument("--lesion", type=Path, default=None)
    parser.add_argument("--model", default="phantom-ldos-small")
    parser.add_argument("--dose", type=float, default=DOSE)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    full = read(pet=options.pet, labels=False)
    twin = options.out / f"twin_{options.dose:g}.npy"
    if not twin.exists():
        (made,) = low_doses(full, LowDoseSettings(doses=(options.dose,)), threads=options.threads).values()
        np.save(twin, made.image.array)
    low = full.pet.with_array(np.load(twin))
    begin, worked = time.perf_counter(), time.process_time()
    bundle = load_bundle(options.model)
    settings = DenoiseSettings(organs=True, dose_fraction=options.dose, tracer="FDG")
    result = denoise(low, model=bundle, settings=settings)
    seconds, cpu = time.perf_counter() - begin, time.process_time() - worked
    lesion = None if options.lesion is None else read_labels(options.lesion)[0]
    record = measured(full.pet, low, result, lesion)
    record |= {
        "model": bundle.card.name, "checksum": bundle.checksum, "dose": options.dose, "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu, 1),
        "threads": options.threads, "voxels": list(low.shape), "engine": result.engine, "precision": result.precision,
        "stages_s": {stage: round(value, 2) for stage, value in result.timings_s.items()},
        "warnings": list(result.warnings),
    }  # fmt: skip
    (options.out / "wholebody.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    (options.out / "wholebody.png").write_bytes(picture(full.pet, low, result))
    print(json.dumps(record, indent=1))


def measured(full: Volume, low: Volume, result: Denoising, lesion: Volume | None) -> dict[str, object]:
    """Return noise, closeness to the full dose, lesion uptake and organ volumes."""
    body = body_mask(full.array, None, full.spacing_mm)
    images = {"full dose": full, "low dose": low, "denoised": result.image}
    rows: dict[str, object] = {}
    for name, image in images.items():
        noise = noise_of(full, image, result.organs, result.organ_names)
        quality = image_quality(image.array, full.array, body=body)
        row = {"noise": noise.after, "place": noise.place, "suv_mean_there": noise.mean_after}
        if image is not full:
            row |= {"psnr_db": quality.psnr_db, "ssim": quality.ssim, "nrmse": quality.nrmse, "bias": quality.bias}
        if lesion is not None:
            voxels = np.argwhere(np.asarray(lesion.array) > 0)
            values = image.array[tuple(voxels.T)]
            row |= {
                "lesion_suv_peak": suv_peak(image.array, voxels, peak_kernel(image.affine)).suv,
                "lesion_suv_max": float(values.max()), "lesion_suv_mean": float(values.mean(dtype=np.float64)),
            }  # fmt: skip
        rows[name] = {key: round(value, 4) if isinstance(value, float) else value for key, value in row.items()}
    assert result.organs is not None
    counts = np.bincount(result.organs.array.ravel(), minlength=len(result.organ_names) + 1)
    volumes = {name: round(float(counts[n]) * full.voxel_volume_ml, 1) for n, name in result.organ_names.items()}
    return {"images": rows, "organ_volume_ml": volumes}


def picture(full: Volume, low: Volume, result: Denoising) -> bytes:
    """Return projections at full dose, at low dose and denoised, and a coronal slice with the organs found."""
    import matplotlib as mpl

    shown = [("full dose", display(full)), ("5 % of it", display(low)), ("denoised", display(result.image))]
    assert result.organs is not None
    organs = display(result.organs)
    liver = next(number for number, name in result.organ_names.items() if name == "liver")
    where = np.argwhere(organs.volume.array == liver)
    middle = float(where[:, 1].mean()) if len(where) else organs.volume.shape[1] / 2
    at = organs.first_mm[1] + middle * organs.volume.spacing_mm[1]
    views = [(f"{title}: MIP", image.projection("coronal")) for title, image in shown]
    views += [(f"{title}: slice", image.cut("coronal", at)) for title, image in shown[1:]]
    views.append(("organs found at 5 %", shown[0][1].cut("coronal", at)))
    frame = views[0][1].extent
    scale = HEIGHT_IN / (frame[3] - frame[2])
    width = scale * (frame[1] - frame[0])
    size = (0.1 + len(views) * (width + 0.08), HEIGHT_IN + 0.42)
    figure = new_figure(size)
    colours = mpl.colormaps["tab20"]
    for number, (title, view) in enumerate(views):
        assert view is not None
        axes = panel(figure, size, (0.08 + number * (width + 0.08), 0.08, width, HEIGHT_IN))
        axes.imshow(view.pixels, cmap="gray_r", vmin=0, vmax=SUV_MAX, extent=view.extent, origin="lower",
                    interpolation="bilinear", aspect="equal")  # fmt: skip
        if number == len(views) - 1:
            labels = organs.cut("coronal", at)
            assert labels is not None
            for organ in (int(n) for n in np.unique(labels.pixels) if n):
                mask = type(labels)(labels.pixels == organ, labels.left, labels.right, labels.low, labels.high)
                axes.contourf(*outline(mask), levels=[0.5, 1.5], colors=[colours(organ % 20)], alpha=0.45)
                axes.contour(*outline(mask), levels=[0.5], colors=[colours(organ % 20)], linewidths=0.9)
        show_part(axes, frame, upside_down=False)
        side_letters(axes, "coronal", "black")
        axes.set_title(title, fontsize=9, color="#333333", pad=4)
    scale_bar(figure.axes[0], "black")
    return png_bytes(figure)


if __name__ == "__main__":
    main()
