"""Breathing and other motion between PET and CT: one displacement field, two frames, and a CT that no longer fits.

The PET is taken over minutes and shows the mean over the breathing cycle; the CT takes seconds and shows one moment of
it. Anatomy is given in the PET's mean position. The field says where the CT's tissue comes from: ``CT(x) = PET(x +
v(x))``, x and v in world mm. A CT in deeper inspiration than the PET's mean (positive shift) has its diaphragm lower.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.ndimage import find_objects, map_coordinates

from uptake.core.errors import UsageError
from uptake.core.types import Image, Vector3
from uptake.geometry.volume import Volume
from uptake.simulation.body_map import body_box
from uptake.simulation.fields import Array, Line, gaussian_blur
from uptake.simulation.truth import Truth

BreathHold = Literal["free", "expiration", "inspiration"]

MEAN_OF_TRACE, SD_OF_TRACE = 0.375, 0.3644
"""Mean and SD of cos⁴ over its cycle: 3/8 and sqrt(35/128 - 9/64)."""

PHASES = 4
"""Moments of the cycle averaged for the PET: their mean and SD are exactly those of cos⁴."""

FACTORS: dict[str, float] = {
    "lung_*": 1.0,
    "liver": 1.0,
    "gallbladder": 1.0,
    "spleen": 0.8,
    "stomach": 0.7,
    "pancreas": 0.7,
    "kidney_*": 0.65,
    "adrenal_gland_*": 0.65,
    "duodenum": 0.6,
    "pleural_effusion": 0.8,
    "torso_fat": 0.5,
    "heart*": 0.4,
    "rib_*": 0.15,
    "sternum": 0.15,
    "costal_cartilages": 0.15,
    "skeletal_muscle": 0.1,
    "subcutaneous_fat": 0.1,
    "breast": 0.1,
    "skin": 0.1,
    "aorta": 0.1,
    **dict.fromkeys(
        ("vertebrae_*", "intervertebral_discs", "spinal_cord", "autochthon_*", "scapula_*", "clavicula_*", "humerus_*",
         "ulna_*", "radius_*", "hand_*", "hip_*", "sacrum", "femur_*", "iliopsoas_*", "gluteus_*"), 0.0
    ),
}  # fmt: skip
"""Motion along the body relative to the diaphragm, by organ; other tissue `OTHER_FACTOR`, air none."""

OTHER_FACTOR = 0.4
FACTOR_BLUR_MM = 32.0
"""FWHM that turns factors per organ into a field without tears."""

DOME_PLATEAU_MM, BELOW_DOME_MM = 80.0, 180.0
"""Below the dome the motion stays full over the plateau and fades over this length."""

LARGEST_SHIFT_MM = 40.0

MOVES = 0.004
"""Share of the dome's motion below which tissue counts as still: 0.1 mm in deep breathing."""

SLAB = 48
"""Slices that are interpolated at a time."""


@dataclass(frozen=True)
class Motion:
    """How one patient breathes and moves.

    Attributes
    ----------
    amplitude_mm : float
        Peak-to-peak motion of the diaphragm's dome along the body; the trace is amplitude * cos⁴(pi t / tau).
    ct_shift_mm : float
        Position of the dome in the CT below its mean in the PET: positive in inspiration.
    ap_share : float
        Motion of the front of the abdomen to the front, relative to that of the dome downwards.
    rigid_mm : tuple of float
        Displacement of the whole patient in the CT, world mm.
    head_turn_deg : float
        Turn of the head about the body's axis in the CT.
    """

    amplitude_mm: float = 0.0
    ct_shift_mm: float = 0.0
    ap_share: float = 0.25
    rigid_mm: Vector3 = (0.0, 0.0, 0.0)
    head_turn_deg: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.amplitude_mm <= LARGEST_SHIFT_MM:
            raise UsageError(f"amplitude_mm must lie between 0 and {LARGEST_SHIFT_MM:g}, came {self.amplitude_mm!r}.")
        if not abs(self.ct_shift_mm) <= LARGEST_SHIFT_MM:
            raise UsageError(f"ct_shift_mm must lie within ±{LARGEST_SHIFT_MM:g}, came {self.ct_shift_mm!r}.")
        if not 0 <= self.ap_share <= 1:
            raise UsageError(f"ap_share must lie between 0 and 1, came {self.ap_share!r}.")

    @property
    def moves_ct(self) -> bool:
        """Whether the CT's frame differs from the PET's."""
        return bool(self.ct_shift_mm or any(self.rigid_mm) or self.head_turn_deg)


