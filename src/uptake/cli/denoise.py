"""uptake denoise"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from uptake.cli.cohorts import require_no_failure, tell_counts, tell_state
from uptake.cli.console import progress, say
from uptake.cli.options import Device, Out, Quiet, Switch
from uptake.core.errors import UsageError


def denoise(
    study: Path | None = None,
    /,
    *,
    out: Out,
    model: Annotated[str, Parameter(name=["--model", "-m"])] = "phantom-ldos-small",
    pet: Path | None = None,
    pet_series: str | None = None,
    organs: Switch = False,
    dose_fraction: float | None = None,
    tracer: str | None = None,
    device: Device = "auto",
    mirror: bool = True,
    tile_step: float | None = None,
    precision: str = "auto",
    engine: str = "auto",
    assume_suv: Switch = False,
    dicom: bool = True,
    keep_identifiers: Switch = False,
    again: Switch = False,
    quiet: Quiet = False,
) -> None:
    """Make a clean PET of a low-dose one, in SUV on the scan's own grid: OUT/<case>/pet_denoised.nii.gz and a side-car.

    Research use only; not a medical device.

    Parameters
    ----------
    study
        A study folder (NIfTI, MHA, NRRD or DICOM), a PET file, an nnU-Net images folder, a cohort's
        imagesTr_dose_<fraction>, or a folder of studies.
    out
        Folder for the results; one folder per case inside. A run that was stopped goes on where it was.
    model
        A shipped model (uptake models) or a bundle folder, of a method that denoises (ldos).
    pet
        PET in SUV, instead of or within STUDY.
    pet_series
        End of the Series Instance UID of the PET to use, where a DICOM study holds several; see uptake inspect.
    organs
        Write the organs too, of the same run of the network.
    dose_fraction
        Of this image, above 0 to 1; by default what lies beside it says (uptake simulate).
    tracer
        Where no header names it: FDG, FAPI-04, PSMA-11, …
    mirror
        Average over the flips that the model names. --no-mirror for speed.
    tile_step
        Sliding-window step as a share of the window, 0 to 1; larger is faster.
    precision
        auto (bfloat16 where the device has it), float32, bfloat16.
    engine
        auto (OpenVINO on CPUs where it is installed), torch, openvino.
    assume_suv
        Take the PET as SUV although its values say otherwise.
    dicom
        For DICOM studies, write the derived series PT_denoised/ too.
    keep_identifiers
        Copy name, ID, birth date, accession number and the like into it, as an archive wants them.
    again
        Do cases anew that are complete already.
    """
    from dataclasses import replace

    from uptake.io.find import CaseFiles, case_name, with_overrides
    from uptake.io.write import require_writable
    from uptake.workflows.denoise_outputs import denoise_cases, find_studies

    if study is None and pet is None:
        raise UsageError("name a study, or a PET file with --pet.")
    if tile_step is not None and not 0 < tile_step <= 1:
        raise UsageError(f"--tile-step is a share of the window in (0, 1], came {tile_step}.")
    require_writable(out)
    if study is not None:
        cases = find_studies(study, pet=pet)
    else:
        assert pet is not None
        cases = [with_overrides(CaseFiles(case_name(pet)), pet=pet)]
    if pet_series:
        if len(cases) > 1:
            raise UsageError(f"a series can be named for one study only; there are {len(cases)}.")
        cases = [replace(cases[0], pet_series=pet_series)]

    from uptake.workflows.denoise import DenoiseSettings
    from uptake.workflows.dicom_results import DicomSettings

    settings = DenoiseSettings(mirror, tile_step, precision, engine, organs, dose_fraction, tracer)
    with progress("denoising", quiet=quiet) as on_window:
        result = denoise_cases(
            cases,
            out,
            model=model,
            device=device,
            settings=settings,
            assume_suv=assume_suv,
            again=again,
            dicom=DicomSettings(keep_identifiers=keep_identifiers) if dicom else DicomSettings(()),
            on_window=on_window,
            on_case=None if quiet or len(cases) == 1 else tell_state,
        )
    if not quiet:
        for case in result.kept if len(cases) == 1 else ():
            say(f"{case}: complete already with the same input, model and settings; kept (--again does it anew).")
        if len(cases) == 1:
            _show(out / cases[0].id if (out / cases[0].id).is_dir() else out / (*result.written, *result.kept)[0])
        else:
            tell_counts(result, out)
    require_no_failure(result.failures, len(cases), out)


def _show(folder: Path) -> None:
    import json

    content = json.loads((folder / "denoise.json").read_text(encoding="utf-8"))
    noise = content["noise"]
    if noise["before"] is not None and noise["after"] is not None:
        say(
            f"  noise in the {noise['place']}: {noise['before']:.3f} before, {noise['after']:.3f} after (SD / mean); "
            f"SUVmean {noise['mean_before']:.2f} and {noise['mean_after']:.2f}"
        )
    for warning in content["warnings"]:
        say(f"  ! {warning}")
    say(f"  {folder / 'pet_denoised.nii.gz'}")
