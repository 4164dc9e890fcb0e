"""`dose_study`: the same patients at several doses, and what each dose costs in noise, bias, lesions and organs.

A case is measured in one go and its record written last; a stopped run goes on, and the tables are made of the records.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from uptake import __version__
from uptake.cases import Case
from uptake.core.errors import OutputError, UptakeError, UsageError
from uptake.core.types import FloatArray
from uptake.evaluation.dose_charts import dose_strip
from uptake.geometry.orientation import reorient
from uptake.geometry.volume import Volume
from uptake.io.write import atomic_path, require_writable, write_json
from uptake.workflows.dose_measures import Found, measure, regions_of
from uptake.workflows.dose_outputs import RECORDS, write_study
from uptake.workflows.dose_sources import ENDLESS, Examination, Source, checked_doses
from uptake.workflows.failures import CohortResult, Failure, write_failures
from uptake.workflows.processes import run_in_processes

if TYPE_CHECKING:
    from uptake.workflows.bundles import Bundle

log = logging.getLogger(__name__)

DOSES = (1.0, 0.5, 0.25, 0.1, 0.05, 0.02)
"""Where nothing is said; 5 % is the dose of LDOS."""

SCAN, DENOISED = "scan", "denoised"

SIMULATED_NOTICE = "These patients are simulated: digital phantoms and a model of the scanner, not people."
INJECTED_NOTICE = (
    "The doses below the full one are the given scans with noise added in their counts; they are compared with the "
    "full-dose image, whose own noise stays in every comparison."
)


@dataclass(frozen=True)
class DoseStudySettings:
    """What is asked of every patient.

    Attributes
    ----------
    doses : tuple of float
        Fractions of the full dose, two at least.
    model : str or None
        Bundle that segments every image: organ Dice and lesion Dice, where there is truth.
    denoise : bool
        Also measure the image that the model's denoising decoder makes.
    mirror : bool
        As in `segment`.
    device : str
    """

    doses: tuple[float, ...] = DOSES
    model: str | None = None
    denoise: bool = False
    mirror: bool = True
    device: str = "auto"

    def __post_init__(self) -> None:
        object.__setattr__(self, "doses", checked_doses(self.doses))
        if self.denoise and self.model is None:
            raise UsageError("to measure denoised images name a model that denoises (--model).")


@dataclass(frozen=True)
class _Job:
    source: Source
    settings: DoseStudySettings
    out: Path
    again: bool
    alone: bool
    bundle: str


@dataclass(frozen=True)
class _Done:
    case: str
    state: str
    failure: Failure | None = None
    stop: str = ""


def dose_study(
    sources: Sequence[Source],
    out: Path | str,
    *,
    settings: DoseStudySettings | None = None,
    jobs: int | None = 1,
    again: bool = False,
    on_case: Callable[[int, int], None] | None = None,
) -> CohortResult:
    """Measure every patient at every dose, and write tables, intervals, the picture and the page.

    Parameters
    ----------
    sources : sequence of SimulatedSource, CohortSource or RealSource
        See `dose_sources`.
    out : path
        Receives dose_study.csv, organs.csv, lesions.csv, summary.csv, limits.csv, dose_study.png, report.html,
        study.json, and a record per case in cases/. Failures go to failures.csv; a single case raises instead.
    settings : DoseStudySettings, optional
    jobs : int or None
        Processes, see `processes.run_in_processes`.
    again : bool
        Do complete cases anew.
    on_case : callable, optional
        Told (done, all).

    Raises
    ------
    UsageError, OutputError, ModelError
        Before any work.
    InputError
        Of a single case.
    """
    settings = settings or DoseStudySettings()
    out = Path(out)
    names = [source.case for source in sources]
    if not names:
        raise UsageError("a study of doses needs one examination at least.")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"several examinations would be named {twice!r}, and so would their records.")
    checksum = ""
    if settings.model is not None:
        bundle = _bundle(settings.model)
        _require_denoiser(bundle, settings)
        checksum = bundle.checksum
    require_writable(out / RECORDS)
    work = [_Job(source, settings, out, again, len(sources) == 1, checksum) for source in sources]
    results = run_in_processes(
        _measured, work, jobs, on_case or (lambda done, total: None), stop=lambda done: bool(done.stop)
    )
    failures = tuple(done.failure for done in results if done.failure is not None)
    write_failures(failures, out)
    done = [result.case for result in results if result.state in ("written", "kept")]
    records = [json.loads((out / RECORDS / f"{case}.json").read_text(encoding="utf-8")) for case in done]
    if records:
        write_study(out, records, settings=_facts(settings, records), notices=_notices(records))
    stopped = next((result.stop for result in results if result.stop), "")
    if stopped:
        raise OutputError(f"{stopped} {len(done)} of {len(sources)} cases are kept; the same command goes on.")
    return CohortResult(
        tuple(result.case for result in results if result.state == "written"),
        tuple(result.case for result in results if result.state == "kept"),
        failures,
    )


def _measured(job: _Job) -> _Done:
    case = job.source.case
    try:
        request = _request(job)
        if not job.again and _is_done(job.out, case, request):
            return _Done(case, "kept")
        _write(job, request)
    except OutputError as error:
        return _Done(case, "stopped", stop=str(error))
    except Exception as error:
        if job.alone:
            raise
        level = logging.INFO if isinstance(error, UptakeError) else logging.ERROR
        log.log(level, "%s failed", case, exc_info=not isinstance(error, UptakeError))
        return _Done(case, "failed", Failure.of(case, error))
    return _Done(case, "written")


def _write(job: _Job, request: Mapping[str, Any]) -> None:
    """Measure a case, and write its record last."""
    place = job.out / RECORDS
    record = place / f"{job.source.case}.json"
    record.unlink(missing_ok=True)
    examination = job.source.load(job.settings.doses)
    regions = regions_of(
        examination.reference,
        organs=examination.organs,
        names=examination.organ_names,
        lesions=examination.lesions,
    )
    rows: dict[str, list[dict[str, Any]]] = {"rows": [], "organs": [], "lesions": []}
    strip: dict[str, list[tuple[str, FloatArray]]] = {SCAN: [], DENOISED: []}
    for dose, image in examination.images.items():
        found, denoised = _findings(job.settings, examination, image)
        for kind, shown in ((SCAN, image), (DENOISED, denoised)):
            if shown is None:
                continue
            row, organs, lesions = measure(shown, examination.reference, regions, found=found if kind == SCAN else None)
            head = {"case": examination.case, "patient": examination.patient, "dose": dose, "image": kind}
            about = {"tracer": examination.tracer, "reference": examination.kind}
            rows["rows"].append({**head, **about, **row})
            rows["organs"] += [{**head, **each} for each in organs]
            rows["lesions"] += [{**head, **each} for each in lesions]
            title = f"{100 * dose:g} %" + ("" if kind == SCAN else f", {DENOISED}")
            strip[kind].append((title, _coronal(shown)))
    pictures = [*strip[SCAN], (examination.kind, _coronal(examination.reference)), *strip[DENOISED]]
    spacing = reorient(examination.reference, "LPS").spacing_mm
    with atomic_path(place / f"{examination.case}.png") as temporary:
        temporary.write_bytes(dose_strip(pictures, aspect=spacing[2] / spacing[0]))
    write_json(
        {
            "case": examination.case, "request": request, "made": examination.made, "kind": examination.kind,
            "tracer": examination.tracer, "facts": examination.facts, **rows,
        },
        record,
    )  # fmt: skip


def _findings(
    settings: DoseStudySettings, examination: Examination, image: Volume
) -> tuple[Found | None, Volume | None]:
    """Return what the model finds in an image, and the image it makes of it."""
    if settings.model is None:
        return None, None
    from uptake.workflows.segment import SegmentSettings, segment

    bundle = _bundle(settings.model)
    case = Case(examination.case, image, examination.ct)
    if settings.denoise:
        from uptake.workflows.denoise import DenoiseSettings, denoise

        # A network that finds organs beside the image is run once for both.
        both = bool(getattr(bundle.config, "finds_organs", False))
        made = denoise(case, model=bundle, device=settings.device,
                       settings=DenoiseSettings(mirror=settings.mirror, organs=both))  # fmt: skip
        organs = None if made.organs is None else np.asarray(made.organs.array)
        return (None if organs is None else Found(organs, made.organ_names)), made.image
    found = segment(case, model=bundle, device=settings.device, settings=SegmentSettings(mirror=settings.mirror),
                    gate=False)  # fmt: skip
    lesions = None if found.lesions is None else np.asarray(found.lesions.array) > 0
    organs = None if found.organs is None else np.asarray(found.organs.array)
    return Found(organs, found.organ_names, lesions), None


def _coronal(image: Volume) -> FloatArray:
    """Return the coronal maximum-intensity projection, rows from the feet to the head, patient's right on the left."""
    return np.asarray(reorient(image, "LPS").array.max(axis=1).T, dtype=np.float32)


