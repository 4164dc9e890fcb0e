"""Structure sets written and read: by us, by rt-utils, by the validator; contours of all kinds; the public ROIs."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from uptake.core.errors import FileFormatError, GeometryError, InputError, OutputError
from uptake.geometry import Volume
from uptake.io import rtstruct
from uptake.io.dicom_reference import Identity, read_reference
from uptake.io.dicom_result import Maker, Segment
from uptake.io.rtstruct import write_rtstruct
from uptake.io.rtstruct_read import read_rtstruct

SHAPE = (7, 7, 5)
GEOMETRIES: dict[str, dict[str, Any]] = {
    "axial": {},
    "feet first": {"orientation": "feet first", "spacing": (1.0, 1.0, 6.0), "origin": (900.0, -700.0, 1500.0)},
    "sagittal": {"orientation": "sagittal", "spacing": (2.0, 2.0, 4.0)},
    "coronal": {"orientation": "coronal"},
    "oblique": {"orientation": "oblique", "spacing": (4.07, 4.07, 3.3)},
    "uneven": {"uneven": 0.1},
    "anisotropic": {"spacing": (2.5, 4.5, 3.0)},
    "multi-frame": {"multi_frame": True},
}
RT_UTILS = ("axial", "feet first", "sagittal", "coronal", "oblique")
"""rt-utils swaps the two pixel spacings and knows single slices only."""

SEGMENTS = (Segment(1, "lesion 1"), Segment(2, "kidney_left"))
MAKER = Maker("AUTOMATIC", "test-model", "1.2")
label_maps = arrays(np.uint8, SHAPE, elements=st.sampled_from([0, 1, 1, 2]))

LPS = np.array([-1.0, -1.0, 1.0])


@pytest.fixture(scope="module", params=GEOMETRIES)
def pet(request, dicom_pet, tmp_path_factory):
    """A PET of each geometry, the reference to its slices, its folder, and the geometry's name."""
    folder = tmp_path_factory.mktemp("pet")
    files, volume = dicom_pet(folder, SHAPE, **GEOMETRIES[request.param])
    return volume, read_reference(files, volume), folder, request.param


@pytest.fixture
def plain(dicom_pet, tmp_path):
    files, volume = dicom_pet(tmp_path / "pet", SHAPE)
    return volume, read_reference(files, volume)


def written(labels, volume, reference, path: Path, segments=SEGMENTS, **options) -> Path:
    options = {"maker": MAKER, "identity": Identity("case 7"), **options}
    write_rtstruct(volume.with_array(labels), segments, reference, path, **options)
    return path


def ring_with_island() -> np.ndarray:
    labels = np.zeros(SHAPE, np.uint8)
    labels[:, :, 2] = 1
    labels[1:6, 1:6, 2] = 0
    labels[3, 3, 2] = labels[6, 6, 4] = 1
    labels[0, 0, 3] = labels[1, 1, 3] = 2
    return labels


@settings(max_examples=4)
@given(label_maps)
def test_the_same_voxels_come_back(pet, tmp_path_factory, labels):
    volume, reference, folder, name = pet
    path = written(labels, volume, reference, tmp_path_factory.mktemp("rs") / "a.dcm")
    found = read_rtstruct(path, volume, reference=reference)
    for region, segment in zip(found.regions, SEGMENTS, strict=True):
        assert (region.mask() == (labels == segment.value)).all()
    by_position = read_rtstruct(path, volume)
    assert (by_position.union(volume).array == (labels > 0)).all()
    if name in RT_UTILS:
        builder = pytest.importorskip("rt_utils").RTStructBuilder
        theirs = builder.create_from(dicom_series_path=str(folder), rt_struct_path=str(path))
        for segment in SEGMENTS:
            if (labels == segment.value).any():
                mask = theirs.get_roi_mask_by_name(segment.name)
                assert (mask.transpose(1, 0, 2) == (labels == segment.value)).all()


