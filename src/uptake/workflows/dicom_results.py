"""Results as DICOM beside the others: SEG, RTSTRUCT and a report, on the series that the images came from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from uptake.cases import Case
from uptake.core.errors import GeometryError, MissingAttributeError
from uptake.geometry.volume import Volume
from uptake.io.dicom_reference import Identity, Reference, read_reference
from uptake.io.dicom_result import Maker, Segment
from uptake.io.terminology import LESION
from uptake.quantification.lesions import LesionTable
from uptake.quantification.places import LesionPlace
from uptake.quantification.tables import mtv_definition

REPORT = "measurements.sr.dcm"

KINDS = ("seg", "rtstruct", "sr")


@dataclass(frozen=True)
class DicomSettings:
    """Which objects are written for a study that came as DICOM, and what of the patient stands in them.

    Attributes
    ----------
    kinds : tuple of str
        Of "seg", "rtstruct" and "sr"; the report refers to the SEG and comes with it only.
    keep_identifiers : bool
        Copy name, ID, birth date and the like from the source; see `io.dicom_reference.IDENTIFIERS`.
    """

    kinds: tuple[str, ...] = KINDS
    keep_identifiers: bool = False

    def request(self, case: Case) -> dict[str, object]:
        """Return what of this decides whether an earlier result is kept: nothing where no DICOM came in."""
        return {"dicom": [*self.kinds], "keep_identifiers": self.keep_identifiers} if case.pet_files else {}


def reference_of(case: Case, settings: DicomSettings) -> tuple[Reference | None, tuple[str, ...]]:
    """Return the DICOM slices of a case's PET, or None, and why there are none although the PET came as DICOM."""
    if not case.pet_files or not settings.kinds:
        return None, ()
    try:
        return read_reference(case.pet_files, case.pet, name=case.id), ()
    except (GeometryError, MissingAttributeError) as error:
        return None, (f"No DICOM results: {error}",)


def write_lesion_objects(
    table: LesionTable,
    lesions: Volume,
    reference: Reference,
    folder: Path,
    *,
    case_id: str,
    maker: Maker,
    settings: DicomSettings,
    places: Sequence[LesionPlace] = (),
) -> None:
    """Write lesions.seg.dcm, lesions.rtstruct.dcm and measurements.sr.dcm, as far as they are wanted.

    Lesions are segments and ROIs of their own under the numbers of the table; components too small for the table are
    one more. Where there is no lesion, an empty segment says so.

    Parameters
    ----------
    table : LesionTable
    lesions : Volume
        The mask; every voxel of it comes back from each file.
    reference : Reference
    folder : Path
    case_id, maker, settings
    places : sequence of LesionPlace
        Where the lesions lie, for the report: the organ that holds a lesion is its Finding Site. One that a lesion only
        touches or is near to is not.

    Raises
    ------
    OutputError
        If a file cannot be written, or does not read back to the same voxels or numbers.
    """
    labels, segments = lesion_segments(table, lesions)
    identity = Identity(case_id, settings.keep_identifiers)
    write_objects(
        labels, segments, reference, folder, maker=maker, identity=identity, content="lesions", kinds=settings.kinds,
        table=table, organs={place.lesion: place.organ for place in places if place.relation == "in"},
    )  # fmt: skip


def write_organ_objects(
    organs: Volume,
    names: Mapping[int, str],
    reference: Reference,
    folder: Path,
    *,
    case_id: str,
    maker: Maker,
    settings: DicomSettings,
) -> None:
    """Write organs.seg.dcm and organs.rtstruct.dcm, as far as they are wanted: the organs that are there, by name.

    Where none is, every organ that was looked for is an empty segment. Errors are those of `write_lesion_objects`.
    """
    segments = segments_of(organs, names) or [Segment(number, name) for number, name in names.items()]
    identity = Identity(case_id, settings.keep_identifiers)
    write_objects(
        organs, segments, reference, folder, maker=maker, identity=identity, content="organs", kinds=settings.kinds
    )


def write_objects(
    labels: Volume,
    segments: Sequence[Segment],
    reference: Reference,
    folder: Path,
    *,
    maker: Maker,
    identity: Identity,
    content: str,
    kinds: Sequence[str],
    table: LesionTable | None = None,
    organs: Mapping[int, str] | None = None,
) -> dict[str, Path]:
    """Write a label map as CONTENT.seg.dcm and CONTENT.rtstruct.dcm and, of a table of lesions, measurements.sr.dcm.

    `organs` names the organ that a lesion lies in, by the lesion's number.

    Returns
    -------
    dict of str to Path
        The files written, by kind.
    """
    paths: dict[str, Path] = {}
    if "seg" in kinds:
        from uptake.io.dicom_seg import write_seg

        paths["seg"] = folder / f"{content}.seg.dcm"
        written = write_seg(labels, segments, reference, paths["seg"], maker=maker, identity=identity, content=content)
        if "sr" in kinds and table is not None:
            from uptake.io.structured_report import QUANTITIES, TOTALS, Measured, write_sr

            paths["sr"] = folder / REPORT
            write_sr(
                [
                    Measured(
                        one.lesion,
                        f"{LESION} {one.lesion}",
                        {name: getattr(one, name) for name in QUANTITIES},
                        (organs or {}).get(one.lesion, ""),
                    )
                    for one in table.lesions
                ],
                written,
                reference,
                paths["sr"],
                totals={name: getattr(table.totals, name) for name in TOTALS},
                maker=maker,
                identity=identity,
                definitions=_definitions(table),
            )
    if "rtstruct" in kinds:
        from uptake.io.rtstruct import write_rtstruct

        paths["rtstruct"] = folder / f"{content}.rtstruct.dcm"
        write_rtstruct(labels, segments, reference, paths["rtstruct"], maker=maker, identity=identity, content=content)
    return paths


def lesion_segments(table: LesionTable, lesions: Volume) -> tuple[Volume, list[Segment]]:
    """Return the lesions as a label map with the numbers of the table, and what its values are called."""
    labels = table.numbered.array.astype(np.uint32)
    segments = [Segment(one.lesion, f"{LESION} {one.lesion}") for one in table.lesions]
    left_out = (lesions.array != 0) & (labels == 0)
    if left_out.any():
        labels[left_out] = len(segments) + 1
        segments.append(Segment(len(segments) + 1, f"{LESION}s under {table.min_volume_ml:g} mL"))
    return lesions.with_array(labels), segments or [Segment(1, LESION)]


def _definitions(table: LesionTable) -> list[str]:
    return [
        f"lesion: connected component of the mask, {table.connectivity}-connectivity, at least "
        f"{table.min_volume_ml:g} mL",
        f"MTV: {mtv_definition(table.mtv_method)}",
        "SUVmean: mean over the MTV; TLG: MTV x SUVmean",
        "SUVpeak: highest mean in a 1 mL sphere centred on a voxel of the lesion",
    ]


def maker_of(name: str | None, *, version: str = "", checksum: str = "") -> Maker:
    """Return who made labels: the algorithm of that name, or somebody by hand where no name is given."""
    return Maker("AUTOMATIC", name, version, checksum) if name else Maker()


def segments_of(labels: Volume, names: Mapping[int, str]) -> list[Segment]:
    """Return the segments of a label map with names for its values; unnamed values are called "label 7"."""
    present = np.flatnonzero(np.bincount(labels.array.ravel().astype(np.int64)))
    return [Segment(int(value), names.get(int(value), f"label {value}")) for value in present if value]