def draw_motion(rng: np.random.Generator, hold: BreathHold = "free") -> Motion:
    """Return the motion of one patient.

    Parameters
    ----------
    rng : numpy.random.Generator
    hold : {"free", "expiration", "inspiration"}
        How the site takes its CT. Shallow breathing leaves a shift of 5 mm (SD) either way, end-expiration one of
        -0.375 times the amplitude, inspiration 10 to 25 mm.

    Notes
    -----
    Diaphragm in quiet breathing: 10 to 30 mm. The amplitude here is N(15, 5) mm within 6 to 30.
    """
    amplitude = float(np.clip(rng.normal(15.0, 5.0), 6.0, 30.0))
    free, deep = float(np.clip(rng.normal(0.0, 5.0), -15.0, 15.0)), float(rng.uniform(10.0, 25.0))
    ap = float(rng.uniform(0.2, 0.3))
    rigid = rng.normal(0.0, 2.0, 3)
    turn = float(np.clip(rng.normal(0.0, 2.0), -5.0, 5.0))
    shifts = {"free": free, "expiration": -MEAN_OF_TRACE * amplitude, "inspiration": deep}
    if hold not in shifts:
        raise UsageError(f"a CT is taken in 'free' breathing, 'expiration' or 'inspiration', came {hold!r}.")
    return Motion(amplitude, shifts[hold], ap, (float(rigid[0]), float(rigid[1]), float(rigid[2])), turn)


def trace(amplitude_mm: float, phase: npt.ArrayLike) -> Line:
    """Return the position amplitude * cos⁴(pi phase) at phases of the cycle (0 to 1), mm from end-expiration."""
    return np.asarray(amplitude_mm * np.cos(np.pi * np.asarray(phase, dtype=np.float64)) ** 4)


class BreathingField:
    """The field of one patient for a motion of 1 mm of the dome, ready to be scaled.

    Parameters
    ----------
    truth : Truth
        Its lungs and liver place the field; without lungs there is none.
    ap_share : float
    """

    def __init__(self, truth: Truth, *, ap_share: float = 0.25) -> None:
        self.affine, self.shape = truth.organs.affine, truth.organs.shape
        self.along = np.zeros(self.shape, np.float32)
        self.forward = np.zeros(self.shape, np.float32)
        self.apex_mm: float | None = None
        self.dome_mm: float | None = None
        lungs = truth.mask("lung_*")
        if not lungs.any():
            return
        z = truth.organs.affine[2, 2] * np.arange(self.shape[2]) + truth.organs.affine[2, 3]
        present = z[lungs.any(axis=(0, 1))]
        liver = truth.mask("liver")
        self.apex_mm = float(present.max())
        self.dome_mm = float(z[liver.any(axis=(0, 1))].max()) if liver.any() else float(np.quantile(present, 0.25))
        spacing = truth.organs.spacing_mm
        slices = np.flatnonzero((z < self.apex_mm) & (z > self.dome_mm - DOME_PLATEAU_MM - BELOW_DOME_MM))
        box = slice(int(slices.min()), int(slices.max()) + 1)
        factor = _factors(truth, box)
        along = gaussian_blur(factor, (FACTOR_BLUR_MM,) * 3, spacing) * self._profile(z[box])[None, None, :]
        # The back rests on the couch: the further forward, the more the wall moves to the front.
        body = truth.organs.array[:, :, box] > 0
        y = (truth.organs.affine[1, 1] * np.arange(self.shape[1]) + truth.organs.affine[1, 3]).astype(np.float32)
        rows = y[body.any(axis=(0, 2))]
        front = np.clip((y - rows.min()) / max(float(np.ptp(rows)), 1.0), 0.0, 1.0)
        chest = gaussian_blur(np.where(body, np.float32(1), np.float32(0)), (FACTOR_BLUR_MM,) * 3, spacing)
        self.along[:, :, box] = along
        self.forward[:, :, box] = ap_share * chest * front[None, :, None] * self._profile(z[box])[None, None, :]

    def _profile(self, z: Line) -> Array:
        assert self.apex_mm is not None and self.dome_mm is not None
        above = _smoothstep((self.apex_mm - z) / max(self.apex_mm - self.dome_mm, 1.0))
        below = 1.0 - _smoothstep((self.dome_mm - DOME_PLATEAU_MM - z) / BELOW_DOME_MM)
        return np.asarray(np.minimum(above, below), dtype=np.float32)

    def at(self, shift_mm: float) -> Array:
        """Return v (i, j, k, 3) float32, world mm: tissue seen with the dome `shift_mm` lower comes from x + v."""
        field = np.zeros((*self.shape, 3), np.float32)
        field[..., 1] = np.float32(-shift_mm) * self.forward
        field[..., 2] = np.float32(shift_mm) * self.along
        return field

    def mean_over_cycle(self, image: Volume, amplitude_mm: float) -> Volume:
        """Return the image averaged over the breathing cycle, about its mean position.

        Parameters
        ----------
        image : Volume
            On the grid of the truth.
        amplitude_mm : float
        """
        if amplitude_mm == 0 or self.apex_mm is None:
            return image
        moving = self.along + self.forward > MOVES
        spans = [np.flatnonzero(moving.any(axis=other)) for other in ((1, 2), (0, 2), (0, 1))]
        i, j, k = (slice(int(span.min()), int(span.max()) + 1) for span in spans)
        offsets = trace(amplitude_mm, (np.arange(PHASES) + 0.5) / (2 * PHASES)) - MEAN_OF_TRACE * amplitude_mm
        # Slices beyond the moving ones are looked at, too.
        reach = int(np.ceil(amplitude_mm / image.spacing_mm[2])) + 1
        first = max(k.start - reach, 0)
        source = _part(image, (i, j, slice(first, k.stop + reach)))
        total = np.zeros(image.array[i, j, k].shape, np.float32)
        field = np.zeros((*total.shape, 3), np.float32)
        for offset in offsets:
            field[..., 1] = np.float32(-offset) * self.forward[i, j, k]
            field[..., 2] = np.float32(offset) * self.along[i, j, k]
            total += pull(source, field, start=k.start - first)
        mean = np.array(image.array, dtype=np.float32)
        mean[i, j, k] = total / np.float32(PHASES)
        return image.with_array(mean)


