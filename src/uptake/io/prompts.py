"""Prompts as records and as JSON: our own form in world coordinates, and both forms of the autoPET challenges.

autoPET IV and V give voxel indices in NIfTI array order, either as ``{"tumor": [[i, j, k], ...], "background": ...}``
or as the platform's ``{"type": "Multiple points", "points": [{"point": [i, j, k], "name": "tumor"}, ...]}``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from uptake.core.errors import FileFormatError, InputError, UsageError
from uptake.core.types import FloatArray
from uptake.geometry.volume import Volume
from uptake.io.write import write_text

FORMAT = "uptake prompts"
VERSION = 1

Kind = Literal["point", "box", "scribble", "mask"]
Form = Literal["uptake", "autopet", "platform"]
"""Ways to write prompts; reading tells them apart by itself."""

SPACES = {"RAS": np.array([1.0, 1.0, 1.0]), "LPS": np.array([-1.0, -1.0, 1.0])}
"""World frames that our own form may state; the factor brings them to RAS+."""

NAMES = {"tumor": True, "tumour": True, "lesion": True, "background": False}
"""What the autoPET forms call their points -> whether they are positive."""

AIR_SUV = 0.1
WARM_SUV = 1.0
"""Where tumour points lie in air as given but in uptake when their axes are reversed, the order is wrong."""


@dataclass(frozen=True, eq=False)
class Prompt:
    """One thing a user said.

    Attributes
    ----------
    kind : {"point", "box", "scribble", "mask"}
    places_mm : array (n, 3) float64
        World, mm RAS+: of the point; of two opposite corner voxels of the box; of every point of the scribble. None of
        a mask.
    positive : bool
        Whether it belongs to the object.
    object_id : int
        From 1.
    runs : tuple of (int, int)
        Of a mask: first voxel and length of each run, over the scan's voxels with the last axis fastest.
    """

    kind: Kind
    places_mm: FloatArray
    positive: bool = True
    object_id: int = 1
    runs: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        places = np.asarray(self.places_mm, dtype=np.float64).reshape(-1, 3)
        object.__setattr__(self, "places_mm", places)
        wanted = {"point": len(places) == 1, "box": len(places) == 2, "scribble": len(places) > 0}
        if self.kind not in get_args(Kind) or not wanted.get(self.kind, True):
            raise InputError(f"a {self.kind} with {len(places)} places is no prompt.")
        if not np.isfinite(places).all():
            raise InputError(f"a {self.kind} has a position that is no number: {places.tolist()}.")
        if self.object_id < 1:
            raise InputError(f"objects are numbered from 1, came {self.object_id}.")


def runs_of(mask: np.ndarray[Any, np.dtype[np.bool_]]) -> tuple[tuple[int, int], ...]:
    """Return first voxel and length of each run of True, last axis fastest."""
    flat = np.concatenate([[False], np.ascontiguousarray(mask).ravel(), [False]])
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    return tuple((int(a), int(b - a)) for a, b in zip(edges[::2], edges[1::2], strict=True))


def mask_of(runs: Sequence[tuple[int, int]], shape: tuple[int, int, int]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return the mask that `runs_of` was given.

    Raises
    ------
    InputError
        If a run reaches beyond the shape.
    """
    flat = np.zeros(int(np.prod(shape)), dtype=bool)
    for start, length in runs:
        if start < 0 or length < 1 or start + length > flat.size:
            raise InputError(f"a run of {length} voxels from {start} does not fit an image of {shape}.")
        flat[start : start + length] = True
    return flat.reshape(shape)


