"""uptake audit"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from uptake.cli.console import progress, say, table
from uptake.cli.options import OptionalOut


def audit(
    dataset: Path,
    /,
    *,
    sites: Path,
    out: OptionalOut = None,
    harmonise: str | None = None,
    plan: str | None = None,
    target_fwhm_mm: float | None = None,
    labels: str | None = None,
    permutations: int = 200,
    seed: int = 0,
    assume_suv: bool = False,
    jobs: Annotated[int | None, Parameter(name=["--jobs", "-j"])] = None,
    again: bool = False,
    quiet: Annotated[bool, Parameter(name=["--quiet", "-q"])] = False,
) -> None:
    """Ask whether the sites of a cohort differ in their images, before and after a step that is to harmonise them.

    Parameters
    ----------
    dataset
        Folder of studies, nnU-Net images included; organ maps beside the images are used.
    sites
        CSV with columns case or patient, and site; fwhm_mm for the step gaussian; other columns are possible confounds.
    out
        Folder for tables, pictures and report.html; the same command goes on from there.
    harmonise
        Steps, with commas: gaussian (PET to one resolution), zscore, plan; joined by + where one follows another.
    plan
        Model whose normalisation the step plan takes: a shipped model or a bundle folder.
    target_fwhm_mm
        Resolution after gaussian; by default the coarsest in the table.
    labels
        Names of organ labels: a JSON or CSV file, or 1=liver,2=spleen.
    permutations
        Of sites among patients, for every p.
    seed
        Of folds, permutations and intervals.
    assume_suv
        Take every PET as SUV although its values say otherwise.
    jobs
        Processes; by default as many as there are CPUs, eight at most.
    again
        Read scans anew that an earlier run has read.
    quiet
        Print nothing but errors.
    """
    if out is not None:
        from uptake.io.write import require_writable

        require_writable(out)
    from uptake.core.errors import CohortError
    from uptake.harmonise.plan import Plan
    from uptake.workflows.audit import audit as run
    from uptake.workflows.audit_outputs import lead, tables_of, warnings_of, write_audit
    from uptake.workflows.label_table import find_labels

    chosen = None
    if plan is not None:
        from uptake.zoo.cards import find_bundle, read_card

        chosen = Plan.from_json(read_card(find_bundle(plan)).plan)
    names = {} if labels is None else find_labels(labels, dataset, dataset).names or {}
    with progress("reading", quiet=quiet) as told:
        found = run(
            dataset,
            sites,
            steps=[step.strip() for step in (harmonise or "").split(",") if step.strip()],
            plan=chosen,
            target_mm=target_fwhm_mm,
            organs={label: name for label, name in names.items() if isinstance(label, int)},
            out=out,
            permutations=permutations,
            seed=seed,
            jobs=jobs,
            again=again,
            assume_suv=assume_suv,
            on_case=told,
        )
    written = [] if out is None else write_audit(found, out)
    if not quiet:
        for shown in tables_of(found):
            say(f"\n  {shown.caption}")
            rows = [dict(zip(shown.headings, cells, strict=True)) for cells in shown.rows]
            table(rows, {heading: heading for heading in shown.headings})
        say(f"\n  {lead(found)}")
        for warning in warnings_of(found):
            say(f"  ! {warning}")
        for path in written:
            if path.name == "report.html":
                say(f"  {path}")
    if found.failures:
        first = found.failures[0]
        raise CohortError(f"{len(found.failures)} scans were not read. First, {first['case']}: {first['message']}")
