"""Compare simulated FDG patients with a real whole-body scan, and check what a simulated cohort is made of.

Usage: python benchmarks/simulation/distribution.py --cohort FOLDER [--data ../shared/data]

FOLDER is what `uptake simulate cohort` writes; the real scan is wholebody/STS_001 (Soft-tissue-Sarcoma collection,
CC BY 3.0). Regions are found by the same rules in real and simulated PET, never from simulated labels. W1 is the
Wasserstein-1 distance of two SUV distributions, the mean difference of their quantiles. Nothing is tuned to it.
Writes distribution.csv and distribution.md beside this file.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.ndimage import binary_erosion, label

from uptake.geometry import Volume
from uptake.io.image import read_image, read_labels
from uptake.simulation.body_map import body_of
from uptake.simulation.fields import gaussian_blur
from uptake.simulation.labels import LUNGS, ORGAN_IDS
from uptake.simulation.organ_volumes import LEAN_EXPONENT, LEAN_REFERENCE_KG
from uptake.simulation.reference import liver_like

HERE = Path(__file__).parent
REAL, REAL_LESION = "wholebody/STS_001/pet.nii.gz", "wholebody/STS_001/lesion.nii.gz"
QUANTILES = np.linspace(0.0005, 0.9995, 1000)
TOP_MM = 40.0
"""Cut from the upper end of the real field: the brain, which is in it by a finger's width."""

SMOOTH_MM = 10.0
LUNG_SUV, MUSCLE_SUV = 0.75, (0.3, 1.3)
VOLUMES: Mapping[str, tuple[str, ...]] = {
    "liver": ("liver",), "spleen": ("spleen",), "kidneys": ("kidney_left", "kidney_right"), "heart": ("heart",),
    "lungs": LUNGS, "brain": ("brain",), "pancreas": ("pancreas",), "urinary_bladder": ("urinary_bladder",),
}  # fmt: skip

Values = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


def regions(pet: Volume, hide: Mask | None = None) -> dict[str, Values]:
    """Return quantiles of SUV in regions that PET alone tells; `hide` leaves a tumour out."""
    body = body_of(pet)
    free = body if hide is None else body & ~hide
    smooth = gaussian_blur(np.maximum(pet.array, 0).astype(np.float32), (SMOOTH_MM,) * 3, pet.spacing_mm)
    # Even uptake runs on along great vessels: the core of the largest piece is the liver.
    liver = _large(_shrunk(liver_like(pet) & free, pet, 12.0), pet, None)
    found = {"body": free, "body, SUV below 10": free & (pet.array < 10)}
    if liver.any():
        found["liver"] = liver
        top = int(np.flatnonzero(liver.any(axis=(0, 1)))[-1] + 12.0 / pet.spacing_mm[2])
        reach = int(160 / pet.spacing_mm[2])
        chest = np.zeros(body.shape, dtype=bool)
        chest[:, :, top + 1 : top + reach] = True
        found["lungs"] = _large(_shrunk(body, pet, 28.0) & chest & (smooth < LUNG_SUV), pet, 250.0)
    thigh = np.zeros(body.shape, dtype=bool)
    thigh[:, :, : int(110 / pet.spacing_mm[2])] = True
    low, high = MUSCLE_SUV
    found["thighs, deep"] = _shrunk(body, pet, 24.0) & thigh & free & (smooth > low) & (smooth < high)
    return {name: np.quantile(pet.array[mask], QUANTILES) for name, mask in found.items() if mask.sum() > 200}


def _shrunk(mask: Mask, pet: Volume, mm: float) -> Mask:
    """Return the mask less its rim, through the planes of slices as well."""
    for axis, size in enumerate(pet.spacing_mm):
        line = np.zeros((3, 3, 3), dtype=bool)
        line[tuple(slice(None) if a == axis else 1 for a in range(3))] = True
        mask = binary_erosion(mask, line, iterations=max(round(mm / size), 1), border_value=1)
    return mask


