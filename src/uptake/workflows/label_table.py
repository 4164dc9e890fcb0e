"""What the labels of masks are called: as the user says, else as the `dataset.json` beside them does."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uptake.core.errors import InputError, UsageError

Label = int | tuple[int, ...]
"""A label, or several that are scored as one (an nnU-Net region)."""

DATASET = "dataset.json"


@dataclass(frozen=True)
class LabelTable:
    """Names of the labels to score.

    Attributes
    ----------
    names : mapping of label to str, or None
        None: everything that is not 0 is one label, "lesion".
    ignore : int or None
        Label of the reference whose voxels count for nothing (nnU-Net's "ignore").
    source : str
        Where the names come from, in words.
    """

    names: Mapping[Label, str] | None = None
    ignore: int | None = None
    source: str = "everything that is not 0 is lesion"

    def numbers(self) -> dict[int, str] | None:
        """Return the names of single labels; None where there is no table."""
        if self.names is None:
            return None
        return {label: name for label, name in self.names.items() if isinstance(label, int)}


def find_labels(given: str | None, prediction: Path, reference: Path) -> LabelTable:
    """Return the names of the labels: as given, else from the `dataset.json` beside the masks, else "lesion" for all.

    Parameters
    ----------
    given : str or None
        ``1=lesion,2=node``, or a JSON file (nnU-Net's `dataset.json`, or number -> name), or a CSV file with two
        columns, number and name.
    prediction, reference : Path

    Raises
    ------
    InputError
        If a table cannot be read, or those of prediction and reference contradict one another.
    UsageError
        If `given` is no table.
    """
    if given is not None:
        return given_labels(given)
    files = dict.fromkeys(file for file in map(_dataset_file, (prediction, reference)) if file is not None)
    found = [(file, _dataset_labels(file)) for file in files]
    tables = {json.dumps(sorted((str(k), v) for k, v in (t.names or {}).items())): (f, t) for f, t in found}
    if len(tables) > 1:
        both = " and ".join(str(file) for file, _ in tables.values())
        raise InputError(f"{both}: name different labels; pass the table that both masks follow with --labels.")
    return found[0][1] if found else LabelTable()


def _dataset_file(start: Path) -> Path | None:
    """Return the `dataset.json` of a folder of masks: in it, or above the folders that nnU-Net makes below it."""
    folder = start if start.is_dir() else start.parent
    while not (folder / DATASET).is_file():
        if not folder.name.startswith(("labels", "validation", "fold_")):
            return None
        folder = folder.parent
    return folder / DATASET


def given_labels(given: str) -> LabelTable:
    """Return the table that a user gave: ``1=lesion,2=node``, or a JSON or CSV file; errors as of `find_labels`."""
    path = Path(given)
    if path.is_file():
        return _dataset_labels(path) if path.suffix.lower() == ".json" else _csv_labels(path)
    names: dict[Label, str] = {}
    for part in given.split(","):
        match = re.fullmatch(r"\s*(\d+)\s*=\s*(\S.*?)\s*", part)
        if not match:
            raise UsageError(
                f"{given!r} is no table of labels: give a JSON or CSV file that exists, or 1=lesion,2=node."
            )
        names[int(match[1])] = match[2]
    return _checked(names, None, "--labels")


def _csv_labels(path: Path) -> LabelTable:
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = [row for row in csv.reader(stream) if row]
        names: dict[Label, str] = {int(row[0]): row[1].strip() for row in rows if row[0].strip().isdigit()}
    except (OSError, UnicodeDecodeError, IndexError, csv.Error) as error:
        raise InputError(f"{path}: no table of labels; a CSV file has two columns, number and name.") from error
    return _checked(names, None, str(path))


def _dataset_labels(path: Path) -> LabelTable:
    """Return the labels of nnU-Net's `dataset.json` (name -> number or numbers), or of a plain number -> name."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        table: dict[str, Any] = content.get("labels", content)
        names: dict[Label, str] = {}
        ignore = None
        for key, value in table.items():
            if isinstance(value, list):
                names[tuple(int(v) for v in value)] = str(key)
            elif str(value).isdigit() and not str(key).isdigit():
                if str(key).lower() == "ignore":
                    ignore = int(value)
                else:
                    names[int(value)] = str(key)
            else:
                names[int(key)] = str(value)
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise InputError(f"{path}: holds no table of labels (name -> number, as in nnU-Net's dataset.json).") from error
    return _checked(names, ignore, str(path))


def _checked(names: dict[Label, str], ignore: int | None, source: str) -> LabelTable:
    names = {label: name for label, name in names.items() if label != 0}
    if not names:
        raise InputError(f"{source}: names no label besides the background.")
    if len(set(names.values())) < len(names):
        raise InputError(f"{source}: gives one name to several labels; names have to tell them apart.")
    return LabelTable(names, ignore, source)
