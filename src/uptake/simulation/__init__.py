"""Digital patients with known truth: anatomy, FDG uptake, lesions, and the scan that is made of them.

A first version behind a stable interface: image-domain blur and noise instead of a projector.
"""

from uptake.simulation.examples import demo_patient
from uptake.simulation.labels import ORGAN_IDS, ORGAN_NAMES
from uptake.simulation.lesions import Lesion
from uptake.simulation.person import PatientConfig
from uptake.simulation.phantoms import SimulatedPatient, simulate_patient

__all__ = [
    "ORGAN_IDS",
    "ORGAN_NAMES",
    "Lesion",
    "PatientConfig",
    "SimulatedPatient",
    "demo_patient",
    "simulate_patient",
]
