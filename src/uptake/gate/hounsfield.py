"""Is the CT's scale Hounsfield's? Air near -1000, soft tissue near 45, fat near -100."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from uptake.gate.findings import Finding, Light
from uptake.geometry.volume import Volume

AIR_WINDOW_HU = (-1100, -940)
AIR_HU = (-1035.0, -960.0)
"""-1000 by definition; scanners that store nothing below -1024 pile their air up there."""

SOFT_WINDOW_HU = (-60, 160)
SOFT_HU = (15.0, 90.0)
"""Mode of muscle and parenchyma; 27 to 60 in 40 real CTs without contrast medium, up to 80 with it."""

FAT_WINDOW_HU = (-180, -45)
LEAST_SHARE = 0.01
"""A window with less than this share of all voxels shows no peak."""

MOST_SAMPLES = 1_000_000
LARGE_ML = 5000.0


def scale_finding(ct: Volume) -> Finding:
    """Return whether air and soft tissue of a CT lie where Hounsfield put them."""
    step = max(1, round((ct.array.size / MOST_SAMPLES) ** (1 / 3)))
    values = np.asarray(ct.array[::step, ::step, ::step], dtype=np.float32).ravel()
    air, fat, soft = (_mode(values, window) for window in (AIR_WINDOW_HU, FAT_WINDOW_HU, SOFT_WINDOW_HU))
    details: dict[str, object] = {"air_hu": air, "fat_hu": fat, "soft_tissue_hu": soft}
    parts = [
        f"{name} {mode} HU" for name, mode in (("air", air), ("fat", fat), ("soft tissue", soft)) if mode is not None
    ]
    measured = ", ".join(parts)
    expected = f"air {AIR_HU[0]:.0f} to {AIR_HU[1]:.0f}, soft tissue {SOFT_HU[0]:.0f} to {SOFT_HU[1]:.0f} HU"
    title, check = "CT scale", "ct_scale"
    wrong_air = air is not None and not AIR_HU[0] <= air <= AIR_HU[1]
    wrong_soft = soft is not None and not SOFT_HU[0] <= soft <= SOFT_HU[1]
    large = ct.array.size * ct.voxel_volume_ml > LARGE_ML
    if not large and (air is None or soft is None):
        # A crop inside a lung or a fatty thigh shows its own mixture, not the scale.
        sentence = "The CT is too small a crop to judge its scale."
        return Finding(check, Light.GREY, title, measured, expected, sentence, details)
    if air is None and (soft is None or fat is None):
        wrong_soft = wrong_air = True  # neither end of the scale is where it should be
    if (air is None or soft is None) and not (wrong_air or wrong_soft):
        missing = "air" if air is None else "soft tissue"
        sentence = (
            f"The CT shows no {missing} where it is expected: it was clipped, shifted or scaled, or is a crop. Models "
            "that use the CT will read it wrongly; give the CT as it came from the scanner."
        )
        return Finding(check, Light.AMBER, title, measured, expected, sentence, details)
    if wrong_air and (wrong_soft or soft is None):
        sentence = (
            "Neither air nor soft tissue is where it belongs: Rescale Slope or Intercept was lost, or this is no CT. "
            "Convert it from DICOM again."
        )
        return Finding(check, Light.RED, title, measured, expected, sentence, details)
    if wrong_air or wrong_soft:
        sentence = (
            "One of the two lies off: an offset of some tens of HU, a clipped range, or much contrast medium. "
            "Attenuation and models that use the CT suffer a little."
        )
        return Finding(check, Light.AMBER, title, measured, expected, sentence, details)
    return Finding(check, Light.GREEN, title, measured, expected, "The CT is in Hounsfield units.", details)


def _mode(values: npt.NDArray[np.float32], window: tuple[int, int]) -> int | None:
    """Return the most frequent value inside a window, smoothed over 20 HU, or None if few voxels lie in it."""
    low, high = window
    counts, _ = np.histogram(values, bins=np.arange(low, high + 1))
    if counts.sum() < LEAST_SHARE * values.size:
        return None
    bell = np.hanning(23)[1:-1]
    return int(low + np.convolve(counts, bell / bell.sum(), "same").argmax())
