"""Low-dose twins of real PET scans, one folder a case, with counts and noise of each on record."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from uptake import __version__
from uptake.cases import Case
from uptake.core.errors import InputError, OutputError, UptakeError, UsageError
from uptake.core.types import Mask
from uptake.core.units import BQ_PER_MBQ
from uptake.geometry.grid import require_same_grid
from uptake.io.find import CaseFiles
from uptake.io.image import read_labels
from uptake.io.read import read_case
from uptake.io.write import require_writable, sha256_of, write_csv, write_json, write_volume
from uptake.simulation.counts import POSITRON_BRANCHING, Protocol, checked_fraction
from uptake.simulation.low_dose import LowDose, fraction_for, low_dose_of
from uptake.simulation.osem import Recon
from uptake.simulation.scanner import scanner_named
from uptake.workflows.failures import CohortResult, Failure, require_different_names, write_failures
from uptake.workflows.outputs import recover, require_replaceable, whole_folder

log = logging.getLogger(__name__)

RECORD, TABLE = "lowdose.json", "lowdose.csv"

COLUMNS = (
    "case", "dose", "nec_per_litre", "nec_per_litre_full", "liver_cov", "liver_cov_full", "clipped_share", "file",
)  # fmt: skip

NOTICE = "PET with noise of a lower dose added; the full-dose image is real or simulated. Research use only."


@dataclass(frozen=True)
class LowDoseSettings:
    """Which doses, and what is known of the full one.

    Attributes
    ----------
    doses : tuple of float
        Fractions of the counts, above 0 to 1.
    nec_per_litre : tuple of float
        Levels in place of fractions: effective noise-equivalent counts per litre of body.
    liver_cov : tuple of float
        Levels in place of fractions: SD / mean in the liver.
    seed : int
    scanner : str
        For the shares of scatter and randoms.
    full_liver_cov, full_nec_per_litre : float or None
        Of the full-dose image where it is known; None measures the noise in its liver.
    assume_suv : bool
        Take the PET as SUV although its values say otherwise.
    with_ct : bool
        Use the CT of the study for attenuation; without one it is made of the PET.
    """

    doses: tuple[float, ...] = ()
    nec_per_litre: tuple[float, ...] = ()
    liver_cov: tuple[float, ...] = ()
    seed: int = 0
    scanner: str = "mCT"
    full_liver_cov: float | None = None
    full_nec_per_litre: float | None = None
    assume_suv: bool = False
    with_ct: bool = True

    def __post_init__(self) -> None:
        if not (self.doses or self.nec_per_litre or self.liver_cov):
            raise UsageError("name a dose fraction, a level of counts or a level of noise; 5 % is 0.05.")
        for dose in self.doses:
            checked_fraction(dose)
        for level in (*self.nec_per_litre, *self.liver_cov):
            if not 0 < level < float("inf"):
                raise UsageError(f"levels of counts and noise are positive, came {level!r}.")
        if self.seed < 0:
            raise UsageError(f"the seed is 0 or more, came {self.seed}.")
        object.__setattr__(self, "scanner", scanner_named(self.scanner).name)


def simulate_lowdose(
    cases: Sequence[CaseFiles],
    out: Path,
    *,
    settings: LowDoseSettings,
    liver: Path | None = None,
    again: bool = False,
    threads: int = 1,
    on_case: Callable[[str, str], None] | None = None,
) -> CohortResult:
    """Write ``out/<case>/dose_<fraction>/pet.nii.gz`` for every case and dose, and lowdose.csv over all.

    A case that is complete, made of the same files with the same settings, is kept. Failures are written to
    ``out/failures.csv``, results of good cases stay; a single case raises instead.

    Parameters
    ----------
    cases : sequence of CaseFiles
        From `io.find.find_cases`.
    out : Path
    settings : LowDoseSettings
    liver : Path, optional
        Mask on the grid of the PET, for one case: where noise is measured. By default the quietest sphere of 3 cm.
    again : bool
        Do complete cases anew.
    threads : int
    on_case : callable, optional
        Told (case id, "written" | "kept" | "failed").

    Raises
    ------
    OutputError, UsageError
        Before any case is read, if nothing could be written, a folder holds other files, two cases have one name, or a
        mask is given for several. When the disk fills up, finished cases stay.
    InputError
        Of a single case: no SUV, negative values, no place to measure noise.
    """
    require_different_names(cases)
    if liver is not None and len(cases) > 1:
        raise UsageError(f"a liver mask goes with one study; there are {len(cases)}.")
    require_writable(out)
    for files in cases:
        recover(out / files.id)
        require_replaceable(out / files.id, own=_own(out / files.id))
    tell = on_case or (lambda case, state: None)
    written: list[str] = []
    kept: list[str] = []
    failures: list[Failure] = []
    for files in cases:
        try:
            made = _one(files, out, settings, liver, again, threads)
        except OutputError as error:
            # A full disk is full for the next case too.
            _write_table(out)
            raise OutputError(
                f"{error} {len(written) + len(kept)} of {len(cases)} cases are finished and kept; the same command "
                "goes on."
            ) from error
        except Exception as error:
            if len(cases) == 1:
                raise
            failures.append(Failure.of(files.id, error))
            level = logging.INFO if isinstance(error, UptakeError) else logging.ERROR
            log.log(level, "%s failed", files.id, exc_info=not isinstance(error, UptakeError))
            tell(files.id, "failed")
            continue
        (written if made else kept).append(files.id)
        tell(files.id, "written" if made else "kept")
    write_failures(failures, out)
    _write_table(out)
    return CohortResult(tuple(written), tuple(kept), tuple(failures))


def _own(folder: Path) -> tuple[str, ...]:
    """Return the names that the folder of a case may hold."""
    return (RECORD, *(entry.name for entry in folder.glob("dose_*")))


def _one(files: CaseFiles, out: Path, settings: LowDoseSettings, liver: Path | None, again: bool, threads: int) -> bool:
    """Make the twins of one case and return True, or False if they are there."""
    folder = out / files.id
    case = read_case(files, assume_suv=settings.assume_suv, labels=False)
    mask = None if liver is None else _mask(liver, case)
    request = {
        "inputs": sorted([source.role, source.sha256] for source in case.sources),
        "liver": None if mask is None else hashlib.sha256(mask.tobytes()).hexdigest(),
        "settings": json.loads(json.dumps(asdict(settings))),
        "version": __version__,
    }
    if not again and _is_done(folder, request):
        return False
    twins = low_doses(case, settings, liver=mask, threads=threads)
    with whole_folder(folder, own=_own(folder)) as place:
        rows = []
        for name, twin in twins.items():
            (place / name).mkdir()
            write_volume(twin.image, place / name / "pet.nii.gz")
            rows.append(_row(files.id, f"{files.id}/{name}/pet.nii.gz", twin))
        write_json(
            {
                "notice": NOTICE,
                "request": request,
                "warnings": case.warnings,
                "twins": {name: {"record": twin.record, "counts": asdict(twin.counts)} for name, twin in twins.items()},
                "rows": rows,
                "files": {f"{name}/pet.nii.gz": sha256_of(place / name / "pet.nii.gz") for name in twins},
            },
            place / RECORD,
        )
    return True


def low_doses(
    case: Case, settings: LowDoseSettings, *, liver: Mask | None = None, threads: int = 1
) -> dict[str, LowDose]:
    """Return the twins of a case by the name of their folder, "dose_0.05".

    The count level of the full dose and the filter that explains its noise are found once, for all doses.
    """
    common: dict[str, Any] = {
        "seed": settings.seed,
        "liver": liver,
        "scanner": settings.scanner,
        "threads": threads,
        **_tracer(case),
    }
    ct = case.ct if settings.with_ct else None
    full = low_dose_of(
        case.pet, ct, 1.0, liver_cov=settings.full_liver_cov, nec_per_litre=settings.full_nec_per_litre, **common
    )
    # Without a place to measure the noise it stays unknown.
    cov = full.full_liver_cov if full.full_liver_cov == full.full_liver_cov else None
    fractions = [
        *settings.doses,
        *(fraction_for(full.nec_per_litre, level) for level in settings.nec_per_litre),
        *(fraction_for(_known(cov), level, by="liver_cov") for level in settings.liver_cov),
    ]
    recon = Recon(**dict(full.record["recon"]))  # type: ignore[call-overload]
    twins = {}
    for fraction in fractions:
        name = f"dose_{fraction:.4g}"
        twins[name] = low_dose_of(
            case.pet, ct, fraction, liver_cov=cov, nec_per_litre=full.nec_per_litre, recon=recon, **common
        )
    return twins


def _known(cov: float | None) -> float:
    if cov is None:
        raise UsageError("the noise of the full dose is not known; give it, or a dose fraction.")
    return cov


def _tracer(case: Case) -> dict[str, Any]:
    """Return nuclide and protocol where the headers tell: they decide how many randoms there are."""
    facts: Mapping[str, Any] = case.acquisition
    found: dict[str, Any] = {}
    if facts.get("radionuclide") in POSITRON_BRANCHING:
        found["nuclide"] = facts["radionuclide"]
    dose, weight, uptake = (facts.get(key) for key in ("injected_dose_bq", "patient_weight_kg", "uptake_time_min"))
    if dose and weight and uptake:
        found["protocol"] = Protocol(mbq_per_kg=dose / BQ_PER_MBQ / weight, uptake_min=uptake)
    return found


def _mask(path: Path, case: Case) -> Mask:
    if not path.is_file():
        raise InputError(f"{path}: no such file.")
    volume, _ = read_labels(path)
    require_same_grid(case.pet, volume, names=(f"{case.id}: the PET", str(path)))
    if not volume.array.any():
        raise UsageError(f"{path}: the liver mask is empty.")
    return volume.array > 0


def _row(case: str, file: str, twin: LowDose) -> dict[str, object]:
    return {
        "case": case,
        "dose": round(twin.fraction, 6),
        "nec_per_litre": twin.nec_per_litre,
        "nec_per_litre_full": twin.record["nec_per_litre_full"],
        "liver_cov": twin.liver_cov,
        "liver_cov_full": twin.full_liver_cov,
        "clipped_share": twin.record["clipped_share"],
        "file": file,
    }


def _is_done(folder: Path, request: Mapping[str, object]) -> bool:
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        same = record["request"] == request
        return same and all(sha256_of(folder / name) == digest for name, digest in record["files"].items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _write_table(out: Path) -> None:
    """Write a row per twin of every case that is there."""
    rows: list[dict[str, object]] = []
    for path in sorted(out.glob(f"*/{RECORD}")):
        rows += json.loads(path.read_text(encoding="utf-8"))["rows"]
    write_csv(rows, out / TABLE, columns=COLUMNS)
