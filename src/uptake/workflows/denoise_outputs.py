"""The files of a denoised study: image, side-car, picture, DICOM series; and cohorts of studies."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from uptake import RESEARCH_USE_ONLY
from uptake.cases import Case
from uptake.core.errors import UptakeError
from uptake.core.figures import new_figure, png_bytes
from uptake.io.dicom_result import Maker
from uptake.io.find import CaseFiles, find_cases
from uptake.io.read import read_case
from uptake.io.write import atomic_path, require_writable, sha256_of, write_json, write_volume
from uptake.quantification.drawing import colour_bar, panel, scale_bar, show_part, side_letters
from uptake.quantification.manifest import BundleRecord, OutputFile, run_manifest
from uptake.quantification.views import display
from uptake.training.devices import resolve_device
from uptake.workflows.bundles import Bundle, load_bundle
from uptake.workflows.denoise import DEFAULT_DENOISER, DenoiseSettings, Denoising, denoise, require_denoiser
from uptake.workflows.dicom_results import DicomSettings, reference_of
from uptake.workflows.dose_sources import PET, TWINS
from uptake.workflows.failures import CohortResult, Failure, require_different_names, write_failures
from uptake.workflows.outputs import (
    RUN,
    is_done,
    package_versions,
    recover,
    request_of,
    require_replaceable,
    whole_folder,
)
from uptake.workflows.privacy import anonymous, named_safely
from uptake.workflows.segment import SegmentSettings, resolved

log = logging.getLogger(__name__)

IMAGE, RECORD, PICTURE, ORGANS, ORGAN_LABELS, SERIES = (
    "pet_denoised.nii.gz", "denoise.json", "before_after.png", "organs.nii.gz", "organ_labels.json", "PT_denoised",
)  # fmt: skip

NOTICE = "Denoised PET: made by a network, not measured. Research use only."

SUV_WINDOW = (0.0, 7.0)


def write_denoised(made: Denoising, folder: Path, *, dicom: DicomSettings | None = None) -> Path:
    """Write pet_denoised.nii.gz, denoise.json, before_after.png and run.json, and return the folder.

    With organs also organs.nii.gz and organ_labels.json; where the PET came as DICOM, the derived series
    ``PT_denoised/``. Everything appears in one rename.
    """
    dicom = dicom or DicomSettings()
    began = datetime.now(UTC).astimezone() - timedelta(seconds=sum(made.timings_s.values()))
    reference, notes = reference_of(made.case, dicom)
    case, warnings = made.case, (*made.warnings, *notes)
    files = case.pet_files
    if not dicom.keep_identifiers:
        case, warnings = anonymous(case, warnings)
    bundle = BundleRecord(made.card.name, made.card.version, made.card.checksums())
    settings = {**asdict(made.settings), "device": made.device}
    with whole_folder(folder, own=(SERIES,)) as place:
        write_volume(made.image, place / IMAGE)
        if made.organs is not None:
            write_volume(made.organs, place / ORGANS)
            write_json({str(number): name for number, name in made.organ_names.items()}, place / ORGAN_LABELS)
        write_json(sidecar(made, case, warnings), place / RECORD)
        with atomic_path(place / PICTURE) as temporary:
            temporary.write_bytes(before_after(made))
        if reference is not None:
            from uptake.io.dicom_pet_result import write_pet_result
            from uptake.io.dicom_reference import Identity

            maker = Maker("AUTOMATIC", made.card.name, made.card.version, made.checksum)
            write_pet_result(
                made.image, reference, files, place / SERIES, maker=maker,
                identity=Identity(case.id, dicom.keep_identifiers), content="PET denoised", derivation=derivation(made),
            )  # fmt: skip
        written = sorted(path for path in place.rglob("*") if path.is_file())
        outputs = [OutputFile(path.relative_to(place).as_posix(), sha256_of(path), path.stat().st_size)
                   for path in written]  # fmt: skip
        manifest = run_manifest(
            case.id,
            inputs=case.sources,
            outputs=outputs,
            bundle=bundle,
            settings=settings,
            versions=package_versions(),
            timings_s=made.timings_s,
            warnings=warnings,
            acquisition=case.acquisition,
            started=began.isoformat(timespec="seconds"),
        )
        request = request_of(made.case, bundle, asdict(made.settings), dicom, gate=False)
        write_json({**manifest, "request": request}, place / RUN)
    return folder


def sidecar(made: Denoising, case: Case, warnings: Sequence[str]) -> dict[str, Any]:
    """Return what denoise.json holds: dose, normalisation, model, noise before and after, warnings.

    `case` and `warnings` are those that may be written: without who the patient is (`privacy.anonymous`).
    """
    told = case.acquisition.get("tracer")
    return {
        "notice": f"{NOTICE} {RESEARCH_USE_ONLY}",
        "case": case.id,
        "unit": "SUV by body weight, g/mL",
        "dose_fraction": made.dose_fraction,
        "dose_fraction_of_training": made.trained_dose,
        "tracer": made.settings.tracer or str(told or "") or made.tracer,
        "normalisation": dict(made.scale),
        "model": {
            "name": made.card.name, "version": made.card.version, "checksum": made.checksum,
            "method": made.card.method, "spacing_mm": made.card.plan.get("spacing_mm"),
        },
        "noise": asdict(made.noise),
        "warnings": list(warnings),
    }  # fmt: skip


def derivation(made: Denoising) -> str:
    """Return how the image was made, in a sentence for a DICOM header."""
    dose = "unknown dose" if made.dose_fraction is None else f"{100 * made.dose_fraction:g} % of the full dose"
    return f"denoised by {made.card.name} {made.card.version} from {dose}, {made.checksum[:12]}"


def before_after(made: Denoising, *, height_in: float = 5.2) -> bytes:
    """Return coronal projections and a coronal slice of the PET before and after, as PNG."""
    before, after = display(made.case.pet), display(made.image)
    low, high = before.edges_mm(1)
    middle = (low + high) / 2
    views = []
    for title, shown in (("as it came", before), ("denoised", after)):
        views.append((f"{title}: MIP", shown.projection("coronal")))
    for title, shown in (("as it came", before), ("denoised", after)):
        cut = shown.cut("coronal", middle)
        assert cut is not None
        views.append((f"{title}: slice", cut))
    frame = views[0][1].extent
    scale = height_in / (frame[3] - frame[2])
    width = scale * (frame[1] - frame[0])
    left, right, bottom, top, gap = 0.12, 0.95, 0.12, 0.34, 0.1
    size = (left + right + len(views) * width + (len(views) - 1) * gap, bottom + top + height_in)
    figure = new_figure(size)
    image = None
    for number, (title, view) in enumerate(views):
        axes = panel(figure, size, (left + number * (width + gap), bottom, width, height_in))
        image = axes.imshow(view.pixels, cmap="gray_r", vmin=SUV_WINDOW[0], vmax=SUV_WINDOW[1], extent=view.extent,
                            origin="lower", interpolation="bilinear", aspect="equal")  # fmt: skip
        show_part(axes, frame, upside_down=False)
        side_letters(axes, "coronal", "black")
        axes.set_title(title, fontsize=9, color="#333333", pad=4)
    scale_bar(figure.axes[0], "black")
    assert image is not None
    bar = panel(figure, size, (size[0] - right + 0.12, bottom + 0.3 * height_in, 0.13, 0.4 * height_in))
    colour_bar(figure, image, bar, over=float(np.max(made.case.pet.array)) > SUV_WINDOW[1])
    return png_bytes(figure)


def find_studies(study: Path, *, pet: Path | None = None) -> list[CaseFiles]:
    """Return the cases below a path, as `io.find.find_cases`; also those of a cohort's ``imagesTr_dose_<fraction>``.

    Such a folder holds PETs alone, and so is no image folder of nnU-Net's.
    """
    twins = sorted(study.glob(f"*{PET}")) if study.is_dir() and TWINS.fullmatch(study.resolve().name) else []
    if twins and pet is None:
        return [CaseFiles(path.name.removesuffix(PET), pet=path) for path in twins]
    return find_cases(study, pet=pet)


def denoise_cases(
    cases: Sequence[CaseFiles],
    out: Path,
    *,
    model: str | Path | Bundle = DEFAULT_DENOISER,
    device: str = "auto",
    settings: DenoiseSettings | None = None,
    assume_suv: bool = False,
    again: bool = False,
    dicom: DicomSettings | None = None,
    on_case: Callable[[str, str], None] | None = None,
    on_window: Callable[[int, int], None] | None = None,
) -> CohortResult:
    """Denoise every case into ``out/<case>/``; as `cohort.segment_cases` in everything else.

    Raises
    ------
    OutputError, ModelError, UsageError
        Before any case is read.
    """
    settings = settings or DenoiseSettings()
    dicom = dicom or DicomSettings()
    cases = [named_safely(files, keep_identifiers=dicom.keep_identifiers) for files in cases]
    require_different_names(cases)
    require_writable(out)
    bundle = model if isinstance(model, Bundle) else load_bundle(model)
    require_denoiser(bundle, organs=settings.organs)
    record = BundleRecord(bundle.card.name, bundle.card.version, bundle.card.checksums())
    tell = on_case or (lambda case, state: None)
    written, kept, failures = [], [], []
    for files in cases:
        tell(files.id, "start")
        try:
            recover(out / files.id)
            require_replaceable(out / files.id, own=(SERIES,))
            case = read_case(files, assume_suv=assume_suv, labels=False)
            request = request_of(case, record, _resolved(settings, device), dicom, gate=False)
            if not again and is_done(out / files.id, request):
                kept.append(files.id)
                tell(files.id, "kept")
                continue
            made = denoise(case, model=bundle, device=device, settings=settings, on_window=on_window)
            write_denoised(made, out / files.id, dicom=dicom)
        except Exception as error:
            if len(cases) == 1:
                raise
            failures.append(Failure.of(files.id, error))
            level = logging.INFO if isinstance(error, UptakeError) else logging.ERROR
            log.log(level, "%s failed", files.id, exc_info=not isinstance(error, UptakeError))
            tell(files.id, "failed")
            continue
        written.append(files.id)
        tell(files.id, "written")
    write_failures(failures, out)
    return CohortResult(tuple(written), tuple(kept), tuple(failures))


def _resolved(settings: DenoiseSettings, device: str) -> Mapping[str, object]:
    """Return the settings with what "auto" means here: a result of another engine or number format is not kept."""
    common = resolved(SegmentSettings(precision=settings.precision, engine=settings.engine), resolve_device(device))
    return {**asdict(settings), "precision": common.precision, "engine": common.engine}
