"""Many digital patients as an nnU-Net raw dataset: images, low-dose twins, lesion and organ labels, splits, a table.

A case depends on its seed and the settings alone, so that processes may share the work as they like, a stopped run goes
on, and a cohort can grow. What is finished stays, whatever happens to the rest.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from uptake.core.errors import OutputError, UptakeError, UsageError
from uptake.geometry.volume import Volume
from uptake.io.write import require_writable, sha256_of, write_csv, write_json, write_volume
from uptake.sampling.splits import Fold, patient_folds
from uptake.simulation.label_noise import LabelChange, LabelNoise, noisy_labels
from uptake.simulation.labels import ORGAN_IDS
from uptake.simulation.truth import Truth
from uptake.workflows.failures import CohortResult, Failure, write_failures
from uptake.workflows.processes import run_in_processes, usable_cpus
from uptake.workflows.simulate import MOST_THREADS, NOTICE, ORGAN_LABELS, truth_of, write_truth
from uptake.workflows.simulated import Simulated, SimulationSettings, case_name, flat, simulated

log = logging.getLogger(__name__)

SETTINGS, TABLE, SPLITS, DATASET = "cohort.json", "cohort.csv", "splits_final.json", "dataset.json"
RECORDS = "cases"

FIRST_COLUMNS = (
    "case", "seed", "tracer", "radionuclide", "site_name", "site_scanner", "site_vendor", "sex", "age_years",
    "height_m", "weight_kg", "bmi", "n_lesions", "lesion_volume_ml", "liver_cov_1", "counts_nec_per_litre",
    "motion_ct_shift_mm",
)  # fmt: skip
"""Of cohort.csv; the others follow by name."""

FOLDS = 5

LESION_NOISE_SEED, ORGAN_NOISE_SEED = 1, 2

CT_CHANNEL, PET_CHANNEL = "0000", "0001"

IMAGES, LESIONS, ORGANS, TRUTHS = "imagesTr", "labelsTr", "organsTr", "truthTr"


@dataclass(frozen=True)
class CohortSettings:
    """What a cohort is made of.

    Attributes
    ----------
    simulation : SimulationSettings
    label_noise : LabelNoise
        Errors in labelsTr and organsTr; the true labels are then kept in labelsTr_clean and organsTr_clean.
    keep_truth : bool
        Also write truthTr/<case>/: see `simulate.write_truth`.
    """

    simulation: SimulationSettings
    label_noise: LabelNoise = field(default_factory=LabelNoise)
    keep_truth: bool = False

    def as_json(self) -> Any:
        """Return the settings as they stand in a JSON file."""
        content = {
            "simulation": self.simulation.as_json(),
            "label_noise": asdict(self.label_noise),
            "keep_truth": self.keep_truth,
            "version": self.simulation.request(0)["version"],
        }
        return json.loads(json.dumps(content))


@dataclass(frozen=True)
class _Job:
    out: Path
    seed: int
    settings: CohortSettings
    again: bool
    threads: int


@dataclass(frozen=True)
class _Done:
    case: str
    state: str
    failure: Failure | None = None
    stop: str = ""


def simulate_cohort(
    out: Path,
    *,
    patients: int,
    seed: int = 0,
    settings: CohortSettings | None = None,
    jobs: int | None = None,
    again: bool = False,
    on_patient: Callable[[int, int], None] | None = None,
) -> CohortResult:
    """Write an nnU-Net raw dataset of `patients` cases; patient n has seed ``seed + n``.

    imagesTr/CASE_0000.nii.gz is the CT (HU), CASE_0001.nii.gz the PET (SUV) on the same grid,
    imagesTr_dose_<fraction>/CASE_0001.nii.gz its low-dose twin, labelsTr/CASE.nii.gz the lesions, organsTr/CASE.nii.gz
    the organs (numbers in organ_labels.json), cohort.csv a row of everything that was drawn per case,
    splits_final.json the folds by patient.

    Parameters
    ----------
    out : Path
    patients, seed : int
    settings : CohortSettings, optional
    jobs : int or None
        Processes; None takes as many as there are CPUs. The files do not depend on it.
    again : bool
        Make cases anew that are there, and replace a cohort of other settings.
    on_patient : callable, optional
        Told (done, all).

    Raises
    ------
    UsageError
        If the number of patients or the seed is not usable, or `out` holds a cohort made with other settings.
    OutputError
        If `out` holds other data, or cannot be written. When the disk fills up, finished cases stay.
    """
    if patients < 1 or seed < 0:
        raise UsageError(f"a cohort has 1 patient or more and a seed >= 0, came {patients} and {seed}.")
    settings = settings or CohortSettings(SimulationSettings())
    require_writable(out)
    _require_same_cohort(out, settings, again)
    write_json({"notice": NOTICE, "settings": settings.as_json()}, out / SETTINGS)
    write_json({str(number): name for name, number in ORGAN_IDS.items()}, out / ORGAN_LABELS)
    processes = min(jobs or usable_cpus(), patients)
    threads = max(min(usable_cpus() // processes, MOST_THREADS), 1)
    work = [_Job(out, n, settings, again, threads) for n in range(seed, seed + patients)]
    results = run_in_processes(
        _make, work, processes, on_patient or (lambda done, total: None), stop=lambda done: bool(done.stop)
    )
    failures = tuple(done.failure for done in results if done.failure is not None)
    write_failures(failures, out)
    _finish(out, settings)
    stopped = next((done.stop for done in results if done.stop), "")
    if stopped:
        there = sum(done.state in ("written", "kept") for done in results)
        raise OutputError(f"{stopped} {there} of {patients} cases are finished and kept; the same command goes on.")
    return CohortResult(
        tuple(done.case for done in results if done.state == "written"),
        tuple(done.case for done in results if done.state == "kept"),
        failures,
    )


def _make(job: _Job) -> _Done:
    """Make one case; an error becomes a row of the table of failures, a full disk ends the run."""
    case = case_name(job.seed)
    try:
        if not job.again and _is_done(job, case):
            return _Done(case, "kept")
        truth = job.settings.keep_truth
        patient = simulated(job.seed, job.settings.simulation, threads=job.threads, noise_free=truth)
        _write(patient, job)
    except OutputError as error:
        return _Done(case, "stopped", stop=str(error))
    except Exception as error:
        level = logging.INFO if isinstance(error, UptakeError) else logging.ERROR
        log.log(level, "%s failed", case, exc_info=not isinstance(error, UptakeError))
        return _Done(case, "failed", Failure.of(case, error))
    return _Done(case, "written")


def _write(patient: Simulated, job: _Job) -> None:
    """Write the files of a case, and its record last: without it the case counts as not made."""
    out, case, truth = job.out, patient.id, patient.truth
    record = out / RECORDS / f"{case}.json"
    record.unlink(missing_ok=True)
    files: dict[str, Volume] = {
        f"{IMAGES}/{case}_{CT_CHANNEL}.nii.gz": patient.scan.ct,
        **{
            f"{IMAGES}{'' if dose == 1.0 else f'_dose_{dose:g}'}/{case}_{PET_CHANNEL}.nii.gz": pet
            for dose, pet in patient.scan.pet.items()
        },
    }
    organs = _organs(truth)
    lesions = truth.lesions.with_array((truth.lesions.array > 0).astype(np.uint8))
    changes: dict[str, Sequence[LabelChange]] = {"lesions": (), "organs": ()}
    if job.settings.label_noise.active:
        files[f"{LESIONS}_clean/{case}.nii.gz"], files[f"{ORGANS}_clean/{case}.nii.gz"] = lesions, organs
        wrong, changes["lesions"] = noisy_labels(
            truth.lesions, job.settings.label_noise, seed=_noise_seed(job.seed, LESION_NOISE_SEED)
        )
        lesions = lesions.with_array((wrong.array > 0).astype(np.uint8))
        organs, changes["organs"] = noisy_labels(
            organs, job.settings.label_noise, seed=_noise_seed(job.seed, ORGAN_NOISE_SEED), names=truth.organ_names
        )
    files[f"{LESIONS}/{case}.nii.gz"], files[f"{ORGANS}/{case}.nii.gz"] = lesions, organs
    for name, volume in files.items():
        (out / name).parent.mkdir(exist_ok=True)
        write_volume(volume, out / name)
    if job.settings.keep_truth:
        (out / TRUTHS).mkdir(exist_ok=True)
        write_truth(patient, out / TRUTHS / case)
    record.parent.mkdir(exist_ok=True)
    write_json(
        {
            **truth_of(patient),
            "request": _request(job),
            "label_changes": {kind: [asdict(change) for change in made] for kind, made in changes.items()},
            "files": {name: sha256_of(out / name) for name in files},
        },
        record,
    )


def _organs(truth: Truth) -> Volume:
    """Return the organ labels with the wall of the heart as part of the heart, as TotalSegmentator's task "total"."""
    array = truth.organs.array.copy()
    array[array == ORGAN_IDS["heart_myocardium"]] = ORGAN_IDS["heart"]
    return truth.organs.with_array(array)


