"""`run.json`: what went in, what made it, what came out, so that a result can be traced and repeated.

Times and dates live here alone: masks, tables and pictures of the same input are the same bytes.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import PurePath
from typing import Any

import numpy as np

from uptake import RESEARCH_USE_ONLY
from uptake.cases import SourceFile
from uptake.core.errors import UsageError

SCHEMA = "uptake-run/1"


@dataclass(frozen=True)
class BundleRecord:
    """The model bundle that made the masks.

    Attributes
    ----------
    name, version : str
    checksums : mapping
        SHA-256 of each file of the bundle, by file name.
    """

    name: str
    version: str
    checksums: Mapping[str, str]


@dataclass(frozen=True)
class OutputFile:
    """One file that the run wrote: its name inside the output folder, its SHA-256 and its size in bytes."""

    name: str
    sha256: str
    size_bytes: int

    @classmethod
    def of(cls, name: str, content: bytes) -> OutputFile:
        """Return the record of a file with the given content."""
        return cls(name, hashlib.sha256(content).hexdigest(), len(content))


def run_manifest(
    case_id: str,
    *,
    inputs: Sequence[SourceFile],
    outputs: Sequence[OutputFile] = (),
    bundle: BundleRecord | None = None,
    settings: Mapping[str, object] | None = None,
    versions: Mapping[str, str] | None = None,
    timings_s: Mapping[str, float] | None = None,
    warnings: Sequence[str] = (),
    acquisition: Mapping[str, object] | None = None,
    gate: Mapping[str, object] | None = None,
    started: str = "",
) -> dict[str, object]:
    """Return the content of `run.json` as plain JSON values.

    Parameters
    ----------
    case_id : str
    inputs, outputs : sequences of records
        With their hashes; sorted by role and name, so that the order of reading does not show.
    bundle : BundleRecord or None
        None where no model was run.
    settings : mapping
        Every setting that can change a number.
    versions : mapping
        "uptake", "python", "numpy", "torch", ...; strings, looked up by the caller that has them imported.
    timings_s : mapping
        Seconds of each stage, in the order they ran.
    warnings : sequence of str
    acquisition : mapping
        `Case.acquisition`.
    gate : mapping or None
        The input gate's report, `GateReport.as_json`; None where it was not run.
    started : str
        Date and time, ISO 8601 with time zone.

    Raises
    ------
    UsageError
        If a value cannot be written as JSON. NaN and infinity, which JSON lacks, become null.
    """
    return {
        "schema": SCHEMA,
        "notice": RESEARCH_USE_ONLY,
        "case": case_id,
        "started": started,
        "inputs": [asdict(s) for s in sorted(inputs, key=lambda s: (s.role, s.path))],
        "bundle": plain(bundle),
        "settings": plain(settings or {}),
        "acquisition": plain(acquisition or {}),
        "gate": plain(gate),
        "versions": plain(versions or {}),
        "timings_s": plain({stage: round(float(s), 4) for stage, s in (timings_s or {}).items()}),
        "warnings": [str(w) for w in warnings],
        "outputs": [asdict(o) for o in sorted(outputs, key=lambda o: o.name)],
    }


def plain(value: Any, *, name: str = "value") -> Any:
    """Return a value in JSON types only: records and mappings as objects, arrays as lists, NaN and infinity as None.

    Raises
    ------
    UsageError
        If something in it has no JSON form; `name` says where.
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float | np.floating):
        number = float(value)
        return number if math.isfinite(number) else None
    if isinstance(value, np.generic | np.ndarray):
        return plain(value.tolist(), name=name)
    if isinstance(value, PurePath):
        return str(value)
    if is_dataclass(value) and not isinstance(value, type):
        value = {key: getattr(value, key) for key in value.__dataclass_fields__}
    if isinstance(value, Mapping):
        return {str(key): plain(item, name=f"{name}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, name=f"{name}[{n}]") for n, item in enumerate(value)]
    if isinstance(value, set | frozenset):
        return [plain(item, name=name) for item in sorted(value, key=str)]
    raise UsageError(f"{name}: {type(value).__name__} cannot be written as JSON.")
