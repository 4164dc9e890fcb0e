"""The patients that the demo, the README and the tests show: fixed, so that every newcomer sees the same picture."""

from __future__ import annotations

from uptake.core.types import Vector3
from uptake.simulation.person import PatientConfig
from uptake.simulation.phantoms import simulate_truth
from uptake.simulation.truth import Truth

DEMO_SEED = 20_003
"""Outside the seeds that the shipped model learnt from and was scored on."""

DEMO_LESIONS = 8


def demo_patient(*, spacing_mm: Vector3 = (4.0, 4.0, 4.0)) -> Truth:
    """Return a man with his arms up and eight lesions in nodes, lungs and elsewhere, as `uptake demo` scans him.

    Parameters
    ----------
    spacing_mm : tuple of float
        Voxel size, mm; 4 mm takes about two seconds on one core, `petscan.scan_patient` about eight more.

    Returns
    -------
    Truth
    """
    config = PatientConfig(contrast="none")
    return simulate_truth(DEMO_SEED, spacing_mm=spacing_mm, n_lesions=DEMO_LESIONS, config=config)