def _noise_seed(seed: int, stream: int) -> int:
    return int(np.random.default_rng([seed, stream]).integers(2**31))


def _request(job: _Job) -> dict[str, object]:
    return {"seed": job.seed, **job.settings.as_json()}


def _is_done(job: _Job, case: str) -> bool:
    """Return whether the case is there as this very request makes it, its files unchanged."""
    try:
        record = json.loads((job.out / RECORDS / f"{case}.json").read_text(encoding="utf-8"))
        same = record["request"] == _request(job)
        return same and all(sha256_of(job.out / name) == digest for name, digest in record["files"].items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _require_same_cohort(out: Path, settings: CohortSettings, again: bool) -> None:
    """Refuse a folder with other data, or with a cohort of other settings unless it is to be replaced."""
    if not (out / SETTINGS).is_file():
        there = [name for name in (IMAGES, LESIONS, DATASET) if (out / name).exists()]
        if there:
            raise OutputError(
                f"{out}: holds {', '.join(there)} that this command has not made. Choose another output folder."
            )
        return
    try:
        old = json.loads((out / SETTINGS).read_text(encoding="utf-8"))["settings"]
    except (ValueError, KeyError, TypeError):
        old = None
    if old != settings.as_json() and not again:
        raise UsageError(
            f"{out}: holds a cohort made with other settings ({', '.join(_differences(old, settings.as_json()))}). "
            "Choose another output folder, or replace its cases with --again."
        )
    if old != settings.as_json():
        _remove_cases(out)


def _remove_cases(out: Path) -> None:
    """Remove what the records list: cases of two settings in one folder would be no dataset."""
    for path in sorted((out / RECORDS).glob("*.json")):
        try:
            names = list(_record(path)["files"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise OutputError(f"{path}: cannot be read, so what belongs to this case is not known.") from error
        # A record that was tampered with must not reach files outside of the dataset.
        for file in (out / name for name in names):
            if file.resolve().is_relative_to(out.resolve()):
                file.unlink(missing_ok=True)
        shutil.rmtree(out / TRUTHS / path.stem, ignore_errors=True)
        path.unlink()


def _differences(old: object, new: object) -> list[str]:
    """Return the names of settings that differ."""
    if not isinstance(old, Mapping) or not isinstance(new, Mapping):
        return ["unreadable"]
    before, now = flat(old), flat(new)
    return sorted(name for name in {*before, *now} if before.get(name) != now.get(name))[:4]


def _finish(out: Path, settings: CohortSettings) -> None:
    """Write what is told about the cohort as a whole, from the records of all its finished cases."""
    records = {path.stem: _record(path) for path in sorted((out / RECORDS).glob("*.json"))}
    current = settings.as_json()
    records = {
        case: record
        for case, record in records.items()
        if {**current, "seed": record["request"]["seed"]} == record["request"]
    }
    rows = [{"case": case, **record["parameters"], **_noise_columns(record)} for case, record in records.items()]
    write_csv(rows, out / TABLE, columns=_columns(rows))
    noisy = settings.label_noise.active
    write_json(
        {
            "name": f"Simulated PET/CT ({', '.join(name for name, _ in settings.simulation.tracers)})",
            "description": f"{NOTICE} Research use only."
            + (" Labels hold errors; the true ones are in labelsTr_clean and organsTr_clean." if noisy else ""),
            "channel_names": {"0": "CT", "1": "PET"},
            "labels": {"background": 0, "lesion": 1},
            "numTraining": len(records),
            "file_ending": ".nii.gz",
        },
        out / DATASET,
    )
    folds: tuple[Fold, ...] = ()
    if len(records) >= 2:
        folds = patient_folds(list(records), folds=min(FOLDS, len(records)))
    write_json([{"train": fold.train, "val": fold.validation} for fold in folds], out / SPLITS)


def _record(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def _noise_columns(record: Mapping[str, Any]) -> dict[str, int]:
    return {f"wrong_{kind}": len(changes) for kind, changes in record["label_changes"].items()}


def _columns(rows: Iterable[Mapping[str, object]]) -> list[str]:
    """Return every key of every row: what a reader looks for first, then the rest by name."""
    every = {key for row in rows for key in row}
    return [*(name for name in FIRST_COLUMNS if name in every), *sorted(every - set(FIRST_COLUMNS))]
