"""The pool of pretraining: many datasets without labels on one grid, what each scan is, and whose must not be in it."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from uptake.cases import Case
from uptake.core.errors import InputError, UptakeError
from uptake.harmonise.onto import harmonise
from uptake.harmonise.plan import Plan
from uptake.io.find import CaseFiles, find_cases
from uptake.io.read import read_case
from uptake.io.write import write_csv, write_json
from uptake.sampling.pool import StoredCases, StoredName
from uptake.sampling.splits import subject_of
from uptake.sampling.store import stamp_of, store, stored
from uptake.workflows.processes import run_in_processes

log = logging.getLogger(__name__)

MANIFEST = "manifest.json"
LEFT_OUT = "left_out.csv"
SOURCE = "source.json"
DIGITS = 16
"""Hexadecimal digits kept of a SHA-256 in a bundle's card: enough to recognise a scan, not to learn anything of it."""


@dataclass(frozen=True)
class PoolDataset:
    """One source of the pool: its name, licence, and studies."""

    name: str
    licence: str
    files: tuple[CaseFiles, ...]


@dataclass(frozen=True)
class PoolScan:
    """What the manifest says of a scan.

    Attributes
    ----------
    dataset, case, patient : str
    sha256 : mapping
        Role -> checksum of the source file.
    shape : tuple of int
        (z, y, x) on the model grid.
    padded : bool
        Smaller than the window along some axis.
    stamp : str
        Of the cached case.
    """

    dataset: str
    case: str
    patient: str
    sha256: Mapping[str, str]
    shape: tuple[int, int, int]
    padded: bool
    stamp: str


@dataclass(frozen=True)
class LeftOut:
    """A scan that is not in the pool, and why."""

    dataset: str
    case: str
    reason: str


@dataclass(frozen=True)
class Pool:
    """A pool, ready to cut windows from.

    Attributes
    ----------
    datasets : tuple of PoolDataset
    scans : tuple of PoolScan
    left_out : tuple of LeftOut
    cache : Path
    """

    datasets: tuple[PoolDataset, ...]
    scans: tuple[PoolScan, ...]
    left_out: tuple[LeftOut, ...]
    cache: Path

    def cases(self, scans: Sequence[PoolScan] | None = None) -> StoredCases:
        """Return the cached cases of some scans, of all by default."""
        chosen = self.scans if scans is None else scans
        return StoredCases([StoredName(self.cache / one.dataset, one.case, one.stamp) for one in chosen])

    def fingerprints(self) -> list[str]:
        """Return what later runs recognise the pool's scans and patients by; see `fingerprints_of`."""
        return sorted({mark for one in self.scans for mark in fingerprints_of(one.case, one.patient, one.sha256)})

    def sources(self) -> list[dict[str, Any]]:
        """Return name, licence and number of scans of each dataset."""
        counts = {one.name: sum(scan.dataset == one.name for scan in self.scans) for one in self.datasets}
        return [{"name": one.name, "licence": one.licence, "scans": counts[one.name]} for one in self.datasets]


def fingerprints_of(case: str, patient: str, sha256: Mapping[str, str]) -> tuple[str, ...]:
    """Return marks of a scan: the start of its PET's checksum, and of a digest of its patient's name in the dataset.

    The second finds other scans of one patient, and the same scan after it was converted anew.
    """
    names = {hashlib.sha256(f"patient:{patient or case}".encode()).hexdigest()[:DIGITS]}
    images = {value[:DIGITS] for role, value in sha256.items() if role == "pet"}
    return tuple(sorted(names | images))


