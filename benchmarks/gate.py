"""How right is the input gate? Flips, crops and known shifts, on simulated patients and on the real scans at hand.

    python benchmarks/gate.py [orientation] [organs] [crops] [misalignment] [lights] [--data FOLDER] [--patients 24]

Every table of docs/explanation/input-gate.md that holds a measured number is printed by this. Simulated patients are
drawn over both sexes, three body mass indices and both arm positions.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np

from uptake.cases import Case
from uptake.gate import Organs, check
from uptake.gate.landmarks import liver_in_pet
from uptake.gate.misalignment import measure_misalignment
from uptake.gate.orientation import AXES, clues_of_images, clues_of_organs, orientation_findings
from uptake.gate.overview import ct_overview, pet_overview
from uptake.geometry.orientation import reorient
from uptake.geometry.volume import Volume
from uptake.simulation import PatientConfig, simulate_patient

GROUPS = [(sex, bmi, arms) for sex in ("male", "female") for bmi in (19.0, 26.0, 36.0) for arms in ("up", "down")]
WORLD = ("left_right", "front_back", "head_foot")


def patients(count: int, spacing: float = 5.0) -> Iterator[Case]:
    for n in range(count):
        sex, bmi, arms = GROUPS[n % len(GROUPS)]
        config = PatientConfig(sex=sex, bmi=bmi, arms=arms)
        yield simulate_patient(500 + n, spacing_mm=(spacing,) * 3, config=config).case


def read(path: Path) -> Volume:
    image = nib.load(path)
    return Volume(image.get_fdata(dtype=np.float32), image.affine)


def sts(data: Path) -> Iterator[tuple[str, Volume, Volume]]:
    for folder in sorted((data / "sts").glob("STS_*")):
        native = folder / "ct.nii.gz"
        yield folder.name, read(folder / "pet.nii.gz"), read(native if native.exists() else folder / "ct_on_pet.nii.gz")


def flipped(volume: Volume, axis: int | None) -> Volume:
    """Reverse the image along a world axis and leave the header as it is: what a lost orientation does."""
    if axis is None:
        return volume
    turned = reorient(volume, "RAS")
    return turned.with_array(np.flip(turned.array, axis))


def lights(pet: Volume, ct: Volume | None) -> dict[str, str]:
    view = pet_overview(pet)
    clues = clues_of_images(view, None if ct is None else ct_overview(ct), liver_in_pet(view))
    return {finding.check: str(finding.light) for finding in orientation_findings(clues)}


def orientation(count: int, data: Path) -> None:
    tables: dict[tuple[str, str, str], Counter[str]] = {}

    def note(kind: str, pet: Volume, ct: Volume | None) -> None:
        for axis in (None, 0, 1, 2):
            found = lights(flipped(pet, axis), None if ct is None else flipped(ct, axis))
            for n, name in enumerate(WORLD):
                key = (kind, name, "flipped" if axis == n else "as stated")
                tables.setdefault(key, Counter())[found[name]] += 1

    for case in patients(count):
        assert case.ct is not None
        note("simulated PET and CT", case.pet, case.ct)
        note("simulated PET alone", case.pet, None)
        found = lights(case.pet, flipped(case.ct, 0))
        tables.setdefault(("simulated, CT alone mirrored", "left_right", "flipped"), Counter())[
            found["left_right"]
        ] += 1
    whole = data / "wholebody/STS_001/pet.nii.gz"
    if whole.exists():
        note("real whole body, PET alone", read(whole), None)
        for _, pet, ct in sts(data):
            found = lights(pet, ct)
            for name in AXES:
                tables.setdefault(("41 real crops", name, "as stated"), Counter())[found[name]] += 1
    print("\n| Images | Axis | Header | green | amber | red | cannot tell |\n|---|---|---|---|---|---|---|")
    for (kind, axis, state), seen in tables.items():
        numbers = " | ".join(str(seen[light]) for light in ("green", "amber", "red", "grey"))
        print(f"| {kind} | {axis} | {state} | {numbers} |")


def organs(data: Path) -> None:
    folder = data / "anatomy/autopet_organs"
    names = {int(k): v for k, v in json.loads((folder / "labels.json").read_text()).items() if int(k)}
    seen: dict[tuple[str, str], Counter[str]] = {}
    for file in sorted(folder.glob("*.nii.gz")):
        image = nib.load(file)
        volume = Volume(np.asanyarray(image.dataobj), image.affine)
        for axis in (None, 0, 1, 2):
            centres = Organs(flipped(volume, axis), names).centres_mm()
            for finding in orientation_findings(clues_of_organs(centres)):
                state = "flipped" if axis is not None and finding.check == WORLD[axis] else "as stated"
                seen.setdefault((finding.check, state), Counter())[str(finding.light)] += 1
    print("\n| Real organ maps | Header | green | amber | red | cannot tell |\n|---|---|---|---|---|---|")
    for (axis, state), lights_ in seen.items():
        print(f"| {axis} | {state} | " + " | ".join(str(lights_[x]) for x in ("green", "amber", "red", "grey")) + " |")


PARTS = {"head and neck": (0.0, 0.3), "chest": (0.25, 0.5), "chest and abdomen": (0.25, 0.75), "abdomen": (0.5, 0.75),
         "pelvis and thighs": (0.75, 1.0), "skull base to thigh": (0.13, 1.0)}  # fmt: skip


def crops(count: int) -> None:
    seen: dict[tuple[str, str], Counter[str]] = {}
    for case in patients(count):
        assert case.ct is not None
        pet, ct = (reorient(volume, "RAS") for volume in (case.pet, case.ct))
        size = pet.shape[2]
        for part, (above, below) in PARTS.items():
            low, high = round(size * (1 - below)), round(size * (1 - above))
            cut = []
            for volume in (pet, ct):
                affine = volume.affine.copy()
                affine[:3, 3] += affine[:3, 2] * low
                cut.append(Volume(volume.array[:, :, low:high], affine))
            for axis, light in lights(cut[0], cut[1]).items():
                seen.setdefault((part, axis), Counter())[light] += 1
    print("\n| Part of the body | Axis | green | amber | red | cannot tell |\n|---|---|---|---|---|---|")
    for (part, axis), found in seen.items():
        print(f"| {part} | {axis} | " + " | ".join(str(found[x]) for x in ("green", "amber", "red", "grey")) + " |")


def moved(ct: Volume, pet: Volume, shift: np.ndarray, angles: np.ndarray) -> Volume:
    """Turn (degrees about x, y, z through the middle of the PET) and shift the CT; only its affine changes."""
    x, y, z = np.radians(angles)
    about = [
        np.array([[1, 0, 0], [0, np.cos(x), -np.sin(x)], [0, np.sin(x), np.cos(x)]]),
        np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]]),
        np.array([[np.cos(z), -np.sin(z), 0], [np.sin(z), np.cos(z), 0], [0, 0, 1]]),
    ]
    centre = pet.world_of((np.array(pet.shape) - 1) / 2)
    motion = np.eye(4)
    motion[:3, :3] = about[2] @ about[1] @ about[0]
    motion[:3, 3] = centre - motion[:3, :3] @ centre + shift
    return Volume(ct.array, motion @ ct.affine)


def misalignment(count: int, data: Path) -> None:
    rng = np.random.default_rng(7)
    rows: dict[str, list[np.ndarray]] = {}
    turns: dict[str, list[float]] = {}
    seconds: list[float] = []
    for case in patients(count):
        assert case.ct is not None
        for kind, size, turn in (("none", 0, 0), ("shift up to 10 mm", 10, 0), ("shift up to 20 mm", 20, 0),
                                 ("shift up to 40 mm", 40, 0), ("shift 10 mm, turn 3°", 10, 3)):  # fmt: skip
            shift, angles = rng.uniform(-size, size, 3), rng.uniform(-turn, turn, 3)
            began = time.perf_counter()
            found = measure_misalignment(case.pet, moved(case.ct, case.pet, shift, angles))
            seconds.append(time.perf_counter() - began)
            if found is None:
                rows.setdefault(kind, []).append(np.full(3, np.nan))
                continue
            true = _displaced(case.pet, shift, angles, np.array(found.centre_mm))
            rows.setdefault(kind, []).append(np.array(found.shift_mm, dtype=float) - true)
            if turn:
                turns.setdefault(kind, []).append(abs((found.rotation_deg or 0.0) - _angle(angles)))
    print("\n| Simulated, applied | scans | not measured | error mm: median | 95 % | largest |")
    print("|---|---|---|---|---|---|")
    for kind, errors in rows.items():
        length = np.linalg.norm(np.array(errors), axis=1)
        known = length[np.isfinite(length)]
        q = np.percentile(known, [50, 95, 100])
        print(f"| {kind} | {len(length)} | {len(length) - len(known)} | {q[0]:.1f} | {q[1]:.1f} | {q[2]:.1f} |")
    for kind, errors in turns.items():
        print(f"| {kind}: angle, degrees | {len(errors)} | – | {np.median(errors):.2f} | "
              f"{np.percentile(errors, 95):.2f} | {max(errors):.2f} |")  # fmt: skip
    print(f"seconds per scan: median {np.median(seconds):.2f}")
    if (data / "sts").is_dir():
        _real(data, rng)


def _displaced(pet: Volume, shift: np.ndarray, angles: np.ndarray, point: np.ndarray) -> np.ndarray:
    """Return where the motion of `moved` takes a point, minus the point."""
    motion = moved(Volume(pet.array, np.eye(4)), pet, shift, angles).affine
    return motion[:3, :3] @ point + motion[:3, 3] - point


def _angle(angles: np.ndarray) -> float:
    unit = Volume(np.zeros((2, 2, 2)), np.eye(4))
    matrix = moved(unit, unit, np.zeros(3), angles).affine[:3, :3]
    return float(np.degrees(np.arccos((np.trace(matrix) - 1) / 2)))


def _real(data: Path, rng: np.random.Generator) -> None:
    lengths, errors, axes, failed, tried = {}, [], Counter(), 0, 0
    for name, pet, ct in sts(data):
        base = measure_misalignment(pet, ct)
        if base is None:
            continue
        lengths[name] = base.length_mm
        axes.update(axis for axis, mm in zip("xyz", base.shift_mm, strict=True) if mm is not None)
        for _ in range(3):
            shift = rng.uniform(-8, 8, 3)
            found = measure_misalignment(pet, moved(ct, pet, shift, np.zeros(3)))
            tried += 1
            pairs = [] if found is None else [
                (b - a) - s for a, b, s in zip(base.shift_mm, found.shift_mm, shift, strict=True)
                if a is not None and b is not None
            ]  # fmt: skip
            if pairs:
                errors.append(float(np.linalg.norm(pairs)))
            else:
                failed += 1
    values = np.array(list(lengths.values()))
    worst = sorted(lengths.items(), key=lambda item: -item[1])[:4]
    largest = ", ".join(f"{name} {mm:.1f}" for name, mm in worst)
    print(f"\nreal crops measured: {len(values)} of 41; axes {dict(axes)}")
    print(f"as they are: median {np.median(values):.1f} mm, largest {largest}")
    q = np.percentile(errors, [50, 75, 90, 95])
    print(f"real crops, CT shifted by up to 8 mm along each axis, {tried} trials, {failed} not measured: error of the "
          f"change median {q[0]:.1f}, 75 % {q[1]:.1f}, 90 % {q[2]:.1f}, 95 % {q[3]:.1f} mm")  # fmt: skip


def all_lights(count: int, data: Path) -> None:
    seen: dict[str, Counter[str]] = {}
    whole: Counter[str] = Counter()
    seconds = []
    for case in patients(count):
        began = time.perf_counter()
        report = check(case)
        seconds.append(time.perf_counter() - began)
        whole[str(report.light)] += 1
        for finding in report.findings:
            seen.setdefault(finding.check, Counter())[str(finding.light)] += 1
    print(f"\n{count} simulated patients: {dict(whole)}; seconds per patient: median {np.median(seconds):.2f}")
    print("| Check | green | amber | red | cannot tell |\n|---|---|---|---|---|")
    for name, found in seen.items():
        print(f"| {name} | " + " | ".join(str(found[x]) for x in ("green", "amber", "red", "grey")) + " |")
    seen = {}
    for name, pet, ct in sts(data) if (data / "sts").is_dir() else ():
        for finding in check(Case(name, pet, ct)).findings:
            seen.setdefault(finding.check, Counter())[str(finding.light)] += 1
    print("\n41 real crops\n| Check | green | amber | red | cannot tell |\n|---|---|---|---|---|")
    for name, found in seen.items():
        print(f"| {name} | " + " | ".join(str(found[x]) for x in ("green", "amber", "red", "grey")) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="*", default=["orientation", "organs", "crops", "misalignment", "lights"])
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared" / "data")
    parser.add_argument("--patients", type=int, default=24)
    options = parser.parse_args()
    if "orientation" in options.what:
        orientation(options.patients, options.data)
    if "organs" in options.what:
        organs(options.data)
    if "crops" in options.what:
        crops(options.patients)
    if "misalignment" in options.what:
        misalignment(options.patients, options.data)
    if "lights" in options.what:
        all_lights(options.patients, options.data)


if __name__ == "__main__":
    main()
