"""A PET against a better PET of the same scan, for denoising: PSNR, SSIM, NRMSE, and SUV and noise per organ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from uptake.core.errors import InputError, UsageError
from uptake.evaluation.image_quality import image_quality
from uptake.evaluation.organ_quality import organ_quality
from uptake.evaluation.site_features import body_mask
from uptake.geometry.grid import require_same_grid
from uptake.geometry.volume import Volume
from uptake.io.find import CaseFiles, case_name, find_cases
from uptake.io.image import image_stem, image_suffix, read_labels
from uptake.io.read import read_case
from uptake.sampling.splits import subject_of

BODY = "body"


@dataclass(frozen=True)
class ImagePair:
    """Two PETs of one scan, and its organ map where one was given.

    Attributes
    ----------
    case, patient : str
    prediction, reference : CaseFiles
        The denoised PET and the one it should equal.
    organs : Path or None
    """

    case: str
    patient: str
    prediction: CaseFiles
    reference: CaseFiles
    organs: Path | None = None


def find_image_pairs(
    prediction: Path, reference: Path, *, organs: Path | None = None
) -> tuple[tuple[ImagePair, ...], tuple[str, ...], tuple[str, ...]]:
    """Return the pairs of two PETs or of two folders, cases without prediction, and predictions without reference.

    Parameters
    ----------
    prediction, reference : Path
        PET files, DICOM folders, studies, or folders of files or studies named alike.
    organs : Path or None
        Organ map, or folder of organ maps named like the cases; by default those beside the references.

    Raises
    ------
    InputError
        If a path does not exist, or no name occurs on both sides.
    UsageError
        If a file and a folder are mixed.
    """
    for path in (prediction, reference, *([] if organs is None else [organs])):
        if not path.exists():
            raise InputError(f"{path}: does not exist.")
    if prediction.is_file() != reference.is_file():
        raise UsageError(f"{prediction} and {reference}: give two files or two folders.")
    if reference.is_file():
        case = case_name(reference)
        (one,), (other,) = find_cases(prediction), find_cases(reference)
        return (ImagePair(case, subject_of(case), one, other, organs),), (), ()
    predicted, referred = _pets(prediction), _pets(reference)
    if len(predicted) == len(referred) == 1:
        # One scan on either side: two DICOM folders, say, whose names mean nothing.
        predicted = dict(zip(referred, predicted.values(), strict=True))
    both = sorted(predicted.keys() & referred.keys())
    if not both:
        raise InputError(
            f"{prediction} and {reference}: no case has a PET in both: {', '.join(sorted(predicted)[:3]) or 'none'}; "
            f"{', '.join(sorted(referred)[:3]) or 'none'}. Cases are matched by name; rename one side."
        )
    maps = {} if organs is None else _images(organs)
    pairs = tuple(
        ImagePair(
            case,
            referred[case].subject or subject_of(case),
            predicted[case],
            referred[case],
            maps.get(case, referred[case].organs),
        )
        for case in both
    )
    missing = tuple(sorted(referred.keys() - predicted.keys()))
    return pairs, missing, tuple(sorted(predicted.keys() - referred.keys()))


def score_images(
    case: str,
    patient: str,
    prediction: Volume,
    reference: Volume,
    *,
    organs: Volume | None = None,
    labels: Mapping[int, str] | None = None,
) -> tuple[dict[str, Any], ...]:
    """Return a row of scores in the body, and a row per organ.

    Parameters
    ----------
    case, patient : str
    prediction, reference : Volume
        SUV, g/mL, on one grid. The body is that of the reference.
    organs : Volume or None
        Organ labels on the same grid.
    labels : mapping of int to str, or None
        Names of the organs to look at; None: all that are there, by number.

    Raises
    ------
    GeometryError
        If the grids differ.
    InputError
        If there is no body, or a voxel in it is not finite.
    """
    require_same_grid(
        prediction,
        reference,
        names=("the image", "the reference"),
        remedy="An image is not resampled: that alone would change its noise. Denoise on the reference's grid.",
    )
    body = body_mask(np.asarray(reference.array), None, reference.spacing_mm)
    whole = image_quality(prediction.array, reference.array, body=body)
    key = {"case": case, "patient": patient}
    rows: list[dict[str, Any]] = [
        {
            **key,
            "label": BODY,
            "label_number": "",
            "psnr_db": whole.psnr_db,
            "ssim": whole.ssim,
            "nrmse": whole.nrmse,
            "rmse": whole.rmse,
            "mae": whole.mae,
            "suv_bias": whole.bias,
        }
    ]
    if organs is not None:
        require_same_grid(reference, organs, names=("the reference", "the organ map"))
        present = [int(value) for value in np.unique(organs.array) if value]
        names = dict(labels) if labels is not None else {value: f"organ {value}" for value in present}
        numbers = {name: number for number, name in names.items()}
        for one in organ_quality(prediction.array, reference.array, np.asarray(organs.array), labels=names):
            rows.append(
                {
                    **key,
                    "label": one.organ,
                    "label_number": numbers[one.organ],
                    "suv_mean": one.mean,
                    "reference_suv_mean": one.reference_mean,
                    "suv_bias": one.bias,
                    "suv_bias_percent": one.bias_percent,
                    "cov": one.cov,
                    "reference_cov": one.reference_cov,
                }
            )
    return tuple(rows)


def read_and_score(
    pair: ImagePair, *, labels: Mapping[int, str] | None, assume_suv: bool
) -> tuple[dict[str, Any], ...]:
    """Return the rows of a pair of files; see `score_images`."""
    pets = [read_case(files, assume_suv=assume_suv, labels=False).pet for files in (pair.prediction, pair.reference)]
    organs = None if pair.organs is None else read_labels(pair.organs)[0]
    return score_images(pair.case, pair.patient, pets[0], pets[1], organs=organs, labels=labels)


def _pets(folder: Path) -> dict[str, CaseFiles]:
    """Return case -> PET of a folder: files named like the cases, or studies."""
    direct = {image_stem(p): p for p in sorted(folder.iterdir()) if p.is_file() and image_suffix(p)}
    if direct and not folder.name.lower().startswith("images") and not _is_study(folder):
        return {case: CaseFiles(case, pet=path) for case, path in direct.items()}
    return {files.id: files for files in find_cases(folder)}


def _is_study(folder: Path) -> bool:
    """Return whether the images of a folder are the PET, CT and masks of one study rather than PETs of many."""
    try:
        found = find_cases(folder)
    except InputError:
        return False
    return len(found) == 1


def _images(path: Path) -> dict[str, Path]:
    if path.is_file():
        raise UsageError(f"{path}: is one file; with two folders give a folder of organ maps.")
    return {image_stem(p): p for p in sorted(path.iterdir()) if p.is_file() and image_suffix(p)}