def test_contours_lie_where_the_voxels_are(pet, tmp_path):
    """The corners of a voxel in mm, from the file alone."""
    import pydicom

    volume, reference, _, _ = pet
    labels = np.zeros(SHAPE, np.uint8)
    labels[5, 2, 3] = 1
    (item,) = (
        pydicom.dcmread(written(labels, volume, reference, tmp_path / "a.dcm")).ROIContourSequence[0].ContourSequence
    )
    corners = np.array(item.ContourData, float).reshape(-1, 3) * LPS
    assert volume.index_of(corners.mean(axis=0)) == pytest.approx([5, 2, 3], abs=1e-3)
    assert np.abs(volume.index_of(corners) - [5, 2, 3]) == pytest.approx(np.tile([0.49, 0.49, 0], (4, 1)), abs=1e-3)
    assert item.ContourImageSequence[0].ReferencedSOPInstanceUID == reference.slices[3].sop_instance_uid
    assert item.ContourImageSequence[0].get("ReferencedFrameNumber") == reference.slices[3].frame


def test_holes_are_keyholes_and_pieces_contours(plain, tmp_path):
    import pydicom

    dataset = pydicom.dcmread(written(ring_with_island(), *plain, tmp_path / "a.dcm", content="lesions"))
    lesion, kidney = dataset.ROIContourSequence
    assert [item.NumberOfContourPoints for item in lesion.ContourSequence] == [12, 4, 4]
    assert [item.NumberOfContourPoints for item in kidney.ContourSequence] == [4, 4]
    assert {item.ContourGeometricType for item in lesion.ContourSequence} == {"CLOSED_PLANAR"}
    names = [(roi.ROIName, roi.ROIGenerationAlgorithm) for roi in dataset.StructureSetROISequence]
    assert names == [("lesion 1", "AUTOMATIC"), ("kidney_left", "AUTOMATIC")]
    # 24 + 1 + 1 voxels of 48 mm³
    assert float(dataset.StructureSetROISequence[0].ROIVolume) == pytest.approx(26 * 0.048)
    assert [item.RTROIInterpretedType for item in dataset.RTROIObservationsSequence] == ["", "ORGAN"]
    assert dataset.SeriesDescription == "uptake lesions - research use only"
    assert dataset.ApprovalStatus == "UNAPPROVED"


def test_nothing_identifies_the_patient_unless_asked_and_bytes_repeat(plain, tmp_path):
    import pydicom

    content = written(ring_with_island(), *plain, tmp_path / "a.dcm").read_bytes()
    for word in (b"Secret", b"SECRET", b"19500101", b"073Y"):
        assert word not in content
    assert written(ring_with_island(), *plain, tmp_path / "b.dcm").read_bytes() == content
    kept = pydicom.dcmread(written(ring_with_island(), *plain, tmp_path / "c.dcm", identity=Identity("c", keep=True)))
    assert (kept.PatientID, str(kept.PatientName), kept.PatientAge) == ("SECRET-ID", "Secret^Person", "073Y")
    assert kept.SOPInstanceUID != pydicom.dcmread(tmp_path / "a.dcm").SOPInstanceUID


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (Debian package dicom3tools) is not installed")
@pytest.mark.parametrize("empty", [False, True])
def test_the_validator_finds_no_error(pet, tmp_path, empty):
    volume, reference, _, _ = pet
    labels = ring_with_island() * np.uint8(not empty)
    path = written(labels, volume, reference, tmp_path / "a.dcm", identity=Identity("case", keep=empty))
    ran = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False)
    assert "RTStructureSet" in ran.stderr
    assert [line for line in ran.stderr.splitlines() if line.startswith("Error")] == []


