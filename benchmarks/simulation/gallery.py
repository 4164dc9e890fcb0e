"""Make the pictures of docs/explanation/simulated-patients.md.

Usage: python benchmarks/simulation/gallery.py --work FOLDER [--data ../shared/data] [--only tracers dose ...]

Patients are simulated at 4 mm into FOLDER (1 GB; those that are there are kept) and shown as coronal projections and
slices. `--data` holds the real whole-body FDG PET of the picture `real` (Soft-tissue-Sarcoma collection, CC BY 3.0) and
the organ map of the picture `map` (Apache-2.0); pictures whose data are absent are left as they are.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
from PIL import Image

from uptake.geometry import Volume
from uptake.io.image import read_image, read_labels
from uptake.simulation.labels import ORGAN_IDS
from uptake.simulation.person import Arms, PatientConfig, Sex
from uptake.workflows.simulate import simulate
from uptake.workflows.simulated import SimulationSettings
from uptake.workflows.simulated_anatomy import AnatomyFiles, anatomy_files

ROOT = Path(__file__).resolve().parents[2]
PICTURES = ROOT / "docs" / "pictures"
SPACING_MM = (4.0, 4.0, 4.0)
WINDOW = {"FDG": 7.0, "PSMA-11": 15.0, "PSMA-1007": 15.0, "FAPI-04": 6.0, "DOTATATE": 15.0}
"""SUV that is shown black."""

CT_WINDOW = (-160.0, 240.0)
GREYS = 48
"""Levels of grey a picture is stored with."""

REAL, MAP = "wholebody/STS_001/pet.nii.gz", "anatomy/autopet_organs/psma_57cf81e8bb97b452.nii.gz"


@dataclass(frozen=True)
class Subject:
    """One patient of the gallery."""

    seed: int
    tracer: str
    sex: Sex
    bmi: float
    scanner: str
    lesions: int | None = None
    misalignment: str | float = "drawn"
    doses: tuple[float, ...] = ()
    anatomy: AnatomyFiles | None = None
    arms: Arms | None = None

    def study(self, work: Path) -> Path:
        """Return the patient's study folder, made if it is not there."""
        settings = SimulationSettings(
            tracers=((self.tracer, 1.0),), spacing_mm=SPACING_MM, n_lesions=self.lesions, doses=self.doses,
            scanner=self.scanner, misalignment=self.misalignment, anatomy=self.anatomy,
            person=PatientConfig(sex=self.sex, bmi=self.bmi, arms=self.arms),
        )  # fmt: skip
        label = f"{self.tracer}_{self.scanner}_{self.misalignment}".replace(" ", "")
        return simulate(work / label, seed=self.seed, settings=settings)[0].folder

    @property
    def caption(self) -> str:
        return f"{self.tracer}\n{'woman' if self.sex == 'female' else 'man'}, BMI {self.bmi:g}\n{self.scanner}"


TWELVE = (
    Subject(101, "FDG", "female", 18, "mCT", 0), Subject(102, "FDG", "male", 24, "Vision 600", 5),
    Subject(103, "FDG", "female", 29, "DMI", 9), Subject(104, "FDG", "male", 36, "Gemini TF", 2),
    Subject(105, "PSMA-11", "male", 22, "D690", 3), Subject(106, "PSMA-11", "male", 30, "Vision 600", 12),
    Subject(107, "PSMA-1007", "male", 25, "Quadra", 6), Subject(108, "PSMA-1007", "male", 34, "mCT", 1),
    Subject(109, "FAPI-04", "female", 21, "uMI 550", 4), Subject(110, "FAPI-04", "male", 31, "Vereos", 10),
    Subject(111, "DOTATATE", "female", 26, "mCT", 6), Subject(112, "DOTATATE", "male", 33, "DMI", 0),
)  # fmt: skip
DOSES = (
    Subject(121, "FDG", "male", 26, "mCT", 6, doses=(0.05,)),
    Subject(121, "FDG", "male", 26, "uEXPLORER", 6, doses=(0.05,)),
    Subject(122, "PSMA-1007", "male", 28, "Vision 600", 5, doses=(0.05,)),
)
BREATHS = (
    Subject(131, "FDG", "female", 25, "Vision 600", 0, misalignment="none"),
    Subject(131, "FDG", "female", 25, "Vision 600", 0, misalignment=18.0),
)
BESIDE_REAL = Subject(143, "FDG", "male", 24, "D690", 0, arms="up")
"""Weight and scanner as of the real patient, his height is not known; no lesion, as his lies in the thigh."""