def _large(mask: Mask, pet: Volume, least_ml: float | None) -> Mask:
    """Return the pieces of a mask of at least a volume, or the largest."""
    pieces, _ = label(mask)
    sizes = np.bincount(pieces.ravel()) * pet.voxel_volume_ml
    sizes[0] = 0
    return np.asarray((sizes >= (sizes.max() if least_ml is None else least_ml))[pieces] & mask)


def w1(a: Values, b: Values) -> float:
    """Return the Wasserstein-1 distance of two distributions given by their quantiles."""
    return float(np.abs(a - b).mean())


def distances(real: Mapping[str, Values], simulated: Sequence[Mapping[str, Values]]) -> list[dict[str, object]]:
    """Return a row per region: how far the real scan is from simulated ones, and these from each other."""
    rows = []
    for name, own in real.items():
        others = [patient[name] for patient in simulated if name in patient]
        if len(others) < 3:
            continue
        to_real = np.array([w1(own, other) for other in others])
        among = np.array([np.mean([w1(a, b) for m, b in enumerate(others) if m != n]) for n, a in enumerate(others)])
        means = np.array([other.mean() for other in others])
        rows.append({
            "region": name, "patients": len(others), "real_mean": own.mean(), "simulated_mean": means.mean(),
            "simulated_sd": means.std(), "w1_to_real": to_real.mean(), "w1_least": to_real.min(),
            "w1_among_simulated": among.mean(), "w1_relative": to_real.mean() / own.mean(),
            "stranger_than_real": float((among >= to_real.mean()).mean()),
        })  # fmt: skip
    return rows