def test_a_file_that_reads_back_differently_is_dropped(plain, tmp_path, monkeypatch):
    monkeypatch.setattr(rtstruct, "outlines", lambda mask: [])
    with pytest.raises(OutputError, match=r"a\.dcm: not kept.*28 voxels of the mask are missing"):
        written(ring_with_island(), *plain, tmp_path / "a.dcm")
    assert not list(tmp_path.glob("*.dcm")) and not list(tmp_path.glob(".partial*"))


# What others draw


def structure_set(path: Path, rois: list[dict[str, Any]], **attributes: Any) -> Path:
    """Write a structure set by hand; a contour is ``(points LPS mm, type, named SOP Instance UID or None)``."""
    from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
    from pydicom.uid import ImplicitVRLittleEndian

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = rtstruct.RT_STRUCTURE_SET, "1.2.3.7"
    meta.TransferSyntaxUID = ImplicitVRLittleEndian
    ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SOPClassUID, ds.SOPInstanceUID, ds.Modality = rtstruct.RT_STRUCTURE_SET, "1.2.3.7", "RTSTRUCT"
    ds.StudyInstanceUID = "1.2.826.0.1.3680043.10.99.1"
    if "series" in attributes:
        frame, study, series = Dataset(), Dataset(), Dataset()
        series.SeriesInstanceUID = attributes.pop("series")
        study.RTReferencedSeriesSequence, frame.RTReferencedStudySequence = [series], [study]
        ds.ReferencedFrameOfReferenceSequence = [frame]
    ds.StructureSetROISequence, ds.ROIContourSequence = [], []
    for number, roi in enumerate(rois, start=1):
        item, drawn = Dataset(), Dataset()
        item.ROINumber, item.ROIName = number, roi["name"]
        item.ReferencedFrameOfReferenceUID = roi.get("frame", "1.2.826.0.1.3680043.10.99.2")
        drawn.ReferencedROINumber = number
        drawn.ContourSequence = []
        for points, kind, uid in roi.get("contours", ()):
            contour = Dataset()
            contour.ContourGeometricType, contour.NumberOfContourPoints = kind, len(points)
            contour.ContourData = [f"{value:.6f}"[:16] for value in np.asarray(points, float).ravel()]
            if uid is not None:
                image = Dataset()
                image.ReferencedSOPClassUID, image.ReferencedSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.128", uid
                contour.ContourImageSequence = [image]
            drawn.ContourSequence.append(contour)
        ds.StructureSetROISequence.append(item)
        ds.ROIContourSequence.append(drawn)
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)
    ds.save_as(path)
    return path


def loop(volume: Volume, corners, k: float) -> np.ndarray:
    """Return corners given in index coordinates as LPS mm on the level k of the third axis."""
    corners = np.asarray(corners, float)
    return volume.world_of(np.column_stack([corners, np.full(len(corners), float(k))])) * LPS


def box(low: float, high: float) -> list[tuple[float, float]]:
    return [(low, low), (high, low), (high, high), (low, high)]


def square(volume, low, high, k, kind="CLOSED_PLANAR", uid=None):
    return loop(volume, box(low, high), k), kind, uid


def uid(k: int) -> str:
    return f"1.2.826.0.1.3680043.10.99.1.1.{k + 1}"


def test_nested_contours_are_holes_and_xor_contours_too(plain, tmp_path):
    volume, reference = plain
    for kind in ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR"):
        contours = [square(volume, a, b, 2, kind, uid(2)) for a, b in ((-0.5, 6.5), (0.5, 5.5), (2.5, 3.5))]
        path = structure_set(tmp_path / "a.dcm", [{"name": "ring", "contours": contours}])
        found = read_rtstruct(path, volume, reference=reference)
        assert (found.regions[0].mask() == (np.where(ring_with_island() == 1, 1, 0) * ([0, 0, 1, 0, 0]))).all()
        assert found.warnings == ()


def test_contours_that_cross_are_told(plain, tmp_path):
    contours = [square(plain[0], 0.5, 3.5, 1), square(plain[0], 2.5, 5.5, 1)]
    found = read_rtstruct(structure_set(tmp_path / "a.dcm", [{"name": "two", "contours": contours}]), plain[0])
    assert found.regions[0].voxels == 9 + 9 - 2
    assert "cross one another on 1 slices" in found.warnings[0]