def projection(pet: Volume) -> npt.NDArray[np.floating]:
    """Return the coronal maximum intensity projection, head up, the patient's right on the left."""
    return np.asarray(pet.array.max(axis=1).T[::-1])


def slab(volume: Volume, row: int) -> npt.NDArray[np.floating]:
    """Return a coronal slice as `projection` lays it."""
    return np.asarray(volume.array[:, row].T[::-1])


def show(axis: plt.Axes, image: npt.NDArray[np.floating], pet: Volume, high: float, *, low: float = 0.0) -> None:
    """Show an image at its true proportions; CT from white to black the other way round."""
    across, _, along = pet.spacing_mm
    axis.imshow(image, cmap="gray_r" if low == 0 else "gray", vmin=low, vmax=high, aspect=along / across)
    axis.axis("off")


def save(figure: plt.Figure, name: str) -> None:
    """Write a picture in few greys: small, and all of the text stays sharp."""
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=80, bbox_inches="tight", pad_inches=0.05)
    plt.close(figure)
    # Rounded, not dithered: dots would look like noise of the scan.
    step = 255.0 / (GREYS - 1)
    grey = Image.fromarray((np.rint(np.asarray(Image.open(buffer).convert("L")) / step) * step).astype(np.uint8))
    grey.save(PICTURES / f"simulated_{name}.png", optimize=True)
    print(f"simulated_{name}.png {(PICTURES / f'simulated_{name}.png').stat().st_size / 1000:.0f} kB", flush=True)


def panels(rows: int, columns: int, width: float, height: float) -> tuple[plt.Figure, Sequence[plt.Axes]]:
    figure, axes = plt.subplots(rows, columns, figsize=(width, height), squeeze=False)
    figure.subplots_adjust(wspace=0.02, hspace=0.12)
    return figure, list(axes.ravel())


def tracers(work: Path, data: Path) -> None:
    figure, axes = panels(2, 6, 15, 11.4)
    for axis, subject in zip(axes, TWELVE, strict=True):
        pet, _ = read_image(subject.study(work) / "pet.nii.gz")
        show(axis, projection(pet), pet, WINDOW[subject.tracer])
        axis.set_title(f"{subject.caption}, SUV 0–{WINDOW[subject.tracer]:g}", fontsize=9)
    save(figure, "tracers")


def dose(work: Path, data: Path) -> None:
    figure, axes = panels(1, 6, 15, 6.2)
    for n, subject in enumerate(DOSES):
        study = subject.study(work)
        for axis, name, label in zip(
            axes[2 * n :], ("pet.nii.gz", "dose_0.05/pet.nii.gz"), ("all", "5 %"), strict=False
        ):
            pet, _ = read_image(study / name)
            show(axis, projection(pet), pet, WINDOW[subject.tracer])
            axis.set_title(f"{subject.tracer}, {subject.scanner}\n{label} of the counts", fontsize=9)
    save(figure, "dose")


