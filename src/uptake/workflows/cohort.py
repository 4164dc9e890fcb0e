"""Many studies, one model: one bad case does not stop the others, a stopped run goes on, failures are listed."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from uptake.core.errors import UptakeError
from uptake.io.find import CaseFiles
from uptake.io.read import read_case
from uptake.io.write import require_writable
from uptake.quantification.manifest import BundleRecord
from uptake.training.devices import device_name
from uptake.workflows.bundles import Bundle, bundle_for
from uptake.workflows.dicom_results import DicomSettings
from uptake.workflows.failures import FAILURES, CohortResult, Failure, require_different_names, write_failures
from uptake.workflows.outputs import is_done, recover, request_of, require_replaceable, write_segmentation
from uptake.workflows.privacy import named_safely
from uptake.workflows.segment import SegmentSettings, resolved, segment_case

log = logging.getLogger(__name__)

__all__ = ["FAILURES", "CohortResult", "Failure", "segment_cases"]


def segment_cases(
    cases: Sequence[CaseFiles],
    out: Path,
    *,
    model: str | Path | Bundle,
    device: str = "auto",
    settings: SegmentSettings | None = None,
    assume_suv: bool = False,
    again: bool = False,
    dicom: DicomSettings | None = None,
    gate: bool = True,
    on_case: Callable[[str, str], None] | None = None,
    on_window: Callable[[int, int], None] | None = None,
) -> CohortResult:
    """Segment every case into ``out/<case>/``; weights are loaded once.

    A case whose folder already holds the complete result of the same input, model and settings is kept, unless
    `again`. Failures are written to ``out/failures.csv`` (removed when there are none), results of good cases stay.

    Parameters
    ----------
    cases : sequence of CaseFiles
    out : Path
    model, device, settings, assume_suv
        As for `segment`.
    again : bool
        Do complete cases anew.
    dicom : DicomSettings, optional
        Which DICOM objects are written for cases that came as DICOM; all by default, without identifiers.
    gate : bool
        Judge every input first; see `uptake.gate`.
    on_case : callable, optional
        Told (case id, "start" | "written" | "kept" | "failed").
    on_window : callable, optional
        Told (done, all) within a case.

    Raises
    ------
    OutputError, ModelError
        Before any case is read, if nothing could be written or the model is not usable.
    UsageError
        If two cases have the same id, or a setting cannot be had.
    """
    settings = settings or SegmentSettings()
    keep = (dicom or DicomSettings()).keep_identifiers
    cases = [named_safely(files, keep_identifiers=keep) for files in cases]
    require_different_names(cases)
    require_writable(out)
    # What "auto" means is part of the request: a result of another engine or number format is not kept.
    settings = resolved(settings, device_name(device))
    bundle = model if isinstance(model, Bundle) else bundle_for(model, settings.engine)
    record = BundleRecord(bundle.card.name, bundle.card.version, bundle.card.checksums())
    tell = on_case or (lambda case, state: None)
    written, kept, failures = [], [], []
    for files in cases:
        tell(files.id, "start")
        try:
            recover(out / files.id)
            require_replaceable(out / files.id)
            began = time.perf_counter()
            case = read_case(files, assume_suv=assume_suv, labels=False)
            timings = {"read": time.perf_counter() - began}
            if not again and is_done(out / files.id, request_of(case, record, asdict(settings), dicom, gate=gate)):
                kept.append(files.id)
                tell(files.id, "kept")
                continue
            found = segment_case(
                case, bundle, device=device, settings=settings, gate=gate, timings_s=timings, on_window=on_window
            )
            write_segmentation(found, out / files.id, dicom=dicom)
        except Exception as error:
            if len(cases) == 1:
                raise
            failures.append(Failure.of(files.id, error))
            # A refusal stands in failures.csv in full; a bug is worth its traceback.
            log.log(
                logging.INFO if isinstance(error, UptakeError) else logging.ERROR,
                "%s failed",
                files.id,
                exc_info=not isinstance(error, UptakeError),
            )
            tell(files.id, "failed")
            continue
        written.append(files.id)
        tell(files.id, "written")
    write_failures(failures, out)
    return CohortResult(tuple(written), tuple(kept), tuple(failures))
