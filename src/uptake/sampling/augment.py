"""Augmentation: what may happen (`augment_rules`), what was drawn for one sample (`SampleDraw`), and its application.

Everything is drawn on the CPU from a NumPy generator before anything is touched; application runs on batched tensors on
whatever device they are. Geometry is applied while the window is cut, in one interpolation per channel, so that a
sample without a spatial event is copied, not resampled.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from uptake.core.types import Shape3, Vector3
from uptake.sampling.augment_rules import NO_AUGMENTATION as NO_AUGMENTATION
from uptake.sampling.augment_rules import AugmentRules as AugmentRules
from uptake.sampling.augment_rules import Range


@dataclass(frozen=True, eq=False)
class SampleDraw:
    """Everything that was drawn for one sample. Neutral values leave the sample as it is.

    Attributes
    ----------
    matrix : array (3, 3) or None
        Output offset from the window's centre -> source offset, in voxels (z, y, x); None: plain cut.
    ct_matrix : array (3, 3), ct_shift : array (3,)
        For the CT channel only: it is turned, then shifted, before `matrix` applies to it as to the others.
    noise_sd : float
    noise_seed : int
    blur : array (c, 3)
        Sigma in voxels, 0 for none.
    brightness, contrast, inverted_gamma, gamma, zoom : array (c,)
        1 for none.
    mirror : tuple of bool
    drop_ct : bool
    """

    matrix: npt.NDArray[np.float64] | None
    ct_matrix: npt.NDArray[np.float64]
    ct_shift: npt.NDArray[np.float64]
    noise_sd: float
    noise_seed: int
    blur: npt.NDArray[np.float64]
    brightness: npt.NDArray[np.float64]
    contrast: npt.NDArray[np.float64]
    zoom: npt.NDArray[np.float64]
    inverted_gamma: npt.NDArray[np.float64]
    gamma: npt.NDArray[np.float64]
    mirror: tuple[bool, bool, bool]
    drop_ct: bool = field(default=False)

    def extent(self, window: Shape3) -> Shape3:
        """Return how many voxels around the window's centre have to be cut for the geometry that was drawn."""
        if self.matrix is None:
            return window
        half = (np.array(window) - 1) / 2
        reach = np.abs(self.matrix) @ half
        ct_reach = np.abs(self.ct_matrix @ self.matrix) @ half + np.abs(self.ct_matrix @ self.ct_shift)
        # Same parity as the window keeps both centres on the same point.
        grow = np.ceil(np.maximum(np.maximum(reach, ct_reach) - half, 0.0)).astype(int) + 1
        a, b, c = (int(n + 2 * g) for n, g in zip(window, grow, strict=True))
        return a, b, c


def draw_sample(
    rng: np.random.Generator, rules: AugmentRules, channels: Sequence[str], spacing_mm: Vector3
) -> SampleDraw:
    """Draw the augmentation of one sample.

    Parameters
    ----------
    rng : numpy Generator
    rules : AugmentRules
    channels : sequence of str
        Names in network order; "ct" is the one that is misaligned and dropped.
    spacing_mm : tuple of float
        (z, y, x) of the model grid; used when `rules.in_mm`.
    """
    n = len(channels)
    turned = rng.random() < rules.rotation_p
    angles = rng.uniform(-rules.rotation_deg, rules.rotation_deg, 3) * turned
    scaled = rng.random() < rules.scale_p
    factor = rng.uniform(*rules.scale) if scaled else 1.0
    ct_turned = rng.random() < rules.misalign_rotation_p
    ct_angles = rng.uniform(-rules.misalign_rotation_deg, rules.misalign_rotation_deg, 3) * ct_turned
    ct_shifted = rng.random() < rules.misalign_shift_p
    limit = np.array(rules.misalign_shift)
    ct_shift = rng.integers(-limit, limit + 1).astype(np.float64) * ct_shifted
    has_ct = "ct" in channels
    spatial = bool(turned or scaled or (has_ct and (ct_turned or ct_shifted)))
    to_mm = np.diag(spacing_mm) if rules.in_mm else np.eye(3)
    rotate = np.linalg.inv(to_mm) @ rotation(angles) @ to_mm
    ct_rotate = np.linalg.inv(to_mm) @ rotation(ct_angles) @ to_mm

    noisy = rng.random() < rules.noise_p
    blurred = (rng.random() < rules.blur_p) & (rng.random(n) < rules.blur_channel_p)
    bright = rng.random() < rules.brightness_p
    contrasted = rng.random() < rules.contrast_p
    coarse = (rng.random() < rules.low_resolution_p) & (rng.random(n) < rules.low_resolution_channel_p)
    inverted = rng.random() < rules.inverted_gamma_p
    gammaed = rng.random() < rules.gamma_p
    flips = rng.random(3) < rules.mirror_p
    return SampleDraw(
        matrix=factor * rotate if spatial else None,
        ct_matrix=ct_rotate,
        ct_shift=ct_shift,
        noise_sd=float(rng.uniform(*rules.noise_sd)) * noisy,
        noise_seed=int(rng.integers(2**31)),
        blur=rng.uniform(*rules.blur_sigma, (n, 3)) * blurred[:, None],
        brightness=two_sided(rng, rules.brightness, n) if bright else np.ones(n),
        contrast=two_sided(rng, rules.contrast, n) if contrasted else np.ones(n),
        zoom=np.where(coarse, rng.uniform(*rules.low_resolution, n), 1.0),
        inverted_gamma=two_sided(rng, rules.gamma, n) if inverted else np.ones(n),
        gamma=two_sided(rng, rules.gamma, n) if gammaed else np.ones(n),
        mirror=(bool(flips[0]), bool(flips[1]), bool(flips[2])),
        drop_ct=bool(rng.random() < rules.ct_dropout_p),
    )