def write_prompts(
    prompts: Sequence[Prompt], path: Path | str, image: Volume, *, form: Form = "uptake", model: str = ""
) -> None:
    """Write prompts as JSON.

    Parameters
    ----------
    prompts : sequence of Prompt
    path : Path
    image : Volume
        The PET; its shape and affine are written down, so that reading them for another scan is noticed.
    form : {"uptake", "autopet", "platform"}
    model : str
        Name and checksum of the model they were made with.

    Raises
    ------
    UsageError
        If the form cannot hold a prompt: the autoPET forms have points only, of one object.
    """
    if form == "uptake":
        content: dict[str, Any] = {
            "format": FORMAT,
            "version": VERSION,
            "space": "RAS",
            "model": model,
            "image": {"shape": list(image.shape), "affine": image.affine.tolist()},
            "prompts": [_as_json(prompt) for prompt in prompts],
        }
    elif form in ("autopet", "platform"):
        points = list(_as_voxels(prompts, image))
        if form == "autopet":
            content = {
                "tumor": [place for place, positive in points if positive],
                "background": [place for place, positive in points if not positive],
            }
        else:
            content = {
                "version": {"major": 1, "minor": 0},
                "type": "Multiple points",
                "points": [
                    {"point": place, "name": "tumor" if positive else "background"} for place, positive in points
                ],
            }
    else:
        raise UsageError(f"prompts are written as {', '.join(get_args(Form))}; came {form!r}.")
    write_text(json.dumps(content, indent=1) + "\n", Path(path))


def read_prompts(path: Path | str, image: Volume) -> list[Prompt]:
    """Return the prompts in a JSON file, of any of the three forms.

    Parameters
    ----------
    path : Path
    image : Volume
        The PET (SUV) they belong to. Indices are turned into world positions by it.

    Raises
    ------
    FileFormatError
        If the file is no JSON, or none of the forms.
    InputError
        If positions lie outside the image, or look like (k, j, i) instead of (i, j, k), or were made for another scan.
    """
    return prompts_from(read_content(path), image, name=str(path))


