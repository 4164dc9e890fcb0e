"""Published weights that `uptake models get` can fetch: where they are, their checksum, their licence."""

from __future__ import annotations

from dataclasses import dataclass

from uptake.core.errors import ModelError


@dataclass(frozen=True)
class Record:
    """One file of published weights.

    Attributes
    ----------
    name : str
        Of the model here.
    doi : str
        Of the deposit.
    url : str
        Of the file.
    md5 : str
        Of the file, as the deposit states it.
    size_gb : float
        About.
    licence : str
        Of the weights.
    source : str
        Folder inside the archive that is the model; "" for the only one.
    cite : str
    note : str
    """

    name: str
    doi: str
    url: str
    md5: str
    size_gb: float
    licence: str
    source: str
    cite: str
    note: str = ""


RECORDS: dict[str, Record] = {
    "lesiontracer": Record(
        name="lesiontracer",
        doi="10.5281/zenodo.14007247",
        url="https://zenodo.org/records/14007247/files/autoPET-3-LesionTracer.zip",
        md5="566016409b0bd14770c0b57c1f2873f1",
        size_gb=3.8,
        licence="CC-BY-4.0",
        source="",
        cite="Rokuss M et al. From FDG to PSMA: A Hitchhiker's Guide to Multitracer, Multicenter Lesion Segmentation "
        "in PET/CT Imaging. arXiv:2409.09478 (2024).",
        note="Trained on autoPET III (CC BY-NC data). Size, checksum and licence are as others report them; they are "
        "checked on arrival.",
    ),
}
"""Name -> record."""


def find_record(name: str) -> Record:
    """Return the record of a published model.

    Raises
    ------
    ModelError
        If there is none of that name.
    """
    if name not in RECORDS:
        raise ModelError(f"{name!r} is no published model that can be fetched; there are {', '.join(RECORDS)}.")
    return RECORDS[name]
