"""What of a DICOM study must not reach results: names of cases, paths, dates and texts that tell who the patient is."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

from uptake.cases import Case, SourceFile
from uptake.io.archive import Files
from uptake.io.dicom_reference import read_header
from uptake.io.find import CaseFiles
from uptake.io.find_dicom import identifiers_in
from uptake.io.identifiers import Identifiers

NAME_HASH = 10
"""Digits of the hash that takes the place of a telling folder name."""


def named_safely(files: CaseFiles, *, keep_identifiers: bool = False) -> CaseFiles:
    """Return the case under a name that does not give its patient away.

    A folder that is named after the patient becomes ``case-`` and the first digits of a SHA-256 over the Study Instance
    UID and the folder's name: the same in every run.
    """
    if keep_identifiers or files.dicom is None:
        return files
    identifiers, study_uid = identifiers_in(files.dicom, files.study_uid)
    if not identifiers.in_name(files.id):
        return files
    # The folder's name is hashed with it: copies and test objects may share a UID. Who lacks the UID cannot guess back.
    secret = f"{study_uid}/{files.id}".encode()
    return replace(files, id=f"case-{hashlib.sha256(secret).hexdigest()[:NAME_HASH]}")


def anonymous(case: Case, warnings: tuple[str, ...]) -> tuple[Case, tuple[str, ...]]:
    """Return a case that came as DICOM, and sentences about it, without dates, free text and identifying values.

    Voxels are the same; what goes are values of `Case.acquisition`, and folders of the sources' paths.
    """
    if not case.pet_files:
        return case, warnings
    with Files() as files:
        identifiers = Identifiers.of([read_header(case.pet_files[0], files)])

    def shown(source: SourceFile) -> SourceFile:
        last = Path(source.path).name
        return replace(source, path=case.id if identifiers.in_name(last) else last)

    def sentence(text: str) -> str:
        for source in case.sources:
            text = text.replace(source.path, shown(source).path)
        return identifiers.message(text)

    return (
        replace(
            case,
            acquisition=identifiers.scrubbed(dict(case.acquisition)),
            sources=tuple(shown(source) for source in case.sources),
            warnings=tuple(sentence(text) for text in case.warnings),
        ),
        tuple(sentence(text) for text in warnings),
    )
