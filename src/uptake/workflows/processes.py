"""One function, many inputs, several processes: results in order, progress on the way, a clean end on Ctrl-C."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from uptake.core.errors import UptakeError, UsageError

MOST_PROCESSES = 8
"""Processes where nobody says how many: each holds the images of a case and what is worked out from them."""

WORTH_PROCESSES = 6
"""Below so many inputs nobody who says nothing gets processes: each takes a second or two to start."""

Work = TypeVar("Work")
Result = TypeVar("Result")


def usable_cpus() -> int:
    """Return how many CPUs this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS and Windows do not tell
        return os.cpu_count() or 1


def require_jobs(jobs: int | None) -> None:
    """Check a number of processes.

    Raises
    ------
    UsageError
        If it is below 1.
    """
    if jobs is not None and jobs < 1:
        raise UsageError(f"the number of processes is 1 or more, came {jobs}.")


def run_in_processes(
    function: Callable[[Work], Result],
    work: Sequence[Work],
    jobs: int | None,
    on_done: Callable[[int, int], None],
    *,
    stop: Callable[[Result], bool] = lambda result: False,
) -> list[Result]:
    """Return the results of a module-level function, in the order of the work.

    Parameters
    ----------
    function : callable
        Importable, with arguments and results that can be pickled.
    work : sequence
    jobs : int or None
        Processes; 1 stays in this one, None takes as many as there are CPUs to use, `MOST_PROCESSES` at most, and one
        for fewer than `WORTH_PROCESSES` inputs.
    on_done : callable
        Told (done, all).
    stop : callable
        If it says so of a result, what has not begun is dropped and the results so far are returned.

    Raises
    ------
    UptakeError
        If the system killed a process, as it does when memory runs out.
    UsageError
        If `jobs` is below 1.
    """
    require_jobs(jobs)
    if jobs is None:
        jobs = min(usable_cpus(), MOST_PROCESSES) if len(work) >= WORTH_PROCESSES else 1
    results: dict[int, Result] = {}
    on_done(0, len(work))
    if min(jobs, len(work)) <= 1:
        for index, item in enumerate(work):
            results[index] = function(item)
            on_done(len(results), len(work))
            if stop(results[index]):
                break
        return [results[index] for index in sorted(results)]
    # Fresh interpreters: forked ones would inherit locks of threads that do not exist in them.
    context = multiprocessing.get_context("spawn")
    executor = ProcessPoolExecutor(min(jobs, len(work)), mp_context=context, initializer=_leave_signals_to_the_parent)
    try:
        waiting = {executor.submit(function, item): index for index, item in enumerate(work)}
        for future in as_completed(waiting):
            results[waiting[future]] = future.result()
            on_done(len(results), len(work))
            if stop(results[waiting[future]]):
                break
    except BrokenProcessPool as error:
        raise UptakeError(
            "the system ended one of the processes, most likely for want of memory. What was done is kept; run the "
            "same command with fewer --jobs."
        ) from error
    finally:
        executor.shutdown(wait=True, cancel_futures=True)
    return [results[index] for index in sorted(results)]


def _leave_signals_to_the_parent() -> None:
    """Let Ctrl-C end the parent, which then ends this process: no traceback from each of them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
