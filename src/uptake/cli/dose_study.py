"""uptake dose-study"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from uptake.cli.cohorts import require_no_failure, tell_counts
from uptake.cli.console import progress, table
from uptake.cli.options import Device, Out, Quiet, Switch
from uptake.cli.values import decimals, tracer_shares


def dose_study(
    *studies: Path,
    out: Out,
    dose: str = "1,0.5,0.25,0.1,0.05,0.02",
    model: Annotated[str | None, Parameter(name=["--model", "-m"])] = None,
    denoise: Switch = False,
    patients: Annotated[int, Parameter(name=["--patients", "-n"])] = 10,
    seed: int = 0,
    tracers: str = "FDG",
    spacing_mm: float = 4.0,
    scanner: str | None = None,
    organs: Path | None = None,
    organ_labels: str | None = None,
    without_ct: Switch = False,
    assume_suv: Switch = False,
    device: Device = "auto",
    mirror: bool = True,
    jobs: Annotated[int | None, Parameter(name=["--jobs", "-j"])] = 1,
    again: Switch = False,
    quiet: Quiet = False,
) -> None:
    """How low can we go? The same patients at several doses: noise, bias, lesion peaks, organs, with intervals.

    Research use only; not a medical device.

    Parameters
    ----------
    studies
        Full-dose studies, to whose counts noise is added, or a simulated cohort with low-dose twins; without any,
        patients are simulated and their counts thinned.
    out
        Folder for tables, picture and report.html; the same command goes on with a stopped run.
    dose
        Fractions of the full dose, with commas.
    model
        A model that segments every image: Dice of organs and lesions, where the truth is known.
    denoise
        Also measure the images that this model denoises.
    patients
        How many to simulate, or to take from a cohort.
    seed
        Of the first simulated patient, and of the noise that is added.
    tracers
        Of simulated patients: FDG=0.6,FAPI-04=0.4.
    spacing_mm
        Voxel size of simulated patients, 1.5 to 12 mm.
    scanner
        Of simulated patients, or of the studies, for scatter and randoms; by default an mCT.
    organs
        Organ map, or folder of organ maps named like the studies; by default those beside the images.
    organ_labels
        Their numbering: total, autopet, ldos, lesiontracer, or a JSON file; by default the table beside them, or total.
    without_ct
        Make the attenuation of the PET itself although there is a CT.
    assume_suv
        Take PETs as SUV although their values say otherwise.
    mirror
        Average over the flips that the model names. --no-mirror for speed.
    jobs
        Processes.
    again
        Do complete cases anew.
    """
    doses = decimals(dose, "--dose", such_as="1,0.1,0.05", kind="fractions")
    from uptake.workflows.dose_sources import RealSource, SimulatedSource, Source, cohort_sources
    from uptake.workflows.dose_study import DoseStudySettings
    from uptake.workflows.dose_study import dose_study as study
    from uptake.workflows.privacy import named_safely
    from uptake.workflows.simulate_lowdose import LowDoseSettings
    from uptake.workflows.simulated import SimulationSettings

    settings = DoseStudySettings(doses, model, denoise, mirror, device)
    sources: list[Source] = []
    if not studies:
        asked = SimulationSettings(tracers=tracer_shares(tracers), spacing_mm=(spacing_mm,) * 3, scanner=scanner)
        sources = [SimulatedSource(n, asked) for n in range(seed, seed + patients)]
    for folder in studies:
        cohort = cohort_sources(folder)
        if cohort:
            sources += cohort[:patients]
            continue
        from uptake.io.find import find_cases

        noise = LowDoseSettings(
            doses, seed=seed, scanner=scanner or "mCT", assume_suv=assume_suv, with_ct=not without_ct
        )
        # Records and pictures carry the case's name: not one that tells who the patient is.
        sources += [RealSource(named_safely(files), noise, organ_labels, organs) for files in find_cases(folder)]
    with progress("measuring", quiet=quiet) as on_case:
        result = study(sources, out, settings=settings, jobs=jobs, again=again, on_case=on_case)
    if not quiet:
        _show(out)
        tell_counts(result, out)
    require_no_failure(result.failures, len(sources), out)


def _show(out: Path) -> None:
    import json

    content = json.loads((out / "study.json").read_text(encoding="utf-8"))
    titles = {measure["name"]: measure["title"] for measure in content["measures"]}
    rows = [
        {
            "quantity": titles[row["metric"]],
            "image": row["image"],
            "limit": row["limit"],
            "lowest": "none" if row["lowest_dose"] is None else f"{100 * row['lowest_dose']:g} %",
        }
        for row in content["limits"]
    ]
    if rows:
        table(rows, {"quantity": "quantity", "image": "image", "limit": "limit", "lowest": "lowest dose"})
