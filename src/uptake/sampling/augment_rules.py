"""What augmentation may do, as data: it is part of every bundle's card, which is read without torch."""

from __future__ import annotations

from dataclasses import dataclass

from uptake.core.types import Shape3

Range = tuple[float, float]


@dataclass(frozen=True)
class AugmentRules:
    """Probabilities and ranges; the defaults are LesionTracer's published ones (arXiv 2409.09478 and its code).

    Attributes
    ----------
    misalign_rotation_p, misalign_rotation_deg : float
        CT alone is turned by three angles U(-deg, deg).
    misalign_shift_p, misalign_shift : float, (z, y, x) voxels
        CT alone is shifted by an integer number of voxels, uniform on -n...n per axis.
    rotation_p, rotation_deg, scale_p, scale : float, range
        All channels and labels; three angles, one isotropic factor (above 1 shrinks objects).
    noise_p, noise_sd : float, range
        Gaussian, one field for all channels.
    blur_p, blur_channel_p, blur_sigma : float, range in voxels
    brightness_p, brightness, contrast_p, contrast : float, two-sided range
    low_resolution_p, low_resolution_channel_p, low_resolution : float, range of zoom
        Off as published: the library version of the time set every zoom to 1.
    inverted_gamma_p, gamma_p, gamma : float, two-sided range
    mirror_p : float
        Per axis.
    ct_dropout_p : float
        CT is replaced by the normalised zero, so that one network serves PET without CT. Not published.
    in_mm : bool
        Rotate in millimetres instead of voxels, so that a rotation is rigid on anisotropic grids. Not published.
    """

    misalign_rotation_p: float = 0.1
    misalign_rotation_deg: float = 5.0
    misalign_shift_p: float = 0.1
    misalign_shift: Shape3 = (0, 2, 2)
    rotation_p: float = 0.2
    rotation_deg: float = 30.0
    scale_p: float = 0.2
    scale: Range = (0.7, 1.4)
    noise_p: float = 0.1
    noise_sd: Range = (0.0, 0.1)
    blur_p: float = 0.2
    blur_channel_p: float = 0.5
    blur_sigma: Range = (0.5, 1.0)
    brightness_p: float = 0.15
    brightness: Range = (0.75, 1.25)
    contrast_p: float = 0.15
    contrast: Range = (0.75, 1.25)
    low_resolution_p: float = 0.0
    low_resolution_channel_p: float = 0.5
    low_resolution: Range = (0.5, 1.0)
    inverted_gamma_p: float = 0.1
    gamma_p: float = 0.3
    gamma: Range = (0.7, 1.5)
    mirror_p: float = 0.5
    ct_dropout_p: float = 0.0
    in_mm: bool = False


NO_AUGMENTATION = AugmentRules(
    misalign_rotation_p=0, misalign_shift_p=0, rotation_p=0, scale_p=0, noise_p=0, blur_p=0, brightness_p=0,
    contrast_p=0, low_resolution_p=0, inverted_gamma_p=0, gamma_p=0, mirror_p=0, ct_dropout_p=0,
)  # fmt: skip
"""Windows as they are; for validation."""
