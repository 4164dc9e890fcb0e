"""Labels in: the ROIs of a DICOM RT Structure Set on the grid of the PET."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from uptake.core.errors import FileFormatError, GeometryError, InputError
from uptake.core.types import FloatArray, Mask
from uptake.geometry.contours import inside_polygons, polygon_mask, runs_through_centres
from uptake.geometry.volume import Volume
from uptake.io.dicom_reference import Reference
from uptake.io.dicom_regions import (
    Planes,
    Region,
    Regions,
    least_gap,
    nearest_plane,
    own_slices,
    require_same_space,
    require_whole,
    slice_depths,
    stack_spacing,
)
from uptake.io.dicom_series import quiet_headers

RT_STRUCTURE_SET = "1.2.840.10008.5.1.4.1.1.481.3"

CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
"""Contour Geometric Types (3006,0042) that enclose something; PS3.3 C.8.8.6.1."""

FLAT = 0.25
"""Share of the distance between slices by which a contour's points may leave its plane."""

HALF = 0.5
"""And by which it may lie away from the slice it names."""


@dataclass(frozen=True, eq=False)
class _Contour:
    """Points (n, 3) RAS mm, Contour Geometric Type, and the images it names: SOP Instance UID, frame."""

    points: FloatArray
    kind: str
    images: tuple[tuple[str, int | None], ...]


@dataclass(frozen=True, eq=False)
class _Roi:
    number: int
    name: str
    frame_of_reference: str
    contours: tuple[_Contour, ...]


@quiet_headers()
def read_rtstruct(
    path: Path, pet: Volume, *, reference: Reference | None = None, names: Sequence[str] | None = None
) -> Regions:
    """Return the ROIs of an RT Structure Set as regions on the grid of a PET.

    Parameters
    ----------
    path : Path
    pet : Volume
        Its grid is where the regions go; its frame of reference has to be that of the ROIs.
    reference : Reference, optional
        The DICOM slices of the PET: contours that name one of them go there.
    names : sequence of str, optional
        ROI Names (3006,0026) or Numbers wanted; all by default.

    Returns
    -------
    Regions
        ROIs that cannot be read are left out and named in the warnings, unless they were asked for.

    Raises
    ------
    FileFormatError
        If the file is no structure set, or damaged.
    GeometryError
        If it is of another frame of reference.
    InputError
        If an ROI that was asked for is not there or encloses nothing (points, open contours), or none can be read.

    Notes
    -----
    A voxel belongs to an ROI if its centre lies inside the contours of its slice by the even-odd rule: a contour inside
    another is a hole. Contours go to the slice they name; where they name images that are not here, to the slice at
    their position. Contours drawn on another stack, such as the CT, hold for half the distance to the next plane, and a
    slice of the PET takes the nearest. Contours drawn from voxel centre to voxel centre (rt-utils, OpenCV) include the
    voxels they run through.

    References
    ----------
    DICOM PS3.3 A.19, C.8.8.5 (Structure Set), C.8.8.6 (ROI Contour).
    """
    path = Path(path)
    header, rois = _rois(path)
    frames = {roi.frame_of_reference for roi in rois if roi.frame_of_reference}
    study = str(header.get("StudyInstanceUID", ""))
    warnings = list(
        require_same_space(path, "RTSTRUCT", frames, pet, study=study, reference=reference, study_matters=False)
    )
    onto = _Onto(path, pet, reference, rois, own_series=_own_series(header, reference))
    regions, refused = [], {}
    for roi in rois:
        try:
            regions.append(onto.region(roi))
        except InputError as error:
            refused[roi.name] = refused[str(roi.number)] = str(error)
    for name in names or ():
        if name in refused:
            raise InputError(refused[name])
    found = Regions(path, "RTSTRUCT", tuple(regions))
    if names is not None:
        found = Regions(path, "RTSTRUCT", found.chosen(names))
    else:
        left_out = [refused[roi.name] for roi in rois if roi.name in refused]
        if left_out and not regions:
            raise InputError(left_out[0])
        warnings += [f"{message} It was left out." for message in left_out]
    return Regions(path, "RTSTRUCT", found.regions, (*warnings, *onto.warnings(found.regions)))


