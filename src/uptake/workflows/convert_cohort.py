"""Many DICOM studies to NIfTI: one bad study does not stop the others, a stopped run goes on, failures are listed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

from uptake.core.errors import UptakeError, UsageError
from uptake.io.find import CaseFiles
from uptake.io.write import require_writable
from uptake.workflows.convert import Converted, ConvertSettings, convert
from uptake.workflows.failures import CohortResult, Failure, require_different_names, write_failures
from uptake.workflows.privacy import named_safely

log = logging.getLogger(__name__)


def convert_cases(
    cases: Sequence[CaseFiles],
    out: Path,
    *,
    settings: ConvertSettings | None = None,
    again: bool = False,
    jobs: int = 1,
    on_case: Callable[[str, str], None] | None = None,
) -> CohortResult:
    """Convert every study into ``out/<case>/``.

    A case whose folder already holds the complete result of the same input and settings is kept, unless `again`.
    Failures are written to ``out/failures.csv`` (removed when there are none), results of good cases stay. A single
    case raises instead.

    Parameters
    ----------
    cases : sequence of CaseFiles
        From `io.find.find_cases`.
    out : Path
    settings, again
        As for `convert`.
    jobs : int
        Processes that work side by side.
    on_case : callable, optional
        Told (case id, "written" | "kept" | "failed").

    Raises
    ------
    OutputError
        Before any case is read, if nothing could be written.
    UsageError
        If two cases have the same name, or values are supplied for several studies.
    """
    settings = settings or ConvertSettings()
    if len(cases) > 1 and settings.supplied is not None:
        raise UsageError(f"weight, dose and times can be supplied for one study only; there are {len(cases)}.")
    if jobs < 1:
        raise UsageError(f"jobs is the number of processes, 1 or more; came {jobs}.")
    require_writable(out)
    cases = [named_safely(files, keep_identifiers=settings.keep_identifiers) for files in cases]
    require_different_names(cases)
    if len(cases) == 1:
        only = convert(cases[0], out, settings=settings, again=again)
        write_failures((), out)
        return CohortResult(*(((only.case,), ()) if not only.kept else ((), (only.case,))), ())
    tell = on_case or (lambda case, state: None)
    written, kept, failures = [], [], []
    for files, outcome in _outcomes(cases, out, settings, again, min(jobs, len(cases))):
        if isinstance(outcome, Exception):
            failures.append(_failure(files, outcome, settings))
            tell(files.id, "failed")
            continue
        (kept if outcome.kept else written).append(outcome.case)
        tell(outcome.case, "kept" if outcome.kept else "written")
    failures.sort(key=lambda failure: failure.case)
    write_failures(failures, out)
    return CohortResult(tuple(sorted(written)), tuple(sorted(kept)), tuple(failures))


def _outcomes(
    cases: Sequence[CaseFiles], out: Path, settings: ConvertSettings, again: bool, jobs: int
) -> Iterator[tuple[CaseFiles, Converted | Exception]]:
    """Yield every case once, with what was written or what went wrong."""
    if jobs == 1:
        for files in cases:
            try:
                yield files, convert(files, out, settings=settings, again=again)
            except Exception as error:
                yield files, error
        return
    pool = ProcessPoolExecutor(max_workers=jobs, mp_context=get_context("spawn"))
    try:
        running: dict[Future[Converted], CaseFiles] = {
            pool.submit(convert, files, out, settings=settings, again=again): files for files in cases
        }
        for future in as_completed(running):
            # A worker that was killed (no memory left) breaks the pool: every case it takes along is a failure.
            error = future.exception()
            if error is not None and not isinstance(error, Exception):
                raise error
            yield running[future], future.result() if error is None else error
    finally:
        pool.shutdown(cancel_futures=True)


def _failure(files: CaseFiles, error: Exception, settings: ConvertSettings) -> Failure:
    """Record a failure; the path of the study may name the patient and is not written."""
    if not isinstance(error, UptakeError):
        log.error("%s failed", files.id, exc_info=error)
    message = str(error)
    if not settings.keep_identifiers and files.dicom is not None:
        message = message.replace(str(files.dicom), files.id)
    return Failure.of(files.id, error, message)
