"""Which files make up a case? Found by name and by the shape of the folder, without reading a voxel.

Accepted (names without suffix, upper or lower case; .nii .nii.gz .mha .mhd .nrrd .nhdr):

===========  =============================================================================================
PET          ``SUV*``, ``PET_SUV*`` first; then ``PET``, ``PET_*``, ``PT``, ``PT_*``; then ``*_SUV``, ``*_PET``
CT           ``CTres``, ``CT_res``, ``CT_on_PET`` first; then ``CT``, ``CT_*``; then ``*_CT``
lesions      ``lesion``, ``lesions``, ``SEG``, ``GTV``, ``tumor``, ``tumour``, ``label``, also with ``_mask``
organs       ``organs``, ``organ_labels``
===========  =============================================================================================
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from uptake.core.errors import FileFormatError, InputError, UsageError
from uptake.io.archive import is_archive
from uptake.io.image import image_stem, image_suffix

DEEPEST = 4
"""Levels of folders below the one given that are searched for studies: cohort/patient/study/series."""

RESULT = "run.json"
"""A folder with this file holds results, which may lie among the studies of a cohort, and is no study itself."""

MOST_LINES = 20
"""Lines of an error that list what was found."""

ACCEPTED = (
    "Accepted: PET as SUV, PET, PT, PET_*, PT_*; CT as CTres, CT_on_PET, CT, CT_*; lesions as lesion(s), SEG, GTV, "
    "tumour; "
    "organs as organs (.nii.gz, .nii, .mha, .nrrd); nnU-Net imagesTr/imagesTs with CASE_0000 (CT) and CASE_0001 (PET); "
    "a folder of such studies; a DICOM study (folder or zip archive). Or name the files with --pet FILE --ct FILE."
)

_MASK = r"(?:_?(?:mask|masks|pet|gt|manual))?"
_PATTERNS: dict[str, tuple[str, ...]] = {
    # Each role: patterns by rank; the first rank that matches anything wins.
    "lesions": (rf"(?:lesions?|seg|gtv|tumou?rs?|label){_MASK}",),
    "organs": (r"organs?(?:_(?:labels?|masks?|seg))?",),
    "ct": (r"ct_?res|ct_?on_?pet", r"ct(?:[_\-.].*)?", r".*[_\-]ct"),
    "pet": (r"suv(?:_?bw)?(?:[_\-.].*)?|pe?t_?suv.*", r"pe?t(?:[_\-.].*)?", r".*[_\-](?:suv|pe?t)"),
}
_ROLE_ONLY = re.compile(r"(?i)pe?t(?:_?suv)?(?:_?bw)?|suv(?:_?bw)?|lesions?|seg|gtv|label|mask")
_LABEL_WORDS = re.compile(r"lesion|seg(?![a-z])|mask|label|gtv|organ|roi(?![a-z])|tumou?r")


@dataclass(frozen=True)
class CaseFiles:
    """The files of one case, nothing read yet.

    Attributes
    ----------
    id : str
        Folder or file name; of a study deeper in a cohort, the folder names joined by "_".
    pet, ct, lesions, organs : Path or None
        Image files.
    dicom : Path or None
        Folder, zip archive or multi-frame file of a DICOM study that gives the PET, and the CT unless `ct` is set.
    study_uid : str or None
        Study Instance UID, where `dicom` holds several studies.
    pet_series, ct_series : str or None
        Series Instance UID, or its end, where the user chooses among the series of `dicom`.
    subject : str or None
        The patient, where the folders say so: studies in one folder of a cohort are of one patient.
    problem : str or None
        Why this study of a cohort cannot be read; raised by `read.read_case`, so that one bad study does not hide the
        others.
    """

    id: str
    pet: Path | None = None
    ct: Path | None = None
    lesions: Path | None = None
    organs: Path | None = None
    dicom: Path | None = None
    subject: str | None = None
    problem: str | None = None
    study_uid: str | None = None
    pet_series: str | None = None
    ct_series: str | None = None


def find_cases(
    path: Path | str,
    *,
    pet: Path | None = None,
    ct: Path | None = None,
    lesions: Path | None = None,
    only_dicom: bool = False,
) -> list[CaseFiles]:
    """Return the cases below a path, sorted by id.

    Parameters
    ----------
    path : Path or str
        A study folder, one PET file, an nnU-Net images folder or raw dataset, a folder of studies, or a DICOM study.
    pet, ct, lesions : Path, optional
        Files to use instead of what the folder holds; for a single study only. A folder as `pet` is a DICOM study.
    only_dicom : bool
        Pass over images of other formats.

    Raises
    ------
    InputError
        If there is nothing usable (what was found and why it was not accepted is listed), or two files claim one role.
    UsageError
        If files are named although the path holds several studies.
    """
    path = Path(path)
    named = {role: file for role, file in (("pet", pet), ("ct", ct), ("lesions", lesions)) if file is not None}
    cases = _cases(path, frozenset(named), only_dicom)
    if named:
        if len(cases) > 1:
            raise UsageError(
                f"{path}: holds {len(cases)} studies; --{next(iter(named))} can be given with one study only."
            )
        cases = [with_overrides(cases[0], pet=pet, ct=ct, lesions=lesions)]
    return cases


def _cases(path: Path, named: frozenset[str], only_dicom: bool) -> list[CaseFiles]:
    if path.is_file() and not is_archive(path):
        if image_suffix(path) and not only_dicom:
            return [CaseFiles(case_name(path), pet=path)]
        from uptake.io.find_dicom import require_dicom_file

        if not require_dicom_file(path):
            raise InputError(f"{path}: no DICOM study." if only_dicom else f"{path}: not an image file. {ACCEPTED}")
        return [CaseFiles(path.stem, dicom=path)]
    if not path.exists():
        raise InputError(f"{path}: no such file or folder.")
    nnunet = _nnunet(path) if path.is_dir() and not only_dicom else None
    if nnunet is not None:
        return nnunet
    studies = _study(path, case_name(path), named, only_dicom)
    own = studies[0] if studies else None
    if own is not None and own.problem is None:
        return studies
    if not path.is_dir():
        raise InputError(own.problem if own and own.problem else f"{path}: the archive holds no DICOM file. {ACCEPTED}")
    found: list[CaseFiles] = []
    if own is None or not _candidates("pet", _images(path)):
        # Images that are no PET may lie beside the studies of a cohort.
        found = sorted(_below(path, (), only_dicom), key=lambda files: files.id)
    if own is not None and all(files.problem for files in found):
        raise InputError(str(own.problem))
    if only_dicom and not found:
        raise InputError(f"{path}: holds no DICOM study. Give the folder or zip archive of one, or a folder of such.")
    if not found or (all(files.problem for files in found) and not only_dicom):
        raise InputError(_nothing_usable(path, found))
    return found


def case_name(path: Path) -> str:
    """Return what to call the case of one file or folder: its own name, or its folder's where its own says only a role.

    ``patient7/pet.nii.gz`` is case patient7; ``patient7_pet.nii.gz`` is itself.
    """
    if path.is_dir() or is_archive(path):
        return (path.stem if is_archive(path) else path.resolve().name) or "case"
    stem = image_stem(path)
    return path.resolve().parent.name or stem if _ROLE_ONLY.fullmatch(stem) else stem


def with_overrides(
    files: CaseFiles, *, pet: Path | None = None, ct: Path | None = None, lesions: Path | None = None
) -> CaseFiles:
    """Return the case with some files replaced by those that the user names; a folder as `pet` is a DICOM study."""
    if pet is not None:
        dicom = pet.is_dir() or is_archive(pet)
        files = replace(files, pet=None if dicom else pet, dicom=pet if dicom else None, problem=None)
    if ct is not None:
        if ct.is_dir():
            raise UsageError(f"{ct}: a CT given by itself is one image file; a DICOM CT is found beside its PET.")
        files = replace(files, ct=ct)
    return files if lesions is None else replace(files, lesions=lesions)


def _study(place: Path, case_id: str, named: frozenset[str] = frozenset(), only_dicom: bool = False) -> list[CaseFiles]:
    """Return the studies that a folder or archive itself holds; none if it holds neither images nor one DICOM study.

    Roles in `named` are filled by the caller and not looked for.
    """
    images = [] if only_dicom else _images(place)
    beside = _from_names(place, case_id, images, named) if images else CaseFiles(case_id)
    if images and (beside.problem is None or _candidates("pet", images)):
        return [beside]
    from uptake.io.find_dicom import NAME_TAIL, studies_in

    try:
        uids = studies_in(place) or []
    except FileFormatError as error:  # an archive that cannot be opened
        return [CaseFiles(case_id, problem=str(error))]
    if images and len(uids) != 1:
        return [beside]
    # Masks, or a CT, may lie beside the DICOM files that hold the PET.
    return [
        replace(
            beside,
            id=case_id if uid is None else f"{case_id}_{uid[-NAME_TAIL:]}",
            dicom=place,
            study_uid=uid,
            problem=None,
        )
        for uid in uids
    ]


def _from_names(folder: Path, case_id: str, images: list[Path], named: frozenset[str]) -> CaseFiles:
    roles: dict[str, Path | None] = {}
    for role in ("pet", "ct", "lesions", "organs"):
        if role in named:
            continue
        candidates = _candidates(role, images)
        if len(candidates) > 1:
            names = " and ".join(entry.name for entry in candidates[:4])
            remedy = f"name the one to use with --{role} FILE" if role != "organs" else "move one away"
            return CaseFiles(
                case_id, problem=f"{folder}: {len(candidates)} files could be the {role}: {names}; {remedy}."
            )
        roles[role] = candidates[0] if candidates else None
    found = CaseFiles(
        case_id, pet=roles.get("pet"), ct=roles.get("ct"), lesions=roles.get("lesions"), organs=roles.get("organs")
    )
    if "pet" not in named and found.pet is None:
        return replace(found, problem=_no_pet(folder, images))
    return found


def _candidates(role: str, images: list[Path]) -> list[Path]:
    for pattern in _PATTERNS[role]:
        hits = [
            entry
            for entry in images
            if re.fullmatch(pattern, image_stem(entry).lower())
            and (role in ("lesions", "organs") or not _LABEL_WORDS.search(image_stem(entry).lower()))
        ]
        if hits:
            return hits
    return []


def _no_pet(folder: Path, images: list[Path]) -> str:
    lines = [f"  {entry.name}: {_why_not_pet(entry)}" for entry in images[:MOST_LINES]]
    if len(images) > MOST_LINES:
        lines.append(f"  and {len(images) - MOST_LINES} more images")
    return f"{folder}: no PET among {len(images)} images.\n" + "\n".join(lines) + f"\n{ACCEPTED}"


def _why_not_pet(entry: Path) -> str:
    for role in ("lesions", "organs", "ct"):
        if entry in _candidates(role, [entry]):
            return f"taken as {role}"
    return "its name says neither PET nor SUV"


def _nnunet(path: Path) -> list[CaseFiles] | None:
    """Return the cases of an nnU-Net raw dataset or of one of its image folders, or None if this is neither."""
    if path.name.lower() in ("imagestr", "imagests"):
        images, root = path, path.parent
    else:
        inside = [path / name for name in ("imagesTr", "imagesTs") if (path / name).is_dir()]
        if inside:
            images, root = inside[0], path
        elif _has_pair(path):
            images, root = path, path.parent
        else:
            return None
    ct_channel, pet_channel = _channels(root / "dataset.json")
    by_case: dict[str, dict[str, Path]] = {}
    for entry in _images(images):
        match = re.fullmatch(r"(.+)_(\d{4})", image_stem(entry))
        if match:
            by_case.setdefault(match[1], {})[match[2]] = entry
    if not by_case:
        raise InputError(f"{images}: an nnU-Net image folder without any CASE_0000 image. {ACCEPTED}")
    labels = {image_stem(entry): entry for entry in _images(root / images.name.replace("images", "labels"))}
    cases = []
    for case_id, channels in sorted(by_case.items()):
        pet, ct = channels.get(pet_channel), channels.get(ct_channel)
        problem = None
        if pet is None:
            have = ", ".join(entry.name for entry in channels.values())
            problem = f"{images}: case {case_id} has no {case_id}_{pet_channel} (the PET); found {have}."
        cases.append(CaseFiles(case_id, pet=pet, ct=ct, lesions=labels.get(case_id), problem=problem))
    if all(case.problem for case in cases):
        raise InputError("\n".join(str(case.problem) for case in cases[:MOST_LINES]))
    return cases


def _has_pair(folder: Path) -> bool:
    """Return whether a folder of another name holds CASE_0000 and CASE_0001; one alone may be a case number."""
    stems = {image_stem(entry) for entry in _images(folder)}
    return any(stem.endswith("_0000") and f"{stem[:-5]}_0001" in stems for stem in stems)


def _channels(dataset: Path) -> tuple[str, str]:
    """Return the channel numbers of CT and PET: as `dataset.json` names them, else 0000 and 0001."""
    ct, pet = "0000", "0001"
    try:
        content = json.loads(dataset.read_text(encoding="utf-8"))
        names = content.get("channel_names") or content.get("modality") or {}
        words = {f"{int(number):04d}": str(name).lower() for number, name in names.items()}
    except (OSError, ValueError, AttributeError):
        return ct, pet
    pets = [number for number, word in words.items() if re.search(r"\b(pet|pt|suv)\b", word)]
    cts = [number for number, word in words.items() if re.search(r"\bct\b", word)]
    # A published dataset names both channels "CT" to choose its normalisation: then the convention stands.
    if len(pets) == 1:
        return (cts[0] if len(cts) == 1 else "none"), pets[0]
    return ct, pet


def _below(folder: Path, names: tuple[str, ...], only_dicom: bool) -> Iterator[CaseFiles]:
    if len(names) >= DEEPEST:
        return
    for entry in _entries(folder):
        if not (entry.is_dir() or is_archive(entry)) or (entry / RESULT).is_file():
            continue
        here = (*names, entry.stem if is_archive(entry) else entry.name)
        studies = _study(entry, "_".join(here), only_dicom=only_dicom)
        if not studies and entry.is_dir():
            yield from _below(entry, here, only_dicom)
        for study in studies:
            yield replace(study, subject=names[-1] if names else None)


def _nothing_usable(path: Path, found: list[CaseFiles]) -> str:
    lines = [f"  {line}" for files in found for line in str(files.problem).split("\n") if line != ACCEPTED]
    if not lines:
        entries = _entries(path)
        lines = [f"  {entry.name}: {_why_nothing(entry)}" for entry in entries] or ["  the folder is empty"]
    if len(lines) > MOST_LINES:
        lines = [*lines[:MOST_LINES], f"  and {len(lines) - MOST_LINES} more lines"]
    return f"{path}: no PET study found.\n" + "\n".join(lines) + f"\n{ACCEPTED}"


def _why_nothing(entry: Path) -> str:
    if entry.is_dir():
        return "a folder without images or DICOM"
    return f"no image ({entry.suffix or 'no suffix'})"


def _entries(folder: Path) -> list[Path]:
    """Return what a folder holds, sorted, without hidden files (a killed writer leaves such)."""
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))


def _images(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return [entry for entry in _entries(folder) if entry.is_file() and image_suffix(entry)]
