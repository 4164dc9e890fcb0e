"""What the CT of a PET/CT shows: kernel, section, noise with streaks through the shoulders, contrast medium, couch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft, rfftfreq
from scipy.ndimage import uniform_filter1d

from uptake.core.errors import UsageError
from uptake.core.types import Mask, Vector3
from uptake.core.units import AIR_HU
from uptake.simulation.attenuation import BILINEAR_BY_KVP
from uptake.simulation.fields import FWHM_PER_SIGMA, Array, gaussian_blur
from uptake.simulation.projector import Projector
from uptake.simulation.truth import Truth

Phase = Literal["none", "arterial", "portal"]
Couch = Literal["none", "curved", "flat"]

MU_WATER_CT_PER_MM = 0.0195
"""Of water at the mean energy of a CT beam of 120 kVp, about 70 keV, 1/mm."""

REFERENCE_PATH_MM = 300.0
"""`CtSettings.noise_hu` is the noise in the middle of a water cylinder of this diameter."""

MODULATION = 0.55
"""Share of the exponential growth of noise with the path that modulation of the tube current leaves."""

LONGEST_PATH = 12.0

METAL_HU = 2500.0
HARDENING_PER_MM = 0.004
"""Missing line integral, in mm of water, per square of mm of metal: what makes dark bands between two implants."""

HU_RANGE = (-1024.0, 3071.0)

COUCH_HU, COUCH_CORE_HU = -120.0, -900.0

CONTRAST_HU: dict[str, Mapping[str, float]] = {
    "none": {},
    "arterial": {
        "aorta": 240, "heart": 150, "brachiocephalic_trunk": 230, "subclavian_artery_*": 230, "iliac_artery_*": 220,
        "common_carotid_artery_*": 230, "superior_vena_cava": 160, "pulmonary_vein": 180, "kidney_*": 110, "liver": 15,
        "spleen": 80, "pancreas": 55, "thyroid_gland": 60, "heart_myocardium": 55, "small_bowel": 25, "stomach": 15,
        "portal_vein_and_splenic_vein": 40, "skeletal_muscle": 5,
    },
    "portal": {
        "aorta": 110, "heart": 95, "brachiocephalic_trunk": 105, "subclavian_artery_*": 105, "iliac_artery_*": 105,
        "common_carotid_artery_*": 105, "superior_vena_cava": 110, "inferior_vena_cava": 110, "pulmonary_vein": 100,
        "iliac_vena_*": 90, "portal_vein_and_splenic_vein": 130, "kidney_*": 148, "liver": 52, "spleen": 70,
        "pancreas": 55, "thyroid_gland": 50, "heart_myocardium": 60, "small_bowel": 40, "stomach": 20, "colon": 20,
        "skeletal_muscle": 10, "autochthon_*": 10, "gluteus_*": 10, "iliopsoas_*": 10, "lung_*": 10, "brain": 4,
    },
}  # fmt: skip
"""Rise of the CT number by contrast medium, HU, by phase and organ; a tunable default."""


@dataclass(frozen=True)
class CtSettings:
    """How a site takes its CT.

    Attributes
    ----------
    kvp : int
        Tube voltage.
    noise_hu : float
        SD in the middle of 30 cm of water, in the image as it is written.
    kernel_sigma_mm : float
        Sharpness of the reconstruction kernel.
    slice_mm : float
        Thickness of the section.
    offset_hu : float
        Shift of soft tissue against other scanners; air stays at -1000.
    phase : {"none", "arterial", "portal"}
        Contrast medium; applied by `add_contrast`.
    couch : {"none", "curved", "flat"}
    """

    kvp: int = 120
    noise_hu: float = 15.0
    kernel_sigma_mm: float = 0.8
    slice_mm: float = 3.0
    offset_hu: float = 0.0
    phase: Phase = "none"
    couch: Couch = "curved"

    def __post_init__(self) -> None:
        if self.kvp not in BILINEAR_BY_KVP:
            raise UsageError(f"kvp must be one of {sorted(BILINEAR_BY_KVP)}, came {self.kvp!r}.")
        if self.phase not in CONTRAST_HU or self.couch not in ("none", "curved", "flat"):
            raise UsageError(f"unknown contrast phase {self.phase!r} or couch {self.couch!r}.")
        limits = {"noise_hu": (0, 200), "kernel_sigma_mm": (0, 5), "slice_mm": (0.3, 20), "offset_hu": (-50, 50)}
        for name, (low, high) in limits.items():
            if not low <= getattr(self, name) <= high:
                raise UsageError(f"{name} must lie between {low:g} and {high:g}, came {getattr(self, name)!r}.")


def ct_image(
    hu: Array, projector: Projector, spacing_mm: Vector3, settings: CtSettings, rng: np.random.Generator
) -> Array:
    """Return the CT image (i, j, k) float32, whole HU from -1024 to 3071.

    Parameters
    ----------
    hu : array (i, j, k) float32
        True CT numbers in the frame of the CT, couch included.
    projector : Projector
        On the grid of `hu`; its lines carry noise and streaks.
    spacing_mm : tuple of float
    settings : CtSettings
    rng : numpy.random.Generator

    Notes
    -----
    Noise is that of filtered back-projection: independent on every line, its variance growing with the attenuation
    along it, so that it streaks from shoulder to shoulder and from hip to hip.
    """
    width = FWHM_PER_SIGMA * settings.kernel_sigma_mm
    image = gaussian_blur(hu, (width, width, 0.0), spacing_mm, mode="nearest")
    sections = max(round(settings.slice_mm / spacing_mm[2]), 1)
    image = uniform_filter1d(image, sections, axis=2, mode="nearest")
    density = np.clip(image / 1000.0 + 1.0, 0.0, None)
    image += np.float32(settings.offset_hu) * np.minimum(density, 1.0)
    lines = None
    if settings.noise_hu > 0:
        noise = rng.standard_normal((projector.geometry.n_angles, projector.geometry.n_bins, hu.shape[2]), np.float32)
        path = projector.apply(density * np.float32(MU_WATER_CT_PER_MM))
        np.clip(path, 0.0, LONGEST_PATH, out=path)
        noise *= np.exp(np.float32(0.5 * MODULATION) * (path - np.float32(MU_WATER_CT_PER_MM * REFERENCE_PATH_MM)))
        if sections > 1:
            noise = uniform_filter1d(noise, sections, axis=2, mode="nearest") * np.float32(np.sqrt(sections))
        lines = noise * np.float32(settings.noise_hu / _noise_gain(projector))
    metal = hu > METAL_HU
    if metal.any():
        through = projector.apply(metal.astype(np.float32))
        streaks = through**2 * np.float32(-HARDENING_PER_MM * 1000.0)
        lines = streaks if lines is None else lines + streaks
    if lines is not None:
        image += filtered_back_projection(lines, projector)
    return np.asarray(np.clip(np.rint(image), *HU_RANGE), dtype=np.float32)


def filtered_back_projection(lines: Array, projector: Projector) -> Array:
    """Return the image (i, j, k) float32 whose line integrals are given, by ramp filter and back-projection.

    References
    ----------
    Kak and Slaney, Principles of Computerized Tomographic Imaging, 1988, eq. 3.61 (band-limited ramp).
    """
    g = projector.geometry
    size = next_fast_len(2 * g.n_bins, real=True)
    n = np.arange(size)
    n = np.minimum(n, size - n)
    kernel = np.where(n % 2 == 1, -1.0 / (np.pi * np.maximum(n, 1)) ** 2, 0.0)
    kernel[0] = 0.25
    # A Hann window: the soft-tissue kernel of a CT.
    ramp = np.abs(np.asarray(rfft(kernel))) / g.bin_mm * (0.5 + 0.5 * np.cos(2 * np.pi * rfftfreq(size)))
    filtered = np.empty(lines.shape, np.float32)
    for angle in range(g.n_angles):
        spectrum = np.asarray(rfft(lines[angle], size, axis=0))
        filtered[angle] = np.asarray(irfft(spectrum * ramp.astype(np.float32)[:, None], size, axis=0))[: g.n_bins]
    # The adjoint sums over lines in mm; a back-projection interpolates: pitch / (pixel area) between them.
    scale = np.pi / g.n_angles * g.bin_mm / (g.pixel_mm[0] * g.pixel_mm[1])
    return np.asarray(projector.adjoint(filtered) * np.float32(scale))


def _noise_gain(projector: Projector) -> float:
    """Return the SD in the middle of a filtered back-projection of unit noise on every line."""
    g = projector.geometry
    unit = np.random.default_rng(0).standard_normal((g.n_angles, g.n_bins, 16), np.float32)
    image = filtered_back_projection(unit, projector)
    (ni, nj), (hi, hj) = g.shape, (max(g.shape[0] // 6, 1), max(g.shape[1] // 6, 1))
    middle = image[ni // 2 - hi : ni // 2 + hi + 1, nj // 2 - hj : nj // 2 + hj + 1]
    return float(middle.std())


def add_contrast(truth: Truth, phase: Phase) -> Truth:
    """Return the patient with contrast medium: CT numbers of vessels and organs raised.

    Parameters
    ----------
    truth : Truth
        Unenhanced.
    phase : {"none", "arterial", "portal"}
    """
    if phase not in CONTRAST_HU:
        raise UsageError(f"phase must be one of {sorted(CONTRAST_HU)}, came {phase!r}.")
    if phase == "none":
        return truth
    table = np.zeros(max(int(truth.organs.array.max()), *truth.organ_names) + 1, np.float32)
    for number, name in truth.organ_names.items():
        for pattern, rise in CONTRAST_HU[phase].items():
            if name == pattern or (pattern.endswith("*") and name.startswith(pattern[:-1])):
                table[number] = rise
    raised = table[truth.organs.array]
    # Fat, gas and bone inside a label take none up.
    soft = np.clip((truth.hu.array + 60.0) / 60.0, 0.0, 1.0) * (truth.hu.array < 300.0)
    raised *= np.where(truth.mask("lung_*"), np.float32(1), soft.astype(np.float32))
    raised = gaussian_blur(raised, (3.0, 3.0, 3.0), truth.hu.spacing_mm)
    return replace(truth, hu=truth.hu.with_array(truth.hu.array + raised))


def add_couch(hu: Array, body: Mask, spacing_mm: Vector3, couch: Couch, *, back_is_last: bool) -> Array:
    """Return CT numbers with a couch under the back: a carbon shell around foam.

    Parameters
    ----------
    hu : array (i, j, k) float32
    body : array (i, j, k) bool
    spacing_mm : tuple of float
    couch : {"none", "curved", "flat"}
    back_is_last : bool
        Whether the second array axis grows towards the back.
    """
    rows = np.flatnonzero(body.any(axis=(0, 2)))
    if couch == "none" or rows.size == 0:
        return hu
    x = (np.arange(hu.shape[0]) - (hu.shape[0] - 1) / 2) * spacing_mm[0]
    y = np.arange(hu.shape[1]) * spacing_mm[1]
    depth = y - y[rows[-1]] if back_is_last else y[rows[0]] - y
    half = 205.0 if couch == "curved" else 225.0
    rise = (x / half) ** 2 * (30.0 if couch == "curved" else 3.0)
    below = depth[None, :] + rise[:, None] - 6.0
    thick = 30.0 if couch == "curved" else 24.0
    # Signed distance to the shell's outside, its edge softened over a voxel.
    outside = np.maximum(np.maximum(-below, below - thick), np.abs(x)[:, None] - half)
    cover = np.clip(0.5 - outside / spacing_mm[1], 0.0, 1.0)
    core = np.clip(0.5 - (outside + 3.0) / spacing_mm[1], 0.0, 1.0)
    section = cover * (COUCH_HU + 1000.0) + core * (COUCH_CORE_HU - COUCH_HU)
    free = ~body & (hu < AIR_HU + 100.0)
    return np.asarray(np.where(free, np.maximum(hu, -1000.0 + section[:, :, None]), hu), dtype=np.float32)
