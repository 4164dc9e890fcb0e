"""uptake simulate patient | cohort | lowdose"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Parameter

from uptake.cli.cohorts import require_no_failure, tell_counts
from uptake.cli.console import progress, say
from uptake.cli.options import Out, Quiet, Switch
from uptake.cli.values import decimals, tracer_shares
from uptake.core.errors import UsageError

if TYPE_CHECKING:
    from uptake.workflows.simulated import SimulationSettings
    from uptake.workflows.simulated_anatomy import AnatomyFiles

Jobs = Annotated[int | None, Parameter(name=["--jobs", "-j"])]

simulate = App(name="simulate")


@simulate.command
def patient(
    *,
    out: Out,
    patients: Annotated[int, Parameter(name=["--patients", "-n"])] = 1,
    seed: int = 0,
    tracers: str = "FDG",
    spacing_mm: str = "4",
    lesions: int | None = None,
    dose: str | None = None,
    scanner: str | None = None,
    misalignment: str = "drawn",
    sex: Literal["male", "female"] | None = None,
    bmi: float | None = None,
    arms: Literal["up", "down"] | None = None,
    anatomy: Path | None = None,
    anatomy_labels: str = "total",
    as_: Annotated[Literal["nifti", "dicom"], Parameter(name="--as")] = "nifti",
    vendor: str | None = None,
    units: str | None = None,
    decay_correction: str | None = None,
    truth: Switch = False,
    jobs: Annotated[int, Parameter(name=["--jobs", "-j"])] = 1,
    quiet: Quiet = False,
) -> None:
    """Make digital PET/CT patients with known lesions, as study folders, NIfTI or DICOM.

    Parameters
    ----------
    out
        Receives one folder per patient.
    patients
        How many.
    seed
        Patient n is made from seed + n: the same seed is the same person, to the byte.
    tracers
        FDG, PSMA-11, PSMA-1007, FAPI-04, DOTATATE; several with shares, FDG=0.6,PSMA-11=0.4, are drawn from.
    spacing_mm
        Voxel size, 1.5 to 12 mm, or three of them with commas.
    lesions
        Number of lesions; drawn by default (40 % of patients have none).
    dose
        Fractions of the counts of further PETs, with commas: 0.05.
    scanner
        mCT, Vision 600, Quadra, D690, DMI, Gemini TF, Vereos, uMI 550, uEXPLORER.
    misalignment
        Of PET and CT: drawn, none, or the diaphragm of the CT this many mm lower.
    sex
        Drawn by default.
    bmi
        Body mass index, 16 to 45; drawn by default.
    arms
        Drawn by default.
    anatomy
        Organ label map of a real person, or a folder of such to draw from, instead of drawn organs.
    anatomy_labels
        What its numbers mean: total (TotalSegmentator), autopet, or a JSON file {number: name}.
    as_
        nifti or dicom.
    vendor
        Whose DICOM headers: ge, siemens, philips, uih, generic; by default the scanner's.
    units
        Of the DICOM PET: BQML, GML, CNTS; by default the vendor's habit.
    decay_correction
        Of the DICOM PET: START, ADMIN, NONE.
    truth
        Also write activity without blur and noise, an endless scan, labels in the frame of the CT, the motion between.
    jobs
        Processes.
    """
    if as_ != "dicom" and (vendor or units or decay_correction):
        raise UsageError("--vendor, --units and --decay-correction go with --as dicom.")
    from dataclasses import replace

    from uptake.simulation.person import PatientConfig
    from uptake.workflows.simulate import simulate as workflow
    from uptake.workflows.simulated_dicom import DicomStyle

    settings = _settings(tracers, spacing_mm, lesions, dose, scanner, misalignment)
    settings = replace(
        settings, person=PatientConfig(sex=sex, bmi=bmi, arms=arms), anatomy=_anatomy(anatomy, anatomy_labels)
    )
    dicom = DicomStyle(vendor, units, decay_correction) if as_ == "dicom" else None
    with progress("simulating", quiet=quiet or patients == 1) as on_patient:
        made = workflow(
            out, patients=patients, seed=seed, settings=settings, dicom=dicom, keep_truth=truth, jobs=jobs,
            on_patient=on_patient,
        )  # fmt: skip
    if quiet:
        return
    for each in made:
        say(f"{each.folder.name}: {each.lesions} lesions{' (kept)' if each.kept else ''}")
    say(f"{len(made)} patient{'s' if len(made) > 1 else ''} in {out}")


@simulate.command
def cohort(
    *,
    out: Out,
    patients: Annotated[int, Parameter(name=["--patients", "-n"])] = 100,
    seed: int = 0,
    tracers: str = "FDG",
    spacing_mm: str = "4",
    lesions: int | None = None,
    dose: str = "0.05",
    sites: int = 0,
    scanner: str | None = None,
    misalignment: str = "drawn",
    label_noise: str | None = None,
    anatomy: Path | None = None,
    anatomy_labels: str = "total",
    truth: Switch = False,
    jobs: Jobs = None,
    again: Switch = False,
    quiet: Quiet = False,
) -> None:
    """Make a cohort of digital patients as an nnU-Net raw dataset, with low-dose twins, organs, splits and a table.

    Parameters
    ----------
    out
        The dataset; the same command goes on with a stopped run, and a larger number of patients adds to it.
    patients
        How many.
    seed
        Patient n is made from seed + n; the sites from the seed.
    tracers
        As for patient: FDG=0.6,PSMA-1007=0.4.
    spacing_mm
        Voxel size, 1.5 to 12 mm, or three of them with commas.
    lesions
        Number of lesions; drawn by default (40 % of patients have none).
    dose
        Fractions of the counts of the low-dose twins, with commas; 1 for none.
    sites
        Centres with scanners, habits and errors of their own; 0 is one centre without errors.
    scanner
        The same for all sites; by default drawn, or an mCT without sites.
    misalignment
        Of PET and CT: drawn, none, or the diaphragm of the CT this many mm lower.
    label_noise
        Rates of label errors: erosion=0.2,dilation=0.1,shift=0.1,missing=0.05,wander=0.1,swapped=0.02.
    anatomy
        Organ label map of a real person, or a folder of such to draw from, instead of drawn organs.
    anatomy_labels
        What its numbers mean: total (TotalSegmentator), autopet, or a JSON file {number: name}.
    truth
        Also write activity without blur and noise, an endless scan, labels in the frame of the CT, the motion between.
    jobs
        Processes; by default as many as CPUs. The files do not depend on it.
    again
        Make cases anew, also of a cohort with other settings.
    """
    from dataclasses import replace

    from uptake.simulation.label_noise import LabelNoise
    from uptake.workflows.simulate_cohort import CohortSettings, simulate_cohort

    settings = _settings(tracers, spacing_mm, lesions, dose, scanner, misalignment)
    settings = replace(settings, sites=sites, site_seed=seed, anatomy=_anatomy(anatomy, anatomy_labels))
    with progress("simulating", quiet=quiet) as on_patient:
        result = simulate_cohort(
            out,
            patients=patients,
            seed=seed,
            settings=CohortSettings(settings, LabelNoise.parse(label_noise or ""), truth),
            jobs=jobs,
            again=again,
            on_patient=on_patient,
        )
    if not quiet:
        tell_counts(result, out)
    require_no_failure(result.failures, patients, out)


@simulate.command
def lowdose(
    *studies: Path,
    out: Out,
    dose: str | None = None,
    nec_per_litre: str | None = None,
    liver_cov: str | None = None,
    pet: Path | None = None,
    ct: Path | None = None,
    without_ct: Switch = False,
    liver: Path | None = None,
    full_liver_cov: float | None = None,
    full_nec_per_litre: float | None = None,
    scanner: str = "mCT",
    seed: int = 0,
    assume_suv: Switch = False,
    again: Switch = False,
    quiet: Quiet = False,
) -> None:
    """Make low-dose twins of real PET scans: the noise of fewer counts is added where noise is made, in the counts.

    Parameters
    ----------
    studies
        Study folders, PET files, DICOM studies, or folders of such; may be left out with --pet.
    out
        Receives <case>/dose_<fraction>/pet.nii.gz, and lowdose.csv with counts and noise of each.
    dose
        Fractions of the counts, above 0 to 1, with commas; 0.05 unless levels are given.
    nec_per_litre
        Levels instead of fractions: noise-equivalent counts per litre of body, with commas.
    liver_cov
        Levels instead of fractions: SD / mean in the liver, with commas.
    pet
        PET in SUV, instead of or within the study.
    ct
        CT in HU, instead of or within the study.
    without_ct
        Make the attenuation of the PET itself although there is a CT.
    liver
        Mask on the PET's grid in which noise is measured; by default the quietest sphere of 3 cm.
    full_liver_cov
        Noise of the full dose where it is known; by default measured.
    full_nec_per_litre
        Counts of the full dose where they are known.
    scanner
        As for patient: for the shares of scatter and randoms.
    seed
        Another seed is another noise.
    assume_suv
        Take the PET as SUV although its values say otherwise.
    again
        Do complete cases anew.
    """
    from uptake.workflows.simulate_lowdose import LowDoseSettings, simulate_lowdose

    levels = (decimals(nec_per_litre, "--nec-per-litre"), decimals(liver_cov, "--liver-cov"))
    doses = decimals(dose, "--dose") or (() if any(levels) else (0.05,))
    settings = LowDoseSettings(
        doses, *levels, seed=seed, scanner=scanner, full_liver_cov=full_liver_cov,
        full_nec_per_litre=full_nec_per_litre, assume_suv=assume_suv, with_ct=not without_ct,
    )  # fmt: skip
    from uptake.workflows.processes import usable_cpus

    cases = _cases(studies, pet, ct)
    result = simulate_lowdose(
        cases,
        out,
        settings=settings,
        liver=liver,
        again=again,
        threads=min(usable_cpus(), 4),
        on_case=None if quiet else lambda case, state: say(f"{case}: {state}"),
    )
    require_no_failure(result.failures, len(cases), out)
    if not quiet:
        say(f"{len(result.written)} written, {len(result.kept)} kept; see {out / 'lowdose.csv'}")


simulate.default(patient)


def _cases(studies: tuple[Path, ...], pet: Path | None, ct: Path | None) -> list[Any]:
    from uptake.io.find import CaseFiles, case_name, find_cases, with_overrides

    if not studies:
        if pet is None:
            raise UsageError("name a study, or a PET with --pet FILE.")
        return [with_overrides(CaseFiles(case_name(pet)), pet=pet, ct=ct)]
    if len(studies) > 1 and (pet is not None or ct is not None):
        raise UsageError("--pet and --ct go with one study.")
    return [case for study in studies for case in find_cases(study, pet=pet, ct=ct)]


def _settings(
    tracers: str, spacing_mm: str, lesions: int | None, dose: str | None, scanner: str | None, misalignment: str
) -> SimulationSettings:
    from uptake.workflows.simulated import SimulationSettings

    spacing = decimals(spacing_mm, "--spacing-mm")
    if len(spacing) not in (1, 3):
        raise UsageError(f"--spacing-mm takes one number or three, came {spacing_mm!r}.")
    try:
        shift: str | float = float(misalignment)
    except ValueError:
        shift = misalignment
    a, b, c = spacing * (3 // len(spacing))
    return SimulationSettings(
        tracers=tracer_shares(tracers), spacing_mm=(a, b, c), n_lesions=lesions, doses=decimals(dose, "--dose"),
        scanner=scanner, misalignment=shift,
    )  # fmt: skip


def _anatomy(path: Path | None, labels: str) -> AnatomyFiles | None:
    if path is None:
        if labels != "total":
            raise UsageError("--anatomy-labels goes with --anatomy.")
        return None
    from uptake.workflows.simulated_anatomy import anatomy_files

    return anatomy_files(path, labels)
