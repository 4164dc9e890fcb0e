"""Digital patients as study folders that every other verb reads, NIfTI or DICOM."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from uptake.core.errors import UsageError
from uptake.io.write import require_writable, write_json, write_volume
from uptake.simulation.truth import Truth
from uptake.workflows.outputs import recover, require_replaceable, whole_folder
from uptake.workflows.processes import run_in_processes, usable_cpus
from uptake.workflows.simulated import Simulated, SimulationSettings, case_name, simulated
from uptake.workflows.simulated_dicom import DicomStyle, write_dicom_study

TRUTH = "truth.json"
ORGAN_LABELS = "organ_labels.json"
NOTICE = "Simulated; no such person exists."

MOST_THREADS = 4


@dataclass(frozen=True)
class _Job:
    """One patient to be made."""

    out: Path
    seed: int
    settings: SimulationSettings
    dicom: DicomStyle | None
    keep_truth: bool
    threads: int

    @property
    def folder(self) -> Path:
        return self.out / case_name(self.seed)

    @property
    def request(self) -> dict[str, object]:
        dicom = None if self.dicom is None else asdict(self.dicom)
        return {**self.settings.request(self.seed), "dicom": dicom, "keep_truth": self.keep_truth}


@dataclass(frozen=True)
class Made:
    """What became of one patient: folder, number of lesions, whether it was there already."""

    folder: Path
    lesions: int
    kept: bool


def simulate(
    out: Path,
    *,
    patients: int = 1,
    seed: int = 0,
    settings: SimulationSettings | None = None,
    dicom: DicomStyle | None = None,
    keep_truth: bool = False,
    jobs: int | None = 1,
    on_patient: Callable[[int, int], None] | None = None,
) -> list[Made]:
    """Write `patients` study folders and return what became of each; patient n has seed ``seed + n``.

    Each holds pet.nii.gz (SUV), ct.nii.gz (HU), lesion.nii.gz, organs.nii.gz with organ_labels.json,
    ``dose_<fraction>/pet.nii.gz`` for every further dose, and truth.json (every lesion's true volume and uptake, all
    that was drawn). As DICOM, PT/, CT/ and PT_dose_<fraction>/ hold the series, and truth/ the masks. A folder that is
    complete already, made by the same call, is kept.

    Parameters
    ----------
    out : Path
    patients, seed : int
    settings : SimulationSettings, optional
    dicom : DicomStyle, optional
        Write DICOM instead of NIfTI.
    keep_truth : bool
        Also write truth/: activity without blur and noise, the image of an endless scan, the labels in the frame of
        the CT, and the motion between.
    jobs : int or None
        Processes; None takes as many as there are CPUs. The files do not depend on it.
    on_patient : callable, optional
        Told (done, all).

    Raises
    ------
    UsageError
        If the number of patients is not positive, or the seed is negative.
    OutputError
        If a folder of that name holds other files, or the disk is full; finished patients stay.
    """
    if patients < 1:
        raise UsageError(f"the number of patients is 1 or more, came {patients}.")
    if seed < 0:
        raise UsageError(f"the seed is 0 or more, came {seed}.")
    settings = settings or SimulationSettings()
    if dicom is not None:
        settings = replace(settings, scanner=dicom.scanner(settings.scanner))
    require_writable(out)
    threads = max(min(usable_cpus() // max(jobs or usable_cpus(), 1), MOST_THREADS), 1)
    work = [_Job(out, n, settings, dicom, keep_truth, threads) for n in range(seed, seed + patients)]
    for job in work:
        recover(job.folder)
        require_replaceable(job.folder, own=_entries(job))
    return run_in_processes(_make, work, jobs, on_patient or (lambda done, total: None))


def _make(job: _Job) -> Made:
    lesions = _lesions_of(job)
    if lesions is not None:
        return Made(job.folder, lesions, kept=True)
    patient = simulated(job.seed, job.settings, threads=job.threads, noise_free=job.keep_truth)
    with whole_folder(job.folder, own=_entries(job)) as place:
        if job.dicom is None:
            _write_images(patient, place)
            _write_labels(patient.truth, place)
        else:
            write_dicom_study(patient, place, job.dicom.dialect(patient.site), request=job.request)
            (place / "truth").mkdir()
            _write_labels(patient.truth, place / "truth")
        if job.keep_truth:
            write_truth(patient, place / "truth")
        write_json({"request": job.request, **truth_of(patient)}, place / TRUTH)
    return Made(job.folder, len(patient.truth.lesion_table), kept=False)


def truth_of(patient: Simulated) -> dict[str, object]:
    """Return what is known about a patient, for a JSON file."""
    truth = patient.truth
    return {
        "notice": NOTICE,
        "parameters": dict(patient.parameters),
        "lesions": [asdict(lesion) for lesion in truth.lesion_table],
        "mimics": [asdict(mimic) for mimic in truth.mimics],
        "organs": dict(truth.organ_names),
        "counts": {f"{dose:g}": asdict(patient.scan.counts.at(dose)) for dose in patient.scan.pet},
    }


def write_truth(patient: Simulated, folder: Path) -> None:
    """Write what no scanner shows: activity, an endless scan, lesions one by one, the frame of the CT, the motion."""
    folder.mkdir(exist_ok=True)
    truth, frame = patient.truth, patient.scan.frame
    write_volume(truth.activity, folder / "activity.nii.gz")
    if patient.scan.noise_free is not None:
        write_volume(patient.scan.noise_free, folder / "noise_free.nii.gz")
    write_volume(truth.lesions, folder / "lesion_instances.nii.gz")
    write_volume(frame.organs, folder / "organs_ct.nii.gz")
    write_volume(frame.lesions, folder / "lesion_instances_ct.nii.gz")
    for axis, name in enumerate("xyz"):
        component = truth.activity.with_array(np.ascontiguousarray(frame.field_mm[..., axis]))
        write_volume(component, folder / f"motion_{name}_mm.nii.gz")


def _write_images(patient: Simulated, place: Path) -> None:
    write_volume(patient.scan.pet[1.0], place / "pet.nii.gz")
    write_volume(patient.scan.ct, place / "ct.nii.gz")
    for dose, pet in patient.scan.pet.items():
        if dose < 1.0:
            (place / f"dose_{dose:g}").mkdir()
            write_volume(pet, place / f"dose_{dose:g}" / "pet.nii.gz")


def _write_labels(truth: Truth, place: Path) -> None:
    write_volume(truth.lesions.with_array((truth.lesions.array > 0).astype(np.uint8)), place / "lesion.nii.gz")
    write_volume(truth.organs, place / "organs.nii.gz")
    write_json({str(number): name for number, name in truth.organ_names.items()}, place / ORGAN_LABELS)


def _entries(job: _Job) -> tuple[str, ...]:
    """Return the names that a patient's folder may hold, of this call or of an earlier one."""
    names = {"pet.nii.gz", "ct.nii.gz", "lesion.nii.gz", "organs.nii.gz", ORGAN_LABELS, TRUTH, "PT", "CT", "truth"}
    if job.folder.is_dir():
        names |= {e.name for e in job.folder.iterdir() if e.is_dir() and e.name.startswith(("dose_", "PT_dose_"))}
    return tuple(sorted(names))


def _lesions_of(job: _Job) -> int | None:
    """Return the number of lesions in a folder that holds the complete patient of this very request, else None.

    A folder appears whole or not at all, so the record alone tells.
    """
    try:
        truth: Mapping[str, list[object]] = json.loads((job.folder / TRUTH).read_text(encoding="utf-8"))
        return len(truth["lesions"]) if truth["request"] == _as_json(job.request) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _as_json(value: object) -> object:
    return json.loads(json.dumps(value, default=str))