@dataclass(frozen=True, eq=False)
class CtFrame:
    """The patient as he lies in the CT.

    Attributes
    ----------
    hu : Volume
        CT numbers, lung density scaled so that its mass is kept.
    organs, lesions : Volume
        Labels in this frame.
    field_mm : array (i, j, k, 3) float32
        v: tissue at x of this frame is at x + v in the PET's frame, world mm.
    """

    hu: Volume
    organs: Volume
    lesions: Volume
    field_mm: Array


def ct_frame(truth: Truth, motion: Motion, field: BreathingField | None = None) -> CtFrame:
    """Return the patient in the position of the CT, and the field that leads back to the PET's.

    Parameters
    ----------
    truth : Truth
        In the PET's mean position.
    motion : Motion
    field : BreathingField or None
        Made from the truth if None.
    """
    field = field or BreathingField(truth, ap_share=motion.ap_share)
    v = field.at(motion.ct_shift_mm)
    if motion.head_turn_deg and field.apex_mm is not None:
        _turn_head(v, truth, motion.head_turn_deg, field.apex_mm)
    v += np.asarray(motion.rigid_mm, dtype=np.float32)
    if not motion.moves_ct:
        return CtFrame(truth.hu, truth.organs, truth.lesions, v)
    # Around the body there is air, moved or not.
    box = body_box(truth.organs.array > 0, truth.organs.spacing_mm)
    hu = np.full(truth.hu.shape, -1000.0, np.float32)
    organs, lesions = np.zeros_like(truth.organs.array), np.zeros_like(truth.lesions.array)
    hu[box] = pull(_part(truth.hu, box), v[box], fill=-1000.0)
    organs[box] = pull(_part(truth.organs, box), v[box], order=0)
    lesions[box] = pull(_part(truth.lesions, box), v[box], order=0)
    lungs = np.isin(organs, [n for n, name in truth.organ_names.items() if name.startswith("lung_")])
    if lungs.any():
        # Density follows the local change of volume, then the whole lung to the gram.
        chest = find_objects(lungs.astype(np.uint8))[0]
        density = np.clip(hu[chest] + 1000.0, 0.0, None) * jacobian(v[chest], truth.hu)
        wanted = float(np.clip(truth.hu.array[truth.mask("lung_*")] + 1000.0, 0, None).sum(dtype=np.float64))
        found = float(density[lungs[chest]].sum(dtype=np.float64))
        scaled = density * np.float32(wanted / max(found, 1e-6)) - np.float32(1000.0)
        hu[chest] = np.where(lungs[chest], scaled, hu[chest])
    return CtFrame(
        truth.hu.with_array(hu),
        truth.organs.with_array(organs),
        truth.lesions.with_array(lesions),
        v,
    )


