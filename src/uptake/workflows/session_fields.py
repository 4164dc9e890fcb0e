"""The dialogue behind a `Session`: windows placed on clicks, answers in them, windows added where an object runs out.

A state is never changed, only replaced: undo is going back to the one before.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage

from uptake.cases import Case
from uptake.core.types import FloatArray, Mask
from uptake.geometry.components import Box, connected_components, labelled
from uptake.geometry.grid import Grid
from uptake.harmonise.field import field_channels, field_grid, field_index, shifted, to_scan
from uptake.harmonise.plan import Plan
from uptake.harmonise.resample import to_grid
from uptake.io.prompts import Prompt, mask_of
from uptake.networks.promptable import BOX_LOWER, BOX_UPPER, NEGATIVE, POSITIVE, Clicks, Promptable

MARGIN = 1 / 8
"""Share of the window along its rim in which a click is too close to the edge: it gets a window of its own."""

TOUCH_VOXELS = 4
"""Object voxels on a face of the window from which on the object is taken to run on beyond it."""

SURE_LOGIT = 8.0
"""Logit of a mask that a user gave."""

MOST_POINTS = 64
"""Points shown at a time; a longer scribble is thinned evenly."""

EDGE_WEIGHT = 0.02
"""Weight of a voxel on the rim of a window where windows overlap; in its middle it is 1."""

FIELD_FIT_MM = 1e-3


@dataclass(frozen=True, eq=False)
class FieldState:
    """One window: where it lies, its answer (logits), and the network's memory of it."""

    grid: Grid
    logits: npt.NDArray[np.float32]
    memory: torch.Tensor


@dataclass(frozen=True, eq=False)
class ObjectState:
    """One object after a number of prompts.

    Attributes
    ----------
    prompts : tuple of Prompt
        Those answered so far.
    fields : tuple of FieldState
    """

    prompts: tuple[Prompt, ...] = ()
    fields: tuple[FieldState, ...] = ()