def test_names_that_are_not_here_are_placed_by_position(plain, tmp_path):
    volume, reference = plain
    contours = [square(volume, 0.5, 3.5, k, uid="1.2.3.4.5") for k in (1, 2)]
    found = read_rtstruct(
        structure_set(tmp_path / "a.dcm", [{"name": "GTV", "contours": contours}]), volume, reference=reference
    )
    assert found.regions[0].mask()[1:4, 1:4, 1:3].all() and found.regions[0].voxels == 18
    assert found.warnings == (
        f"{tmp_path / 'a.dcm'}: contours of 'GTV' name images that are not here; they were placed by their position.",
    )


def test_position_and_name_that_contradict_are_refused(plain, tmp_path):
    volume, reference = plain
    path = structure_set(tmp_path / "a.dcm", [{"name": "GTV", "contours": [square(volume, 0.5, 3.5, 1, uid=uid(3))]}])
    with pytest.raises(InputError, match=r"names slice 3 of the PET and lies 6\.0 mm away"):
        read_rtstruct(path, volume, reference=reference)


def test_uneven_slices_take_the_contours_that_name_them(dicom_pet, tmp_path):
    files, volume = dicom_pet(tmp_path / "pet", SHAPE, uneven=0.4)
    reference = read_reference(files, volume)
    points = square(volume, 0.5, 3.5, 1.4)[0]
    rois = [{"name": "GTV", "contours": [(points, "CLOSED_PLANAR", uid(1))]}]
    found = read_rtstruct(structure_set(tmp_path / "a.dcm", rois), volume, reference=reference)
    assert found.regions[0].box[2] == slice(1, 2)


@pytest.mark.parametrize("step", [0.5, 1 / 3, 1.6, 2.0])
@pytest.mark.parametrize("offset", [0.0, 0.3])
def test_contours_of_another_stack_hold_to_half_way(dicom_pet, tmp_path, step, offset):
    """A box drawn on planes of another distance: the centres between its first and last half-way marks are inside."""
    files, volume = dicom_pet(tmp_path / "pet", (7, 7, 14))
    levels = 2 + offset + step * np.arange(1 + round(7 / step))
    contours = [square(volume, 0.5, 3.5, k, uid="1.2.3.4") for k in levels]
    path = structure_set(tmp_path / "a.dcm", [{"name": "GTV", "contours": contours}], series="1.2.3.5")
    found = read_rtstruct(path, volume, reference=read_reference(files, volume))
    low, high = levels[0] - step / 2, levels[-1] + step / 2
    expected = [k for k in range(14) if low <= k + 1e-4 < high]
    mask = found.regions[0].mask()
    assert np.flatnonzero(mask.any(axis=(0, 1))).tolist() == expected
    assert mask.sum() == 9 * len(expected)
    assert "other planes than the PET's slices" in found.warnings[-1]


def test_two_small_regions_far_apart_do_not_reach_for_one_another(dicom_pet, tmp_path):
    _, volume = dicom_pet(tmp_path / "pet", (7, 7, 14))
    for offset in (0.0, 0.4):
        contours = [square(volume, 0.5, 3.5, k + offset) for k in (2, 10)]
        found = read_rtstruct(structure_set(tmp_path / "a.dcm", [{"name": "GTV", "contours": contours}]), volume)
        assert np.flatnonzero(found.regions[0].mask().any(axis=(0, 1))).tolist() == [2, 10]


def test_contours_between_the_slices_of_one_stack_go_to_the_nearest(plain, tmp_path):
    contours = [square(plain[0], 0.5, 3.5, k + 0.2) for k in (1, 2, 3)]
    found = read_rtstruct(structure_set(tmp_path / "a.dcm", [{"name": "GTV", "contours": contours}]), plain[0])
    assert np.flatnonzero(found.regions[0].mask().any(axis=(0, 1))).tolist() == [1, 2, 3]