def check(cohort: Path, most: int) -> tuple[list[dict[str, object]], list[dict[str, object]], list[dict[str, Values]]]:
    """Return organ volumes by sex, checks of the cohort's content, and the regions of its FDG patients."""
    with (cohort / "cohort.csv").open(encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    splits = json.loads((cohort / "splits_final.json").read_text(encoding="utf-8"))
    cases = [row["case"] for row in table]
    seen: dict[str, list[float]] = {"left right": [], "order": [], "liver": [], "image": [], "drawn": []}
    volumes: dict[tuple[str, str], list[float]] = {}
    patients: list[dict[str, Values]] = []
    for row in table:
        organs, _ = read_labels(cohort / "organsTr" / f"{row['case']}.nii.gz")
        counts = np.bincount(organs.array.ravel(), minlength=256)
        size = (float(row["lean_mass_kg"]) / LEAN_REFERENCE_KG[row["sex"]]) ** LEAN_EXPONENT
        for name, parts in VOLUMES.items():
            ml = float(sum(counts[ORGAN_IDS[p]] for p in parts)) * organs.voxel_volume_ml
            # Relative to lean mass, except what does not follow it.
            volumes.setdefault((name, row["sex"]), []).append(
                ml / (1.0 if name in ("brain", "urinary_bladder") else size)
            )
        seen["left right"].append(_sides(organs))
        suv = {name: float(row[f"suv_{name}"]) for name in ("liver", "blood", "muscle", "fat")}
        seen["order"].append(float(_ordered(row["tracer"], suv)))
        if row["tracer"] == "FDG":
            seen["liver"].append(suv["liver"])
            if len(patients) >= most:
                continue
            pet, _ = read_image(cohort / "imagesTr" / f"{row['case']}_0001.nii.gz")
            brain = np.flatnonzero((organs.array == ORGAN_IDS["brain"]).any(axis=(0, 1)))
            end = int(brain[0] - 20.0 / pet.spacing_mm[2]) if brain.size else pet.shape[2]
            patients.append(regions(Volume(pet.array[:, :, :end], pet.affine)))
            liver = organs.array == ORGAN_IDS["liver"]
            mean = float(pet.array[_shrunk(liver, pet, 16.0)].mean())
            seen["image"].append(mean)
    organs_by_sex = [
        {"organ": name, "sex": sex, "patients": len(ml), "median_ml": float(np.median(ml)),
         "p10_ml": float(np.quantile(ml, 0.1)), "p90_ml": float(np.quantile(ml, 0.9))}
        for (name, sex), ml in sorted(volumes.items())
    ]  # fmt: skip
    numbers = [row for row in table for value in row.values() if str(value).lower() in ("nan", "inf", "-inf")]
    validation = [case for fold in splits for case in fold["val"]]
    facts: list[tuple[str, object, str]] = [
        ("cases in the table, all different", f"{len(set(cases))} of {len(cases)}", "all"),
        ("columns of the table, not a number", f"{len(table[0])}, {len(numbers)}", "0"),
        ("each case validates in one fold", f"{len(set(validation))} of {len(validation)}", "all cases once"),
        ("folds in which a case trains and validates", sum(bool(set(f["train"]) & set(f["val"])) for f in splits), "0"),
        ("tracers", _shares(table, "tracer"), "as asked"),
        ("men among FDG and FAPI-04 patients", _men(table), "55 %"),
        ("sites, scanners", f"{_count(table, 'site_name')}, {_count(table, 'site_scanner')}", ""),
        ("patients without a lesion", f"{np.mean([int(r['n_lesions']) == 0 for r in table]):.0%}", "40 %"),
        ("left organs on the left", f"{sum(seen['left right']):.0f} of {len(table)}", "all"),
        ("drawn liver of FDG, SUV", f"{min(seen['liver']):.2f} to {max(seen['liver']):.2f}", "1.3 to 3.0"),
        ("the same in the image, with calibration errors", f"{min(seen['image']):.2f} to {max(seen['image']):.2f}", ""),
        ("liver > blood > muscle > fat (FAPI-04: from blood)", f"{sum(seen['order']):.0f} of {len(table)}", "all"),
        ("mass balance", _range(table, "mass_balance"), "0.75 to 1.0"),
        ("BMI", _range(table, "bmi"), "16 to 45"),
        ("liver CoV of the full dose", _range(table, "liver_cov_1"), ""),
        ("liver CoV of 5 % / full dose, median", _ratio(table), "4.47"),
    ]  # fmt: skip
    checks: list[dict[str, object]] = [{"what": w, "found": f, "expected": e} for w, f, e in facts]
    return organs_by_sex, checks, patients


def _ordered(tracer: str, suv: Mapping[str, float]) -> bool:
    return (tracer == "FAPI-04" or suv["liver"] > suv["blood"]) and suv["blood"] > suv["muscle"] > suv["fat"]


def _sides(organs: Volume) -> float:
    """Return 1 if every paired organ has its right half on the right; the first axis runs to the left (LPS)."""
    width = organs.shape[0]
    place = np.arange(width, dtype=np.int64)[:, None, None] * 256 + organs.array
    counts = np.bincount(place.ravel(), minlength=256 * width).reshape(width, 256)
    for stem in ("kidney", "femur", "hip", "lung_lower_lobe", "scapula"):
        right, left = (counts[:, ORGAN_IDS[f"{stem}_{side}"]] for side in ("right", "left"))
        if (
            right.any()
            and left.any()
            and np.average(np.arange(width), weights=right) >= np.average(np.arange(width), weights=left)
        ):
            return 0.0
    return 1.0


def _count(table: Sequence[Mapping[str, str]], column: str) -> int:
    return len({row[column] for row in table})


def _shares(table: Sequence[Mapping[str, str]], column: str) -> str:
    names = sorted({row[column] for row in table})
    return ", ".join(f"{name} {np.mean([row[column] == name for row in table]):.0%}" for name in names)


def _men(table: Sequence[Mapping[str, str]]) -> str:
    return f"{np.mean([row['sex'] == 'male' for row in table if not row['tracer'].startswith('PSMA')]):.0%}"


def _range(table: Sequence[Mapping[str, str]], column: str) -> str:
    values = [float(row[column]) for row in table]
    return f"{min(values):.3g} to {max(values):.3g}, median {np.median(values):.3g}"


def _ratio(table: Sequence[Mapping[str, str]]) -> str:
    return f"{np.median([float(row['liver_cov_0.05']) / float(row['liver_cov_1']) for row in table]):.2f}"


def write(distance: list[dict[str, object]], organs: list[dict[str, object]], checks: list[dict[str, object]]) -> None:
    with (HERE / "distribution.csv").open("w", newline="", encoding="utf-8") as file:
        for rows in (distance, organs, checks):
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows([{k: f"{v:.5g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows])
            file.write("\n")
    text = [
        "# Simulated patients beside a real scan, and inside a cohort", "",
        "Made by `python benchmarks/simulation/distribution.py --cohort cohort`; the numbers are those of",
        "`distribution.csv`. One real scan (FDG, GE Discovery ST, 45 min after injection) is no population: that it",
        "lies within the spread of the simulated ones says that nothing is grossly off, no more.", "",
        "## Distance of SUV distributions", "",
        "W1 in SUV, means over simulated FDG patients; regions by the same rules in both (liver: largest even uptake;",
        "lungs: low uptake deep in the chest above it; thighs: 24 mm under the skin, tumour left out). `stranger` is",
        "the share of simulated patients that lie further from the other simulated ones than the real scan does.", "",
    ]  # fmt: skip
    text += _table(distance, {
        "region": "region", "patients": "patients", "real_mean": "real mean", "simulated_mean": "simulated mean",
        "simulated_sd": "SD", "w1_to_real": "W1 to real", "w1_relative": "/ real mean", "w1_least": "nearest",
        "w1_among_simulated": "W1 among simulated", "stranger_than_real": "stranger",
    })  # fmt: skip
    text += ["", "## Content of the cohort", ""]
    text += _table(checks, {"what": "what", "found": "found", "expected": "expected"})
    text += [
        "", "## Organs by sex", "",
        "Volumes in mL over (lean mass / reference)^0.8, brain and bladder as they are; ICRP 89 has, man and woman,",
        "liver 1714 / 1333, spleen 142 / 123, kidneys 295 / 262, brain 1394 / 1250, pancreas 134 / 115 mL.", "",
    ]  # fmt: skip
    text += _table(organs, {
        "organ": "organ", "sex": "sex", "patients": "patients", "median_ml": "median", "p10_ml": "10 %",
        "p90_ml": "90 %",
    })  # fmt: skip
    (HERE / "distribution.md").write_text("\n".join(text) + "\n", encoding="utf-8")


def _table(rows: Sequence[Mapping[str, object]], columns: Mapping[str, str]) -> list[str]:
    show: Callable[[object], str] = lambda v: f"{v:.3g}" if isinstance(v, float) else str(v)  # noqa: E731
    large: Callable[[object], str] = lambda v: f"{v:.0f}" if isinstance(v, float) and v > 999 else show(v)  # noqa: E731
    return [
        "| " + " | ".join(columns.values()) + " |", "|" + "---|" * len(columns),
        *("| " + " | ".join(large(row[key]) for key in columns) + " |" for row in rows),
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cohort", type=Path, required=True)
    parser.add_argument("--most", type=int, default=40, help="FDG patients whose images are looked at")
    parser.add_argument("--data", type=Path, default=HERE.parents[2] / "shared" / "data")
    options = parser.parse_args()
    scan, _ = read_image(options.data / REAL)
    tumour, _ = read_labels(options.data / REAL_LESION)
    end = scan.shape[2] - round(TOP_MM / scan.spacing_mm[2])
    real = regions(Volume(scan.array[:, :, :end], scan.affine), tumour.array[:, :, :end] > 0)
    organs, checks, patients = check(options.cohort, options.most)
    distance = distances(real, patients)
    write(distance, organs, checks)
    print((HERE / "distribution.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
