"""Labels as annotators and networks deliver them: eroded, dilated, shifted, missing, swapped, with wandering edges.

For learning from noisy labels, where the truth has to be known as well. A structure (an organ, a lesion) suffers one
kind of error at most; each kind strikes at a stated rate. What strikes which structure is drawn first, from a stream of
its own for each structure, and applied second: the same seed gives the same errors whatever else is in the map.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.ndimage import distance_transform_edt, find_objects

from uptake.core.errors import UsageError
from uptake.core.types import Mask, Vector3
from uptake.geometry.components import Box
from uptake.geometry.volume import Volume
from uptake.simulation.fields import Array, random_field

KINDS = ("erosion", "dilation", "shift", "missing", "wander", "swapped")

NOISE_STREAM = 21

BODY_TISSUES = frozenset(
    {"subcutaneous_fat", "torso_fat", "skeletal_muscle", "skin", "mediastinum", "breast", "implant", "pleural_effusion"}
)
"""What fills the rest of the body; nobody outlines it, so it gets no errors."""


@dataclass(frozen=True)
class LabelNoise:
    """How often and how strongly labels are wrong.

    Attributes
    ----------
    erosion, dilation, shift, missing, wander : float
        Rates: the probability that a structure suffers this error; their sum is 1 at most.
    swapped : float
        Probability that a pair exchanges its labels: left and right of an organ, or two neighbouring vertebrae.
        Structures without partner are never swapped.
    depth_mm : (float, float)
        By how much erosion and dilation move the surface, drawn evenly between the two.
    shift_mm : (float, float)
        Length of the shift, in a direction drawn evenly.
    wander_mm : (float, float)
        SD of the surface's displacement; its mean is 0.
    wander_length_mm : float
        Over what distance the displacement changes.
    """

    erosion: float = 0.0
    dilation: float = 0.0
    shift: float = 0.0
    missing: float = 0.0
    wander: float = 0.0
    swapped: float = 0.0
    depth_mm: tuple[float, float] = (2.0, 6.0)
    shift_mm: tuple[float, float] = (4.0, 12.0)
    wander_mm: tuple[float, float] = (2.0, 4.0)
    wander_length_mm: float = 25.0

    def __post_init__(self) -> None:
        for kind in KINDS:
            if not 0.0 <= getattr(self, kind) <= 1.0:
                raise UsageError(f"the rate of {kind} lies between 0 and 1, came {getattr(self, kind)!r}.")
        total = sum(getattr(self, kind) for kind in KINDS)
        if total > 1.0 + 1e-9:
            raise UsageError(f"rates of label errors sum up to 1 at most, came {total:g}.")
        for name in ("depth_mm", "shift_mm", "wander_mm"):
            low, high = getattr(self, name)
            if not 0.0 < low <= high <= 100.0:
                raise UsageError(f"{name} must be two lengths, the larger one last, up to 100 mm; came {low}, {high}.")
        if not 1.0 <= self.wander_length_mm <= 500.0:
            raise UsageError(f"wander_length_mm must lie between 1 and 500, came {self.wander_length_mm!r}.")

    @staticmethod
    def parse(text: str) -> LabelNoise:
        """Return the noise that a text such as "erosion=0.2,missing=0.05" describes.

        Raises
        ------
        UsageError
            If a kind is unknown or named twice, or a rate is no number.
        """
        rates: dict[str, float] = {}
        for part in filter(None, (part.strip() for part in text.split(","))):
            kind, _, rate = (piece.strip() for piece in part.partition("="))
            if kind not in KINDS or kind in rates:
                raise UsageError(f"{part!r} is no label error; give each of {', '.join(KINDS)} once, as erosion=0.2.")
            try:
                rates[kind] = float(rate)
            except ValueError:
                raise UsageError(f"{part!r}: the rate must be a number from 0 to 1.") from None
        a, b, c, d, e, f = (rates.get(kind, 0.0) for kind in KINDS)
        return LabelNoise(a, b, c, d, e, f)

    @property
    def active(self) -> bool:
        """Whether there is any error at all."""
        return any(getattr(self, kind) > 0 for kind in KINDS)


@dataclass(frozen=True)
class LabelChange:
    """One error.

    Attributes
    ----------
    label : int
    name : str
    kind : str
        One of `KINDS`.
    amount_mm : float
        Depth, length of the shift, or SD of the surface; 0 where there is none.
    direction : tuple of float
        Unit vector of the shift, world RAS+; zeros where there is none.
    partner : int
        With which label it was swapped; 0 where it was not.
    length_mm : float
        Over what distance the surface wanders; 0 where it does not.
    seed : int
        Of the wandering surface.
    voxels_before, voxels_after : int
    dice : float
        Between the structure before and after; 1 where nothing of it changed on this grid.
    """

    label: int
    name: str
    kind: str
    amount_mm: float = 0.0
    direction: Vector3 = (0.0, 0.0, 0.0)
    partner: int = 0
    length_mm: float = 0.0
    seed: int = 0
    voxels_before: int = 0
    voxels_after: int = 0
    dice: float = 1.0


def noisy_labels(
    labels: Volume,
    noise: LabelNoise,
    *,
    seed: int,
    names: Mapping[int, str] | None = None,
    keep: Collection[str] = BODY_TISSUES,
) -> tuple[Volume, tuple[LabelChange, ...]]:
    """Return a label map with errors, and the record of each.

    Parameters
    ----------
    labels : Volume
        Whole numbers >= 0, one per structure; 0 is background.
    noise : LabelNoise
    seed : int
        >= 0.
    names : mapping or None
        Label -> class name, by which partners are found; None: nothing is swapped.
    keep : collection of str
        Classes that get no errors.

    Raises
    ------
    UsageError
        If the map does not hold whole numbers, or the seed is negative.
    """
    if labels.array.dtype.kind not in "iu" or (labels.array.size and int(labels.array.min()) < 0):
        raise UsageError(f"a label map holds whole numbers >= 0, came {labels.array.dtype}.")
    if isinstance(seed, bool) or seed < 0:
        raise UsageError(f"the seed is 0 or more, came {seed!r}.")
    boxes = {number: box for number, box in enumerate(find_objects(labels.array), start=1) if box is not None}
    known = {number: (names or {}).get(number, f"label {number}") for number in boxes}
    drawn = draw_changes({n: name for n, name in known.items() if name not in keep}, noise, seed=seed)
    return _applied(labels, drawn, boxes)


def draw_changes(names: Mapping[int, str], noise: LabelNoise, *, seed: int) -> tuple[LabelChange, ...]:
    """Return what happens to structures (label -> name) that are there; voxels are not counted yet.

    Parameters
    ----------
    names : mapping
    noise : LabelNoise
    seed : int
    """
    partners = _partners(names)
    changes = []
    for label, name in sorted(names.items()):
        partner = partners.get(label, 0)
        if partner:
            # Both of a pair look at one number, so that they agree; the stream is that of the lower label.
            pair = np.random.default_rng([seed, NOISE_STREAM, 1, min(label, partner)])
            if pair.uniform() < noise.swapped:
                changes.append(LabelChange(label, name, "swapped", partner=partner))
                continue
        rng = np.random.default_rng([seed, NOISE_STREAM, 0, label])
        which, size = rng.uniform(size=2)
        along = rng.standard_normal(3)
        field_seed = int(rng.integers(2**31))
        # What is left after the swap keeps its stated rate.
        which *= 1.0 - noise.swapped if partner else 1.0
        for kind in KINDS[:-1]:
            which -= getattr(noise, kind)
            if which < 0:
                changes.append(_change(label, name, kind, noise, size, along, field_seed))
                break
    return tuple(changes)


def _change(
    label: int, name: str, kind: str, noise: LabelNoise, size: float, along: npt.NDArray[np.float64], seed: int
) -> LabelChange:
    if kind == "missing":
        return LabelChange(label, name, kind)
    low, high = {"shift": noise.shift_mm, "wander": noise.wander_mm}.get(kind, noise.depth_mm)
    amount = round(low + size * (high - low), 3)
    if kind == "shift":
        x, y, z = (round(float(v), 6) for v in along / np.linalg.norm(along))
        return LabelChange(label, name, kind, amount, direction=(x, y, z))
    if kind == "wander":
        return LabelChange(label, name, kind, amount, length_mm=noise.wander_length_mm, seed=seed)
    return LabelChange(label, name, kind, amount)


def _partners(names: Mapping[int, str]) -> dict[int, int]:
    """Return label -> label of the other side, or of the neighbouring vertebra."""
    numbers = {name: number for number, name in names.items()}
    found: dict[int, int] = {}
    for name, number in numbers.items():
        for side, other in (("left", "right"), ("right", "left")):
            words = name.split("_")
            if side in words:
                mirrored = "_".join(other if word == side else word for word in words)
                if mirrored in numbers:
                    found[number] = numbers[mirrored]
    # Labels of vertebrae run along the spine: neighbours in number are neighbours in the body.
    spine = sorted(number for name, number in numbers.items() if name.startswith("vertebrae_"))
    for one, next_one in zip(spine[::2], spine[1::2], strict=False):
        found[one], found[next_one] = next_one, one
    return found


def _applied(
    labels: Volume, changes: tuple[LabelChange, ...], boxes: Mapping[int, Box]
) -> tuple[Volume, tuple[LabelChange, ...]]:
    result = np.array(labels.array)
    touched = np.array([change.label for change in changes], dtype=np.int64)
    if touched.size:
        table = np.zeros(int(result.max()) + 1, dtype=bool)
        table[touched] = True
        result[table[result]] = 0
    done = []
    for change in changes:
        box = _padded(boxes[change.label], change, labels)
        before = np.asarray(labels.array[box] == change.label)
        after = _changed(before, change, labels, box)
        target = change.partner or change.label
        result[box][after] = target
        both = int((before & after).sum())
        n, m = int(before.sum()), int(after.sum())
        # Of a swapped structure none of the voxels carry its own label any more.
        dice = 0.0 if change.partner else 2.0 * both / (n + m)
        done.append(replace(change, voxels_before=n, voxels_after=m, dice=round(dice, 6)))
    return labels.with_array(result), tuple(done)


def _changed(mask: Mask, change: LabelChange, labels: Volume, box: Box) -> Mask:
    if change.kind == "missing":
        return np.zeros_like(mask)
    if change.kind == "swapped":
        return mask
    if change.kind == "shift":
        step = np.linalg.inv(labels.affine[:3, :3]) @ (np.asarray(change.direction) * change.amount_mm)
        return _moved(mask, np.rint(step).astype(int))
    distance = _signed_distance(mask, labels.spacing_mm)
    if change.kind == "wander":
        return np.asarray(distance < change.amount_mm * _field(change, labels, box))
    return np.asarray(distance < (change.amount_mm if change.kind == "dilation" else -change.amount_mm))


def _signed_distance(mask: Mask, spacing: Vector3) -> Array:
    """Return the distance to the surface, mm, negative inside; the surface lies between the voxels of both sides."""
    half = float(np.cbrt(np.prod(spacing))) / 2.0
    inside = distance_transform_edt(mask, sampling=spacing)
    outside = distance_transform_edt(~mask, sampling=spacing)
    return np.where(mask, half - inside, outside - half).astype(np.float32)


def _field(change: LabelChange, labels: Volume, box: Box) -> Array:
    """Return the displacement of the surface in units of its SD."""
    axes = [
        np.arange(part.start, part.stop, dtype=np.float64) * s for part, s in zip(box, labels.spacing_mm, strict=True)
    ]
    extent = [(float(axis[0]), float(axis[-1])) for axis in axes]
    return random_field(np.random.default_rng(change.seed), axes, extent, change.length_mm)


def _moved(mask: Mask, step: npt.NDArray[np.int_]) -> Mask:
    """Return the mask moved by whole voxels; what leaves the box is gone."""
    moved = np.zeros_like(mask)
    there = tuple(slice(max(s, 0), n + min(s, 0)) for s, n in zip(step, mask.shape, strict=True))
    here = tuple(slice(max(-s, 0), n - max(s, 0)) for s, n in zip(step, mask.shape, strict=True))
    moved[there] = mask[here]
    return moved


def _padded(box: Box, change: LabelChange, labels: Volume) -> Box:
    """Return the box with room for the change: at most three SD of a wandering surface."""
    reach = change.amount_mm * (3.0 if change.kind == "wander" else 1.0)
    a, b, c = (
        slice(max(part.start - margin, 0), min(part.stop + margin, n))
        for part, margin, n in zip(
            box, (int(np.ceil(reach / s)) + 1 for s in labels.spacing_mm), labels.shape, strict=True
        )
    )
    return a, b, c