class _Onto:
    """Brings ROIs to the slices of the PET, and remembers what has to be said about it."""

    def __init__(
        self, path: Path, pet: Volume, reference: Reference | None, rois: list[_Roi], *, own_series: bool
    ) -> None:
        self.path, self.pet, self.reference = path, pet, reference
        self.depths = slice_depths(pet, reference)
        self.normal = pet.direction[:, 2]
        self.step = pet.spacing_mm[2]
        heights = [float((c.points @ self.normal).mean()) for roi in rois for c in roi.contours if c.kind in CLOSED]
        # ROIs of one structure set are drawn on one stack, as a rule; a small ROI alone says little about it.
        self.spacing = stack_spacing(np.array(heights))
        self.thickness = self.spacing or min(least_gap(np.array(heights)) or self.step, self.step)
        self.own_series = own_series
        self.stale: set[str] = set()
        self.slabs: set[str] = set()
        self.notes: list[str] = []

    def region(self, roi: _Roi) -> Region:
        """Return one ROI as a region.

        Raises
        ------
        InputError, GeometryError
        """
        own = self.reference.frame_of_reference if self.reference else self.pet.frame_of_reference
        if own and roi.frame_of_reference and roi.frame_of_reference != own:
            raise GeometryError(f"{self.path}: ROI {roi.name!r} is in another frame of reference than the PET.")
        kinds = [contour.kind for contour in roi.contours]
        open_ones = sum(kind.startswith("OPEN") for kind in kinds)
        if open_ones:
            raise InputError(
                f"{self.path}: ROI {roi.name!r} has {open_ones} open contours of {len(kinds)}; an open contour "
                "encloses nothing. Close them where they were drawn."
            )
        closed = [contour for contour in roi.contours if contour.kind in CLOSED]
        if kinds and not closed:
            raise InputError(f"{self.path}: ROI {roi.name!r} holds points only, no region.")
        if len(closed) < len(kinds):
            self.notes.append(f"{self.path}: ROI {roi.name!r}: {len(kinds) - len(closed)} single points were left out.")
        planes = Planes()
        if closed:
            heights = [contour.points @ self.normal for contour in closed]
            if max(float(np.ptp(height)) for height in heights) <= FLAT * self.step:
                self._parallel(roi, closed, np.array([height.mean() for height in heights]), planes)
            else:
                self._askew(roi, closed, planes)
        return planes.region(roi.number, roi.name, self.pet.shape)

    def warnings(self, regions: Sequence[Region]) -> list[str]:
        """Return what has to be said about these regions."""
        names = [region.name for region in regions]
        told = list(self.notes)
        for found, text in (
            (self.stale, "name images that are not here; they were placed by their position"),
            (self.slabs, "were drawn on other planes than the PET's slices; each slice took the nearest plane"),
        ):
            some = [repr(name) for name in names if name in found]
            if some:
                told.append(f"{self.path}: contours of {', '.join(some)} {text}.")
        empty = [repr(region.name) for region in regions if region.box is None]
        if empty:
            told.append(f"{self.path}: no voxel of the PET lies inside {', '.join(empty)}.")
        return told

    def _parallel(self, roi: _Roi, contours: list[_Contour], heights: FloatArray, planes: Planes) -> None:
        """Add contours that lie along the slices."""
        polygons = [self.pet.index_of(contour.points)[:, :2] for contour in contours]
        thin = [len(polygon) < 3 for polygon in polygons]
        centres = runs_through_centres(polygons)
        if any(thin) and not centres:
            self.notes.append(
                f"{self.path}: ROI {roi.name!r}: {sum(thin)} contours of one or two points were left out."
            )
        if centres:
            self.notes.append(
                f"{self.path}: contours of {roi.name!r} run through voxel centres, as OpenCV and rt-utils draw them; "
                "voxels on the contour were counted as inside."
            )
        on_slice: dict[int, list[FloatArray]] = {}
        for polygon, slices in zip(polygons, self._slices(roi, contours, heights), strict=True):
            for k in slices if len(polygon) > 2 or centres else ():
                on_slice.setdefault(k, []).append(polygon)
        crossing = 0
        for k, group in sorted(on_slice.items()):
            plane = polygon_mask(group, self.pet.shape[:2], through_centres=centres)
            crossing += _crossing(group, plane) if not centres else 0
            planes.add(k, plane)
        if crossing:
            self.notes.append(
                f"{self.path}: contours of {roi.name!r} cross one another on {crossing} slices; where two overlap, "
                "neither counts (even-odd rule)."
            )

    def _slices(self, roi: _Roi, contours: list[_Contour], heights: FloatArray) -> list[list[int]]:
        """Return the slices of each contour."""
        known = self.reference.index_of if self.reference is not None else {}
        named = [next((known[image] for image in contour.images if image in known), None) for contour in contours]
        if self.reference is not None and any(c.images and k is None for c, k in zip(contours, named, strict=True)):
            self.stale.add(roi.name)
        if all(k is not None for k in named):
            for k, height in zip(named, heights, strict=True):
                if k is not None and abs(height - self.depths[k]) > HALF * self.step:
                    raise GeometryError(
                        f"{self.path}: a contour of ROI {roi.name!r} names slice {k} of the PET and lies "
                        f"{abs(height - self.depths[k]):.1f} mm away from it: position and reference contradict each "
                        "other. Export the structure set again."
                    )
            return [[k] for k in named if k is not None]
        levels, level_of = np.unique(np.round(heights, 2), return_inverse=True)
        own = own_slices(levels, self.depths, None if self.own_series else self.spacing)
        if own is not None:
            return [[int(own[level])] for level in level_of]
        self.slabs.add(roi.name)
        nearest = nearest_plane(self.depths, levels, self.thickness)
        return [np.flatnonzero(nearest == level).tolist() for level in level_of]

    def _askew(self, roi: _Roi, contours: list[_Contour], planes: Planes) -> None:
        """Add contours whose planes cross the slices: each voxel asks the plane nearest to its centre."""
        largest = max((contour.points for contour in contours), key=len)
        across, down, normal = np.linalg.svd(largest - largest.mean(axis=0), full_matrices=True)[2]
        heights = [contour.points @ normal for contour in contours]
        if max(float(np.ptp(height)) for height in heights) > FLAT * min(self.pet.spacing_mm):
            raise GeometryError(
                f"{self.path}: the contours of ROI {roi.name!r} do not lie in parallel planes; they cannot be filled."
            )
        levels, level_of = np.unique(np.round([height.mean() for height in heights], 2), return_inverse=True)
        thickness = stack_spacing(levels) or min(least_gap(levels) or self.step, self.step)
        self.slabs.add(roi.name)
        axes = np.stack([across, down])
        polygons: dict[int, list[FloatArray]] = {}
        for contour, level in zip(contours, level_of.tolist(), strict=True):
            if len(contour.points) > 2:
                polygons.setdefault(int(level), []).append(contour.points @ axes.T)
        everywhere = self.pet.index_of(np.concatenate([contour.points for contour in contours]))
        reach = thickness / np.array(self.pet.spacing_mm) + 1
        low = np.clip(np.floor(everywhere.min(axis=0) - reach), 0, self.pet.shape).astype(int)
        high = np.clip(np.ceil(everywhere.max(axis=0) + reach) + 1, 0, self.pet.shape).astype(int)
        if (high <= low).any():
            return
        for k in range(low[2], high[2]):
            i, j = np.meshgrid(np.arange(low[0], high[0]), np.arange(low[1], high[1]), indexing="ij")
            world = self.pet.world_of(np.stack([i, j, np.full_like(i, k)], axis=-1).reshape(-1, 3))
            at = nearest_plane(world @ normal, levels, thickness)
            inside = np.zeros(len(world), dtype=bool)
            for level in np.unique(at[at >= 0]).tolist():
                here = np.flatnonzero(at == level)
                inside[here] = inside_polygons(world[here] @ axes.T, polygons.get(int(level), []))
            plane = np.zeros(self.pet.shape[:2], dtype=bool)
            plane[low[0] : high[0], low[1] : high[1]] = inside.reshape(i.shape)
            planes.add(k, plane)


