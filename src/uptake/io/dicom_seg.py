"""Labels out: a DICOM Segmentation on the slices of the PET, read back before it gets its name."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from uptake import __version__
from uptake.core.errors import GeometryError, OutputError, UsageError
from uptake.geometry.volume import Volume
from uptake.io.dicom_reference import Identity, Reference, safe_text, uid_of
from uptake.io.dicom_regions import Regions
from uptake.io.dicom_result import (
    Maker,
    Segment,
    Written,
    equipment,
    quiet_writing,
    replace_uids,
    save_checked,
    series_description,
    stamp,
)
from uptake.io.dicom_seg_read import read_seg
from uptake.io.terminology import Code, meaning_of

SERIES_NUMBER = 9001

SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"


@quiet_writing()
def write_seg(
    labels: Volume,
    segments: Sequence[Segment],
    reference: Reference,
    path: Path,
    *,
    maker: Maker,
    identity: Identity,
    content: str = "labels",
) -> Written:
    """Write a label map as a binary DICOM Segmentation with one segment per label.

    Parameters
    ----------
    labels : Volume
        (i, j, k) whole numbers on the grid of the PET that `reference` was made for.
    segments : sequence of Segment
        What the values mean; every value in `labels` but 0 has to be among them. Segments are numbered from 1 in this
        order. One without a voxel is written too: it says that nothing was found.
    reference : Reference
        The slices of the PET.
    path : Path
    maker : Maker
    identity : Identity
    content : str
        For the Series Description: "lesions", "organs".

    Raises
    ------
    UsageError
        If there is no segment, two share a value, or a value has none.
    GeometryError
        If the map is on another grid than the slices.
    OutputError
        If the file cannot be written, or does not hold the same voxels when read back.

    References
    ----------
    DICOM PS3.3 A.51 (Segmentation IOD), C.8.20.2 (Segmentation Image), C.8.20.4 (Segment Description macro).
    """
    from highdicom.seg import Segmentation

    array = numbered(labels, segments, reference)
    key = (fingerprint(array), *segments, maker, identity, __version__, reference.series_uid)
    sop_uid, series_uid = uid_of("SEG", *key), uid_of("SEG series", *key)
    sources = reference.stand_ins(identity)
    described = [_description(number, segment.name, sop_uid, maker) for number, segment in enumerate(segments, start=1)]
    frames = np.zeros((len(reference.slices), *array.shape[1::-1]), array.dtype)
    for k, entry in enumerate(reference.slices):
        # highdicom takes the frames of a multi-frame source in the order of that file; slices in the order given.
        frames[k if entry.frame is None else entry.frame - 1] = array[:, :, k].T
    dataset = Segmentation(
        source_images=sources,
        pixel_array=frames,
        segmentation_type="BINARY",
        segment_descriptions=described,
        series_instance_uid=series_uid,
        series_number=SERIES_NUMBER,
        sop_instance_uid=sop_uid,
        instance_number=1,
        omit_empty_frames=bool(array.any()),
        content_label="SEGMENTATION",
        content_description=safe_text(f"{content}, research use only"),
        series_description=series_description(content),
        **equipment(maker),
    )
    replace_uids(dataset, "DimensionOrganizationUID", uid_of("dimensions", sop_uid))
    stamp(dataset, reference, identity)
    numbers = {segment.value: number for number, segment in enumerate(segments, start=1)}
    save_checked(dataset, path, lambda file: _check(file, array, segments, labels, reference))
    return Written(path, SEGMENTATION, sop_uid, series_uid, numbers)


def numbered(labels: Volume, segments: Sequence[Segment], reference: Reference) -> np.ndarray[Any, Any]:
    """Return the label map with each value replaced by the number of its segment (from 1), unsigned integers (i, j, k).

    Raises
    ------
    UsageError, GeometryError
        As `write_seg`.
    """
    values = [segment.value for segment in segments]
    if not values or len(set(values)) < len(values) or min(values) < 1:
        raise UsageError(f"segments need values of their own, from 1; came {values[:10]}.")
    header = reference.headers[0]
    expected = (int(header.Columns), int(header.Rows), len(reference.slices))
    if labels.shape != expected:
        raise GeometryError(
            f"the labels have shape {labels.shape}, the DICOM slices {expected}. Bring the labels to the PET's grid."
        )
    if labels.array.dtype.kind not in "bui" or int(labels.array.min()) < 0:
        raise UsageError(f"labels are whole numbers from 0, came {labels.array.dtype}.")
    table = np.zeros(max(int(labels.array.max()), *values) + 1, np.uint16)
    table[values] = np.arange(1, len(values) + 1)
    present = np.zeros(len(table), dtype=bool)
    present[labels.array] = True
    unknown = [value for value in np.flatnonzero(present).tolist() if value and not table[value]]
    if unknown:
        raise UsageError(f"the labels hold values that no segment explains: {unknown[:10]}.")
    return np.asarray(table[labels.array], dtype=np.uint8 if len(values) < 256 else np.uint16)


def fingerprint(array: np.ndarray[Any, Any]) -> str:
    """Return the SHA-256 of an array's shape and voxels."""
    return hashlib.sha256(str(array.shape).encode() + np.ascontiguousarray(array).tobytes()).hexdigest()


