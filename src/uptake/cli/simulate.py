"""uptake simulate"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from uptake.cli.console import say


def simulate(
    *,
    out: Annotated[Path, Parameter(name=["--out", "-o"])],
    patients: Annotated[int, Parameter(name=["--patients", "-n"])] = 1,
    seed: int = 0,
    spacing_mm: float = 4.0,
    lesions: int | None = None,
) -> None:
    """Make digital FDG PET/CT patients with known lesions, as study folders.

    Parameters
    ----------
    out
        Receives one folder per patient: pet, ct, lesion, organs, truth.json.
    patients
        How many.
    seed
        Patient n is made from seed + n: the same seed is the same person, to the byte.
    spacing_mm
        Voxel size, 1.5 to 12 mm.
    lesions
        Number of lesions; drawn by default (40 % of patients have none).
    """
    from uptake.workflows.simulate import simulate as workflow

    folders = workflow(
        out,
        patients=patients,
        seed=seed,
        spacing_mm=spacing_mm,
        n_lesions=lesions,
        on_patient=lambda name, patient: say(f"{name}: {len(patient.lesion_table)} lesions"),
    )
    say(f"{len(folders)} patients in {out}")