class Dialogue:
    """Answers prompts about one image.

    Parameters
    ----------
    network : Promptable
    config : methods.seganypet.Config
    plan : Plan
    case : Case
    device : torch.device
    prepare : callable
        (channels tensor, config) -> network input; the method's.
    max_fields : int
        Windows per object at most.
    cache : int
        Encoded windows that are kept, the least recently used goes first.

    Attributes
    ----------
    encodings : int
        Windows encoded so far.
    oracle_mm : array (3,) or None
        Where windows are centred instead of on the click. For published protocols that crop by the truth
        (`workflows.interact`), and for nothing else.
    """

    def __init__(
        self,
        network: Promptable,
        config: Any,
        plan: Plan,
        case: Case,
        *,
        device: torch.device,
        prepare: Any,
        max_fields: int,
        cache: int,
    ) -> None:
        self.network, self.config, self.plan, self.case = network, config, plan, case
        self.device, self.prepare, self.max_fields, self.cache = device, prepare, max_fields, cache
        self.image = Grid.of(case.pet)
        self._encoded: OrderedDict[tuple[float, ...], Any] = OrderedDict()
        self.encodings = 0
        self.oracle_mm: FloatArray | None = None
        self.threshold = float(np.log(config.threshold / (1 - config.threshold)))

    def answer(self, state: ObjectState, prompt: Prompt) -> ObjectState:
        """Return the state after one more prompt."""
        state = replace(state, prompts=(*state.prompts, prompt))
        if prompt.kind == "mask":
            return self._started_from_mask(state, prompt) if prompt.positive else state
        touched = [number for number, field in enumerate(state.fields) if self._holds(field.grid, prompt)]
        if not touched and prompt.positive:
            if len(state.fields) >= self.max_fields:
                # The oldest windows stay: they hold what was answered; the click itself still counts.
                return state
            grid = field_grid(self.image, self.plan, self._centre(prompt), self.network.window)
            state = replace(state, fields=(*state.fields, self._ask(grid, state.prompts, None)))
            touched = [len(state.fields) - 1]
        else:
            fields = list(state.fields)
            for number in touched:
                fields[number] = self._ask(fields[number].grid, state.prompts, fields[number].memory)
            state = replace(state, fields=tuple(fields))
        return self._grown(state, touched)

    def probabilities(self, state: ObjectState) -> tuple[Box, npt.NDArray[np.float32]] | None:
        """Return the object's probability on the scan's grid, inside a box; overlapping windows blend by distance."""
        parts = []
        for field in state.fields:
            weight = _blend_weight(field.grid.shape)
            chance = _sigmoid(field.logits)
            found, heavy = to_scan(chance * weight, field.grid, self.image), to_scan(weight, field.grid, self.image)
            if found is not None and heavy is not None:
                parts.append((found[0], found[1], heavy[1]))
        if not parts:
            return None
        lower = [min(box[axis].start for box, _, _ in parts) for axis in range(3)]
        upper = [max(box[axis].stop for box, _, _ in parts) for axis in range(3)]
        total = np.zeros([b - a for a, b in zip(lower, upper, strict=True)], np.float32)
        weights = np.zeros_like(total)
        for box, chance, weight in parts:
            place = tuple(slice(s.start - a, s.stop - a) for s, a in zip(box, lower, strict=True))
            total[place] += chance
            weights[place] += weight
        np.divide(total, weights, out=total, where=weights > 0)
        a, b, c = (slice(low, high) for low, high in zip(lower, upper, strict=True))
        return (a, b, c), total

    def mask(self, state: ObjectState, *, obey: bool) -> tuple[Mask, npt.NDArray[np.float32]]:
        """Return the object on the scan's grid, and its probability there.

        Pieces that no positive prompt touches are left out. With `obey`, prompted voxels have the label they were
        given, and the voxels of a negative mask are no object.
        """
        mask = np.zeros(self.image.shape, dtype=bool)
        chance = np.zeros(self.image.shape, dtype=np.float32)
        found = self.probabilities(state)
        if found is not None:
            box, values = found
            chance[box] = values
            mask[box] = values >= self.config.threshold
        wanted, refused = self._stamps(state.prompts)
        if obey:
            mask |= wanted
            mask &= ~refused
        seeds = wanted | self._claimed(state.prompts)
        if obey:
            seeds &= ~refused
        pieces = connected_components(mask, connectivity=26)
        keep = np.zeros(pieces.count + 1, dtype=bool)
        keep[np.unique(pieces.labels[seeds & mask])] = True
        keep[0] = False
        return np.asarray(keep[pieces.labels]), chance

    def _ask(self, grid: Grid, prompts: Sequence[Prompt], memory: torch.Tensor | None) -> FieldState:
        clicks = self._clicks(grid, prompts)
        return self._decoded(grid, clicks, memory)

    @torch.inference_mode()
    def _decoded(self, grid: Grid, clicks: Clicks | None, memory: torch.Tensor | None) -> FieldState:
        answer = self.network.decode(self._features(grid), clicks, memory)
        return FieldState(grid, answer.logits[0, 0].float().cpu().numpy(), answer.memory)

    @torch.inference_mode()
    def _features(self, grid: Grid) -> Any:
        key = tuple(np.round(grid.affine[:3, 3], 3).tolist())
        if key in self._encoded:
            self._encoded.move_to_end(key)
            return self._encoded[key]
        channels = torch.from_numpy(field_channels(self.case, grid, self.plan))[None].to(self.device)
        features = self.network.encode(self.prepare(channels, self.config))
        self.encodings += 1
        self._encoded[key] = features
        while len(self._encoded) > self.cache:
            self._encoded.popitem(last=False)
        return features

    def _clicks(self, grid: Grid, prompts: Sequence[Prompt]) -> Clicks | None:
        """Return the prompts that lie in a window, in its voxels; a box is cut to the window."""
        places, kinds = [], []
        last = np.array(grid.shape) - 1
        for prompt in prompts:
            if prompt.kind == "mask":
                continue
            index = field_index(grid, prompt.places_mm)
            if prompt.kind == "box":
                lower, upper = index.min(axis=0), index.max(axis=0)
                if prompt.positive and (lower <= last).all() and (upper >= 0).all():
                    places += [lower.clip(0, last), upper.clip(0, last)]
                    kinds += [BOX_LOWER, BOX_UPPER]
                continue
            inside = index[((index >= -0.5) & (index <= last + 0.5)).all(axis=1)].clip(0, last)
            if len(inside) > MOST_POINTS:
                inside = inside[np.linspace(0, len(inside) - 1, MOST_POINTS).round().astype(int)]
            places += list(inside)
            kinds += [POSITIVE if prompt.positive else NEGATIVE] * len(inside)
        if not places:
            return None
        # Training draws voxels: whole indices.
        points = torch.from_numpy(np.rint(np.stack(places)).astype(np.float32))[None].to(self.device)
        return Clicks(points, torch.tensor([kinds], device=self.device))

    def _holds(self, grid: Grid, prompt: Prompt) -> bool:
        """Return whether a window answers a prompt: any of it lies inside, a positive one not too close to the rim."""
        shape = np.array(grid.shape)
        rim = shape * MARGIN if prompt.positive else np.zeros(3)
        places = prompt.places_mm.mean(axis=0, keepdims=True) if prompt.kind == "box" else prompt.places_mm
        index = field_index(grid, places)
        return bool(((index >= rim) & (index <= shape - 1 - rim)).all(axis=1).any())

    def _centre(self, prompt: Prompt) -> FloatArray:
        """Return where a window for a prompt is centred: its middle point, or of a scribble the nearest one to that."""
        if self.oracle_mm is not None:
            return self.oracle_mm
        middle = prompt.places_mm.mean(axis=0)
        if prompt.kind == "scribble":
            return np.asarray(prompt.places_mm[np.linalg.norm(prompt.places_mm - middle, axis=1).argmin()])
        return np.asarray(middle)

    def _grown(self, state: ObjectState, numbers: Sequence[int]) -> ObjectState:
        """Return the state with windows added, half overlapping, where the object runs out of one."""
        waiting = list(numbers)
        while waiting and len(state.fields) < self.max_fields:
            field = state.fields[waiting.pop(0)]
            joined = self._joined(field, state)
            for axis in range(3):
                for face, way in ((0, -1), (-1, 1)):
                    rim = np.take(joined, face, axis=axis)
                    if int(rim.sum()) < TOUCH_VOXELS or len(state.fields) >= self.max_fields:
                        continue
                    step = [0, 0, 0]
                    step[axis] = way * (field.grid.shape[axis] // 2)
                    grid = shifted(field.grid, step)
                    if self._beside(grid) or any(_same_place(grid, one.grid) for one in state.fields):
                        continue
                    added = self._continued(grid, field, joined, step, state)
                    if added is not None:
                        state = replace(state, fields=(*state.fields, added))
                        waiting.append(len(state.fields) - 1)
        return state

    def _continued(
        self, grid: Grid, field: FieldState, joined: Mask, step: Sequence[int], state: ObjectState
    ) -> FieldState | None:
        """Return the answer of a window beside `field`: asked with the clicks in it, or one into what they share."""
        clicks = self._clicks(grid, state.prompts)
        if clicks is None or not bool((clicks.kinds == POSITIVE).any()):
            shared = np.zeros_like(joined)
            place, source = [], []
            for off, side in zip(step, joined.shape, strict=True):
                place.append(slice(max(0, -off), side - max(0, off)))
                source.append(slice(max(0, off), side - max(0, -off)))
            shared[tuple(place)] = joined[tuple(source)]
            depth = ndimage.distance_transform_edt(shared)
            if depth.max() == 0:
                return None
            middle = np.unravel_index(int(depth.argmax()), depth.shape)
            point = torch.tensor([[[float(n) for n in middle]]], device=self.device)
            kind = torch.tensor([[POSITIVE]], device=self.device)
            clicks = (
                Clicks(point, kind)
                if clicks is None
                else Clicks(torch.cat([clicks.points, point], dim=1), torch.cat([clicks.kinds, kind], dim=1))
            )
        return self._decoded(grid, clicks, None)

    def _joined(self, field: FieldState, state: ObjectState) -> Mask:
        """Return the object voxels of a window that hang together with a click in it, or all if there is none."""
        inside = field.logits > self.threshold
        pieces, count = labelled(inside, connectivity=26)
        clicks = self._clicks(field.grid, [p for p in state.prompts if p.positive and p.kind != "box"])
        if clicks is None or count == 0:
            return np.asarray(inside)
        index = clicks.points[0].cpu().numpy().round().astype(int)
        keep = np.unique(pieces[tuple(index.T)])
        keep = keep[keep > 0]
        return np.asarray(np.isin(pieces, keep)) if keep.size else np.asarray(inside)

    def _beside(self, grid: Grid) -> bool:
        """Return whether the middle of a window lies outside the scan."""
        middle = grid.affine[:3, :3] @ (np.array(grid.shape) // 2) + grid.affine[:3, 3]
        index = np.linalg.inv(self.image.affine) @ np.append(middle, 1.0)
        return bool(((index[:3] < -0.5) | (index[:3] > np.array(self.image.shape) - 0.5)).any())

    def _started_from_mask(self, state: ObjectState, prompt: Prompt) -> ObjectState:
        """Return the state with windows over a mask that the user gave; it is the answer until more is said."""
        mask = mask_of(prompt.runs, self.image.shape)
        given = self.case.pet.with_array(mask.astype(np.float32))
        left, fields = mask.copy(), list(state.fields)
        while left.any() and len(fields) < self.max_fields:
            pieces = connected_components(left, connectivity=26)
            largest = int(pieces.voxels.argmax())
            inside = np.argwhere(pieces.labels[pieces.boxes[largest]] == largest + 1)
            middle = inside.mean(axis=0) + [side.start for side in pieces.boxes[largest]]
            nearest = inside[np.linalg.norm(inside - inside.mean(axis=0), axis=1).argmin()]
            centre = nearest + [s.start for s in pieces.boxes[largest]] if inside.shape[0] > 1 else middle
            grid = field_grid(self.image, self.plan, self.case.pet.world_of(centre), self.network.window)
            share = np.asarray(to_grid(given, grid, order=1, fill=0.0).array, dtype=np.float32)
            logits = (SURE_LOGIT * (2.0 * share - 1.0)).astype(np.float32)
            memory = self.network.remember(torch.from_numpy(logits)[None, None].to(self.device))
            fields.append(FieldState(grid, logits, memory))
            covered = to_scan(np.ones(grid.shape, np.float32), grid, self.image)
            if covered is None:
                break
            left[covered[0]] &= covered[1] < 0.5
        return replace(state, fields=tuple(fields))

    def _stamps(self, prompts: Sequence[Prompt]) -> tuple[Mask, Mask]:
        """Return the voxels of positive and of negative points and scribbles, and of negative masks."""
        stamps = np.zeros((2, *self.image.shape), dtype=bool)
        for prompt in prompts:
            if prompt.kind == "mask" and not prompt.positive:
                stamps[1] |= mask_of(prompt.runs, self.image.shape)
            elif prompt.kind in ("point", "scribble"):
                index = np.rint(self.case.pet.index_of(prompt.places_mm)).astype(int)
                index = index.clip(0, np.array(self.image.shape) - 1)
                stamps[0 if prompt.positive else 1][tuple(index.T)] = True
        return stamps[0], stamps[1]

    def _claimed(self, prompts: Sequence[Prompt]) -> Mask:
        """Return the voxels of positive boxes and masks: pieces that touch them belong to the object."""
        claimed = np.zeros(self.image.shape, dtype=bool)
        for prompt in prompts:
            if prompt.positive and prompt.kind == "mask":
                claimed |= mask_of(prompt.runs, self.image.shape)
            elif prompt.positive and prompt.kind == "box":
                index = np.rint(self.case.pet.index_of(prompt.places_mm)).astype(int)
                lower = index.min(axis=0).clip(0)
                upper = np.minimum(index.max(axis=0), np.array(self.image.shape) - 1)
                claimed[tuple(slice(a, b + 1) for a, b in zip(lower, upper, strict=True))] = True
        return claimed


def _sigmoid(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(logits, -60, 60))), dtype=np.float32)


def _blend_weight(shape: tuple[int, int, int]) -> npt.NDArray[np.float32]:
    """Return 1 in the middle of a window, falling to `EDGE_WEIGHT` at its rim."""
    lines = []
    for side in shape:
        distance = np.minimum(np.arange(side) + 0.5, side - np.arange(side) - 0.5) / (side / 2)
        lines.append(np.maximum(distance, EDGE_WEIGHT).astype(np.float32))
    return np.asarray(np.minimum(np.minimum(lines[0][:, None, None], lines[1][:, None]), lines[2]))


def _same_place(a: Grid, b: Grid) -> bool:
    return bool(np.abs(a.affine - b.affine).max() < FIELD_FIT_MM)
