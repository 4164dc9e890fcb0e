"""The patients that the demo, the README and the tests show: fixed, so that every newcomer sees the same picture."""

from __future__ import annotations

from uptake.core.types import Vector3
from uptake.simulation.person import PatientConfig
from uptake.simulation.phantoms import SimulatedPatient, simulate_patient

DEMO_SEED = 9
DEMO_LESIONS = 6


def demo_patient(*, spacing_mm: Vector3 = (4.0, 4.0, 4.0)) -> SimulatedPatient:
    """Return a man with his arms up and six lesions in nodes, bone, lung and soft tissue.

    Parameters
    ----------
    spacing_mm : tuple of float
        Voxel size, mm; 4 mm takes about three seconds on one core, 6 mm about one.

    Returns
    -------
    SimulatedPatient
    """
    config = PatientConfig(sex="male", arms="up")
    return simulate_patient(DEMO_SEED, spacing_mm=spacing_mm, n_lesions=DEMO_LESIONS, config=config)