def test_contours_askew_to_the_pet_are_filled_at_voxel_centres(dicom_pet, tmp_path):
    """A cylinder drawn on sagittal planes, with a hole, on an axial PET."""
    files, volume = dicom_pet(tmp_path / "pet", (16, 16, 16), spacing=(2.0, 2.0, 2.0))
    centre = volume.world_of(np.array([8.0, 8.0, 8.0]))
    turn = np.linspace(0, 2 * np.pi, 200, endpoint=False)
    circle = np.column_stack([np.zeros(200), np.cos(turn), np.sin(turn)])
    contours = [
        ((centre + radius * circle + [x, 0, 0]) * LPS, "CLOSED_PLANAR", None)
        for x in np.arange(-6.0, 6.5, 1.5)
        for radius in (12.0, 5.0)
    ]
    path = structure_set(tmp_path / "a.dcm", [{"name": "tube", "contours": contours}])
    found = read_rtstruct(path, volume, reference=read_reference(files, volume))
    offset = volume.world_of(np.indices((16, 16, 16)).transpose(1, 2, 3, 0)) - centre
    radius = np.linalg.norm(offset[..., 1:], axis=-1)
    expected = (np.abs(offset[..., 0]) < 6.75) & (radius < 12) & (radius > 5)
    near = (np.abs(radius - 12) < 0.02) | (np.abs(radius - 5) < 0.02)
    assert (found.regions[0].mask() == expected)[~near].all()
    assert expected.any()
    bent = [(contours[0][0] + np.outer(np.sin(2 * turn), [3, 0, 0]), "CLOSED_PLANAR", None)]
    with pytest.raises(InputError, match="do not lie in parallel planes"):
        read_rtstruct(structure_set(tmp_path / "b.dcm", [{"name": "bent", "contours": bent}]), volume)


def test_contours_from_centre_to_centre_keep_their_border(plain, tmp_path):
    volume, reference = plain
    contours = [square(volume, 1, 4, 2), (loop(volume, [(6, 6)], 3), "CLOSED_PLANAR", None)]
    found = read_rtstruct(
        structure_set(tmp_path / "a.dcm", [{"name": "cv", "contours": contours}]), volume, reference=reference
    )
    assert found.regions[0].voxels == 16 + 1
    assert "run through voxel centres" in found.warnings[0]


@settings(max_examples=4)
@given(masks=arrays(np.bool_, SHAPE))
def test_what_rt_utils_writes_comes_back(dicom_pet, tmp_path_factory, masks):
    builder = pytest.importorskip("rt_utils").RTStructBuilder
    masks[3, 3, 3] = True
    folder = tmp_path_factory.mktemp("rt")
    files, volume = dicom_pet(folder / "pet", SHAPE)
    made = builder.create_new(dicom_series_path=str(folder / "pet"))
    made.add_roi(mask=masks.transpose(1, 0, 2), name="theirs", approximate_contours=False)
    made.save(str(folder / "rs"))
    found = read_rtstruct(folder / "rs.dcm", volume, reference=read_reference(files, volume))
    assert (found.regions[0].mask() == masks).all()