def read_content(path: Path | str) -> Any:
    """Return the JSON in a prompt file as it is.

    Raises
    ------
    FileFormatError
        If it cannot be read as JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FileFormatError(f"{path}: cannot be read as JSON ({error}).") from error


def prompts_from(content: Any, image: Volume, *, name: str) -> list[Prompt]:
    """Return the prompts of a content that `read_content` read; `name` is how errors call it. See `read_prompts`."""
    path = name
    try:
        if isinstance(content, Mapping) and content.get("format") == FORMAT:
            return _own(content, path, image)
        if isinstance(content, Mapping) and isinstance(content.get("points"), list):
            named = [(one["name"], one["point"]) for one in content["points"]]
        elif isinstance(content, Mapping) and content and set(content) <= set(NAMES):
            named = [(name, place) for name, places in content.items() for place in places]
        else:
            raise FileFormatError(
                f"{path}: no prompts in it. Known are uptake's own form, and autoPET's "
                '{"tumor": [[i, j, k], …], "background": […]} and {"points": [{"point": [i, j, k], "name": "tumor"}]}.'
            )
        return _autopet(named, path, image)
    except (KeyError, TypeError, ValueError) as error:
        raise FileFormatError(f"{path}: a prompt is not as it should be ({type(error).__name__}: {error}).") from error


def _as_json(prompt: Prompt) -> dict[str, Any]:
    entry: dict[str, Any] = {"kind": prompt.kind, "object": prompt.object_id, "positive": prompt.positive}
    if prompt.kind == "mask":
        return entry | {"runs": [list(run) for run in prompt.runs]}
    return entry | {"mm": np.round(prompt.places_mm, 4).tolist()}


def _as_voxels(prompts: Sequence[Prompt], image: Volume) -> list[tuple[list[int], bool]]:
    if len({prompt.object_id for prompt in prompts}) > 1:
        raise UsageError("the autoPET forms hold one object; write each by itself, or in uptake's own form.")
    found = []
    for prompt in prompts:
        if prompt.kind not in ("point", "scribble"):
            raise UsageError(f"the autoPET forms hold points and scribbles, no {prompt.kind}; write uptake's own form.")
        for place in np.rint(image.index_of(prompt.places_mm)).astype(int).tolist():
            found.append((place, prompt.positive))
    return found


def _own(content: Mapping[str, Any], path: str, image: Volume) -> list[Prompt]:
    if int(content["version"]) > VERSION:
        raise FileFormatError(f"{path}: written in version {content['version']}, this uptake reads {VERSION}; upgrade.")
    space = str(content.get("space", "RAS"))
    if space not in SPACES:
        raise FileFormatError(f"{path}: its positions are in {space!r}; known are {', '.join(SPACES)}, in mm.")
    found = []
    for entry in content["prompts"]:
        kind = entry["kind"]
        if kind == "mask":
            shape = tuple(content["image"]["shape"])
            if shape != image.shape or not np.allclose(content["image"]["affine"], image.affine, atol=1e-2):
                raise InputError(f"{path}: its mask was drawn on another grid, {shape}; this scan has {image.shape}.")
            places, runs = np.zeros((0, 3)), tuple((int(a), int(b)) for a, b in entry["runs"])
        else:
            places, runs = np.asarray(entry["mm"], dtype=np.float64).reshape(-1, 3) * SPACES[space], ()
            _require_inside(image.index_of(places), path, image, world=True)
        found.append(Prompt(kind, places, bool(entry["positive"]), int(entry["object"]), runs))
    return found


def _autopet(named: Sequence[tuple[Any, Any]], path: str, image: Volume) -> list[Prompt]:
    unknown = sorted({str(name) for name, _ in named} - set(NAMES))
    if unknown:
        raise InputError(f"{path}: points are called {', '.join(NAMES)}; there are also {', '.join(unknown)}.")
    if not named:
        return []
    index = np.asarray([place for _, place in named], dtype=np.float64)
    if index.ndim != 2 or index.shape[1] != 3:
        raise FileFormatError(f"{path}: points have three indices each, came an array of {index.shape}.")
    positive = np.array([NAMES[str(name)] for name, _ in named])
    _require_inside(index, path, image, world=False)
    if positive.any() and _reversed_fits(index[positive], image):
        raise InputError(
            f"{path}: its tumour points lie in air, but in uptake when each is read backwards: they are (k, j, i), and "
            "autoPET's order is (i, j, k) of the NIfTI array. Turn them round."
        )
    return [Prompt("point", image.world_of(place[None]), bool(p)) for place, p in zip(index, positive, strict=True)]


def _require_inside(index: FloatArray, path: str, image: Volume, *, world: bool) -> None:
    shape = np.array(image.shape)
    if _all_inside(index, shape):
        return
    outside = index[~((index >= -0.5) & (index <= shape - 0.5)).all(axis=1)][0]
    if not world and _all_inside(index[:, ::-1], shape):
        raise InputError(
            f"{path}: {np.round(outside, 1).tolist()} lies outside the image {image.shape}, but every point fits when "
            "read backwards: they are (k, j, i), and autoPET's order is (i, j, k) of the NIfTI array. Turn them round."
        )
    if world and _all_inside(image.index_of(image.world_of(index) * SPACES["LPS"]), shape):
        raise InputError(
            f"{path}: a position lies outside the scan, but all fit with x and y turned round: they are LPS (DICOM), "
            'not RAS. Write "space": "LPS".'
        )
    raise InputError(
        f"{path}: the point with index {np.round(outside, 1).tolist()} lies outside the image {image.shape}."
    )


def _all_inside(index: FloatArray, shape: np.ndarray[Any, Any]) -> bool:
    return bool(((index >= -0.5) & (index <= shape - 0.5)).all())


def _reversed_fits(index: FloatArray, image: Volume) -> bool:
    if not _all_inside(index[:, ::-1], np.array(image.shape)):
        return False
    rounded = np.rint(index).astype(int).clip(0)
    here = image.array[tuple(np.minimum(rounded, np.array(image.shape) - 1).T)]
    back = rounded[:, ::-1]
    there = image.array[tuple(np.minimum(back, np.array(image.shape) - 1).T)]
    return bool((here < AIR_SUV).all() and (there > WARM_SUV).all())