def _crossing(polygons: list[FloatArray], together: Mask) -> bool:
    """Return whether two of the polygons of a slice overlap without one being inside the other."""
    if len(polygons) < 2:
        return False
    masks = [polygon_mask([polygon], (together.shape[0], together.shape[1])) for polygon in polygons]
    for n, one in enumerate(masks):
        for other in masks[:n]:
            shared = np.count_nonzero(one & other)
            if shared and shared < min(np.count_nonzero(one), np.count_nonzero(other)):
                return True
    return False


def _rois(path: Path) -> tuple[Any, list[_Roi]]:
    """Return the header and the ROIs of a structure set."""
    from pydicom import dcmread

    try:
        header = dcmread(path)
        require_whole(header, path)
    except FileFormatError:
        raise
    except FileNotFoundError as error:
        raise FileFormatError(f"{path}: no such file.") from error
    except Exception as error:  # pydicom raises many kinds on damaged files
        raise FileFormatError(f"{path}: not DICOM, truncated or damaged. Export it again.") from error
    if header.get("SOPClassUID") != RT_STRUCTURE_SET:
        raise FileFormatError(
            f"{path}: a DICOM object of another kind (Modality {header.get('Modality')}), no RTSTRUCT."
        )
    try:
        drawn: dict[int, tuple[_Contour, ...]] = {}
        for item in header.get("ROIContourSequence") or ():
            contours = tuple(_contour(contour, path) for contour in item.get("ContourSequence") or ())
            drawn[int(item.ReferencedROINumber)] = (*drawn.get(int(item.ReferencedROINumber), ()), *contours)
        rois = [
            _Roi(
                int(item.ROINumber),
                str(item.get("ROIName", "") or f"ROI {item.ROINumber}"),
                str(item.get("ReferencedFrameOfReferenceUID", "") or header.get("FrameOfReferenceUID", "") or ""),
                drawn.get(int(item.ROINumber), ()),
            )
            for item in header.get("StructureSetROISequence") or ()
        ]
    except (AttributeError, ValueError, EOFError, OSError) as error:
        raise FileFormatError(f"{path}: the structure set is truncated or damaged. Export it again.") from error
    if not rois:
        raise FileFormatError(f"{path}: the structure set holds no ROI.")
    if "ROIContourSequence" not in header:
        # Type 1 (PS3.3 C.8.8.6): a file that lost its end lost this first, and would pass for one of empty ROIs.
        raise FileFormatError(f"{path}: the structure set lost its contours; it is truncated. Export it again.")
    return header, rois