def test_open_contours_and_points_are_named_and_left_out(plain, tmp_path):
    volume, reference = plain
    rois = [
        {"name": "GTV", "contours": [square(volume, 0.5, 3.5, 1), (loop(volume, [(2, 2)], 1), "POINT", None)]},
        {"name": "line", "contours": [square(volume, 0.5, 3.5, 1), square(volume, 0.5, 3.5, 2, "OPEN_PLANAR")]},
        {"name": "isocentre", "contours": [(loop(volume, [(2, 2)], 1), "POINT", None)]},
        {"name": "sliver", "contours": [(loop(volume, [(1.2, 2), (3.7, 2)], 1), "CLOSED_PLANAR", None)]},
        {"name": "empty"},
        {"name": "elsewhere", "frame": "1.2.3.4", "contours": [square(volume, 0.5, 3.5, 1)]},
    ]
    path = structure_set(tmp_path / "a.dcm", rois)
    found = read_rtstruct(path, volume, reference=reference)
    assert [(region.name, region.voxels) for region in found.regions] == [("GTV", 9), ("sliver", 0), ("empty", 0)]
    told = "\n".join(found.warnings)
    for text in (
        "'line' has 1 open contours of 2",
        "'isocentre' holds points only",
        "'GTV': 1 single points were left out",
        "'sliver': 1 contours of one or two points were left out",
        "no voxel of the PET lies inside 'sliver', 'empty'",
        "'elsewhere' is in another frame of reference",
    ):
        assert text in told
    for name, message in (("line", "open contour"), ("3", "points only"), ("elsewhere", "another frame")):
        with pytest.raises(InputError, match=message):
            read_rtstruct(path, volume, names=[name])
    with pytest.raises(InputError, match=r"no region 'PTV'\. It has: 'GTV', 'sliver', 'empty'"):
        read_rtstruct(path, volume, names=["PTV"])
    (only,) = read_rtstruct(path, volume, names=["GTV"]).regions
    assert only.voxels == 9
    with pytest.raises(InputError, match="points only"):
        read_rtstruct(structure_set(tmp_path / "b.dcm", rois[2:3]), volume)


def test_another_examination_is_refused(plain, tmp_path):
    volume, reference = plain
    contours = [square(volume, 0.5, 3.5, 1)]
    path = structure_set(tmp_path / "a.dcm", [{"name": "GTV", "frame": "1.2.3.4", "contours": contours}])
    with pytest.raises(GeometryError, match=r"frame of reference …1\.2\.3\.4"):
        read_rtstruct(path, volume)
    rois = [{"name": "GTV", "contours": contours}]
    other = structure_set(tmp_path / "b.dcm", rois, StudyInstanceUID="1.2.9")
    assert "share a frame of reference" in read_rtstruct(other, volume, reference=reference).warnings[0]
    rois[0]["frame"] = ""
    nameless = structure_set(tmp_path / "c.dcm", rois, StudyInstanceUID="1.2.9")
    with pytest.raises(GeometryError, match=r"belongs to study …1\.2\.9"):
        read_rtstruct(nameless, volume, reference=reference)
    assert "names no frame of reference" in read_rtstruct(nameless, volume).warnings[0]


def test_what_is_no_structure_set_or_damaged_is_refused(plain, tmp_path):
    import pydicom

    volume = plain[0]
    path = structure_set(tmp_path / "a.dcm", [{"name": "GTV", "contours": [square(volume, 0.5, 3.5, 1)]}])
    with pytest.raises(FileFormatError, match="no such file"):
        read_rtstruct(tmp_path / "none.dcm", volume)
    (tmp_path / "text.dcm").write_text("no DICOM")
    with pytest.raises(FileFormatError, match="not DICOM"):
        read_rtstruct(tmp_path / "text.dcm", volume)
    with pytest.raises(FileFormatError, match=r"another kind \(Modality PT\)"):
        read_rtstruct(next((tmp_path / "pet").iterdir()), volume)
    with pytest.raises(FileFormatError, match="holds no ROI"):
        read_rtstruct(structure_set(tmp_path / "b.dcm", []), volume)
    content = path.read_bytes()
    for cut in range(1, len(content), 9):
        (tmp_path / "short.dcm").write_bytes(content[:-cut])
        with pytest.raises(FileFormatError):
            read_rtstruct(tmp_path / "short.dcm", volume)
    for change, message in (
        (lambda item: setattr(item, "NumberOfContourPoints", 3), "announces 3 points and holds 12 numbers"),
        (lambda item: delattr(item, "ContourData"), r"no Contour Data \(3006,0050\)"),
    ):
        dataset = pydicom.dcmread(path)
        change(dataset.ROIContourSequence[0].ContourSequence[0])
        dataset.save_as(tmp_path / "c.dcm")
        with pytest.raises(FileFormatError, match=message):
            read_rtstruct(tmp_path / "c.dcm", volume)
    words = content.replace(b".250000", b".2a0000")
    assert words != content
    (tmp_path / "words.dcm").write_bytes(words)
    with pytest.raises(FileFormatError):
        read_rtstruct(tmp_path / "words.dcm", volume)


