"""Labels in: a DICOM Segmentation of any kind on the grid of the PET."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from uptake.core.errors import FileFormatError, GeometryError, MissingAttributeError, UsageError
from uptake.core.types import FloatArray, Mask
from uptake.geometry.volume import Volume
from uptake.io.dicom_planes import OntoPet, PixelStack
from uptake.io.dicom_reference import Reference
from uptake.io.dicom_regions import Planes, Region, Regions, require_same_space, require_whole, slice_depths
from uptake.io.dicom_series import quiet_headers

SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
"""SOP Class UIDs of Segmentation and of Label Map Segmentation Storage, PS3.4 B.5."""

THRESHOLD = 0.5
"""Share of Maximum Fractional Value (0062,000E) from which a voxel of a fractional segmentation counts as inside."""

SAME_DIRECTION = 1.0e-4
"""Largest difference of direction cosines between frames of one stack."""


@quiet_headers()
def read_seg(path: Path, pet: Volume, *, reference: Reference | None = None, threshold: float = THRESHOLD) -> Regions:
    """Return the segments of a DICOM Segmentation as regions on the grid of a PET.

    Parameters
    ----------
    path : Path
        BINARY, FRACTIONAL or LABELMAP; frames may be missing (empty) and in any order.
    pet : Volume
        Its grid is where the regions go; its frame of reference has to be that of the segmentation.
    reference : Reference, optional
        The DICOM slices of the PET: then the study is compared too.
    threshold : float
        For FRACTIONAL: share of the maximum, in (0, 1], from which a voxel is inside.

    Returns
    -------
    Regions
        On another grid than the PET's, each PET voxel takes the label at its centre, and a warning says so.

    Raises
    ------
    FileFormatError
        If the file is no segmentation, or damaged.
    GeometryError
        If it is of another study or frame of reference, lies elsewhere, or its planes are not parallel.

    References
    ----------
    DICOM PS3.3 A.51, C.8.20.2 (Segmentation Image), C.7.6.16.2 (functional groups).
    """
    if not 0 < threshold <= 1:
        raise UsageError(f"the threshold is a share of the maximum in (0, 1], came {threshold!r}.")
    header = _read(Path(path))
    frames_of_reference = {str(header.FrameOfReferenceUID)} if header.get("FrameOfReferenceUID") else set()
    study = str(header.get("StudyInstanceUID", ""))
    warnings = list(require_same_space(path, "SEG", frames_of_reference, pet, study=study, reference=reference))
    try:
        stack, positions, segments = _frames(header, path)
        described = {int(item.SegmentNumber): item for item in header.SegmentSequence}
        kind = str(header.SegmentationType)
        padding = int(header.get("PixelPaddingValue") or 0) if kind == "LABELMAP" else 0
        most = float(header.get("MaximumFractionalValue") or 255)
    except (AttributeError, TypeError, ValueError) as error:
        raise FileFormatError(f"{path}: the SEG is damaged ({error}). Export it again.") from error
    least = 1.0
    if kind == "FRACTIONAL":
        least = threshold * most
        warnings.append(f"{path}: a fractional segmentation; voxels of {threshold:.0%} and more were taken as inside.")
    collected = {number: Planes() for number in described if number not in (0, padding)}
    onto = OntoPet(stack, positions, pet, slice_depths(pet, reference))
    count = onto.collect(_labelled(header, path, segments, least, set(collected)), collected)
    if count.pixels and not count.voxels:
        raise GeometryError(f"{path}: no labelled voxel of this SEG lies inside the PET; it was drawn elsewhere.")
    if onto.resampled and count.pixels:
        size = " x ".join(f"{mm:.2f}" for mm in (*stack.steps, onto.thickness))
        warnings.append(
            f"{path}: the SEG is on a grid of {size} mm, not that of the PET; each PET voxel took the label at its "
            "centre (nearest neighbour)."
        )
    elif count.voxels < count.pixels:
        warnings.append(f"{path}: {count.pixels - count.voxels} of {count.pixels} labelled voxels lie outside the PET.")
    regions = [
        planes.region(
            number, str(described[number].get("SegmentLabel", number)), pet.shape, _type_of(described[number])
        )
        for number, planes in sorted(collected.items())
    ]
    return Regions(path, "SEG", _told_apart(regions), tuple(warnings))


def _read(path: Path) -> Any:
    from pydicom import dcmread

    try:
        header = dcmread(path)
        require_whole(header, path)
        header.decode()
    except FileFormatError:
        raise
    except FileNotFoundError as error:
        raise FileFormatError(f"{path}: no such file.") from error
    except Exception as error:  # pydicom raises many kinds on damaged files
        raise FileFormatError(f"{path}: not DICOM, truncated or damaged. Export it again.") from error
    if header.get("SOPClassUID") not in SEGMENTATIONS:
        raise FileFormatError(f"{path}: a DICOM object of another kind (Modality {header.get('Modality')}), no SEG.")
    for keyword in ("SegmentSequence", "SegmentationType", "PixelData", "PerFrameFunctionalGroupsSequence"):
        if keyword not in header:
            raise MissingAttributeError(f"{path}: {keyword} is absent; the SEG is damaged. Export it again.")
    return header


def _frames(header: Any, path: Path) -> tuple[PixelStack, FloatArray, list[int | None]]:
    """Return what the frames share, the position of each (RAS mm, first pixel) and its segment (None: LABELMAP)."""
    shared = (header.get("SharedFunctionalGroupsSequence") or [None])[0]
    groups = header.PerFrameFunctionalGroupsSequence
    if len(groups) != int(header.get("NumberOfFrames") or 1):
        raise FileFormatError(f"{path}: {len(groups)} frames are described, Number of Frames says otherwise.")
    cosines, spacings, positions, segments = [], [], [], []
    for group in groups:
        cosines.append(_values(shared, group, "PlaneOrientationSequence", "ImageOrientationPatient", 6, path))
        spacings.append(_values(shared, group, "PixelMeasuresSequence", "PixelSpacing", 2, path))
        positions.append(_values(shared, group, "PlanePositionSequence", "ImagePositionPatient", 3, path))
        segment = None
        if header.SegmentationType != "LABELMAP":
            (number,) = _values(shared, group, "SegmentIdentificationSequence", "ReferencedSegmentNumber", 1, path)
            segment = int(number)
        segments.append(segment)
    directions, steps = np.array(cosines), np.array(spacings)
    if np.ptp(directions, axis=0).max() > SAME_DIRECTION or np.ptp(steps, axis=0).max() > SAME_DIRECTION:
        raise GeometryError(f"{path}: the frames of this SEG differ in direction or spacing; one stack is expected.")
    flip = np.array([-1.0, -1.0, 1.0])  # LPS -> RAS
    stack = PixelStack(
        across=directions[0, :3] * flip,
        down=directions[0, 3:] * flip,
        # Pixel Spacing (0028,0030) is (between rows, between columns).
        steps=(float(steps[0, 1]), float(steps[0, 0])),
        columns=int(header.Columns),
        rows=int(header.Rows),
        spacing=_length(shared, groups[0], "SpacingBetweenSlices"),
        thickness=_length(shared, groups[0], "SliceThickness"),
    )
    return stack, np.array(positions) * flip, segments


def _values(shared: Any, group: Any, sequence: str, keyword: str, count: int, path: Path) -> list[float]:
    for place in (group, shared):
        items = place.get(sequence) if place is not None else None
        value = None if not items else items[0].get(keyword)
        if value is not None:
            values = [float(each) for each in (value if count > 1 else [value])]
            if len(values) == count and np.isfinite(values).all():
                return values
    raise MissingAttributeError(f"{path}: {keyword} of a frame is absent or incomplete. Export the SEG again.")


def _length(shared: Any, group: Any, keyword: str) -> float | None:
    """Return a length of the Pixel Measures Sequence (0028,9110), mm, of the first frame."""
    for place in (group, shared):
        items = place.get("PixelMeasuresSequence") if place is not None else None
        value = None if not items else items[0].get(keyword)
        if value is not None and abs(float(value)) > 0:
            return abs(float(value))
    return None


def _labelled(
    header: Any, path: Path, segments: list[int | None], least: float, wanted: set[int]
) -> Iterator[tuple[int, int, Mask]]:
    """Give the index of each frame, a segment in it, and its pixels (row, column), one frame decoded at a time."""
    images = _decoded(header)
    for n, segment in enumerate(segments):
        try:
            image = next(images)
        except Exception as error:  # decoders raise many kinds, StopIteration among them
            raise FileFormatError(
                f"{path}: frame {n + 1} of {len(segments)} cannot be decoded; the SEG is truncated, or its compression "
                "needs another pydicom plug-in. Export it uncompressed (Explicit VR Little Endian)."
            ) from error
        if segment is not None:
            if segment not in wanted:
                raise FileFormatError(f"{path}: frame {n + 1} is of segment {segment}, which is not described.")
            yield n, segment, np.asarray(image >= least)
            continue
        for number in np.flatnonzero(np.bincount(image.ravel())).tolist():
            if number in wanted:
                yield n, int(number), np.asarray(image == number)


def _decoded(header: Any) -> Iterator[Any]:
    """Give the frames (row, column) one after the other."""
    from pydicom.pixels.utils import iter_pixels

    if header.BitsAllocated != 1 or header.file_meta.TransferSyntaxUID.is_encapsulated:
        yield from iter_pixels(header, raw=True)
        return
    # Bits of successive frames follow one another without a gap (PS3.5 8.1.1), and pydicom's single frames begin at a
    # whole byte.
    shape = int(header.Rows), int(header.Columns)
    size = shape[0] * shape[1]
    packed = np.frombuffer(header.PixelData, np.uint8)
    for n in range(int(header.NumberOfFrames)):
        first = n * size
        bits = np.unpackbits(packed[first // 8 : (first + size + 7) // 8], bitorder="little")
        yield bits[first % 8 : first % 8 + size].reshape(shape)


def _type_of(item: Any) -> str:
    types = item.get("SegmentedPropertyTypeCodeSequence")
    return str(types[0].get("CodeMeaning", "")) if types else ""


def _told_apart(regions: list[Region]) -> tuple[Region, ...]:
    """Return the regions with their numbers in the names of those that share one."""
    names = [region.name for region in regions]
    return tuple(
        replace(region, name=f"{region.name} ({region.number})") if names.count(region.name) > 1 else region
        for region in regions
    )