def breathing(work: Path, data: Path) -> None:
    figure, axes = panels(1, 4, 15, 3.6)
    for n, subject in enumerate(BREATHS):
        study = subject.study(work)
        (pet, _), (ct, _) = (read_image(study / f"{name}.nii.gz") for name in ("pet", "ct"))
        organs, _ = read_labels(study / "organs.nii.gz")
        liver = organs.array == ORGAN_IDS["liver"]
        row = int(np.argmax(liver.sum(axis=(0, 2))))
        heights = np.flatnonzero(liver.any(axis=(0, 1)))
        middle = pet.shape[0] // 2
        keep = (
            slice(pet.shape[2] - int(heights[-1]) - 30, pet.shape[2] - int(heights[0]) + 8),
            slice(middle - 48, middle + 48),
        )
        shift = "CT and PET fit" if subject.misalignment == "none" else f"CT {subject.misalignment:g} mm lower"
        show(axes[2 * n], slab(pet, row)[keep], pet, 4.0)
        axes[2 * n].set_title(f"PET, {shift}", fontsize=9)
        show(axes[2 * n + 1], slab(ct, row)[keep], pet, CT_WINDOW[1], low=CT_WINDOW[0])
        edge = slab(organs.with_array(liver.astype(np.uint8)), row)[keep]
        axes[2 * n + 1].contour(edge, levels=[0.5], colors="w", linewidths=0.9)
        axes[2 * n + 1].set_title("CT, and the liver of the PET (line)", fontsize=9)
    save(figure, "breathing")


def real(work: Path, data: Path) -> None:
    if not (data / REAL).is_file():
        return
    figure, axes = panels(1, 4, 13, 6.2)
    scan, _ = read_image(data / REAL)
    pet, _ = read_image(BESIDE_REAL.study(work) / "pet.nii.gz")
    # The brain and the shins are not in the real field.
    cut = projection(pet)
    height = round(scan.shape[2] * scan.spacing_mm[2] / pet.spacing_mm[2])
    top = max(cut.shape[0] - height, 0)
    for axis, image, volume, title in (
        (axes[0], projection(scan), scan, "real (GE Discovery ST)"),
        (axes[1], cut[top:], pet, f"simulated ({BESIDE_REAL.scanner})"),
        (axes[2], slab(scan, scan.shape[1] // 2), scan, "real, slice"),
        (axes[3], slab(pet, pet.shape[1] // 2)[top:], pet, "simulated, slice"),
    ):
        show(axis, image, volume, WINDOW["FDG"] if "slice" not in title else 5.0)
        axis.set_title(title, fontsize=9)
    save(figure, "beside_real")


def label_map(work: Path, data: Path) -> None:
    if not (data / MAP).is_file():
        return
    subject = Subject(151, "PSMA-1007", "male", 27, "Vision 600", 6, anatomy=anatomy_files(data / MAP, "autopet"))
    study = subject.study(work)
    (pet, _), (ct, _) = (read_image(study / f"{name}.nii.gz") for name in ("pet", "ct"))
    organs, _ = read_labels(data / MAP)
    rows = np.argwhere(read_labels(study / "organs.nii.gz")[0].array == ORGAN_IDS["liver"])
    row = int(np.median(rows[:, 1]))
    figure, axes = panels(1, 4, 13, 5.4)
    # LAS: the map's second axis runs to the front.
    show(axes[0], np.asarray(organs.array.max(axis=1).T[::-1][:, :: _flip(organs)]), organs, 10.0)
    axes[0].set_title("ten organs of a real scan", fontsize=9)
    for axis, image, high, low, title in (
        (axes[1], slab(ct, row), CT_WINDOW[1], CT_WINDOW[0], "simulated CT"),
        (axes[2], slab(pet, row), WINDOW[subject.tracer], 0.0, "simulated PET"),
        (axes[3], projection(pet), WINDOW[subject.tracer], 0.0, "projection"),
    ):
        show(axis, image, pet, high, low=low)
        axis.set_title(title, fontsize=9)
    save(figure, "map")


def _flip(volume: Volume) -> int:
    """Return the step along the first axis that puts the patient's right on the left of a picture."""
    return 1 if volume.orientation.startswith("L") else -1


FIGURES = {"tracers": tracers, "dose": dose, "breathing": breathing, "real": real, "map": label_map}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--only", nargs="+", choices=list(FIGURES), default=list(FIGURES))
    options = parser.parse_args()
    PICTURES.mkdir(exist_ok=True)
    for name in options.only:
        FIGURES[name](options.work, options.data)


if __name__ == "__main__":
    main()