def _part(image: Volume, box: tuple[slice, slice, slice]) -> Volume:
    shift = np.eye(4)
    shift[:3, 3] = [part.start for part in box]
    return Volume(image.array[box], image.affine @ shift)


def pull(image: Volume, field_mm: Array, *, order: int = 1, fill: float | None = None, start: int = 0) -> Image:
    """Return the array (i, j, k) of an image seen through a field: result(x) = image(x + v(x)).

    Parameters
    ----------
    image : Volume
    field_mm : array (i, j, k, 3)
        World mm.
    order : int
        0 for labels, 1 for values.
    fill : float or None
        Value beyond the image; None continues its edge.
    start : int
        First slice of the field in the image, where the field covers a part.
    """
    back = np.linalg.inv(image.affine[:3, :3]).astype(np.float32)
    mode, value = ("nearest", 0.0) if fill is None else ("constant", fill)
    ni, nj, nk = field_mm.shape[:3]
    result = np.empty((ni, nj, nk), image.array.dtype)
    index = [np.arange(n, dtype=np.float32).reshape(shape) for n, shape in ((ni, (-1, 1, 1)), (nj, (1, -1, 1)))]
    for low in range(0, nk, SLAB):
        part = slice(low, min(low + SLAB, nk))
        along = np.arange(part.start, part.stop, dtype=np.float32)[None, None, :] + np.float32(start)
        shift = field_mm[:, :, part] @ back.T
        where = [axis + shift[..., n] for n, axis in enumerate((*index, along))]
        result[:, :, part] = map_coordinates(image.array, np.stack(where), order=order, mode=mode, cval=value)
    return result


def jacobian(field_mm: Array, grid: Volume) -> Array:
    """Return det(1 + dv/dx), the volume in the PET's frame per volume in the CT's, (i, j, k) float32."""
    back = np.linalg.inv(grid.affine[:3, :3]).astype(np.float32)
    gradient = np.empty((*field_mm.shape[:3], 3, 3), np.float32)
    for world in range(3):
        for axis in range(3):
            gradient[..., world, axis] = np.gradient(field_mm[..., world], axis=axis)
    return np.asarray(np.linalg.det(gradient @ back + np.eye(3, dtype=np.float32)), dtype=np.float32)


def _factors(truth: Truth, box: slice) -> Array:
    numbers = np.full(max(int(truth.organs.array.max()), *truth.organ_names) + 1, OTHER_FACTOR, np.float32)
    numbers[0] = 0.0
    for number, name in truth.organ_names.items():
        for pattern, factor in FACTORS.items():
            if name == pattern or (pattern.endswith("*") and name.startswith(pattern[:-1])):
                numbers[number] = factor
                break
    return np.asarray(numbers[truth.organs.array[:, :, box]])


def _smoothstep(t: Line) -> Line:
    t = np.clip(t, 0.0, 1.0)
    return np.asarray(t**2 * (3.0 - 2.0 * t))


def _turn_head(field: Array, truth: Truth, degrees: float, apex_mm: float) -> None:
    """Add a turn about the body's axis through the middle of the head, growing over the neck."""
    affine, shape = truth.organs.affine, truth.organs.shape
    x, y, z = (affine[n, n] * np.arange(shape[n]) + affine[n, 3] for n in range(3))
    neck = _smoothstep((z - apex_mm - 20.0) / 100.0)
    head = truth.mask("brain", "skull")
    if not head.any():
        return
    cx, cy = (float(a[head.any(axis=other)].mean()) for a, other in ((x, (1, 2)), (y, (0, 2))))
    # Arms beside the head stay where they are.
    reach = _smoothstep((150.0 - np.hypot(x[:, None] - cx, y[None, :] - cy)) / 40.0)
    weight = (reach[:, :, None] * neck).astype(np.float32)
    c, s = np.cos(np.deg2rad(degrees)) - 1.0, np.sin(np.deg2rad(degrees))
    field[..., 0] += weight * (c * (x[:, None, None] - cx) - s * (y[None, :, None] - cy)).astype(np.float32)
    field[..., 1] += weight * (s * (x[:, None, None] - cx) + c * (y[None, :, None] - cy)).astype(np.float32)
