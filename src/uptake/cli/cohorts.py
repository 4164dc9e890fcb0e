"""What the command line says about many cases: how each went, how many there are, and which failed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from uptake.cli.console import complain, say
from uptake.core.errors import CohortError

if TYPE_CHECKING:
    from uptake.workflows.failures import CohortResult, Failure

SHOWN_FAILURES = 10
"""More than these are told by failures.csv alone."""


def tell_state(case: str, state: str) -> None:
    """Print what became of a case of a cohort; its start is not worth a line."""
    if state != "start":
        say(f"{case}: {state}")


def tell_counts(result: CohortResult, out: Path) -> None:
    """Print how many cases were written, kept, and failed."""
    say(f"{len(result.written)} written, {len(result.kept)} kept, {len(result.failures)} failed; see {out}")


def require_no_failure(failures: Sequence[Failure], total: int, out: Path, *, what: str = "cases") -> None:
    """Complain about failed cases, a line each, and end with the exit code for them.

    Parameters
    ----------
    failures : sequence of Failure
    total : int
        Of cases asked for.
    out : Path
        Where failures.csv lies.
    what : str
        What they are.

    Raises
    ------
    CohortError
        If there is one.
    """
    if not failures:
        return
    from uptake.workflows.failures import FAILURES

    for failure in failures[:SHOWN_FAILURES]:
        # The first line says what is wrong; a list of what would have been accepted stands in failures.csv.
        complain(f"{failure.case}: {failure.message.splitlines()[0].removeprefix(f'{failure.case}: ')}")
    raise CohortError(f"{len(failures)} of {total} {what} failed; they are listed in {out / FAILURES}.")
