"""What a learned denoiser has to beat: Gaussian and non-local-means filters of equal noise.

A stronger filter always wins on noise and loses on lesions, so a comparison means something at one noise level only:
`of_equal_noise` finds the strength at which the noise in the liver is that of the other image.
Beside it stands `best_strength`, the strength with the highest PSNR on other patients.

    python benchmarks/ldos/filters.py COHORT --out filters.csv   # the filters alone; a stopped run goes on

Non-local means are those of scikit-image (extra "bench"), on the square root of SUV: noise of OSEM images grows with
uptake, and one strength has to serve the whole body.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.ndimage import distance_transform_edt

from uptake.evaluation.image_quality import image_quality
from uptake.io.image import read_image, read_labels
from uptake.simulation.fields import gaussian_blur
from uptake.simulation.reference import fine_part

Array = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Filter = Callable[[Array, tuple[float, float, float], float], Array]
"""(SUV (i, j, k), voxel size in mm, strength) -> SUV."""

LIVER_EDGE_MM = 12.0
"""Nothing closer to the border of the liver counts: spill-over is no noise."""

PATCH_MM, SEARCH_MM = 12.0, 40.0
"""Side of the compared patches, and of the cube that is searched for like ones."""

FEWEST_VOXELS = 30

BISECTIONS = 10

DOSE = "0.05"

LIVER = 5
"""As TotalSegmentator numbers it."""


def gaussian(suv: Array, spacing_mm: tuple[float, float, float], fwhm_mm: float) -> Array:
    """Return the image under a Gaussian of `fwhm_mm`."""
    if fwhm_mm <= 0:
        return suv
    return np.asarray(gaussian_blur(suv, (fwhm_mm,) * 3, spacing_mm), dtype=np.float32)


def non_local_means(suv: Array, spacing_mm: tuple[float, float, float], strength: float) -> Array:
    """Return the image under non-local means; `strength` is the filter parameter h on the scale of sqrt(SUV).

    References
    ----------
    Buades, Coll, Morel, CVPR 2005; skimage.restoration.denoise_nl_means, fast mode.
    """
    from skimage.restoration import denoise_nl_means

    if strength <= 0:
        return suv
    smallest = min(spacing_mm)
    root = np.sqrt(np.maximum(suv, 0.0)).astype(np.float32)
    flat = denoise_nl_means(
        root,
        patch_size=max(3, 2 * round(PATCH_MM / smallest / 2) + 1),
        patch_distance=max(2, round(SEARCH_MM / smallest / 2)),
        h=strength,
        fast_mode=True,
        channel_axis=None,
    )
    # The mean of roots is below the root of the mean, by the variance that was averaged away.
    squared = flat.astype(np.float32) ** 2
    lost = gaussian_blur(np.maximum(suv, 0.0) - squared, (30.0,) * 3, spacing_mm)
    return np.asarray(squared + np.maximum(lost, 0.0), dtype=np.float32)


FILTERS: dict[str, tuple[Filter, tuple[float, ...]]] = {
    "gaussian": (gaussian, (0.0, 2.0, 4.0, 5.0, 6.0, 7.0, 8.0, 10.0, 12.0, 16.0, 24.0)),
    "non-local means": (non_local_means, (0.0, 0.03, 0.05, 0.08, 0.12, 0.16, 0.2, 0.3, 0.45, 0.7)),
}
"""Name -> filter and the strengths that are tried."""


@dataclass(frozen=True)
class Matched:
    """An image filtered to a noise level: the strength, the noise that came out, whether the level was reached."""

    image: Array
    strength: float
    cov: float
    reached: bool


def core_of(liver: Mask, lesions: Mask, spacing_mm: tuple[float, float, float]) -> Mask:
    """Return the liver without its rim and without what lies near a lesion; all of it where nothing would be left."""
    core = np.asarray(distance_transform_edt(liver & ~lesions, sampling=spacing_mm) > LIVER_EDGE_MM)
    return core if core.sum() >= FEWEST_VOXELS else np.asarray(liver, dtype=bool)


def noise_in(image: Array, region: Mask, spacing_mm: tuple[float, float, float]) -> float:
    """Return SD / mean of the noise in a region, the liver core.

    Of what is finer than 20 mm: a breathing liver has slow gradients, which no filter removes and which are no noise.
    """
    fine = fine_part(image, spacing_mm)[region].astype(np.float64)
    return float(fine.std(ddof=1) / image[region].mean(dtype=np.float64))


def of_equal_noise(
    name: str, suv: Array, spacing_mm: tuple[float, float, float], region: Mask, cov: float, *, tolerance: float = 0.02
) -> Matched:
    """Return the image filtered until the noise in a region is `cov`, by bisection between strengths.

    Noise falls as strength grows. Where even the strongest filter leaves more, that one is returned and `reached` is
    False; an image that is quieter already is returned as it is.
    """
    apply, strengths = FILTERS[name]
    best = Matched(suv, 0.0, noise_in(suv, region, spacing_mm), True)
    if best.cov <= cov:
        return best
    low, high = 0.0, 0.0
    for strength in strengths[1:]:
        best = _filtered(apply, suv, spacing_mm, region, strength)
        low, high = high, strength
        if best.cov <= cov:
            break
    else:
        return replace(best, reached=False)
    for _ in range(BISECTIONS):
        if abs(best.cov / cov - 1) <= tolerance:
            break
        middle = (low + high) / 2
        tried = _filtered(apply, suv, spacing_mm, region, middle)
        low, high = (middle, high) if tried.cov > cov else (low, middle)
        if abs(tried.cov / cov - 1) < abs(best.cov / cov - 1):
            best = tried
    return best


def _filtered(
    apply: Filter, suv: Array, spacing_mm: tuple[float, float, float], region: Mask, strength: float
) -> Matched:
    image = apply(suv, spacing_mm, strength)
    return Matched(image, strength, noise_in(image, region, spacing_mm), True)


def best_strength(
    name: str, pairs: Iterable[tuple[Array, Array, Mask]], spacing_mm: tuple[float, float, float]
) -> float:
    """Return the strength with the highest mean PSNR over (low dose, full dose, body) of training patients."""
    apply, strengths = FILTERS[name]
    scores = np.array(
        [
            [image_quality(apply(low, spacing_mm, s), full, body=body).psnr_db for s in strengths]
            for low, full, body in pairs
        ]
    )
    return float(strengths[int(scores.mean(axis=0).argmax())])


def cases_of(cohort: Path, dose: str = DOSE) -> Iterator[tuple[str, Path, Path, Path, Path]]:
    """Yield case, low-dose PET, full-dose PET, organ map and lesion mask of a simulated cohort."""
    for low in sorted((cohort / f"imagesTr_dose_{dose}").glob("*_0001.nii.gz")):
        case = low.name.removesuffix("_0001.nii.gz")
        files = (
            low,
            cohort / "imagesTr" / low.name,
            *(cohort / d / f"{case}.nii.gz" for d in ("organsTr", "labelsTr")),
        )
        if all(file.is_file() for file in files):
            yield case, files[0], files[1], files[2], files[3]


def row_of(case: str, name: str, found: Matched, full: Array, organs: Array, lesions: Mask) -> dict[str, object]:
    """Return the scores of one image: noise, closeness to the full dose, what became of lesions."""
    quality = image_quality(found.image, full, body=organs > 0)
    row: dict[str, object] = {
        "case": case, "image": name, "strength": found.strength, "liver_noise": found.cov,
        "reached": int(found.reached),
        "psnr_db": quality.psnr_db, "ssim": quality.ssim, "nrmse": quality.nrmse,
        "liver_bias_percent": 100 * (found.image[organs == LIVER].mean() / full[organs == LIVER].mean() - 1),
    }  # fmt: skip
    if lesions.any():
        row["lesion_mean_bias_percent"] = 100 * (found.image[lesions].mean() / full[lesions].mean() - 1)
        row["lesion_max_bias_percent"] = 100 * (found.image[lesions].max() / full[lesions].max() - 1)
    return {key: round(value, 5) if isinstance(value, float | np.floating) else value for key, value in row.items()}


COLUMNS = (
    "case", "image", "strength", "liver_noise", "reached", "psnr_db", "ssim", "nrmse", "liver_bias_percent",
    "lesion_mean_bias_percent", "lesion_max_bias_percent",
)  # fmt: skip


def main() -> None:
    """Score the filters at the noise of the full dose on every case of a cohort, and write a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("--dose", default=DOSE)
    parser.add_argument("--cases", type=int, default=None)
    parser.add_argument("--out", type=Path, default=Path("filters.csv"))
    options = parser.parse_args()
    rows = _rows(options.out)
    done = {row["case"] for row in rows}
    for case, *files in list(cases_of(options.cohort, options.dose))[: options.cases]:
        if case in done:
            continue
        low, full = (read_image(file)[0] for file in files[:2])
        organs, lesions = (read_labels(file)[0].array for file in files[2:])
        region = core_of(organs == LIVER, lesions > 0, low.spacing_mm)
        wanted = noise_in(full.array, region, full.spacing_mm)
        images = {"low dose": Matched(low.array, 0.0, noise_in(low.array, region, low.spacing_mm), True)}
        for name in FILTERS:
            images[name] = of_equal_noise(name, low.array, low.spacing_mm, region, wanted)
        rows += [row_of(case, name, found, full.array, organs, lesions > 0) for name, found in images.items()]
        with options.out.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, COLUMNS, restval="")
            writer.writeheader()
            writer.writerows(rows)
    for name in dict.fromkeys(str(row["image"]) for row in rows):
        chosen = [row for row in rows if row["image"] == name]
        values = {key: [float(str(row[key])) for row in chosen if row.get(key, "") != ""] for key in COLUMNS[2:]}
        print(f"{name:16s} n={len(chosen)}", *(f"{key}={np.mean(each):.3f}" for key, each in values.items()))


def _rows(path: Path) -> list[dict[str, object]]:
    """Return what an earlier run wrote."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as stream:
        return [dict(row) for row in csv.DictReader(stream)]


if __name__ == "__main__":
    main()