def pool_datasets(paths: Sequence[Path], licences: Mapping[str, str] | None = None) -> tuple[PoolDataset, ...]:
    """Return the studies of every dataset; labels in them are never looked at.

    Parameters
    ----------
    paths : sequence of Path
        nnU-Net raw datasets, folders of studies, plain image folders.
    licences : mapping, optional
        Dataset name -> licence; else the field "licence" of its dataset.json; else "not stated".

    Raises
    ------
    InputError
        If a folder holds no study, two datasets have one name, or a licence is given for a dataset that is not there.
    """
    given = dict(licences or {})
    found: list[PoolDataset] = []
    for path in paths:
        name = path.resolve().name
        if name in {one.name for one in found}:
            raise InputError(f"{path}: a dataset of the name {name!r} is in the pool already; rename the folder.")
        files = tuple(replace(one, lesions=None, organs=None) for one in find_cases(path))
        found.append(PoolDataset(name, given.pop(name, "") or _licence(path), files))
    if given:
        raise InputError(
            f"a licence is given for {next(iter(given))!r}, which is no dataset of the pool: "
            f"{', '.join(one.name for one in found)}."
        )
    return tuple(found)


def _licence(path: Path) -> str:
    file = path / "dataset.json"
    if not file.is_file():
        return "not stated"
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return str(content.get("licence") or content.get("license") or "not stated")
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(f"{file}: cannot be read as JSON ({error}); mend it or take it away.") from error


def make_pool(
    datasets: Sequence[PoolDataset],
    plan: Plan,
    cache: Path,
    *,
    window: Sequence[int],
    min_slices: int = 32,
    assume_suv: bool = False,
    keep_going: bool = False,
    jobs: int | None = 1,
    on_case: Callable[[int, int], None] | None = None,
) -> Pool:
    """Bring every scan onto one grid, through the cache, and say what became of each.

    Scans of fewer than `min_slices` slices and scans with a constant channel are left out and listed. A scan that
    cannot be read or lacks a channel stops the work, unless `keep_going`, which lists it instead.

    Parameters
    ----------
    datasets : sequence of PoolDataset
    plan : Plan
    cache : Path
        One folder per dataset; scans whose files have not changed since are not read again.
    window : sequence of int
        (z, y, x); smaller scans are counted as padded.
    min_slices : int
        Along the body, as the scan comes.
    assume_suv, keep_going
    jobs : int or None
        Processes.
    on_case : callable, optional
        Told (done, all).

    Raises
    ------
    InputError
        If a scan cannot be used, or none can.
    """
    work = [
        _Work(dataset.name, files, plan, cache / dataset.name, min_slices, assume_suv)
        for dataset in datasets
        for files in dataset.files
    ]
    results = run_in_processes(
        _onto_grid,
        work,
        jobs,
        on_case or (lambda done, wanted: None),
        stop=lambda one: isinstance(one, _Refused) and not keep_going,
    )
    refused = [one for one in results if isinstance(one, _Refused)]
    if refused and not keep_going:
        raise InputError(
            f"{refused[0].dataset}: {refused[0].case} cannot be used: {refused[0].reason} Mend it, take it out, or "
            "leave such scans out of the pool (--keep-going)."
        )
    scans = tuple(
        replace(one, padded=any(n < w for n, w in zip(one.shape, window, strict=True)))
        for one in results
        if isinstance(one, PoolScan)
    )
    left_out = tuple(
        LeftOut(one.dataset, one.case, one.reason) for one in results if isinstance(one, LeftOut | _Refused)
    )
    if not scans:
        first = f" First: {left_out[0].case}, {left_out[0].reason}" if left_out else ""
        raise InputError(f"the pool is empty: none of {len(work)} scans can be used.{first}")
    return Pool(tuple(datasets), scans, left_out, cache)


@dataclass(frozen=True)
class _Work:
    dataset: str
    files: CaseFiles
    plan: Plan
    folder: Path
    min_slices: int
    assume_suv: bool


@dataclass(frozen=True)
class _Refused:
    dataset: str
    case: str
    reason: str


