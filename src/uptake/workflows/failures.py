"""What became of the cases of a cohort, and the table of those that failed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from uptake.core.errors import UptakeError, UsageError
from uptake.io.find import CaseFiles
from uptake.io.write import write_csv

FAILURES = "failures.csv"


@dataclass(frozen=True)
class Failure:
    """A case that could not be done, why, and the exit code that it alone would have given."""

    case: str
    error: str
    message: str
    exit_code: int

    @staticmethod
    def of(case: str, error: Exception, message: str | None = None) -> Failure:
        """Record an exception; `message` stands in the place of its own text."""
        code = error.exit_code if isinstance(error, UptakeError) else 1
        return Failure(case, type(error).__name__, str(error) if message is None else message, code)


@dataclass(frozen=True)
class CohortResult:
    """What became of every case: ids of those written now, those found complete from an earlier run, and failures."""

    written: tuple[str, ...]
    kept: tuple[str, ...]
    failures: tuple[Failure, ...]


def require_different_names(cases: Sequence[CaseFiles]) -> None:
    """Check that no two cases would be written to one folder.

    Raises
    ------
    UsageError
        Naming the first.
    """
    twice = [name for name, n in Counter(files.id for files in cases).items() if n > 1]
    if twice:
        raise UsageError(f"several studies would be named {twice[0]!r}, and so would their results; rename a folder.")


def write_failures(failures: Sequence[Failure], out: Path) -> None:
    """Write ``failures.csv``, or remove the one of an earlier run where nothing failed."""
    if failures:
        write_csv([asdict(f) for f in failures], out / FAILURES, columns=["case", "error", "message", "exit_code"])
    else:
        (out / FAILURES).unlink(missing_ok=True)