def two_sided(rng: np.random.Generator, limits: Range, size: int) -> npt.NDArray[np.float64]:
    """Draw factors: with probability one half uniform in (low, 1), else uniform in (1, high)."""
    below = rng.random(size) < 0.5
    return np.where(below, rng.uniform(limits[0], 1.0, size), rng.uniform(1.0, limits[1], size))


def rotation(angles_deg: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the (3, 3) rotation about the first, then second, then third axis by the given angles in degrees."""
    result = np.eye(3)
    for axis, angle in enumerate(np.deg2rad(angles_deg)):
        a, b = [other for other in range(3) if other != axis]
        turn = np.eye(3)
        turn[a, a] = turn[b, b] = math.cos(angle)
        turn[a, b], turn[b, a] = -math.sin(angle), math.sin(angle)
        result = turn @ result
    return result


def apply_geometry(
    channels: torch.Tensor, labels: torch.Tensor, draw: SampleDraw, window: Shape3, *, ct: int | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the window with the drawn geometry applied.

    Parameters
    ----------
    channels : tensor (c, *extent) float32
        Cut with ``draw.extent(window)`` around the window's centre.
    labels : integer tensor (m, *extent)
        Label maps; all of them are moved alike.
    draw : SampleDraw
    window : tuple of int
    ct : int or None
        Channel that is misaligned.

    Returns
    -------
    channels : tensor (c, *window) float32
        Trilinear, zero outside.
    labels : tensor (m, *window) uint8
        The label with the largest linear share; the smallest of equals.
    """
    if draw.matrix is not None:
        grid = sampling_grid(draw.matrix, np.zeros(3), window, channels)
        sampled = F.grid_sample(channels[None], grid, align_corners=True)[0]
        if ct is not None and (draw.ct_shift.any() or not np.array_equal(draw.ct_matrix, np.eye(3))):
            ct_grid = sampling_grid(draw.ct_matrix @ draw.matrix, -(draw.ct_matrix @ draw.ct_shift), window, channels)
            sampled[ct] = F.grid_sample(channels[None, ct : ct + 1], ct_grid, align_corners=True)[0, 0]
        labels = torch.stack([sampled_labels(one, grid) for one in labels])
        channels = sampled
    axes = [axis for axis, flip in enumerate(draw.mirror) if flip]
    if axes:
        channels = torch.flip(channels, [axis + 1 for axis in axes])
        labels = torch.flip(labels, [axis + 1 for axis in axes])
    return channels, labels


def sampled_labels(labels: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
    """Return one label map (*extent) sampled at `grid`: the label with the largest linear share, 0 outside.

    One label's indicator at a time: eleven organ classes of a 308³ window at once would take 1.3 GB.
    """
    result = torch.zeros(grid.shape[1:4], dtype=torch.uint8, device=labels.device)
    best = torch.zeros(grid.shape[1:4], device=labels.device)
    for label in torch.unique(labels).tolist():
        share = F.grid_sample((labels == label).float()[None, None], grid, align_corners=True)[0, 0]
        wins = share > best  # where no share is left, outside the case, the background of 0 stays
        result[wins] = label
        best = torch.where(wins, share, best)
    return result


def apply_intensity(batch: torch.Tensor, draws: Sequence[SampleDraw], *, ct: int | None) -> torch.Tensor:
    """Return the batch (b, c, z, y, x) with each sample's drawn intensity changes, in the published order.

    Noise, blur, brightness, contrast, low resolution, gamma of the negative, gamma; CT dropout last.
    """
    batch = batch.clone()
    for b, draw in enumerate(draws):
        if draw.noise_sd > 0:
            generator = torch.Generator().manual_seed(draw.noise_seed)
            field_ = torch.randn(batch.shape[2:], generator=generator).to(batch.device)
            batch[b] += draw.noise_sd * field_
        for c in range(batch.shape[1]):
            if draw.blur[c].any():
                batch[b, c] = blurred(batch[b, c], draw.blur[c])

    def factors(name: str) -> torch.Tensor:
        values = np.stack([getattr(draw, name) for draw in draws])
        return torch.as_tensor(values, dtype=batch.dtype, device=batch.device)[:, :, None, None, None]

    brightness, contrast = factors("brightness"), factors("contrast")
    if (brightness != 1).any():
        batch *= brightness
    if (contrast != 1).any():
        mean = batch.mean((2, 3, 4), keepdim=True)
        low, high = batch.amin((2, 3, 4), keepdim=True), batch.amax((2, 3, 4), keepdim=True)
        batch = torch.clamp((batch - mean) * contrast + mean, low, high)
    for b, draw in enumerate(draws):
        for c in range(batch.shape[1]):
            if draw.zoom[c] < 1:
                batch[b, c] = coarsened(batch[b, c], float(draw.zoom[c]))
    for name, sign in (("inverted_gamma", -1.0), ("gamma", 1.0)):
        for b, draw in enumerate(draws):
            for c, exponent in enumerate(getattr(draw, name)):
                if exponent != 1:
                    batch[b, c] = sign * gamma_keeping_statistics(sign * batch[b, c], float(exponent))
    if ct is not None:
        for b, draw in enumerate(draws):
            if draw.drop_ct:
                batch[b, ct] = 0.0
    return batch


def blurred(image: torch.Tensor, sigma: npt.NDArray[np.float64]) -> torch.Tensor:
    """Return (z, y, x) blurred by a Gaussian of `sigma` voxels per axis; odd kernel nearest 6σ, reflected borders."""
    result = image[None, None]
    for axis, width in enumerate(sigma):
        size = round(float(6 * width + 0.5))
        size += 1 - size % 2
        radius = min(size // 2, image.shape[axis] - 1)
        offsets = torch.arange(-radius, radius + 1, device=image.device, dtype=image.dtype)
        kernel = torch.exp(-0.5 * (offsets / float(width)) ** 2)
        shape = [1, 1, 1, 1, 1]
        shape[axis + 2] = 2 * radius + 1
        pad = [0] * 6
        pad[2 * (2 - axis)] = pad[2 * (2 - axis) + 1] = radius
        result = F.conv3d(F.pad(result, pad, mode="reflect"), (kernel / kernel.sum()).view(shape))
    return result[0, 0]


def coarsened(image: torch.Tensor, zoom: float) -> torch.Tensor:
    """Return (z, y, x) sampled down by `zoom` (nearest) and up again (trilinear)."""
    small = [max(1, round(n * zoom)) for n in image.shape]
    down = F.interpolate(image[None, None], size=small, mode="nearest-exact")
    return F.interpolate(down, size=list(image.shape), mode="trilinear")[0, 0]


def gamma_keeping_statistics(image: torch.Tensor, gamma: float) -> torch.Tensor:
    """Return the image with its range raised to `gamma`, then brought back to its own mean and standard deviation."""
    mean, std, low = image.mean(), image.std(), image.min()
    span = (image.max() - low).clamp_min(1e-7)
    bent = ((image - low) / span) ** gamma * span + low
    return (bent - bent.mean()) * (std / bent.std().clamp_min(1e-7)) + mean


def sampling_grid(
    matrix: npt.NDArray[np.float64], shift: npt.NDArray[np.float64], window: Shape3, channels: torch.Tensor
) -> torch.Tensor:
    """Return the sampling grid (1, *window, 3) for `grid_sample` with aligned corners, axes in its (x, y, z) order.

    Output offset o from the centre of `window` is taken from offset ``matrix · o + shift`` from that of `channels`
    (c, *extent), in voxels (z, y, x).
    """
    extent = np.array(channels.shape[1:])
    offsets = [torch.arange(n, dtype=torch.float32, device=channels.device) - (n - 1) / 2 for n in window]
    z, y, x = torch.meshgrid(*offsets, indexing="ij")
    # Normalised coordinate of a source offset s: 2 s / (extent - 1), 0 at the centre.
    scale = 2.0 / np.maximum(extent - 1, 1)
    rows = matrix * scale[:, None]
    moved = shift * scale
    components = [rows[a, 0] * z + rows[a, 1] * y + rows[a, 2] * x + moved[a] for a in range(3)]
    return torch.stack(components[::-1], dim=-1)[None]
