"""uptake demo"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from uptake.cli.console import progress, say
from uptake.cli.options import Out
from uptake.cli.results import show_results
from uptake.zoo.cards import DEFAULT_MODEL, find_bundle


def demo(
    *,
    out: Out = Path("demo"),
    seed: int | None = None,
    spacing_mm: float = 4.0,
    model: Annotated[str, Parameter(name=["--model", "-m"])] = DEFAULT_MODEL,
) -> None:
    """Simulate a patient, find the lesions, compare with the truth. No data, no network, about a minute.

    Parameters
    ----------
    out
        Receives the simulated study and its results.
    seed
        Another seed is another patient; by default the one that the README shows.
    spacing_mm
        Voxel size of the simulated scan, 1.5 to 12 mm; larger is faster.
    model
        A shipped model or a bundle folder.
    """
    from uptake.io.write import require_writable

    find_bundle(model)
    require_writable(out)
    began = time.perf_counter()
    from uptake.simulation.examples import DEMO_LESIONS, DEMO_SEED
    from uptake.workflows.cohort import segment_cases
    from uptake.workflows.evaluate import evaluate
    from uptake.workflows.simulate import simulate
    from uptake.workflows.simulated import SimulationSettings

    chosen = DEMO_SEED if seed is None else seed
    say("1. A digital FDG PET/CT patient (simulated: no such person exists)")
    settings = SimulationSettings(spacing_mm=(spacing_mm,) * 3, n_lesions=DEMO_LESIONS)
    study = simulate(out / "study", seed=chosen, settings=settings)[0].folder
    say(f"   {study}")
    from uptake.io.find import find_cases

    say(f"2. uptake segment {study} -o {out / 'results'} -m {model}")
    with progress("segmenting") as on_window:
        segment_cases(find_cases(study), out / "results", model=model, on_window=on_window)
    folder = out / "results" / study.name
    show_results(folder)
    say("3. Against the truth")
    (row,) = evaluate(folder / "lesions.nii.gz", study / "lesion.nii.gz")
    say(
        f"   Dice {row['dice']:.2f}; true volume {row['reference_ml']:.1f} mL, found {row['prediction_ml']:.1f} mL; "
        f"{row['fn_components']} of {row['reference_components']} lesions missed, "
        f"{row['fp_components']} of {row['prediction_components']} found where there is none"
    )
    say(f"\nOpen {folder / 'report.html'} in a browser.  ({time.perf_counter() - began:.0f} s)")
