"""`Truth`: what is known about a simulated patient before any scanner has looked.

Anatomy makes it, the scanner (`petscan`, `ct`) takes it; neither needs to know how the other works.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from uptake.core.errors import GeometryError, UnitError
from uptake.core.types import Mask
from uptake.geometry.grid import require_same_grid
from uptake.geometry.orientation import axis_change
from uptake.geometry.volume import Volume
from uptake.simulation.labels import ORGAN_NAMES

if TYPE_CHECKING:
    from uptake.simulation.lesions import Lesion
    from uptake.simulation.mimics import Mimic

PLAUSIBLE_WEIGHT_KG = (2.0, 400.0)


@dataclass(frozen=True, eq=False)
class Truth:
    """Activity, CT numbers and labels of one patient on one grid, in the frame of the PET's mean breathing position.

    Attributes
    ----------
    activity : Volume
        Body-weight SUV (g/mL, float32) decay-corrected to the reference time, without blur or noise; >= 0. Voxels at
        an edge hold the mean over their volume, so that spill-over comes from the scanner alone.
    hu : Volume
        CT numbers without blur or noise, float32, with contrast medium where the patient got some; no couch.
    organs : Volume
        Organ labels, 0 is air; names in `organ_names`.
    lesions : Volume
        One number per lesion, 0 is none; numbers are those of `lesion_table`.
    weight_kg : float
        With the injected dose it turns SUV into Bq/mL, hence into counts.
    tracer : str
        "FDG", "PSMA-11", ...
    radionuclide : str
        Name as in `physics.radionuclides`, e.g. "F-18" or "Ga-68": positron range and branching.
    organ_names : mapping
        Label -> class name (TotalSegmentator's). The breathing field looks for liver, lungs, spleen, kidneys, stomach,
        heart and bladder by these names.
    lesion_table : tuple of Lesion
    parameters : mapping
        Everything that was drawn, plain JSON values.
    mimics : tuple of Mimic
        Foci that are no lesions.
    """

    activity: Volume
    hu: Volume
    organs: Volume
    lesions: Volume
    weight_kg: float
    tracer: str = "FDG"
    radionuclide: str = "F-18"
    organ_names: Mapping[int, str] = field(default_factory=lambda: ORGAN_NAMES)
    lesion_table: tuple[Lesion, ...] = ()
    parameters: Mapping[str, object] = field(default_factory=dict)
    mimics: tuple[Mimic, ...] = ()

    def __post_init__(self) -> None:
        for role in ("hu", "organs", "lesions"):
            require_same_grid(self.activity, getattr(self, role), names=("the activity", f"the {role} map"))
        activity = self.activity.array
        if not np.isfinite(activity).all() or float(activity.min()) < 0:
            raise UnitError("true activity must be SUV, finite and not negative.")
        if not np.isfinite(self.hu.array).all():
            raise UnitError("true CT numbers must be finite HU.")
        low, high = PLAUSIBLE_WEIGHT_KG
        if not low <= self.weight_kg <= high:
            raise UnitError(f"weight_kg must lie between {low:g} and {high:g}, came {self.weight_kg!r}.")
        if axis_change(self.activity.affine, "LPS").permutation != (0, 1, 2):
            raise GeometryError(
                "the array axes must run left-right, front-back and along the patient, came orientation "
                f"{self.activity.orientation}. Reorient the maps to LPS first."
            )

    def mask(self, *names: str) -> Mask:
        """Return where any of the classes is whose name is given, or begins with a given name ending in "*"."""
        wanted = [
            number
            for number, have in self.organ_names.items()
            if any(have == name or (name.endswith("*") and have.startswith(name[:-1])) for name in names)
        ]
        if not wanted:
            return np.zeros(self.organs.shape, dtype=bool)
        table = np.zeros(max(int(self.organs.array.max()), *wanted) + 1, dtype=bool)
        table[wanted] = True
        return np.asarray(table[self.organs.array])
