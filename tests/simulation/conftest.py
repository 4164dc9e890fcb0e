"""A trunk of simple solids with known organs, small enough for a scan in a fraction of a second."""

from __future__ import annotations

import numpy as np
import pytest

from uptake.geometry import Volume
from uptake.simulation.labels import ORGAN_IDS
from uptake.simulation.truth import Truth

SPACING = (6.0, 6.0, 6.0)
SHAPE = (76, 54, 64)
PAINT = {
    # name: (SUV, HU)
    "skeletal_muscle": (0.8, 50.0),
    "lung_lower_lobe_right": (0.5, -780.0),
    "lung_lower_lobe_left": (0.5, -780.0),
    "liver": (2.3, 58.0),
    "spleen": (1.9, 48.0),
    "aorta": (1.5, 42.0),
    "vertebrae_L1": (1.6, 200.0),
}


@pytest.fixture(scope="session")
def trunk() -> Truth:
    """Ellipse of 36 cm x 25 cm; lungs above, liver with a dome and spleen below, aorta and spine behind, one lesion."""
    x, y, z = ((np.arange(n) - (n - 1) / 2) * s for n, s in zip(SHAPE, SPACING, strict=True))
    # LPS: the first axis grows to the left, the second to the back, the third to the head.
    affine = np.diag([-SPACING[0], -SPACING[1], SPACING[2], 1.0])
    affine[:3, 3] = [-x[0], -y[0], z[0]]
    x, y, z = x[:, None, None], y[None, :, None], z[None, None, :]
    where = {"skeletal_muscle": (x / 180) ** 2 + (y / 125) ** 2 + 0 * z < 1}
    chest = ((x / 155) ** 2 + (y / 100) ** 2 < 1) & (np.abs(x) > 25)
    dome = np.maximum(20.0 - 0.006 * ((np.abs(x) - 85) ** 2 + y**2), -45.0)
    where["lung_lower_lobe_right"] = chest & (x < 0) & (z > dome) & (z < 160)
    where["lung_lower_lobe_left"] = chest & (x > 0) & (z > dome) & (z < 160)
    where["liver"] = chest & (x < 10) & (z <= dome) & (z > -110)
    where["spleen"] = ((x - 105) / 35) ** 2 + ((y - 35) / 35) ** 2 + ((z + 45) / 50) ** 2 < 1
    where["aorta"] = (x - 12) ** 2 + (y - 55) ** 2 + 0 * z < 12**2
    where["vertebrae_L1"] = x**2 + (y - 85) ** 2 + 0 * z < 22**2
    organs = np.zeros(SHAPE, np.uint8)
    activity = np.zeros(SHAPE, np.float32)
    hu = np.full(SHAPE, -1000.0, np.float32)
    for name, (suv, number) in PAINT.items():
        organs[where[name]], activity[where[name]], hu[where[name]] = ORGAN_IDS[name], suv, number
    lesions = ((x - 95) ** 2 + (y + 10) ** 2 + (z - 90) ** 2 < 12**2).astype(np.uint8)
    activity[lesions > 0], hu[lesions > 0] = 8.0, 40.0
    volume = Volume(activity, affine)
    return Truth(volume, Volume(hu, affine), Volume(organs, affine), Volume(lesions, affine), weight_kg=75.0)
