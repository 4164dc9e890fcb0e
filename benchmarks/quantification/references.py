"""Do reference regions lie where they should, is their uptake the true one, and are lesions named rightly?

    python benchmarks/quantification/references.py cohort COHORT [--minutes 14]     # resumes
    python benchmarks/quantification/references.py simulate WORK [--patients 24]     # resumes
    python benchmarks/quantification/references.py truth WORK

`cohort` reads simulated patients in nnU-Net raw layout with organsTr, a low-dose twin each, and the true places of
their lesions in cases/*.json. A region chosen on noisy voxels may be one where the noise happens to be low: so the
low-dose twin places it too, and the mean there is compared with the full dose, whose noise had no part in the choice.
`truth` compares with what an endless scan of the same patient shows. Both write CSV and JSON beside this file.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from pathlib import Path

import nibabel as nib
import numpy as np

from uptake.geometry.volume import Volume
from uptake.io.write import write_csv, write_json
from uptake.quantification.lesions import measure_lesions
from uptake.quantification.organs import TISSUES, in_depth
from uptake.quantification.places import place_lesions
from uptake.quantification.reference_regions import (
    LIVER_MARGIN_MM,
    LIVER_RADIUS_MM,
    ReferenceRegion,
    blood_pool_reference,
    liver_reference,
    region_mask,
)
from uptake.simulation.labels import ORGAN_IDS

HERE = Path(__file__).parent
SEED, DOSE = 8100, 0.05
BLIND = 200
"""Spheres placed at random in the admissible liver, to see what SD a blind placement gives."""

REFERENCE_COLUMNS = (
    "case", "tracer", "placed_on", "organ", "inside", "mean", "sd", "max", "other_mean", "other", "true_mean",
    "blind_sd", "least_varied_sd", "reason",
)  # fmt: skip
LESION_COLUMNS = ("case", "lesion", "volume_ml", "drawn_in", "organ", "relation", "region")


def volume(path: Path) -> Volume:
    image = nib.load(path)
    return Volume(np.asarray(image.dataobj), image.affine)


def blind_spheres(pet: Volume, liver: np.ndarray, seed: int) -> tuple[float, float]:
    """Return the median SD of spheres put anywhere deep in the liver, and the SD of the one that varies least."""
    deep = np.argwhere(in_depth(liver, pet.spacing_mm) >= LIVER_RADIUS_MM + LIVER_MARGIN_MM)
    centres = deep[np.random.default_rng(seed).integers(0, len(deep), BLIND)]
    reach = [int(np.ceil(LIVER_RADIUS_MM / mm)) for mm in pet.spacing_mm]
    grid = np.stack(np.meshgrid(*(np.arange(-n, n + 1) for n in reach), indexing="ij"), axis=-1).reshape(-1, 3)
    ball = grid[np.linalg.norm(grid * pet.spacing_mm, axis=1) <= LIVER_RADIUS_MM]
    values = pet.array[tuple(np.moveaxis(centres[:, None] + ball, -1, 0))].astype(float)
    mean, deviation = values.mean(axis=1), values.std(axis=1, ddof=1)
    return float(np.median(deviation)), float(deviation[(deviation / mean).argmin()])


def references(
    case: str,
    tracer: str,
    images: dict[str, Volume],
    organs: Volume,
    lesions: Volume,
    names: dict[int, str],
    *,
    other: dict[str, str],
    truth: Volume | None = None,
) -> list[dict[str, object]]:
    """Place both regions on each image of `other`, and read them in the image it names too."""
    numbers = {name: label for label, name in names.items()}
    rows = []
    for kind, second in other.items():
        pet = images[kind]
        for place, organ in ((liver_reference, "liver"), (blood_pool_reference, "aorta")):
            found = place(pet, organs, names, lesions=lesions)
            row: dict[str, object] = {"case": case, "tracer": tracer, "placed_on": kind, "organ": organ}
            if not isinstance(found, ReferenceRegion):
                rows.append({**row, "reason": found.reason})
                continue
            mask = region_mask(pet, found)
            row |= {"inside": float((organs.array[mask] == numbers[organ]).mean()), "mean": found.suv_mean,
                    "sd": found.suv_sd, "max": found.suv_max, "other": second,
                    "other_mean": float(images[second].array[mask].mean())}  # fmt: skip
            if truth is not None:
                row["true_mean"] = float(truth.array[mask].mean())
            if organ == "liver":
                healthy = (organs.array == numbers[organ]) & (lesions.array == 0)
                row["blind_sd"], row["least_varied_sd"] = blind_spheres(pet, healthy, 1)
            rows.append(row)
    return rows


def names_of_lesions(
    case: str, pet: Volume, lesions: Volume, organs: Volume, names: dict[int, str], known: list[dict]
) -> list[dict[str, object]]:
    table = measure_lesions(pet, lesions)
    rows = []
    for lesion, found in zip(table.lesions, place_lesions(table, organs, names), strict=True):
        own = min(known, key=lambda one: np.linalg.norm(np.subtract(one["centre_mm"], lesion.centroid_mm)))
        rows.append({"case": case, "lesion": lesion.lesion, "volume_ml": lesion.volume_ml, "drawn_in": own["place"],
                     "organ": found.organ, "relation": found.relation, "region": found.region})  # fmt: skip
    return rows


def label_names(path: Path) -> dict[int, str]:
    return {int(number): name for number, name in json.loads(path.read_text()).items()}


def written(path: Path) -> list[dict[str, object]]:
    if not path.exists():
        return []
    with path.open(encoding="utf-8") as stream:
        return [dict(row) for row in csv.DictReader(stream)]


def save(name: str, rows: list[dict[str, object]], columns: tuple[str, ...]) -> None:
    rounded = [{k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()} for row in rows]
    write_csv(rounded, HERE / name, columns=columns)


def cohort(folder: Path, minutes: float) -> None:
    names = label_names(folder / "organ_labels.json")
    with (folder / "cohort.csv").open(encoding="utf-8") as stream:
        tracers = {row["case"]: row["tracer"] for row in csv.DictReader(stream)}
    rows, lesion_rows = written(HERE / "cohort_references.csv"), written(HERE / "cohort_lesions.csv")
    done, stop = {str(row["case"]) for row in rows}, time.monotonic() + 60 * minutes
    for case, tracer in tracers.items():
        if case in done or time.monotonic() > stop:
            continue
        images = {"full dose": volume(folder / "imagesTr" / f"{case}_0001.nii.gz"),
                  "5 % dose": volume(folder / f"imagesTr_dose_{DOSE:g}" / f"{case}_0001.nii.gz")}  # fmt: skip
        organs = volume(folder / "organsTr" / f"{case}.nii.gz")
        lesions = volume(folder / "labelsTr" / f"{case}.nii.gz")
        rows += references(case, tracer, images, organs, lesions, names,
                           other={"full dose": "5 % dose", "5 % dose": "full dose"})  # fmt: skip
        known = json.loads((folder / "cases" / f"{case}.json").read_text())["lesions"]
        lesion_rows += names_of_lesions(case, images["full dose"], lesions, organs, names, known)
        save("cohort_references.csv", rows, REFERENCE_COLUMNS)
        save("cohort_lesions.csv", lesion_rows, LESION_COLUMNS)
        print(case, flush=True)
    summary = {"simulated": True, "patients": len({str(row["case"]) for row in rows}),
               **in_figures(rows, ("full dose", "5 % dose")), "lesions": named(lesion_rows)}  # fmt: skip
    write_json(summary, HERE / "cohort_summary.json")
    print(json.dumps(summary, indent=2))


def truth(work: Path) -> None:
    rows = []
    for folder in sorted(work.glob("sim_*")):
        names = label_names(folder / "organ_labels.json")
        images = {"full dose": volume(folder / "pet.nii.gz"), "endless": volume(folder / "truth/noise_free.nii.gz")}
        rows += references(
            folder.name, "FDG", images, volume(folder / "organs.nii.gz"), volume(folder / "lesion.nii.gz"), names,
            other={"full dose": "endless"}, truth=volume(folder / "truth/activity.nii.gz"),
        )  # fmt: skip
    save("truth_references.csv", rows, REFERENCE_COLUMNS)
    summary = {"simulated": True, "patients": len(rows) // 2, **in_figures(rows, ("full dose",))}
    write_json(summary, HERE / "truth_summary.json")
    print(json.dumps(summary, indent=2))


def in_figures(rows: list[dict], kinds: tuple[str, ...]) -> dict[str, object]:
    result: dict[str, object] = {}
    for organ in ("liver", "aorta"):
        for kind in kinds:
            chosen = [row for row in rows if row["organ"] == organ and row["placed_on"] == kind]
            placed = [row for row in chosen if row.get("mean") not in (None, "")]
            entry: dict[str, object] = {
                "placed": f"{len(placed)} of {len(chosen)}",
                "wholly_in_the_organ": sum(float(row["inside"]) == 1 for row in placed),
                "reasons": sorted({str(row["reason"]) for row in chosen if row.get("reason")}),
            }
            for name, top, bottom in (
                ("mean_against_other_image_percent", "mean", "other_mean"),
                ("mean_against_true_uptake_percent", "mean", "true_mean"),
                ("sd_against_blind_percent", "sd", "blind_sd"),
                ("least_varied_sd_against_blind_percent", "least_varied_sd", "blind_sd"),
            ):
                pairs = [(float(r[top]), float(r[bottom])) for r in placed if r.get(bottom) not in (None, "")]
                if pairs:
                    off = 100 * (np.array([a / b for a, b in pairs]) - 1)
                    entry[name] = {"mean": round(float(off.mean()), 2), "sd": round(float(off.std(ddof=1)), 2),
                                   "largest": round(float(np.abs(off).max()), 2)}  # fmt: skip
            result[f"{organ}, {kind}"] = entry
    return result


def named(rows: list[dict]) -> dict[str, int]:
    # Lesions are also drawn in places that no label stands for: mesentery, axilla, mediastinal nodes.
    organs = [row for row in rows if row["drawn_in"] in ORGAN_IDS and row["drawn_in"] not in TISSUES]
    return {
        "all": len(rows),
        "drawn_in_an_organ": len(organs),
        "named_after_it": sum(row["organ"] == row["drawn_in"] for row in organs),
        "drawn_between_organs": len(rows) - len(organs),
        "of_these_named_after_an_organ": sum(
            bool(row["organ"]) and row["organ"] not in TISSUES for row in rows if row not in organs
        ),
        "with_a_region": sum(bool(row["region"]) for row in rows),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("cohort", "simulate", "truth"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--patients", type=int, default=24)
    parser.add_argument("--minutes", type=float, default=14.0)
    given = parser.parse_args()
    if given.step == "cohort":
        cohort(given.folder, given.minutes)
    elif given.step == "truth":
        truth(given.folder)
    else:
        from uptake.workflows.simulate import simulate
        from uptake.workflows.simulated import SimulationSettings

        simulate(given.folder, patients=given.patients, seed=SEED, settings=SimulationSettings(), keep_truth=True)


if __name__ == "__main__":
    main()
