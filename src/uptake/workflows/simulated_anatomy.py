"""Organ label maps from files as the anatomy of simulated patients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from uptake.core.errors import GeometryError, InputError
from uptake.io.image import IMAGE_SUFFIXES, NIFTI_SUFFIXES, image_suffix, read_labels
from uptake.io.nifti import orientation_is_known
from uptake.io.write import sha256_of
from uptake.simulation.label_map import LabelMap, label_map
from uptake.simulation.map_frame import landmarks_of
from uptake.workflows.map_labels import numbering

ANATOMY_STREAM = 35


@dataclass(frozen=True)
class AnatomyFiles:
    """Label maps that patients get their organs from; make it with `anatomy_files`.

    Attributes
    ----------
    files : tuple of Path
        A patient's map is drawn from them by the seed.
    labels : str
        Numbering: "total", "autopet" or a JSON file.
    sha256 : tuple of str
        Of the files: what a patient depends on, rather than their names.
    """

    files: tuple[Path, ...]
    labels: str
    sha256: tuple[str, ...]

    def of(self, seed: int) -> LabelMap:
        """Return the map of the patient of a seed."""
        number = int(np.random.default_rng([seed, ANATOMY_STREAM]).integers(len(self.files)))
        return read_anatomy(self.files[number], self.labels)

    def as_json(self) -> dict[str, object]:
        """Return what a patient depends on, without file names: they may tell whose scan it was."""
        names = {str(number): name for number, name in numbering(self.labels).names.items()}
        known = self.labels in ("total", "autopet")
        return {"labels": self.labels if known else names, "sha256": list(self.sha256)}


def anatomy_files(path: Path, labels: str = "total") -> AnatomyFiles:
    """Return a label map, or all label maps of a folder, as anatomies; a single one is read and checked at once.

    Parameters
    ----------
    path : Path
        NIfTI, MetaImage or NRRD file, or a folder of such.
    labels : str
        What their numbers mean: "total" (TotalSegmentator), "autopet" (the ten organs published with LesionTracer), or
        a JSON file {number: name}.

    Raises
    ------
    UsageError
        If the numbering is not known.
    InputError
        Of the kind that fits: no map there, a map without orientation, with numbers that have no name, mirrored, or
        without anything to place it by.
    """
    numbering(labels)
    files: Sequence[Path] = [path]
    if path.is_dir():
        files = sorted(f for f in path.iterdir() if image_suffix(f) in IMAGE_SUFFIXES)
        if not files:
            raise InputError(f"{path}: holds no label map ({', '.join(IMAGE_SUFFIXES)}).")
        for file in files:
            _require_orientation(file)
    else:
        landmarks_of(read_anatomy(path, labels))
    return AnatomyFiles(tuple(files), labels, tuple(sha256_of(file) for file in files))


def read_anatomy(path: Path, labels: str) -> LabelMap:
    """Return one label map from a file, checked; errors as `anatomy_files`."""
    _require_orientation(path)
    volume, _ = read_labels(path)
    return label_map(volume, numbering(labels).names, source=str(path))


def _require_orientation(path: Path) -> None:
    if path.is_file() and image_suffix(path) in NIFTI_SUFFIXES and not orientation_is_known(path):
        raise GeometryError(
            f"{path}: neither sform nor qform is set, so nothing says which side of this label map is right. Copy the "
            "affine of the CT it was made of into its header."
        )
