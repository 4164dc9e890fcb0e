"""The patients that the demo, the README and the tests show: fixed, so that every newcomer sees the same picture."""

from __future__ import annotations

from uptake.core.types import Vector3
from uptake.simulation.phantoms import SimulatedPatient, simulate_patient

DEMO_SEED = 20_003
"""Outside the seeds that the shipped model learnt from and was scored on."""

DEMO_LESIONS = 8


def demo_patient(*, spacing_mm: Vector3 = (4.0, 4.0, 4.0)) -> SimulatedPatient:
    """Return a man with his arms up and eight lesions in nodes, bone, liver and soft tissue.

    Parameters
    ----------
    spacing_mm : tuple of float
        Voxel size, mm; 4 mm takes about three seconds on one core, 6 mm about one.

    Returns
    -------
    SimulatedPatient
    """
    return simulate_patient(DEMO_SEED, spacing_mm=spacing_mm, n_lesions=DEMO_LESIONS)
