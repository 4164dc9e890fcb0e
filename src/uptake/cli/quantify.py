"""uptake quantify"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from uptake.cli.console import say, show_gate, table
from uptake.cli.options import Out, Switch


def quantify(
    pet: Path,
    mask: Path,
    /,
    *,
    out: Out,
    ct: Path | None = None,
    organs: Path | None = None,
    organ_labels: str | None = None,
    resample_organs: Switch = False,
    tracer: str | None = None,
    weight_kg: float | None = None,
    height_m: float | None = None,
    sex: Literal["M", "F", "O"] | None = None,
    pet_series: str | None = None,
    ct_series: str | None = None,
    connectivity: int = 18,
    min_volume_ml: float = 0.0,
    mtv: str = "mask",
    assume_suv: bool = False,
    gate: bool = True,
    roi: Annotated[tuple[str, ...], Parameter(name=["--roi"], consume_multiple=True)] = (),
    made_by: str | None = None,
    dicom: bool = True,
    keep_identifiers: Switch = False,
) -> None:
    """Measure a lesion mask you already have: tables, pictures and report in OUT/<case>/.

    Parameters
    ----------
    pet
        PET in SUV: a file, a study folder or a DICOM folder.
    mask
        Mask on the PET's grid; every voxel that is not 0 is lesion. Or a DICOM SEG or RTSTRUCT of the PET's study.
    out
        Folder for the results.
    ct
        CT in HU for the fused pictures.
    organs
        Organ map on the PET's grid: a label image, a folder of masks, a DICOM SEG. Each lesion is named after its
        organ, and held against liver and blood pool: PERCIST, five-point score.
    organ_labels
        What its numbers mean: total, autopet, lesiontracer, ldos, a JSON or CSV file, or 1=liver,2=spleen; by default
        the organ_labels.json or dataset.json beside it.
    resample_organs
        Allow an organ map on another grid, such as the CT's (nearest neighbour).
    tracer
        FDG, PSMA-11, ...; by default as the DICOM header says. PERCIST and the five-point score are for FDG.
    weight_kg
        Patient's weight, for a header that lacks it, or with a NIfTI for SUL; likewise the next two.
    height_m
        Height.
    sex
        M, F or O.
    pet_series
        End of the Series Instance UID of the PET to use, where a DICOM study holds several; see uptake inspect.
    ct_series
        End of the Series Instance UID of the CT to use.
    connectivity
        Of lesions: 6, 18 or 26.
    min_volume_ml
        Leave smaller lesions out of the table.
    mtv
        Which voxels of a lesion count as metabolic volume: mask, 41%, suv2.5, suv4.
    assume_suv
        Take the PET as SUV although its values say otherwise.
    gate
        Judge PET and CT and show a traffic light; see uptake segment.
    roi
        Which regions of a SEG or RTSTRUCT are lesions, by name or number; uptake regions lists them.
    made_by
        The algorithm that made the mask, for the DICOM files; without it they say drawn by hand.
    dicom
        For a DICOM PET, write lesions.seg.dcm, lesions.rtstruct.dcm and measurements.sr.dcm too.
    keep_identifiers
        Copy name, ID, birth date, accession number and the like into these files, as an archive wants them.
    """
    import json

    from uptake.io.write import require_writable
    from uptake.workflows.patient import PatientFacts

    facts = PatientFacts(tracer=tracer, weight_kg=weight_kg, height_m=height_m, sex=sex)
    require_writable(out)
    from uptake.workflows.dicom_results import KINDS, DicomSettings
    from uptake.workflows.quantify import quantify_to

    found, folder = quantify_to(
        pet,
        mask,
        out,
        ct=ct,
        organs=organs,
        organ_labels=organ_labels,
        resample_organs=resample_organs,
        facts=facts,
        pet_series=pet_series,
        ct_series=ct_series,
        connectivity=connectivity,
        min_volume_ml=min_volume_ml,
        mtv_method=mtv,
        assume_suv=assume_suv,
        gate=gate,
        roi=roi or None,
        made_by=made_by,
        dicom=DicomSettings(KINDS if dicom else (), keep_identifiers),
    )
    columns = {"lesion": "lesion", "volume_ml": "volume mL", "mtv_ml": "MTV mL", "suv_max": "SUVmax"}
    columns |= {"suv_mean": "SUVmean", "suv_peak": "SUVpeak", "tlg_g": "TLG g"}
    written = json.loads((folder / "lesions.json").read_text(encoding="utf-8"))
    rows = written["lesions"]
    if organs is not None:
        columns |= {"where": "where", "deauville": "score"}
        rows = [{**row, "where": place_of(row)} for row in rows]
    if rows:
        table(rows[:15], columns)
        if len(rows) > 15:
            say(f"  … {len(rows) - 15} more in lesions.csv")
        say(f"  total: MTV {found.totals.mtv_ml:.1f} mL, TLG {found.totals.tlg_g:.1f} g")
    else:
        say("  The mask is empty.")
    if organs is not None:
        for line in assessment_lines(written["assessment"]):
            say(f"  {line}")
    show_gate(json.loads((folder / "run.json").read_text(encoding="utf-8")))
    for warning in dict.fromkeys((*found.warnings, *written["assessment"]["warnings"])):
        say(f"  ! {warning}")
    say(f"  {folder / 'report.html'}")


def place_of(row: dict[str, Any]) -> str | None:
    """Return the place of a lesion: an organ that only touches it, or is near, is not where it lies."""
    organ, relation = str(row["organ"] or "").replace("_", " "), row["organ_relation"]
    if relation == "near":
        return f"{row['organ_distance_mm']:.0f} mm from {organ}"
    return f"touches {organ}" if relation == "touches" else organ or None


def assessment_lines(assessment: dict[str, Any]) -> list[str]:
    """Return references and criteria of a lesions.json in a line each."""
    lines = []
    for region in assessment["references"]:
        name = region["name"].replace("_", " ")
        if region["placed"]:
            lines.append(f"{name}: SUVmean {region['suv_mean']:.2f}, SD {region['suv_sd']:.2f} ({region['where']})")
        else:
            lines.append(f"{name}: no reference, {region['reason']}")
    percist, points = assessment["percist"], assessment["deauville"]
    if percist["assessed"]:
        lines.append(
            f"PERCIST: {percist['measurable']} measurable from {percist['unit']}peak {percist['threshold']:.2f} "
            f"({percist['formula']})"
        )
    else:
        lines.append(percist["reason"])
    if not points["assessed"]:
        lines.append(points["reason"])
    else:
        lines.append(f"Five-point score: {'open' if points['score'] is None else points['score']}")
    return lines
