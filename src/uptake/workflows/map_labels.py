"""Organ maps of one numbering -> the merged classes of a method, on their own grid, and a table of both."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from uptake.core.anatomy import AUTOPET_NAMES, GROUPINGS, TOTAL, TOTAL_NAMES, class_table, classes_of
from uptake.core.errors import InputError, OutputError, UptakeError, UsageError
from uptake.geometry.grid import require_same_grid
from uptake.geometry.volume import Volume
from uptake.io.image import IMAGE_SUFFIXES, image_stem, image_suffix, read_labels
from uptake.io.write import require_writable, write_csv, write_json, write_volume
from uptake.workflows.failures import CohortResult, Failure, write_failures

log = logging.getLogger(__name__)

NAMES, TABLE, CASES = "organ_labels.json", "mapping.csv", "cases.csv"

TABLE_COLUMNS = ("from", "from_name", "to", "to_name")
CASE_COLUMNS = ("case", "file", "classes", "absent", "to_background", "unknown", "unknown_voxels")

MASKS = "segmentations"
"""Folder of one mask per class, as TotalSegmentator writes and as its public data set has them."""

ORGAN_STEMS = ("organs", "organ_labels", MASKS)
"""What an organ map in a study folder is called."""

Unknown = Literal["refuse", "background"]
"""What becomes of a number that the source numbering does not name."""


@dataclass(frozen=True, eq=False)
class Numbering:
    """How organ maps are numbered: label value -> class name, and where that is from, in words."""

    names: Mapping[int, str]
    source: str


@dataclass(frozen=True, eq=False)
class Mapped:
    """An organ map in the classes of a method.

    Attributes
    ----------
    labels : Volume
        uint8 on the grid of the source.
    absent : tuple of str
        Wanted classes without a voxel.
    to_background : tuple of str
        Names of the source that were there and belong to no wanted class.
    unknown : mapping
        Number that the source numbering does not name -> voxels, now background.
    """

    labels: Volume
    absent: tuple[str, ...]
    to_background: tuple[str, ...]
    unknown: Mapping[int, int]


def numbering(given: str | Path) -> Numbering:
    """Return the numbering of organ maps.

    Parameters
    ----------
    given : str or Path
        "total" (TotalSegmentator, version 2), "autopet" (the maps published with LesionTracer), a grouping
        ("ldos", "lesiontracer", ...: maps that were mapped already), or a JSON file {number: name}.

    Raises
    ------
    UsageError
        If it is none of these.
    """
    known = {"total": TOTAL_NAMES, "autopet": AUTOPET_NAMES}
    text = str(given)
    if text in known:
        return Numbering(known[text], text)
    if text in GROUPINGS:
        return Numbering(dict(enumerate(classes_of(text)[1:], start=1)), text)
    try:
        content = json.loads(Path(given).read_text(encoding="utf-8"))
        names = {int(value): str(name) for value, name in content.items()}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise UsageError(
            f"the numbering {text!r} is neither one of {', '.join((*known, *GROUPINGS))} nor a JSON file "
            f"{{number: name}}: {error}"
        ) from error
    return Numbering({value: name for value, name in names.items() if value}, text)


def mapped(
    organs: Volume,
    names: Mapping[int, str],
    classes: Sequence[str],
    *,
    unknown: Unknown = "refuse",
    name: str = "the organ map",
) -> Mapped:
    """Return an organ map in other classes.

    Parameters
    ----------
    organs : Volume
        Whole numbers from 0.
    names : mapping
        Number -> class name of the source.
    classes : sequence of str
        Wanted, background first (`core.anatomy.classes_of`); at most 255 of them.
    unknown : {"refuse", "background"}
        What becomes of numbers that `names` does not hold.
    name : str
        How errors call the map.

    Raises
    ------
    InputError
        If the map holds a number without a name and such are refused, or nothing that is wanted.
    UsageError
        If no name belongs to a wanted class.
    """
    table = class_table(names, classes)
    array = np.asarray(organs.array)
    found = np.bincount(array.ravel().astype(np.int64))
    present = [int(value) for value in np.flatnonzero(found) if value]
    strangers = {value: int(found[value]) for value in present if value not in names}
    if strangers and unknown == "refuse":
        listed = ", ".join(f"{value} ({count} voxels)" for value, count in list(strangers.items())[:8])
        raise InputError(
            f"{name}: holds labels that the numbering does not name: {listed}{', …' if len(strangers) > 8 else ''}. "
            "Say which numbering it has (--from), or make them background (--unknown background)."
        )
    lookup = np.zeros(max(len(found), len(table)), dtype=np.uint8)
    lookup[: len(table)] = table
    result = lookup[array]
    kept = np.unique(result)
    if not kept.any():
        raise InputError(
            f"{name}: not a single voxel belongs to a wanted class ({', '.join(classes[1:5])}, …); is it an organ map, "
            "and numbered as --from says?"
        )
    return Mapped(
        organs.with_array(result),
        tuple(wanted for number, wanted in enumerate(classes) if number not in kept),
        tuple(names[value] for value in present if value in names and not table[value]),
        strangers,
    )


def merged_masks(folder: Path) -> Volume:
    """Return a folder of one mask per TotalSegmentator class as one organ map with the numbers of `TOTAL_NAMES`.

    Raises
    ------
    InputError
        If a file is named like no class, or two masks share a voxel.
    GeometryError
        If the masks are on different grids.
    """
    numbers = {name: number for number, name in TOTAL_NAMES.items()}
    result: npt.NDArray[np.uint8] | None = None
    first: tuple[Path, Volume] | None = None
    for path in _images(folder):
        stem = image_stem(path)
        if stem not in numbers:
            raise InputError(f"{path}: among masks of TotalSegmentator's classes, and named like none of them.")
        mask, _ = read_labels(path)
        if result is None or first is None:
            first, result = (path, mask), np.zeros(mask.shape, np.uint8)
        require_same_grid(first[1], mask, names=(str(first[0]), str(path)))
        inside = mask.array > 0
        if result[inside].any():
            other = TOTAL_NAMES[int(result[inside].max())]
            raise InputError(f"{folder}: {other} and {stem} share voxels; a voxel belongs to one organ.")
        result[inside] = numbers[stem]
    if result is None or first is None:
        raise InputError(f"{folder}: holds no masks.")
    return first[1].with_array(result)


def map_labels(
    source: Path | str,
    out: Path | str,
    *,
    to: str,
    from_numbering: str | Path | None = None,
    unknown: Unknown = "refuse",
    on_case: Callable[[str, str], None] | None = None,
) -> CohortResult:
    """Write the organ maps of a file, a folder or a cohort as ``out/<case>.nii.gz`` in the classes of a method.

    Beside them stand organ_labels.json {number: name}, mapping.csv (what became what), cases.csv (what each map lacks,
    and what of it is background now) and, where maps were refused, failures.csv. A single map raises instead. Voxels
    are not resampled: grid and affine are those of the source.

    Parameters
    ----------
    source : path
        An organ map; a folder of them (organsTr); a folder of masks named after TotalSegmentator's classes; or a
        folder of studies that hold ``organs.nii.gz``, ``organ_labels.nii.gz`` or ``segmentations/``.
    out : path
        Folder for the results.
    to : str
        A grouping of `core.anatomy.GROUPINGS`: "ldos", "lesiontracer", "lesiontracer-published".
    from_numbering : str or path, optional
        See `numbering`; by default ``organ_labels.json`` beside the maps if it is there, else "total".
    unknown : {"refuse", "background"}
        See `mapped`.
    on_case : callable, optional
        Told (case, "written" | "failed").

    Raises
    ------
    UsageError, OutputError
        Before any map is read.
    InputError
        If there are no maps; of a single map, also what `mapped` refuses.
    """
    classes = classes_of(to)
    if unknown not in get_args(Unknown):
        raise UsageError(f"unknown is one of {', '.join(get_args(Unknown))}, came {unknown!r}.")
    source, out = Path(source), Path(out)
    found = list(_maps(source))
    if not found:
        raise InputError(f"{source}: no organ maps there ({', '.join(IMAGE_SUFFIXES)}).")
    given = numbering(from_numbering if from_numbering is not None else _beside(source))
    table = class_table(given.names, classes)
    for case, path in found:
        target = out / f"{case}.nii.gz"
        if target.exists() and target.resolve() == path.resolve():
            raise OutputError(f"{target}: the result would take the place of the map itself; choose another --out.")
    require_writable(out)
    rows: list[dict[str, object]] = []
    failures: list[Failure] = []
    tell = on_case or (lambda case, state: None)
    for case, path in found:
        try:
            organs = merged_masks(path) if path.is_dir() else read_labels(path)[0]
            names = TOTAL_NAMES if path.is_dir() else given.names
            one = mapped(organs, names, classes, unknown=unknown, name=str(path))
            write_volume(one.labels, out / f"{case}.nii.gz")
        except Exception as error:
            if len(found) == 1:
                raise
            failures.append(Failure.of(case, error))
            level = logging.INFO if isinstance(error, UptakeError) else logging.ERROR
            log.log(level, "%s failed", case, exc_info=not isinstance(error, UptakeError))
            tell(case, "failed")
            continue
        rows.append(_row(case, one, classes))
        tell(case, "written")
    write_json({str(number): name for number, name in enumerate(classes) if number}, out / NAMES)
    write_csv(_mapping(given.names, classes, table), out / TABLE, columns=TABLE_COLUMNS)
    write_csv(rows, out / CASES, columns=CASE_COLUMNS)
    write_failures(failures, out)
    return CohortResult(tuple(str(row["case"]) for row in rows), (), tuple(failures))


def _maps(source: Path) -> Iterator[tuple[str, Path]]:
    """Yield (case, organ map or folder of masks) of whatever was given."""
    if source.is_file():
        yield image_stem(source), source
        return
    if not source.is_dir():
        raise InputError(f"{source}: no such file or folder.")
    images = _images(source)
    if _is_masks(images):
        yield (source.resolve().parent if source.name == MASKS else source.resolve()).name, source
        return
    if images:
        yield from ((image_stem(path), path) for path in images)
        return
    for study in sorted(path for path in source.iterdir() if path.is_dir() and not path.name.startswith(".")):
        named = {image_stem(path).lower(): path for path in _images(study)}
        chosen = next((named[stem] for stem in ORGAN_STEMS if stem in named), None)
        inner = study / MASKS
        if chosen is not None:
            yield study.name, chosen
        elif inner.is_dir() and _is_masks(_images(inner)):
            yield study.name, inner
        elif _is_masks(_images(study)):
            yield study.name, study


def _images(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if image_suffix(path) and not path.name.startswith("."))


def _is_masks(images: Sequence[Path]) -> bool:
    """Whether these files are masks named after classes: two of them, for one may be called "brain" by chance."""
    return sum(image_stem(path) in TOTAL for path in images) >= 2


def _beside(source: Path) -> str | Path:
    """Return the table of names that lies with the maps, or in the folder above them; else "total"."""
    folder = source if source.is_dir() else source.parent
    return next((place / NAMES for place in (folder, folder.parent) if (place / NAMES).is_file()), "total")


def _mapping(
    names: Mapping[int, str], classes: Sequence[str], table: npt.NDArray[np.uint8]
) -> Iterator[dict[str, object]]:
    for value, name in sorted(names.items()):
        yield dict(zip(TABLE_COLUMNS, (value, name, int(table[value]), classes[table[value]]), strict=True))


def _row(case: str, one: Mapped, classes: Sequence[str]) -> dict[str, object]:
    values = (
        case,
        f"{case}.nii.gz",
        len(classes) - 1 - len(one.absent),
        " ".join(one.absent),
        " ".join(one.to_background),
        " ".join(map(str, one.unknown)),
        sum(one.unknown.values()),
    )
    return dict(zip(CASE_COLUMNS, values, strict=True))
