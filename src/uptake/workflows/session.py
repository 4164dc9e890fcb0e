"""`Session`: segment by clicks, boxes, scribbles and masks, in any order, with undo."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from uptake.cases import Case
from uptake.core.errors import GeometryError, InputError, ModelError, UsageError
from uptake.core.types import Mask
from uptake.geometry.components import Box, bounding_box
from uptake.geometry.grid import require_same_grid
from uptake.geometry.volume import Volume
from uptake.io.prompts import Form, Prompt, prompts_from, read_content, runs_of, write_prompts
from uptake.training.devices import resolve_device
from uptake.workflows.bundles import Bundle, load_bundle
from uptake.workflows.cases_in import case_of
from uptake.workflows.session_fields import Dialogue, ObjectState
from uptake.workflows.session_prompts import require_sense

Space = Literal["voxel", "mm"]
"""Positions as voxel indices (i, j, k) of the PET, or in mm, RAS+."""

UNCERTAIN = (0.29, 0.71)
"""Probabilities between which a voxel counts as uncertain: an entropy above 0.6 nats."""

SNAP_REACH = 2
"""Voxels by which snapping may reach beyond the network's mask."""


@dataclass(frozen=True, eq=False)
class Answer:
    """What `Session.predict` gives.

    Attributes
    ----------
    object_id : int
    mask : Volume
        bool, on the PET's own grid.
    changed : slices or None
        The box in which the mask differs from the object's answer before; None if it does not.
    confidence : float
        Mean probability inside the mask, 0 to 1; 0 for an empty mask. It comes from the mask's probabilities, never
        from the network's quality head, which nobody trained.
    volume_ml, uncertain_ml : float
        Of the mask, and of all voxels whose probability is neither low nor high (`UNCERTAIN`).
    notes : tuple of str
        What the user should know.
    """

    object_id: int
    mask: Volume
    changed: Box | None
    confidence: float
    volume_ml: float
    uncertain_ml: float
    notes: tuple[str, ...] = ()