def _own_series(header: Any, reference: Reference | None) -> bool:
    """Return whether contours were drawn on the PET, as far as the structure set tells: it names the PET's series.

    Where nothing is known about the PET or no series is named, contours that lie on slices are taken to be drawn there.
    """
    named = {
        str(series.get("SeriesInstanceUID", ""))
        for frame in header.get("ReferencedFrameOfReferenceSequence") or ()
        for study in frame.get("RTReferencedStudySequence") or ()
        for series in study.get("RTReferencedSeriesSequence") or ()
    }
    return reference is None or not named or reference.series_uid in named


def _contour(item: Any, path: Path) -> _Contour:
    kind = str(item.get("ContourGeometricType", "")).upper()
    element = item.get_item(0x30060050)
    if element is None:
        raise FileFormatError(f"{path}: a contour has no Contour Data (3006,0050). Export the structure set again.")
    value = element.value
    if isinstance(value, bytes):  # not yet made into one object per number
        if len(value) < element.length:
            raise EOFError
        numbers = np.array(value.strip(b" \0").split(b"\\"), dtype="S32").astype(np.float64)
    else:
        numbers = np.atleast_1d(np.array(value, dtype=np.float64))
    count = int(item.get("NumberOfContourPoints") or numbers.size // 3)
    if numbers.size != 3 * count or not np.isfinite(numbers).all():
        raise FileFormatError(
            f"{path}: a contour announces {count} points and holds {numbers.size} numbers; expected {3 * count}. "
            "Export the structure set again."
        )
    images = tuple(
        (str(image.get("ReferencedSOPInstanceUID", "")), _frame(image))
        for image in item.get("ContourImageSequence") or ()
    )
    return _Contour(numbers.reshape(-1, 3) * [-1.0, -1.0, 1.0], kind, images)


def _frame(image: Any) -> int | None:
    value = image.get("ReferencedFrameNumber")
    if value is None:
        return None
    return int(value if isinstance(value, str | int) else value[0])
