"""Digital patients with known truth: anatomy, uptake of five tracers, lesions, and the scan that is made of them.

`simulate_truth` gives activity, CT numbers and labels; `scan_patient` makes PET and CT of them by way of counts and
reconstruction; `simulate_patient` adds blur and noise in the image, which is quick. `low_dose_of` makes low-dose twins
of real images.
"""

from uptake.simulation.examples import demo_patient
from uptake.simulation.labels import LDOS_ORGANS, LESIONTRACER_ORGANS, ORGAN_IDS, ORGAN_NAMES, grouped
from uptake.simulation.lesions import Lesion
from uptake.simulation.low_dose import LowDose, fraction_for, low_dose_of
from uptake.simulation.mimics import Mimic
from uptake.simulation.misalignment import Motion, draw_motion
from uptake.simulation.person import TRACERS, PatientConfig
from uptake.simulation.petscan import PetCtScan, scan_patient
from uptake.simulation.phantoms import SimulatedPatient, simulate_patient, simulate_truth
from uptake.simulation.scanner import SCANNERS, Scanner, scanner_named
from uptake.simulation.site import Site, draw_site
from uptake.simulation.truth import Truth

__all__ = [
    "LDOS_ORGANS",
    "LESIONTRACER_ORGANS",
    "ORGAN_IDS",
    "ORGAN_NAMES",
    "SCANNERS",
    "TRACERS",
    "Lesion",
    "LowDose",
    "Mimic",
    "Motion",
    "PatientConfig",
    "PetCtScan",
    "Scanner",
    "SimulatedPatient",
    "Site",
    "Truth",
    "demo_patient",
    "draw_motion",
    "draw_site",
    "fraction_for",
    "grouped",
    "low_dose_of",
    "scan_patient",
    "scanner_named",
    "simulate_patient",
    "simulate_truth",
]
