"""Mass balance: the activity of the whole body is what was injected less what was voided."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from uptake.core.units import GRAMS_PER_KG
from uptake.simulation.canvas import Canvas
from uptake.simulation.labels import organ_id
from uptake.simulation.tracers import Uptake, tumour_sink

MASS_BALANCE_RANGE = (0.75, 1.0)
"""Sum of SUV x mL over the weight in g that every patient must reach."""

_INSIDE = (0.77, 0.98)
_SINK_LOSERS = (
    "kidney_left", "kidney_right", "parotid_gland_left", "parotid_gland_right", "submandibular_gland_left",
    "submandibular_gland_right", "sublingual_gland_left", "sublingual_gland_right", "lacrimal_gland_left",
    "lacrimal_gland_right",
)  # fmt: skip


def mass_g(hu: npt.NDArray[np.float32]) -> float:
    """Return the sum over voxels of the density in g/mL that goes with the CT numbers (air 0, water 1, bone to 1.7)."""
    density = np.where(hu < 50, 1.0 + hu / 1000.0, 1.05 + 0.00055 * (hu - 50.0))
    return float(np.clip(density, 0.0, 2.0)[hu > -990].sum(dtype=np.float64))


def balance(
    canvas: Canvas, uptake: Uptake, numbers: npt.NDArray[np.uint8]
) -> tuple[npt.NDArray[np.float32], dict[str, object]]:
    """Return the activity (SUV) that conserves what was injected, and how that was reached.

    Muscle, fat and skin are scaled first, between limits that keep them between fat and blood; what they cannot take
    or give is shared by the whole body. What lies outside the field, arms and lower legs, has the mean SUV of this
    patient's muscle and fat. Before that a high burden of PSMA-avid tumour takes its share from kidneys and glands.
    """
    weight = canvas.person.weight_kg * GRAMS_PER_KG
    total = canvas.suv + canvas.background_suv
    burden = float(total[numbers > 0].sum(dtype=np.float64)) * canvas.voxel_ml
    sink = tumour_sink(uptake.tracer, burden)
    if sink < 1.0:
        losers = np.isin(canvas.organs, [organ_id(name) for name in _SINK_LOSERS]) & (numbers == 0)
        canvas.suv[losers] *= np.float32(sink)
    blood, muscle, fat = (canvas.tissues[name].suv for name in ("blood", "muscle", "fat"))
    outside = max(weight - mass_g(canvas.hu) * canvas.voxel_ml, 0.0)
    lean = canvas.person.lean_mass_kg / canvas.person.weight_kg
    limbs = outside * (0.8 * lean * muscle + (1.0 - 0.8 * lean) * fat)
    fixed = float(canvas.suv.sum(dtype=np.float64)) * canvas.voxel_ml
    pliable = float(canvas.background_suv.sum(dtype=np.float64)) * canvas.voxel_ml + limbs
    wanted = (uptake.body_mean * weight - fixed) / max(pliable, 1e-9)
    scale = float(np.clip(wanted, 0.55, max(min(1.6, 0.8 * blood / muscle), 0.6)))
    reached = (fixed + scale * pliable) / weight
    whole = float(np.clip(reached, *_INSIDE)) / reached
    activity = np.float32(whole) * (canvas.suv + np.float32(scale) * canvas.background_suv)
    return np.maximum(activity, 0.0).astype(np.float32), {
        "mass_balance": round(reached * whole, 5),
        "background_scale": round(scale, 5),
        "whole_body_scale": round(whole, 5),
        "tumour_sink": round(sink, 4),
        "tumour_burden_g": round(burden, 2),
    }