def tracking_uid(sop_uid: str, number: int) -> str:
    """Return the Tracking UID (0062,0021) by which a report names a segment of this object."""
    return uid_of("segment", sop_uid, number)


def coded(code: Code) -> Any:
    """Return a code as highdicom wants it."""
    from highdicom.sr.coding import CodedConcept

    return CodedConcept(code.value, code.scheme, code.meaning)


def _description(number: int, name: str, sop_uid: str, maker: Maker) -> Any:
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.color import CIELabColor
    from highdicom.seg import SegmentDescription
    from pydicom.sequence import Sequence as Items
    from pydicom.sr.codedict import codes

    meaning = meaning_of(name)
    algorithm = None
    if maker.type != "MANUAL":
        algorithm = AlgorithmIdentificationSequence(
            name=safe_text(maker.name),
            family=codes.DCM.ArtificialIntelligence,
            version=safe_text(maker.version) or "unknown",
        )
    described = SegmentDescription(
        segment_number=number,
        segment_label=safe_text(name),
        segmented_property_category=coded(meaning.category),
        segmented_property_type=coded(meaning.type),
        algorithm_type=maker.type,
        algorithm_identification=algorithm,
        tracking_uid=tracking_uid(sop_uid, number),
        tracking_id=safe_text(name),
        anatomic_regions=None if meaning.region is None else [coded(meaning.region)],
        display_color=CIELabColor.from_rgb(*meaning.colour),
    )
    for items, keyword, side in (
        ("SegmentedPropertyTypeCodeSequence", "SegmentedPropertyTypeModifierCodeSequence", meaning.laterality),
        ("AnatomicRegionSequence", "AnatomicRegionModifierSequence", meaning.region_laterality),
    ):
        if side is not None:
            setattr(getattr(described, items)[0], keyword, Items([coded(side)]))
    return described


def _check(
    file: Path, array: np.ndarray[Any, Any], segments: Sequence[Segment], labels: Volume, reference: Reference
) -> None:
    """Read a segmentation back and compare it with the label map, voxel by voxel."""
    found = read_seg(file, labels, reference=reference)
    require_equal(file, found, array, count=len(segments))


def require_equal(file: Path, found: Regions, array: np.ndarray[Any, Any], *, count: int) -> None:
    """Check that regions 1 to `count` are the voxels of these values in a label map (i, j, k), and no other.

    Raises
    ------
    OutputError
    """
    if [region.number for region in found.regions] != list(range(1, count + 1)):
        raise OutputError(f"{file}: {len(found.regions)} regions, expected {count}")
    found_voxels = 0
    for region in found.regions:
        same = 0 if region.box is None else np.count_nonzero((array[region.box] == region.number) & region.inside)
        size = region.voxels
        if size != same:
            raise OutputError(f"{file}: {size - same} voxels of region {region.number} are not in the mask")
        found_voxels += size
    # No region holds a voxel too many; if none is missing in sum, none is missing anywhere.
    missing = int(np.count_nonzero(array)) - found_voxels
    if missing:
        raise OutputError(f"{file}: {missing} voxels of the mask are missing")
