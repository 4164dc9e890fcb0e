"""uptake segment"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from uptake.cli.cohorts import require_no_failure, tell_counts, tell_state
from uptake.cli.console import progress, say
from uptake.cli.options import Out, Switch
from uptake.cli.results import show_results
from uptake.core.errors import UsageError
from uptake.zoo.cards import DEFAULT_MODEL


def segment(
    study: Path | None = None,
    /,
    *,
    out: Out,
    study_option: Annotated[Path | None, Parameter(name=["--input", "-i"])] = None,
    model: Annotated[str, Parameter(name=["--model", "-m"])] = DEFAULT_MODEL,
    pet: Path | None = None,
    ct: Path | None = None,
    pet_series: str | None = None,
    ct_series: str | None = None,
    device: str = "auto",
    preset: Literal["published", "fast"] = "published",
    mirror: bool = True,
    tile_step: float | None = None,
    focus: bool | None = None,
    max_seconds: float | None = None,
    max_ram_gb: float | None = None,
    precision: str = "auto",
    engine: str = "auto",
    connectivity: int = 18,
    min_volume_ml: float = 0.0,
    organs: bool = True,
    prompts: Path | None = None,
    tracer: str | None = None,
    assume_suv: bool = False,
    gate: bool = True,
    dicom: bool = True,
    keep_identifiers: Switch = False,
    again: bool = False,
    quiet: Annotated[bool, Parameter(name=["--quiet", "-q"])] = False,
) -> None:
    """Find lesions, organs or both, as the model knows them: OUT/<case>/ gets lesions.nii.gz and organs.nii.gz on the
    scan's own grid, tables, pictures and report.html.

    Research use only; not a medical device.

    Parameters
    ----------
    study
        A study folder (NIfTI, MHA, NRRD or DICOM), a PET file, an nnU-Net images folder, or a folder of studies.
    out
        Folder for the results; one folder per case inside. A run that was stopped goes on where it was.
    study_option
        The same as STUDY, for those who type -i.
    model
        A shipped model (uptake models) or a bundle folder.
    pet
        PET in SUV, instead of or within STUDY.
    ct
        CT in HU, instead of or within STUDY.
    pet_series
        End of the Series Instance UID of the PET to use, where a DICOM study holds several; see uptake inspect.
    ct_series
        End of the Series Instance UID of the CT to use.
    device
        auto, cpu, cuda, cuda:1, mps.
    preset
        published: folds, flips and tile step as the model has them. fast: every fold, no flips, tile step 0.6,
        windows over the body alone.
    mirror
        Average over the flips that the model names (up to eight times the work). --no-mirror for speed.
    tile_step
        Sliding-window step as a share of the window, 0 to 1; larger is faster.
    focus
        Lay the windows over the body alone: far fewer where it fills a third of the field, and elsewhere than in the
        published method. By default as the model has it.
    max_seconds
        Time for a case, s. A first pass is timed; folds and flips that do not fit are left out and named.
    max_ram_gb
        Memory, GB. Networks are held one at a time where it is short; too little for one is refused.
    precision
        auto (bfloat16 where the device has it), float32, bfloat16.
    engine
        auto (OpenVINO on CPUs where it is installed), torch, openvino.
    connectivity
        Of lesions: 6, 18 (as autoPET counts) or 26.
    min_volume_ml
        Leave smaller lesions out of the table.
    organs
        Give the organs that the model knows beside lesions. --no-organs leaves them out.
    prompts
        JSON of points, boxes, scribbles or masks (uptake's form, or either of autoPET's), for one study and a
        promptable model: what they mark is the lesion mask.
    tracer
        FDG, PSMA-11, ...; by default as the DICOM header says. A model that was trained on others is warned about.
    assume_suv
        Take the PET as SUV although its values say otherwise.
    gate
        Judge the input (units, times, orientation, coverage, CT against PET) and show a traffic light; it stops nothing
        and takes about a second. --no-gate leaves it out.
    dicom
        For DICOM studies, write lesions.seg.dcm, lesions.rtstruct.dcm and measurements.sr.dcm too.
    keep_identifiers
        Copy name, ID, birth date, accession number and the like into these files, as an archive wants them.
    again
        Do cases anew that are complete already.
    quiet
        Print nothing but errors.
    """
    from dataclasses import replace

    from uptake.io.find import CaseFiles, case_name, find_cases, with_overrides
    from uptake.io.write import require_writable

    if study is not None and study_option is not None:
        raise UsageError("the study is named twice: as an argument and with --input.")
    chosen = study or study_option
    if chosen is None and pet is None:
        raise UsageError("name a study, or a PET file with --pet.")
    if tile_step is not None and not 0 < tile_step <= 1:
        raise UsageError(f"--tile-step is a share of the window in (0, 1], came {tile_step}.")
    if connectivity not in (6, 18, 26):
        raise UsageError(f"--connectivity is 6, 18 or 26, came {connectivity}.")
    require_writable(out)
    if chosen is not None:
        cases = find_cases(chosen, pet=pet, ct=ct)
    else:
        assert pet is not None
        cases = [with_overrides(CaseFiles(case_name(pet)), pet=pet, ct=ct, lesions=None)]
    if pet_series or ct_series:
        if len(cases) > 1:
            raise UsageError(f"a series can be named for one study only; there are {len(cases)}.")
        cases = [replace(cases[0], pet_series=pet_series, ct_series=ct_series)]

    if prompts is not None and len(cases) > 1:
        raise UsageError(f"prompts are about one study; there are {len(cases)}.")

    from uptake.inference.budget import FAST_TILE_STEP
    from uptake.io.prompts import read_content
    from uptake.workflows.cohort import segment_cases
    from uptake.workflows.dicom_results import KINDS, DicomSettings
    from uptake.workflows.segment import SegmentSettings

    fast = preset == "fast"
    settings = SegmentSettings(
        mirror=mirror and not fast,
        tile_step=FAST_TILE_STEP if tile_step is None and fast else tile_step,
        focus=True if focus is None and fast else focus,
        max_seconds=max_seconds,
        max_ram_gb=max_ram_gb,
        precision=precision,
        engine=engine,
        connectivity=connectivity,
        min_volume_ml=min_volume_ml,
        organs=organs,
        prompts=None if prompts is None else read_content(prompts),
        tracer=tracer,
    )
    with progress("segmenting", quiet=quiet) as on_window:
        result = segment_cases(
            cases,
            out,
            model=model,
            device=device,
            settings=settings,
            assume_suv=assume_suv,
            gate=gate,
            again=again,
            dicom=DicomSettings(KINDS if dicom else (), keep_identifiers),
            on_window=on_window,
            on_case=None if quiet or len(cases) == 1 else tell_state,
        )
    if not quiet:
        for case in result.kept if len(cases) == 1 else ():
            say(f"{case}: complete already with the same input, model and settings; kept (--again does it anew).")
        for case in (*result.written, *result.kept)[:1] if len(cases) == 1 else ():
            show_results(out / case)
        if len(cases) > 1:
            tell_counts(result, out)
    require_no_failure(result.failures, len(cases), out)