@lru_cache(maxsize=2)
def _bundle(name: str) -> Bundle:
    """Return a bundle, loaded once in each process."""
    from uptake.workflows.bundles import load_bundle

    return load_bundle(name)


def _require_denoiser(bundle: Bundle, settings: DoseStudySettings) -> None:
    if settings.denoise:
        from uptake.workflows.denoise import require_denoiser

        require_denoiser(bundle)


def _request(job: _Job) -> dict[str, Any]:
    settings = job.settings
    request = {
        "source": job.source.request(settings.doses),
        "doses": list(settings.doses),
        "model": job.bundle,
        "denoise": settings.denoise,
        "mirror": settings.mirror,
        "version": __version__,
    }
    plain: dict[str, Any] = json.loads(json.dumps(request, default=str))
    return plain


def _is_done(out: Path, case: str, request: Mapping[str, Any]) -> bool:
    try:
        record = json.loads((out / RECORDS / f"{case}.json").read_text(encoding="utf-8"))
        return bool(record["request"] == request)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _facts(settings: DoseStudySettings, records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    every = "\n".join(sorted(json.dumps(record["request"], sort_keys=True) for record in records))
    return {
        "doses": list(settings.doses),
        "examinations": len(records),
        "doses made by": sorted({str(record["made"]) for record in records}),
        "compared with": sorted({str(record["kind"]) for record in records}),
        "tracers": sorted({str(record["tracer"]) for record in records} - {""}),
        "model": settings.model,
        "uptake": __version__,
        "inputs and settings (SHA-256)": hashlib.sha256(every.encode()).hexdigest()[:16],
    }


def _notices(records: Sequence[Mapping[str, Any]]) -> list[str]:
    notices = []
    if any(record["kind"] == ENDLESS or "counts thinned" in str(record["made"]) for record in records):
        notices.append(SIMULATED_NOTICE)
    if any(record["made"] == "noise added in the counts" for record in records):
        notices.append(INJECTED_NOTICE)
    return notices