class Session:
    """Promptable segmentation of one image at a time.

    Parameters
    ----------
    model : str, Path or Bundle
        A promptable model.
    device : str
        "auto", "cpu", "cuda", ...
    obey : bool
        Prompted voxels get the label they were given, whatever the network says.
    snap : float, optional
        Take, within `SNAP_REACH` voxels of the network's mask, the voxels above this share of its SUVmax (0.41: the
        usual threshold) that hang together with it. By default the network's own edge.
    max_fields : int
        Windows per object at most: the field grows where an object runs out of it.
    cache : int
        Encoded windows kept.

    Raises
    ------
    ModelError
        If the model does not take prompts.

    Notes
    -----
    A refused prompt changes nothing. The answer is a function of the image and the prompts in their order.

    Examples
    --------
    >>> session = Session("promptable-bundle")
    >>> session.set_image("study/")
    >>> session.add_point((60, 71, 40))
    >>> session.predict().volume_ml
    """

    def __init__(
        self,
        model: str | Path | Bundle,
        *,
        device: str = "auto",
        obey: bool = True,
        snap: float | None = None,
        max_fields: int = 8,
        cache: int = 16,
    ) -> None:
        self.bundle = model if isinstance(model, Bundle) else load_bundle(model)
        if not hasattr(self.bundle.config, "prompts"):
            raise ModelError(
                f"{self.bundle.card.name}: finds things by itself and takes no prompts; see uptake.segment."
            )
        if snap is not None and not 0.0 < snap < 1.0:
            raise UsageError(f"snap is a share of SUVmax between 0 and 1, came {snap!r}.")
        if max_fields < 1 or cache < 1:
            raise UsageError("max_fields and cache are 1 or more.")
        self.device = resolve_device(device)
        self.obey, self.snap, self.max_fields, self.cache = obey, snap, max_fields, cache
        self._network = self.bundle.network().to(self.device)
        self._dialogue: Dialogue | None = None
        self._prompts: list[Prompt] = []
        self._states: dict[int, list[ObjectState]] = {}
        self._shown: dict[int, Mask] = {}

    def set_image(self, study: Any, *, ct: Any = None, assume_suv: bool = False) -> Case:
        """Take an image, and forget all prompts about the one before.

        Parameters
        ----------
        study, ct, assume_suv
            As in `uptake.segment`: a study folder or file, a `Case`, a `Volume` or an image of another package.

        Raises
        ------
        InputError
            If the image cannot be used (NaN, wrong units, ...); the session keeps the one it has.
        """
        case = case_of(study, ct, assume_suv=assume_suv)
        for name, volume in (("PET", case.pet), ("CT", case.ct)):
            if volume is not None and not np.isfinite(volume.array).all():
                raise GeometryError(f"{case.id}: the {name} holds NaN or infinite voxels; convert it again.")
        if case.ct is None and "ct" in self.bundle.card.needs:
            raise ModelError(f"{case.id}: model {self.bundle.card.name} needs a CT, and there is none.")
        self._dialogue = Dialogue(
            self._network,
            self.bundle.config,
            self.bundle.plan,
            case,
            device=self.device,
            prepare=self.bundle.method.prepared,
            max_fields=self.max_fields,
            cache=self.cache,
        )
        self._prompts, self._states, self._shown = [], {}, {}
        return case

    @property
    def case(self) -> Case:
        """The image that is set."""
        return self._asked().case

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        """All prompts in their order."""
        return tuple(self._prompts)

    @property
    def windows(self) -> int:
        """Number of windows encoded for this image so far."""
        return self._asked().encodings

    @property
    def objects(self) -> tuple[int, ...]:
        """Numbers of the objects that were prompted for."""
        return tuple(sorted({prompt.object_id for prompt in self._prompts}))

    def add_point(
        self, place: Sequence[float], *, positive: bool = True, object_id: int | None = 1, space: Space = "voxel"
    ) -> int:
        """Add a click and return the number of its object.

        Parameters
        ----------
        place : three numbers
        positive : bool
            False: this voxel does not belong to the object.
        object_id : int or None
            None: a new object, "one click, one lesion".
        space : {"voxel", "mm"}

        Raises
        ------
        InputError
            If the place lies outside the image, a positive click lies in air, or the voxel was given the opposite
            label for this object already.
        """
        return self._add(Prompt("point", self._mm([place], space), positive, self._number(object_id)))

    def add_box(
        self,
        corner: Sequence[float],
        opposite: Sequence[float],
        *,
        positive: bool = True,
        object_id: int | None = 1,
        space: Space = "voxel",
    ) -> int:
        """Add a box around the object, by two opposite corner voxels, and return the number of its object.

        Raises
        ------
        UsageError
            If it is negative: a box says where to look.
        ModelError
            If the model was not made for boxes.
        InputError
            If it lies outside the image.
        """
        if not positive:
            raise UsageError(
                "a box says where the object is; to take something away use a point, a scribble or a mask."
            )
        if "box" not in self.bundle.config.accepts:
            raise ModelError(f"{self.bundle.card.name}: takes {', '.join(self.bundle.config.accepts)}, no boxes.")
        return self._add(Prompt("box", self._mm([corner, opposite], space), True, self._number(object_id)))

    def add_scribble(
        self,
        places: Sequence[Sequence[float]],
        *,
        positive: bool = True,
        object_id: int | None = 1,
        space: Space = "voxel",
    ) -> int:
        """Add a stroke, by its points, and return the number of its object; see `add_point`."""
        if not len(places):
            raise InputError("a scribble needs a point at least.")
        return self._add(Prompt("scribble", self._mm(places, space), positive, self._number(object_id)))

    def add_mask(self, mask: Any, *, positive: bool = True, object_id: int | None = 1) -> int:
        """Start an object from a mask, or with ``positive=False`` keep it out of one; return the object's number.

        Parameters
        ----------
        mask : Volume or array (i, j, k)
            On the PET's grid; what is not 0 counts. For instance what another model found.

        Raises
        ------
        GeometryError
            If it is on another grid.
        InputError
            If it is empty.
        """
        case = self._asked().case
        if isinstance(mask, Volume):
            require_same_grid(case.pet, mask, names=("the PET", "the mask"))
            mask = mask.array
        array = np.asarray(mask) != 0
        if array.shape != case.pet.shape:
            raise GeometryError(f"a mask of shape {array.shape} is not on the PET's grid {case.pet.shape}.")
        if not array.any():
            raise InputError("the mask is empty: there is nothing to start from.")
        return self._add(Prompt("mask", np.zeros((0, 3)), positive, self._number(object_id), runs_of(array)))

    def undo(self) -> Prompt:
        """Take the last prompt back, whichever object it was for, and return it: the state before it, exactly.

        Raises
        ------
        UsageError
            If there is none.
        """
        if not self._prompts:
            raise UsageError("there is no prompt to take back.")
        prompt = self._prompts.pop()
        states = self._states.get(prompt.object_id, [])
        left = sum(one.object_id == prompt.object_id for one in self._prompts)
        del states[left:]
        return prompt

    def reset(self, object_id: int | None = None) -> None:
        """Forget all prompts, or those of one object; the image and its encoded windows stay.

        Raises
        ------
        UsageError
            If there is no such object.
        """
        if object_id is None:
            self._prompts, self._states, self._shown = [], {}, {}
            return
        self._require_object(object_id)
        self._prompts = [prompt for prompt in self._prompts if prompt.object_id != object_id]
        self._states.pop(object_id, None)
        self._shown.pop(object_id, None)

    def predict(self, object_id: int | None = None) -> Answer:
        """Answer the prompts of one object, by default the last one prompted for.

        Raises
        ------
        UsageError
            If there is no prompt, or none of this object.
        """
        dialogue = self._asked()
        if object_id is None:
            if not self._prompts:
                raise UsageError("there is no prompt yet; add a point, box, scribble or mask.")
            object_id = self._prompts[-1].object_id
        self._require_object(object_id)
        mask, chance = self._mask(object_id)
        before = self._shown.get(object_id)
        difference = mask if before is None else mask != before
        self._shown[object_id] = mask
        voxel_ml = dialogue.case.pet.voxel_volume_ml
        notes = []
        if not any(p.positive for p in self._prompts if p.object_id == object_id):
            notes.append("Only negative prompts so far: nothing is the object.")
        elif not mask.any():
            notes.append("Nothing was found for these prompts.")
        state = self._states[object_id][-1]
        if len(state.fields) >= self.max_fields:
            notes.append(f"The object fills {self.max_fields} windows, the most allowed; parts beyond may be missing.")
        uncertain = (chance > UNCERTAIN[0]) & (chance < UNCERTAIN[1])
        return Answer(
            object_id,
            dialogue.case.pet.with_array(mask),
            bounding_box(difference),
            float(chance[mask].mean()) if mask.any() else 0.0,
            float(mask.sum()) * voxel_ml,
            float(uncertain.sum()) * voxel_ml,
            tuple(notes),
        )

    def labels(self) -> Volume:
        """Return all objects in one map on the PET's grid, uint16; where two overlap the more probable one wins."""
        pet = self._asked().case.pet
        labels = np.zeros(pet.shape, dtype=np.uint16)
        best = np.zeros(pet.shape, dtype=np.float32)
        for object_id in self.objects:
            mask, chance = self._mask(object_id)
            wins = mask & ((labels == 0) | (chance > best))
            labels[wins] = object_id
            best[wins] = chance[wins]
        return pet.with_array(labels)

    def place_windows(self, centre_mm: npt.ArrayLike | None) -> None:
        """Centre new windows on a world position (mm, RAS+) instead of on the prompt; None: on the prompt again.

        For published protocols that crop by the truth (`workflows.interact`); a session in use needs none.
        """
        self._asked().oracle_mm = None if centre_mm is None else np.asarray(centre_mm, dtype=np.float64)

    def save_prompts(self, path: Path | str, *, form: Form = "uptake") -> None:
        """Write all prompts as JSON: "uptake" (world mm, all kinds), or autoPET's "autopet" and "platform" (points)."""
        name = f"{self.bundle.card.name} {self.bundle.checksum[:12]}"
        write_prompts(self._prompts, path, self._asked().case.pet, form=form, model=name)

    def load_prompts(self, path: Path | str) -> int:
        """Add the prompts in a JSON file of any of the three forms; return how many. All are added, or none.

        Raises
        ------
        InputError
            If one is refused; see `io.prompts.read_prompts` and `add_point`.
        """
        return self.take_prompts(read_content(path), name=str(path))

    def take_prompts(self, content: Any, *, name: str = "prompts") -> int:
        """Add the prompts of a JSON content, already read; see `load_prompts`."""
        found = prompts_from(content, self._asked().case.pet, name=name)
        before = list(self._prompts)
        try:
            for prompt in found:
                self._add(prompt)
        except InputError:
            self._prompts = before
            raise
        return len(found)

    def _asked(self) -> Dialogue:
        if self._dialogue is None:
            raise UsageError("there is no image yet; set_image comes first.")
        return self._dialogue

    def _number(self, object_id: int | None) -> int:
        return max(self.objects, default=0) + 1 if object_id is None else object_id

    def _require_object(self, object_id: int) -> None:
        if object_id not in self.objects:
            known = ", ".join(map(str, self.objects)) or "none"
            raise UsageError(f"there is no object {object_id}; prompted for so far: {known}.")

    def _mm(self, places: Sequence[Sequence[float]], space: Space) -> npt.NDArray[np.float64]:
        pet = self._asked().case.pet
        array = np.asarray(places, dtype=np.float64)
        if array.ndim != 2 or array.shape[1] != 3:
            raise InputError(f"a place is three numbers, came an array of {array.shape}.")
        if space not in ("voxel", "mm"):
            raise UsageError(f"space is 'voxel' or 'mm', came {space!r}.")
        return np.asarray(pet.world_of(array) if space == "voxel" else array)

    def _add(self, prompt: Prompt) -> int:
        """Check a prompt and keep it; the session is as before if it is refused."""
        require_sense(prompt, self._asked().case, self._prompts)
        self._prompts.append(prompt)
        return prompt.object_id

    def _mask(self, object_id: int) -> tuple[Mask, npt.NDArray[np.float32]]:
        dialogue = self._asked()
        states = self._states.setdefault(object_id, [])
        asked = [prompt for prompt in self._prompts if prompt.object_id == object_id]
        for prompt in asked[len(states) :]:
            states.append(dialogue.answer(states[-1] if states else ObjectState(), prompt))
        mask, chance = dialogue.mask(states[-1], obey=self.obey)
        if self.snap is not None and mask.any():
            mask = _snapped(mask, dialogue.case.pet.array, self.snap)
        return mask, chance


def _snapped(mask: Mask, suv: npt.NDArray[Any], share: float) -> Mask:
    """Return what near a mask lies above a share of its SUVmax, and hangs together with it."""
    from scipy import ndimage

    near = ndimage.binary_dilation(mask, iterations=SNAP_REACH)
    hot = near & (suv >= share * float(suv[mask].max()))
    pieces, _ = ndimage.label(hot, np.ones((3, 3, 3)))
    keep = np.unique(pieces[mask & hot])
    return np.asarray(np.isin(pieces, keep[keep > 0]))