def _onto_grid(work: _Work) -> PoolScan | LeftOut | _Refused:
    known = _known(work)
    if known is not None:
        return known
    files, plan = work.files, work.plan
    try:
        case = read_case(files, assume_suv=work.assume_suv, labels=False)
    except UptakeError as error:
        return _Refused(work.dataset, files.id, str(error))
    reason = _unusable(case, plan)
    if reason:
        return _Refused(work.dataset, files.id, reason)
    slices = plan.axis_change(case.pet.affine).apply(np.asarray(case.pet.array)).shape[0]
    if slices < work.min_slices:
        return LeftOut(work.dataset, files.id, f"has {slices} slices, fewer than {work.min_slices}.")
    images = {"pet": case.pet, "ct": case.ct}
    constant = [name for name in plan.channel_names if (one := images[name]) is not None and np.ptp(one.array) == 0]
    if constant:
        return LeftOut(work.dataset, files.id, f"its {constant[0].upper()} is constant.")
    harmonised, _ = harmonise(case, plan)
    hashes = {source.role: source.sha256 for source in case.sources}
    stamp = stamp_of(plan.as_json(), hashes)
    # The body stands in the place of a label map: what a loss may be restricted to.
    store(work.folder, replace(harmonised, labels=harmonised.body.astype(np.uint8)), stamp)
    z, y, x = harmonised.body.shape
    patient = files.subject or subject_of(files.id)
    scan = PoolScan(work.dataset, files.id, patient, hashes, (z, y, x), False, stamp)
    write_json({"files": _facts(files), "plan": stamp_of(plan.as_json(), {}), "scan": asdict(scan)}, _source(work))
    return scan


def _source(work: _Work) -> Path:
    return work.folder / work.files.id / SOURCE


def _facts(files: CaseFiles) -> list[list[Any]] | None:
    """Return name, size and time of the image files; None for DICOM, which is always read again."""
    if files.dicom is not None:
        return None
    paths = [path for path in (files.pet, files.ct) if path is not None]
    return [[str(path), path.stat().st_size, path.stat().st_mtime_ns] for path in paths]


def _known(work: _Work) -> PoolScan | None:
    """Return the scan as an earlier run left it, if neither its files nor the plan have changed."""
    if work.files.problem is not None:
        return None
    try:
        content = json.loads(_source(work).read_text(encoding="utf-8"))
        if content["files"] is None or content["files"] != _facts(work.files):
            return None
        if content["plan"] != stamp_of(work.plan.as_json(), {}):
            return None
        z, y, x = content["scan"].pop("shape")
        scan = PoolScan(**content["scan"], shape=(z, y, x))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return scan if stored(work.folder, scan.case, scan.stamp) is not None else None


def _unusable(case: Case, plan: Plan) -> str:
    if "ct" in plan.channel_names and case.ct is None:
        return "it has no CT, and the network has a CT channel. Pretrain on PET alone (--channels pet) or add the CT."
    return ""


def require_apart(pool: Pool, tests: Sequence[Path]) -> None:
    """Check that no test case, and no other scan of a test patient, is in the pool.

    Raises
    ------
    InputError
        Naming the first and how many there are.
    """
    marks = set(pool.fingerprints())
    for path in tests:
        shared = []
        for files in find_cases(path):
            case = read_case(replace(files, lesions=None, organs=None), assume_suv=True, labels=False)
            hashes = {source.role: source.sha256 for source in case.sources}
            patient = files.subject or subject_of(files.id)
            if marks & set(fingerprints_of(files.id, patient, hashes)):
                shared.append(files.id)
        if shared:
            raise InputError(
                f"{path}: {len(shared)} of its test scans, or other scans of their patients, are in the pretraining "
                f"pool, first {shared[0]}. Scores on them would be too good. Take them out (--exclude), or say that "
                "it is meant (--allow-overlap)."
            )


def write_pool(pool: Pool, out: Path) -> None:
    """Write manifest.json (datasets with licence, every scan with its checksums) and left_out.csv."""
    scans = [
        {"dataset": one.dataset, "case": one.case, "sha256": dict(one.sha256), "shape": one.shape, "padded": one.padded}
        for one in pool.scans
    ]
    padded = sum(one.padded for one in pool.scans)
    content = {"datasets": pool.sources(), "scans": scans, "padded": padded, "left_out": len(pool.left_out)}
    write_json(content, out / MANIFEST)
    rows = [asdict(one) for one in pool.left_out]
    write_csv(rows, out / LEFT_OUT, columns=["dataset", "case", "reason"])
