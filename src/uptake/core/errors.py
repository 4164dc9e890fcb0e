"""Typed errors. Each carries the exit code that the command line returns for it.

An error says what came, what was expected, which file, and what to do. It names files and UIDs, never a patient.
"""

from __future__ import annotations


class UptakeError(Exception):
    """Base of every error that `uptake` raises on purpose; exit code 1."""

    exit_code = 1


class UsageError(UptakeError):
    """The call itself is wrong: options that contradict one another, a missing argument; exit code 2."""

    exit_code = 2


class CohortError(UptakeError):
    """Some cases of a cohort failed; the table of failures is written; exit code 3."""

    exit_code = 3


class InputError(UptakeError):
    """An input is refused before any work is done; exit code 4."""

    exit_code = 4


class FileFormatError(InputError):
    """A file cannot be read as what it should be: truncated, empty, of another kind."""


class GeometryError(InputError):
    """Grids, affines or frames of reference do not fit together."""


class UnitError(InputError):
    """A quantity is not in the unit it should be, or lies outside its physical range."""


class MissingAttributeError(InputError):
    """A DICOM attribute that is needed is absent or empty."""


class ModelError(InputError):
    """A model is unknown, or does not accept this input."""


class CheckpointError(ModelError):
    """A bundle or checkpoint is incomplete, altered, or made for something else."""


class OutputError(InputError):
    """An output cannot be written: no permission, no space, a file in the way."""


class BudgetError(InputError):
    """The time or memory that was granted does not suffice for the least that can be done."""
