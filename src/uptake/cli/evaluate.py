"""uptake evaluate"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from uptake.cli.console import progress, say, table
from uptake.cli.options import OptionalOut

SHOWN = {
    "case": "case", "label": "label", "dice": "Dice", "surface_dice_2mm": "surface Dice 2 mm", "hd95_mm": "HD95 mm",
    "reference_ml": "reference mL", "prediction_ml": "prediction mL", "fp_volume_ml": "FP mL", "fn_volume_ml": "FN mL",
    "lesion_f1_iou0.1_many_to_one": "lesion F1", "psnr_db": "PSNR dB", "ssim": "SSIM", "nrmse": "NRMSE",
    "suv_bias_percent": "SUV bias %", "cov": "CoV", "reference_cov": "reference CoV",
}  # fmt: skip
MOST_LINES = 50


def evaluate(
    prediction: Path,
    reference: Path,
    /,
    *,
    out: OptionalOut = None,
    pet: Path | None = None,
    images: bool = False,
    organs: Path | None = None,
    labels: str | None = None,
    empty: Literal["nan", "one", "zero"] = "nan",
    distance_empty: Literal["nan", "inf"] = "nan",
    metrics: str = "overlap,surface,surfels,components,detection",
    connectivity: int = 18,
    min_iou: float = 0.1,
    subgroups: Path | None = None,
    volume_bounds: str = "10,100",
    interval: Literal["percentile", "bca", "studentised"] = "studentised",
    confidence: float = 0.95,
    resample: bool = False,
    strict: bool = False,
    assume_suv: bool = False,
    jobs: Annotated[int | None, Parameter(name=["--jobs", "-j"])] = None,
    again: bool = False,
    quiet: Annotated[bool, Parameter(name=["--quiet", "-q"])] = False,
) -> None:
    """Compare masks with references: overlap, surface distances, false volumes, lesions, SUV; with intervals.

    Parameters
    ----------
    prediction
        A mask, a folder of masks (NAME.nii.gz, or NAME/lesions.nii.gz as `uptake segment` writes them), or an nnU-Net
        results folder.
    reference
        The reference, a folder of references, an nnU-Net raw dataset, or a folder of studies.
    out
        Folder for tables, summary.json, pictures and report.html; the same command goes on from there.
    pet
        PET, or folder of PETs: adds MTV, TLG, SUVmax, SUVmean, SUVpeak of both masks, and their agreement.
    images
        The two are PETs, not masks (a denoised and a full-dose one): PSNR, SSIM, NRMSE in the body.
    organs
        With --images: organ map, or folder of organ maps; SUV bias and noise per organ.
    labels
        Names of the labels: a JSON or CSV file, or 1=lesion,2=node; by default those of the dataset.json beside the
        masks, else everything that is not 0 is lesion.
    empty
        A lesion-free reference has no Dice (nan, the official autoPET rule); 1 if nothing was predicted, else 0 (one);
        0 if something was predicted, else none (zero, as nnU-Net). The report gives all three.
    distance_empty
        Surface distance where one mask is empty: undefined (nan) or infinite (inf).
    metrics
        Groups or names of scores, with commas.
    connectivity
        Of components and lesions: 6, 18 or 26.
    min_iou
        Overlap from which a lesion counts as found.
    subgroups
        CSV file with a column case or patient; every other column (tracer, site, dose, ...) divides the cohort.
    volume_bounds
        Classes of lesion volume, mL, with commas.
    interval
        Bootstrap interval of means, over patients.
    confidence
        Of the intervals.
    resample
        Bring predictions on another grid to the reference's (nearest neighbour) instead of refusing them.
    strict
        Refuse missing, extra and failing cases instead of listing them.
    assume_suv
        Take every PET as SUV although its values say otherwise.
    jobs
        Processes; by default as many as there are CPUs, eight at most.
    again
        Score cases anew that an earlier run has scored.
    quiet
        Print nothing but errors.
    """
    if out is not None:
        from uptake.io.write import require_writable

        require_writable(out)
    from uptake.core.errors import CohortError
    from uptake.workflows import evaluate as workflow
    from uptake.workflows.evaluation_results import StatisticsSettings, parse_bounds, read_groups, results_of
    from uptake.workflows.label_table import find_labels
    from uptake.workflows.scoring import EvaluateSettings

    bounds = parse_bounds(volume_bounds)
    statistics = StatisticsSettings(interval, confidence)
    statistics.check()
    settings = EvaluateSettings(
        empty=empty,
        empty_distance=distance_empty,
        metrics=tuple(name.strip() for name in metrics.split(",") if name.strip()),
        connectivity=connectivity,
        min_iou=min_iou,
        resample=resample,
        assume_suv=assume_suv,
    )
    with progress("scoring", quiet=quiet) as told:
        found = workflow.evaluate_cohort(
            prediction,
            reference,
            pet=pet,
            images=images,
            organs=organs,
            table=None if labels is None else find_labels(labels, prediction, reference),
            settings=settings,
            out=out,
            jobs=jobs,
            again=again,
            strict=strict,
            on_case=told,
        )
    groups = None
    if subgroups is not None:
        groups = read_groups(subgroups, {pair.case: pair.patient for pair in found.pairing.pairs})
    results = results_of(found, statistics=statistics, groups=groups, volume_bounds_ml=bounds)
    written: list[Path] = []
    if out is not None:
        from uptake.workflows.evaluation_outputs import write_evaluation

        written = write_evaluation(found, results, out, notes=groups.notes if groups else ())
    if not quiet:
        _show(results, found)
        if found.kept:
            say(f"  {found.kept} cases were scored by an earlier run; --again scores them anew")
        for path in written:
            if path.name in ("report.html", "scores.csv"):
                say(f"  {path}")
    if found.failures:
        first = found.failures[0]
        where = f"; {out / 'failures.csv'} lists them" if out is not None else ""
        raise CohortError(
            f"{len(found.failures)} cases were not scored{where}. First, {first['case']}: {first['message']}"
        )


def _show(results: object, found: object) -> None:
    from uptake.workflows.evaluate import Evaluation
    from uptake.workflows.evaluation_results import Results

    assert isinstance(results, Results) and isinstance(found, Evaluation)
    rows = [{k: None if isinstance(v, float) and math.isnan(v) else v for k, v in row.items()} for row in results.rows]
    table(rows[:MOST_LINES], {name: title for name, title in SHOWN.items() if any(name in row for row in rows)})
    if len(rows) > MOST_LINES:
        say(f"  … {len(rows) - MOST_LINES} more")
    rule = found.settings.empty
    for label, summaries in results.summaries.items():
        one = summaries.get("dice")
        if one is not None and one.n > 1:
            say(
                f"\n  {label}: mean Dice {one.mean:.4f} ({100 * one.confidence:g} % interval {one.low:.4f} to "
                f"{one.high:.4f}, {one.interval}), median {one.median:.4f}, {one.n} cases; undefined in "
                f"{one.undefined} (lesion-free reference, rule '{rule}')"
            )
        for name in ("psnr_db", "ssim"):
            image = summaries.get(name)
            if image is not None and image.n > 1:
                say(
                    f"\n  {label}: mean {SHOWN[name]} {image.mean:.3f} ({100 * image.confidence:g} % interval "
                    f"{image.low:.3f} to {image.high:.3f}, {image.interval}), {image.n} cases"
                )
    for note in found.notes:
        say(f"  ! {note}")
