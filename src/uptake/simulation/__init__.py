"""Digital patients with known truth: anatomy, uptake of five tracers, lesions, and the scan that is made of them.

`simulate_truth` gives activity, CT numbers and labels; `simulate_patient` adds blur and noise in the image.
"""

from uptake.simulation.examples import demo_patient
from uptake.simulation.labels import LDOS_ORGANS, LESIONTRACER_ORGANS, ORGAN_IDS, ORGAN_NAMES, grouped
from uptake.simulation.lesions import Lesion
from uptake.simulation.mimics import Mimic
from uptake.simulation.person import TRACERS, PatientConfig
from uptake.simulation.phantoms import SimulatedPatient, simulate_patient, simulate_truth
from uptake.simulation.truth import Truth

__all__ = [
    "LDOS_ORGANS",
    "LESIONTRACER_ORGANS",
    "ORGAN_IDS",
    "ORGAN_NAMES",
    "TRACERS",
    "Lesion",
    "Mimic",
    "PatientConfig",
    "SimulatedPatient",
    "Truth",
    "demo_patient",
    "grouped",
    "simulate_patient",
    "simulate_truth",
]
