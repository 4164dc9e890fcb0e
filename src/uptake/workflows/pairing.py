"""Which prediction belongs to which reference, and which PET to both."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from uptake.core.errors import InputError, UsageError
from uptake.io.find import CaseFiles, case_name, find_cases
from uptake.io.image import image_stem, image_suffix
from uptake.sampling.splits import subject_of
from uptake.workflows.image_scoring import ImagePair, find_image_pairs

HELD_OUT = ("validation", "held_out")
"""Folder of a fold with the masks of its held-out cases: of nnU-Net, of `uptake train`."""

MASK_NAMES = ("lesions", "lesion", "SEG", "organs")
"""Names of a mask in a folder per case, the first that is there counts."""


@dataclass(frozen=True)
class Pair:
    """Two masks of one scan, and its PET where one was given.

    Attributes
    ----------
    case, patient : str
    prediction, reference : Path
    pet : CaseFiles or None
    fold : str
        Of a cross-validation; empty elsewhere.
    """

    case: str
    patient: str
    prediction: Path
    reference: Path
    pet: CaseFiles | None = None
    fold: str = ""


@dataclass(frozen=True)
class Pairing:
    """All pairs, and what found no partner.

    Attributes
    ----------
    pairs : tuple of Pair or ImagePair
        Sorted by case.
    missing, extra : tuple of str
        Cases of the references without prediction, and the other way round.
    without_pet : tuple of str
        Cases for which the folder of PETs holds none.
    notes : tuple of str
        What was decided on the way, for the report.
    """

    pairs: tuple[Pair | ImagePair, ...]
    missing: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    without_pet: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Masks:
    """Masks of a folder by case; `folds` names those of a cross-validation; `whole`: no case is missing from them."""

    files: Mapping[str, Path]
    folds: Mapping[str, str]
    whole: bool = True


def find_pairs(prediction: Path, reference: Path, *, pet: Path | None = None) -> Pairing:
    """Return the pairs of two files or of two folders.

    Parameters
    ----------
    prediction : Path
        A mask; a folder of masks (``CASE.nii.gz``, or ``CASE/lesions.nii.gz`` as `segment` writes them); or a
        cross-validation of nnU-Net (a trainer's folder with ``fold_*/validation``, or one fold) or of `uptake train`.
    reference : Path
        A mask; a folder of masks; an nnU-Net raw dataset or its ``labelsTr``; or a folder of studies.
    pet : Path or None
        For two files: a PET file, study or DICOM folder. For folders: PETs named like the cases, studies, or nnU-Net
        images.

    Raises
    ------
    InputError
        If a path does not exist or holds no mask, or no name occurs on both sides.
    UsageError
        If a file and a folder are mixed.
    """
    for path in (prediction, reference, *([] if pet is None else [pet])):
        if not path.exists():
            raise InputError(f"{path}: does not exist.")
    if prediction.is_file() != reference.is_file():
        raise UsageError(f"{prediction} and {reference}: give two files or two folders.")
    if prediction.is_file():
        case = case_name(reference)
        files = None if pet is None else _one_pet(pet)
        return Pairing((Pair(case, subject_of(case), prediction, reference, files),))
    predicted = _predictions(prediction)
    referred, patients = _references(reference, predicted.files)
    if not predicted.files:
        raise InputError(f"{prediction}: holds no mask (NAME.nii.gz, or NAME/lesions.nii.gz).")
    if not referred:
        raise InputError(f"{reference}: holds no mask (NAME.nii.gz, or NAME/lesion.nii.gz).")
    both = sorted(referred.keys() & predicted.files.keys())
    if not both:
        raise InputError(
            f"{prediction} and {reference}: no case has a mask in both. Predictions: {_some(predicted.files)}; "
            f"references: {_some(referred)}. Cases are matched by name; rename one side."
        )
    missing = sorted(referred.keys() - predicted.files.keys())
    notes = []
    if missing and not predicted.whole:
        found = sorted(set(predicted.folds.values()))
        notes.append(
            f"{len(missing)} of {len(referred)} references belong to no fold found here "
            f"({', '.join(found)}) and were not expected."
        )
        missing = []
    pets = {} if pet is None else _pets(pet)
    return Pairing(
        pairs=tuple(
            Pair(
                case,
                patients.get(case) or subject_of(case),
                predicted.files[case],
                referred[case],
                pets.get(case),
                predicted.folds.get(case, ""),
            )
            for case in both
        ),
        missing=tuple(missing),
        extra=tuple(sorted(predicted.files.keys() - referred.keys())),
        without_pet=tuple(case for case in both if pet is not None and case not in pets),
        notes=tuple(notes),
    )


def pair_images(prediction: Path, reference: Path, *, organs: Path | None = None) -> Pairing:
    """Return the pairs of two PETs or of two folders of PETs; see `image_scoring.find_image_pairs`."""
    pairs, missing, extra = find_image_pairs(prediction, reference, organs=organs)
    return Pairing(pairs, missing, extra)


def holds_masks(path: Path) -> bool:
    """Return whether a path is a mask, or a folder in which predicted masks are found."""
    return bool(image_suffix(path)) if path.is_file() else bool(_predictions(path).files)


def _predictions(folder: Path) -> _Masks:
    """Return the predicted masks of a folder, of the folds where it holds those of a cross-validation."""
    own = _held_out(folder)
    if own is not None and not _masks(folder):
        files = _masks(own)
        return _Masks(files, dict.fromkeys(files, folder.name), whole=False)
    folds = [path for path in sorted(folder.glob("fold_*")) if _held_out(path) is not None]
    if not folds:
        trainers = sorted({path.parent for path in folder.glob("*/fold_*") if _held_out(path) is not None})
        if len(trainers) > 1:
            raise InputError(
                f"{folder}: holds the results of {len(trainers)} trainers; give one: "
                f"{', '.join(path.name for path in trainers[:4])}."
            )
        if trainers:
            return _predictions(trainers[0])
        return _Masks(_masks(folder), {}, whole=folder.name not in HELD_OUT)
    found: dict[str, Path] = {}
    owners: dict[str, str] = {}
    for fold in folds:
        for case, file in _masks(_held_out(fold) or fold).items():
            if case in found:
                raise InputError(
                    f"{folder}: case {case} was predicted by {owners[case]} and {fold.name}; a case is held out once. "
                    "Give one fold, or a folder in which each case has one mask."
                )
            found[case], owners[case] = file, fold.name
    return _Masks(found, owners, whole=False)


def _held_out(fold: Path) -> Path | None:
    """Return where a fold keeps the masks of its held-out cases: nnU-Net's "validation", our "held_out"."""
    return next((fold / name for name in HELD_OUT if (fold / name).is_dir()), None)


def _references(folder: Path, predicted: Mapping[str, Path]) -> tuple[dict[str, Path], dict[str, str]]:
    """Return case id -> mask and case id -> patient where the folders name one."""
    raw = [folder / name for name in ("labelsTr", "labelsTs") if (folder / name).is_dir()]
    if raw:
        sets = [_masks(path) for path in raw]
        wanted = [masks for masks in sets if masks.keys() & predicted.keys()]
        if len(wanted) > 1:
            raise InputError(
                f"{folder}: cases of labelsTr and of labelsTs were predicted; give one of the two folders."
            )
        return dict((wanted or sets)[0]), {}
    if not any(path.is_file() and image_suffix(path) for path in folder.iterdir()):
        try:
            studies = [files for files in find_cases(folder) if files.lesions is not None]
        except InputError:
            studies = []  # folders of masks alone, without a PET
        if studies:
            patients = {files.id: files.subject for files in studies if files.subject is not None}
            return {files.id: files.lesions for files in studies if files.lesions is not None}, patients
    return dict(_masks(folder)), {}


def _masks(folder: Path) -> dict[str, Path]:
    """Return case name -> mask file of a folder."""
    direct = [path for path in sorted(folder.iterdir()) if path.is_file() and image_suffix(path)]
    direct = [path for path in direct if not path.name.startswith(".")]
    if direct:
        found: dict[str, Path] = {}
        for path in direct:
            case = image_stem(path)
            if case in found:
                raise InputError(f"{found[case]} and {path.name}: two masks of one case; move one away.")
            found[case] = path
        return found
    found = {}
    for case_folder in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        images = {image_stem(p): p for p in case_folder.iterdir() if p.is_file() and image_suffix(p)}
        name = next((name for name in MASK_NAMES if name in images), None)
        if name is not None:
            found[case_folder.name] = images[name]
    return found


def _one_pet(path: Path) -> CaseFiles:
    found = find_cases(path)
    if len(found) > 1:
        raise UsageError(f"{path}: holds {len(found)} PETs; with two masks give the one PET of their scan.")
    return found[0]


def _pets(folder: Path) -> dict[str, CaseFiles]:
    """Return case id -> PET: files named like the cases, else whatever studies `find_cases` finds."""
    if folder.is_file():
        raise UsageError(f"{folder}: is one file; with two folders of masks give a folder of PETs.")
    direct = {image_stem(p): p for p in sorted(folder.iterdir()) if p.is_file() and image_suffix(p)}
    numbered = any(re.fullmatch(r".+_\d{4}", stem) for stem in direct)
    if direct and not numbered and not folder.name.lower().startswith("images"):
        return {case: CaseFiles(case, pet=path) for case, path in direct.items()}
    return {files.id: files for files in find_cases(folder)}


def _some(names: Mapping[str, Path]) -> str:
    listed = sorted(names)
    return ", ".join(listed[:3]) + (f" and {len(listed) - 3} more" if len(listed) > 3 else "")
