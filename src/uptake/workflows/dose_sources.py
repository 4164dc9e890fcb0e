"""The same examination at several doses: simulated and thinned, twins of a cohort, or noise added to a real scan."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from uptake.cases import Case
from uptake.core.anatomy import TOTAL_NAMES
from uptake.core.errors import InputError, UsageError
from uptake.geometry.components import connected_components
from uptake.geometry.grid import require_same_grid
from uptake.geometry.volume import Volume
from uptake.io.find import CaseFiles
from uptake.io.image import image_stem, image_suffix, read_image, read_labels
from uptake.io.read import read_case
from uptake.io.write import sha256_of
from uptake.sampling.splits import subject_of
from uptake.workflows.map_labels import NAMES, numbering
from uptake.workflows.simulate_lowdose import LowDoseSettings, low_doses
from uptake.workflows.simulated import SimulationSettings, case_name, simulated

ENDLESS, FULL = "endless scan", "full dose"
"""What images are compared with: the reconstruction of expected counts, or the measured full-dose image."""

TWINS = re.compile(r"imagesTr_dose_([0-9.]+)")

PET = "_0001.nii.gz"


@dataclass(frozen=True, eq=False)
class Examination:
    """One examination at several doses.

    Attributes
    ----------
    case, patient, tracer : str
        `tracer` is empty where nothing says it.
    images : mapping of float to Volume
        Dose fraction -> SUV, highest dose first.
    reference : Volume
    kind : str
        What the reference is: `ENDLESS` or `FULL`.
    made : str
        How the doses were made, in words.
    organs : Volume or None
    organ_names : mapping of int to str
    lesions : Volume or None
        Numbered one by one.
    ct : Volume or None
    facts : mapping
        Counts and settings, plain JSON values.
    """

    case: str
    patient: str
    tracer: str
    images: Mapping[float, Volume]
    reference: Volume
    kind: str
    made: str
    organs: Volume | None = None
    organ_names: Mapping[int, str] = field(default_factory=dict)
    lesions: Volume | None = None
    ct: Volume | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class SimulatedSource:
    """A patient of the simulator: the counts of the full dose are thinned, so every dose is exact."""

    seed: int
    settings: SimulationSettings

    @property
    def case(self) -> str:
        """Name of the case."""
        return case_name(self.seed)

    def request(self, doses: Sequence[float]) -> dict[str, Any]:
        """Return all that the images depend on beside the doses."""
        return {"simulated": self.settings.request(self.seed)}

    def load(self, doses: Sequence[float]) -> Examination:
        """Return the images; the reference is the reconstruction of the expected counts."""
        wanted = SimulationSettings(**{**_fields(self.settings), "doses": tuple(d for d in doses if d < 1)})
        patient = simulated(self.seed, wanted, noise_free=True)
        truth, scan = patient.truth, patient.scan
        assert scan.noise_free is not None
        images = {dose: scan.pet[dose] for dose in sorted(scan.pet, reverse=True) if dose in doses}
        counts = {f"{dose:g}": asdict(scan.counts.at(dose)) for dose in images}
        return Examination(
            patient.id, patient.id, truth.tracer, images, scan.noise_free, ENDLESS, "counts thinned",
            truth.organs, truth.organ_names, truth.lesions if int(truth.lesions.array.max()) else None, scan.ct,
            {"counts": counts},
        )  # fmt: skip


@dataclass(frozen=True)
class CohortSource:
    """A case of a simulated cohort, its twins in ``imagesTr_dose_<fraction>``."""

    cohort: Path
    case: str

    def files(self, doses: Sequence[float]) -> dict[str, Path]:
        """Return the files that are read, by what they are; those that are absent are left out.

        Raises
        ------
        InputError
            If the cohort has no twins of a wanted dose.
        """
        there = {1.0: self.cohort / "imagesTr"}
        for folder in self.cohort.glob("imagesTr_dose_*"):
            match = TWINS.fullmatch(folder.name)
            if match:
                there[float(match[1])] = folder
        missing = [dose for dose in doses if dose not in there]
        if missing:
            raise InputError(
                f"{self.cohort}: has no images of dose {', '.join(f'{d:g}' for d in missing)} (there are "
                f"{', '.join(f'{d:g}' for d in sorted(there))}); simulate the cohort with --dose, or leave them out."
            )
        found = {f"dose {dose:g}": there[dose] / f"{self.case}{PET}" for dose in doses}
        optional = {
            "organs": self.cohort / "organsTr" / f"{self.case}.nii.gz",
            "lesions": self.cohort / "labelsTr" / f"{self.case}.nii.gz",
            "ct": self.cohort / "imagesTr" / f"{self.case}_0000.nii.gz",
            "noise free": self.cohort / "truthTr" / self.case / "noise_free.nii.gz",
            "full dose": self.cohort / "imagesTr" / f"{self.case}{PET}",
        }
        return {**found, **{name: path for name, path in optional.items() if path.is_file()}}

    def request(self, doses: Sequence[float]) -> dict[str, Any]:
        """Return all that the images depend on: the contents of the files."""
        return {"files": {name: sha256_of(path) for name, path in self.files(doses).items() if path.is_file()}}

    def load(self, doses: Sequence[float]) -> Examination:
        """Return the images; the reference is the endless scan where the cohort keeps it, else the full dose."""
        files = self.files(doses)
        images = {dose: read_image(files[f"dose {dose:g}"])[0] for dose in sorted(doses, reverse=True)}
        kind = ENDLESS if "noise free" in files else FULL
        reference = read_image(files["noise free" if kind == ENDLESS else "full dose"])[0]
        for name in ("organs", "lesions"):
            if name in files:
                require_same_grid(reference, read_labels(files[name])[0], names=(f"{self.case}: the PET", name))
        organs = read_labels(files["organs"])[0] if "organs" in files else None
        names = self.cohort / NAMES
        return Examination(
            self.case, subject_of(self.case), _tracer_in(self.cohort, self.case), images, reference, kind,
            "counts thinned", organs, numbering(names).names if names.is_file() else TOTAL_NAMES,
            _numbered(read_labels(files["lesions"])[0]) if "lesions" in files else None,
            read_image(files["ct"])[0] if "ct" in files else None,
        )  # fmt: skip


@dataclass(frozen=True)
class RealSource:
    """A real scan: the noise of fewer counts is added in the counts (`simulation.low_dose`)."""

    files: CaseFiles
    settings: LowDoseSettings
    organ_labels: str | None = None
    organs: Path | None = None

    @property
    def case(self) -> str:
        """Name of the case."""
        return self.files.id

    def request(self, doses: Sequence[float]) -> dict[str, Any]:
        """Return all that the images depend on: the contents of the files, and how noise is added."""
        files = self.files
        paths = {"pet": files.pet, "ct": files.ct, "lesions": files.lesions, "organs": files.organs,
                 "dicom": files.dicom, "organ map": None if self.organs is None else self._organ_file()}  # fmt: skip
        return {
            "files": {name: sha256_of(path) for name, path in paths.items() if path is not None},
            "series": [files.study_uid, files.pet_series, files.ct_series],
            "injected": {**asdict(self.settings), "doses": []},
            "organ_labels": self.organ_labels,
        }

    def load(self, doses: Sequence[float]) -> Examination:
        """Return the images; the reference is the full dose, noise and all."""
        case = read_case(self.files, assume_suv=self.settings.assume_suv, labels=True)
        lower = tuple(dose for dose in doses if dose < 1)
        twins = low_doses(case, LowDoseSettings(**{**_fields(self.settings), "doses": lower})) if lower else {}
        images = {1.0: case.pet} if 1.0 in doses else {}
        images.update((twin.fraction, twin.image) for twin in twins.values())
        organs, names = self._organs(case)
        return Examination(
            case.id, self.files.subject or subject_of(case.id), str(case.acquisition.get("tracer") or ""),
            dict(sorted(images.items(), reverse=True)), case.pet, FULL, "noise added in the counts", organs, names,
            None if case.lesions is None else _numbered(case.lesions), case.ct,
            {"twins": {f"{twin.fraction:g}": dict(twin.record) for twin in twins.values()}},
        )  # fmt: skip

    def _organs(self, case: Case) -> tuple[Volume | None, Mapping[int, str]]:
        organs, path = case.organs, self.files.organs
        if self.organs is not None:
            path = self._organ_file()
            organs = read_labels(path)[0]
            require_same_grid(case.pet, organs, names=(f"{case.id}: the PET", str(path)))
        if organs is None:
            return None, {}
        beside = None if path is None else next((p for p in (path.parent, path.parent.parent) if (p / NAMES).is_file()),
                                                None)  # fmt: skip
        given = self.organ_labels or (str(beside / NAMES) if beside is not None else "total")
        return organs, numbering(given).names

    def _organ_file(self) -> Path:
        assert self.organs is not None
        if self.organs.is_file():
            return self.organs
        named = sorted(self.organs.glob(f"{self.files.id}.*"))
        path = next((p for p in named if image_suffix(p) and image_stem(p) == self.files.id), None)
        if path is None:
            raise InputError(f"{self.organs}: holds no organ map named {self.files.id}.")
        return path


Source = SimulatedSource | CohortSource | RealSource


def cohort_sources(folder: Path) -> tuple[CohortSource, ...]:
    """Return the cases of a cohort with twins, or none where the folder is no such cohort."""
    if not folder.is_dir() or not any(TWINS.fullmatch(entry.name) for entry in folder.iterdir() if entry.is_dir()):
        return ()
    images = sorted((folder / "imagesTr").glob(f"*{PET}"))
    return tuple(CohortSource(folder, path.name.removesuffix(PET)) for path in images)


def checked_doses(doses: Sequence[float]) -> tuple[float, ...]:
    """Return dose fractions, each once, highest first.

    Raises
    ------
    UsageError
        If one is not above 0 and at most 1, or there are fewer than two.
    """
    found = tuple(sorted(set(doses), reverse=True))
    if any(not 0 < dose <= 1 for dose in found):
        raise UsageError(f"dose fractions are above 0 and at most 1 (5 % is 0.05), came {', '.join(map(str, doses))}.")
    if len(found) < 2:
        raise UsageError("a study of doses needs two of them at least, such as 1,0.1.")
    return found


def _fields(settings: SimulationSettings | LowDoseSettings) -> dict[str, Any]:
    """Return the fields of a record as they are, not taken apart as `asdict` does."""
    return {name: getattr(settings, name) for name in settings.__dataclass_fields__}


def _numbered(lesions: Volume) -> Volume | None:
    parts = connected_components(np.asarray(lesions.array) > 0)
    return lesions.with_array(parts.labels.astype(np.uint32)) if parts.count else None


def _tracer_in(cohort: Path, case: str) -> str:
    try:
        record = json.loads((cohort / "cases" / f"{case}.json").read_text(encoding="utf-8"))
        return str(record["parameters"]["tracer"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""