# Public structure sets


def real_pet(folder: Path, modality: str) -> tuple[Any, Any]:
    """Return the slices of a series as a volume of zeros, and the reference, without reading a pixel."""
    import pydicom

    headers = []
    for path in sorted(folder.iterdir()):
        header = pydicom.dcmread(path, stop_before_pixels=True)
        assert header.Modality == modality
        headers.append((float(header.ImagePositionPatient[2]), path, header))
    headers.sort(key=lambda each: each[0])
    first, last = headers[0][2], headers[-1][2]
    affine = np.diag([*(float(mm) for mm in first.PixelSpacing[::-1]), 1.0, 1.0])
    affine[2, 2] = (headers[-1][0] - headers[0][0]) / (len(headers) - 1)
    affine[:3, 3] = [float(mm) for mm in first.ImagePositionPatient]
    assert last.Rows == first.Rows
    volume = Volume(
        np.zeros((first.Columns, first.Rows, len(headers)), np.uint8),
        np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine,
        frame_of_reference=str(first.FrameOfReferenceUID),
    )
    return volume, read_reference([path for _, path, _ in headers], volume)


def test_the_public_whole_body_roi_is_the_published_mask(shared_data, tmp_path):
    from uptake.io.image import read_labels

    place = shared_data / "dicom" / "ge_raw" / "STS_001"
    volume, reference = real_pet(place / "PT", "PT")
    found = read_rtstruct(place / "RS_PT.dcm", volume, reference=reference)
    assert [region.name for region in found.regions] == ["GTV_Mass", "GTV_Edema"] and found.warnings == ()
    mask = found.regions[0].mask()
    assert mask.sum() == 5095
    published, _ = read_labels(shared_data / "wholebody" / "STS_001" / "lesion.nii.gz")
    assert (mask == (published.array > 0)).all()
    again = written(mask.astype(np.uint8), volume, reference, tmp_path / "a.dcm", segments=[Segment(1, "lesion 1")])
    assert (read_rtstruct(again, volume).regions[0].mask() == mask).all()


@pytest.mark.parametrize("case", ["STS_002", "STS_041", "STS_042"])
def test_the_cropped_studies_match_the_published_masks(shared_data, case):
    from uptake.io.image import read_labels

    place = shared_data / "dicom" / "sts_cropped" / case
    pet = real_pet(place / "PT", "PT")
    for (volume, reference), name, mask in (
        (pet, "RS_PT.dcm", "lesion.nii.gz"),
        (real_pet(place / "CT", "CT"), "RS_CT.dcm", "lesion_ct.nii.gz"),
    ):
        found = read_rtstruct(place / name, volume, reference=reference)
        published, _ = read_labels(shared_data / "sts" / case / mask)
        assert (found.regions[0].mask() == (published.array > 0)).all()
        assert "name images that are not here; they were placed by their position" in found.warnings[0]
    # The same lesion drawn on the CT, brought to the PET: nearly the same voxels.
    published, _ = read_labels(shared_data / "sts" / case / "lesion.nii.gz")
    drawn = read_rtstruct(place / "RS_CT.dcm", pet[0], reference=pet[1]).regions[0].mask()
    dice = 2 * (drawn & (published.array > 0)).sum() / (drawn.sum() + (published.array > 0).sum())
    assert dice > 0.98
