"""uptake convert"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from uptake.cli.cohorts import require_no_failure, tell_counts
from uptake.cli.console import say
from uptake.cli.options import Out, Quiet, Switch
from uptake.core.errors import UsageError
from uptake.core.units import SECONDS_PER_MINUTE

if TYPE_CHECKING:
    from uptake.io.find import CaseFiles
    from uptake.physics.suv import SuppliedValues


def convert(
    *studies: Path,
    out: Out,
    pet_series: str | None = None,
    ct_series: str | None = None,
    ct: bool = True,
    labels: bool = True,
    weight_kg: float | None = None,
    height_m: float | None = None,
    sex: str | None = None,
    dose_mbq: float | None = None,
    half_life_s: float | None = None,
    injection: datetime | None = None,
    reference: datetime | None = None,
    replace_header: Switch = False,
    keep_identifiers: Switch = False,
    jobs: Annotated[int, Parameter(name=["--jobs", "-j"])] = 1,
    again: Switch = False,
    quiet: Quiet = False,
) -> None:
    """Turn DICOM PET/CT into SUV and HU as NIfTI, with a side-car of every attribute used.

    OUT/<case>/ gets pet_suv.nii.gz, ct.nii.gz (its own grid), ct_on_pet.nii.gz, labels/ with the regions of RTSTRUCT
    and SEG, and convert.json. Where SUV cannot be known, the study is refused. Research use only; not a medical device.

    Parameters
    ----------
    studies
        DICOM studies (folders of any nesting, zip archives, multi-frame files), or folders of studies.
    out
        Folder for the results; one folder per case inside. A run that was stopped goes on where it was.
    pet_series
        End of the Series Instance UID of the PET to use; see uptake inspect.
    ct_series
        End of the Series Instance UID of the CT to use.
    ct
        Convert the CT too.
    labels
        Write the regions of RTSTRUCT and SEG as masks on the PET's grid.
    weight_kg
        Patient's weight, for a header that lacks it; likewise the next six.
    height_m
        Height, for SUV by lean mass or body surface.
    sex
        M, F or O, for the same.
    dose_mbq
        Injected activity at the injection.
    half_life_s
        Of the nuclide.
    injection
        Date and time of the injection on the scanner's clock, 2024-01-31T10:15:00.
    reference
        Date and time the image is decay corrected to.
    replace_header
        Let these values win over those in the header; by default they only fill gaps.
    keep_identifiers
        Write who the patient is, dates, descriptions, UIDs and paths; by default nothing of that is written.
    jobs
        Studies converted side by side.
    again
        Do cases anew that are complete already.
    """
    from dataclasses import replace

    from uptake.io.find import find_cases
    from uptake.workflows.convert import ConvertSettings
    from uptake.workflows.convert_cohort import convert_cases

    if not studies:
        raise UsageError("name a DICOM study, or several.")
    supplied = _supplied(weight_kg, height_m, sex, dose_mbq, half_life_s, injection, reference, replace_header)
    cases: list[CaseFiles] = [files for study in studies for files in find_cases(study, only_dicom=True)]
    if len(cases) > 1 and (pet_series or ct_series):
        raise UsageError(f"a series can be named for one study only; there are {len(cases)}.")
    cases = [replace(files, pet_series=pet_series, ct_series=ct_series) for files in cases]
    settings = ConvertSettings(with_ct=ct, with_labels=labels, keep_identifiers=keep_identifiers, supplied=supplied)
    result = convert_cases(
        cases, out, settings=settings, again=again, jobs=jobs, on_case=None if quiet else lambda c, s: say(f"{c}: {s}")
    )
    if not quiet and len(cases) == 1:
        _show(out, (*result.written, *result.kept)[0], cases[0].id, kept=bool(result.kept))
    elif not quiet:
        tell_counts(result, out)
    require_no_failure(result.failures, len(cases), out)


def _supplied(
    weight_kg: float | None, height_m: float | None, sex: str | None, dose_mbq: float | None,
    half_life_s: float | None, injection: datetime | None, reference: datetime | None, replace_header: bool,
) -> SuppliedValues | None:  # fmt: skip
    given = (weight_kg, height_m, sex, dose_mbq, half_life_s, injection, reference)
    if all(value is None for value in given):
        if replace_header:
            raise UsageError("--replace-header goes with a value to put in its place, such as --weight-kg.")
        return None
    for name, value in (("--weight-kg", weight_kg), ("--height-m", height_m), ("--dose-mbq", dose_mbq),
                        ("--half-life-s", half_life_s)):  # fmt: skip
        if value is not None and not 0 < value < float("inf"):
            raise UsageError(f"{name} is a positive number; came {value:g}.")
    if sex is not None and sex.upper() not in ("M", "F", "O"):
        raise UsageError(f"--sex is M, F or O; came {sex!r}.")
    if any(moment is not None and moment.tzinfo is not None for moment in (injection, reference)):
        raise UsageError("give times on the scanner's clock, without a time zone.")
    from uptake.physics.suv import SuppliedValues

    return SuppliedValues(
        weight_kg=weight_kg, height_m=height_m, sex=sex.upper() if sex else None, dose_mbq=dose_mbq,
        half_life_s=half_life_s, injection=injection, reference=reference, replace_header=replace_header,
    )  # fmt: skip


def _show(out: Path, case: str, found_as: str, *, kept: bool) -> None:
    """Print what became of one study."""
    import json

    folder = out / case
    record: dict[str, Any] = json.loads((folder / "convert.json").read_text(encoding="utf-8"))
    if case != found_as:
        say(f"{found_as} is the patient's name or number: the results are called {case}.")
    if kept:
        say(f"{case}: complete already with the same input and settings; kept (--again does it anew).")
    for row in record["series"]:
        if row["role"] in ("pet", "ct"):
            say(f"  {row['role'].upper()}: series {row['series']}, {row['images']} images: {row['why']}")
    suv = record["suv"]
    seconds = suv["uptake_time_s"]
    after = "" if seconds is None else f", uptake time {seconds / SECONDS_PER_MINUTE:.1f} min"
    say(f"  SUV factor {suv['factor']:.7g} by rule {suv['rule']}{after}")
    for warning in record["warnings"]:
        say(f"  ! {warning}")
    for output in record["outputs"]:
        say(f"  {folder / output['name']}")
    say(f"  {folder / 'convert.json'}")
