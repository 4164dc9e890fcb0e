"""Segmentations written and read: by us, by highdicom, by pydicom, and by the validator."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from uptake.core.errors import (
    FileFormatError,
    GeometryError,
    InputError,
    MissingAttributeError,
    OutputError,
    UsageError,
)
from uptake.io import dicom_seg
from uptake.io.dicom_reference import Identity, read_reference
from uptake.io.dicom_result import Maker, Segment
from uptake.io.dicom_seg import write_seg
from uptake.io.dicom_seg_read import read_seg

SHAPE = (7, 6, 5)
GEOMETRIES = {
    "axial": {},
    "feet first, thick": {"orientation": "feet first", "spacing": (2.0, 3.5, 6.0)},
    "sagittal": {"orientation": "sagittal", "spacing": (3.0, 2.0, 4.0)},
    "coronal": {"orientation": "coronal"},
    "oblique": {"orientation": "oblique", "spacing": (2.5, 4.0, 3.3)},
    "uneven": {"uneven": 0.1},
    "thick slices": {"SliceThickness": 6.0},
    "unknown thickness": {"SliceThickness": None},
    "multi-frame": {"multi_frame": True},
}
SEGMENTS = (Segment(1, "lesion 1"), Segment(2, "kidney_left"), Segment(5, "kidney_cyst_right"))
MAKER = Maker("AUTOMATIC", "test-model", "1.2", "0123456789abcdef0123")
label_maps = arrays(np.uint8, SHAPE, elements=st.sampled_from([0, 0, 1, 2, 5]))


@pytest.fixture(scope="module", params=GEOMETRIES)
def pet(request, dicom_pet, tmp_path_factory):
    """A PET of each geometry and the reference to its slices."""
    files, volume = dicom_pet(tmp_path_factory.mktemp("pet"), SHAPE, **GEOMETRIES[request.param])
    return volume, read_reference(files, volume)


@pytest.fixture
def plain(dicom_pet, tmp_path):
    files, volume = dicom_pet(tmp_path / "pet", SHAPE)
    return volume, read_reference(files, volume)


def written(labels, volume, reference, path: Path, segments=SEGMENTS, **options) -> Path:
    options = {"maker": MAKER, "identity": Identity("case 7"), **options}
    write_seg(volume.with_array(labels), segments, reference, path, **options)
    return path


def some_labels() -> np.ndarray:
    labels = np.zeros(SHAPE, np.uint8)
    labels[1:4, 1:3, 1:3], labels[5, 4, 2:], labels[0, 0, 0] = 1, 2, 5
    return labels


@settings(max_examples=4)
@given(label_maps)
def test_the_same_voxels_come_back(pet, tmp_path_factory, labels):
    import highdicom
    import pydicom

    volume, reference = pet
    path = written(labels, volume, reference, tmp_path_factory.mktemp("seg") / "a.dcm")
    found = read_seg(path, volume, reference=reference)
    assert not found.warnings
    for region, segment in zip(found.regions, SEGMENTS, strict=True):
        assert (region.mask() == (labels == segment.value)).all()
    assert (read_seg(path, volume).union(volume).array == (labels > 0)).all()
    if reference.slices[0].frame is None:
        # The rest by other people's code: which pixels belong to which slice.
        seg = highdicom.seg.segread(path)
        uids = [entry.sop_instance_uid for entry in reference.slices]
        theirs = seg.get_pixels_by_source_instance(uids, assert_missing_frames_are_empty=True)
        for n, segment in enumerate(SEGMENTS):
            assert (theirs[..., n].transpose(2, 1, 0) == (labels == segment.value)).all()
    dataset = pydicom.dcmread(path)
    frames = dataset.pixel_array.reshape(-1, SHAPE[1], SHAPE[0])
    rebuilt = np.zeros(SHAPE, np.uint8)
    for frame, group in zip(frames, dataset.PerFrameFunctionalGroupsSequence, strict=True):
        position = np.array(group.PlanePositionSequence[0].ImagePositionPatient, float) * [-1, -1, 1]
        k = round(float(volume.index_of(position)[2]))
        number = group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        rebuilt[:, :, k] += frame.T * np.uint8(SEGMENTS[number - 1].value)
    assert (rebuilt == labels).all()


def test_every_geometry_lands_where_it_belongs(pet, tmp_path):
    """The position of a labelled voxel in mm, from the file alone."""
    import pydicom

    volume, reference = pet
    labels = np.zeros(SHAPE, np.uint8)
    labels[5, 2, 3] = 1
    dataset = pydicom.dcmread(written(labels, volume, reference, tmp_path / "a.dcm"))
    (frame,) = dataset.pixel_array.reshape(-1, SHAPE[1], SHAPE[0])
    ((row, column),) = np.argwhere(frame)
    shared, group = dataset.SharedFunctionalGroupsSequence[0], dataset.PerFrameFunctionalGroupsSequence[0]
    cosines = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float)
    down, across = (float(value) for value in shared.PixelMeasuresSequence[0].PixelSpacing)
    at = np.array(group.PlanePositionSequence[0].ImagePositionPatient, float)
    at = at + cosines[:3] * across * column + cosines[3:] * down * row
    assert at * [-1, -1, 1] == pytest.approx(volume.world_of(np.array([5, 2, 3])), abs=1e-3)


def test_what_the_segments_say(plain, tmp_path):
    import pydicom

    dataset = pydicom.dcmread(written(some_labels(), *plain, tmp_path / "a.dcm", content="lesions"))
    lesion, kidney, cyst = dataset.SegmentSequence
    assert [item.SegmentLabel for item in dataset.SegmentSequence] == [segment.name for segment in SEGMENTS]
    assert kidney.SegmentedPropertyTypeCodeSequence[0].CodeValue == "64033007"
    side = kidney.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence[0]
    assert (side.CodeValue, side.CodingSchemeDesignator, side.CodeMeaning) == ("7771000", "SCT", "Left")
    region = cyst.AnatomicRegionSequence[0]
    assert (region.CodeValue, region.AnatomicRegionModifierSequence[0].CodeMeaning) == ("64033007", "Right")
    assert lesion.SegmentAlgorithmType == "AUTOMATIC"
    algorithm = lesion.SegmentationAlgorithmIdentificationSequence[0]
    assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("test-model", "1.2")
    assert len({item.TrackingUID for item in dataset.SegmentSequence}) == 3
    assert "research use only" in dataset.SeriesDescription
    assert dataset.DeviceSerialNumber == "0123456789abcdef"
    red = np.array(lesion.RecommendedDisplayCIELabValue) / 65535
    assert red[0] == pytest.approx(0.6, abs=0.1) and red[1] > 0.7


def test_nothing_identifies_the_patient_unless_asked(plain, tmp_path):
    import pydicom

    content = written(some_labels(), *plain, tmp_path / "a.dcm").read_bytes()
    for word in (b"Secret", b"SECRET", b"19500101", b"073Y"):
        assert word not in content
    dataset = pydicom.dcmread(tmp_path / "a.dcm")
    assert (dataset.PatientID, dataset.PatientIdentityRemoved) == ("case 7", "YES")
    reference = plain[1]
    assert dataset.StudyInstanceUID == reference.study_uid
    assert dataset.FrameOfReferenceUID == reference.frame_of_reference
    kept = pydicom.dcmread(written(some_labels(), *plain, tmp_path / "b.dcm", identity=Identity("c", keep=True)))
    assert (kept.PatientID, str(kept.PatientName), kept.AccessionNumber) == ("SECRET-ID", "Secret^Person", "SECRET-A")
    assert "PatientIdentityRemoved" not in kept and kept.SOPInstanceUID != dataset.SOPInstanceUID


def test_the_same_input_gives_the_same_bytes(plain, tmp_path):
    one, two = (written(some_labels(), *plain, tmp_path / f"{n}.dcm").read_bytes() for n in "ab")
    assert one == two
    other = some_labels()
    other[6, 5, 4] = 1
    import pydicom

    uids = {pydicom.dcmread(written(x, *plain, tmp_path / "c.dcm")).SOPInstanceUID for x in (some_labels(), other)}
    assert len(uids) == 2


def errors_of(path: Path) -> list[str]:
    """Return the errors that the validator of dicom3tools finds."""
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy (Debian package dicom3tools) is not installed")
    ran = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False)
    assert "Segmentation" in ran.stderr
    return [line for line in ran.stderr.splitlines() if line.startswith("Error")]


def test_the_validator_finds_no_error_in_any_geometry(pet, tmp_path):
    assert errors_of(written(some_labels(), *pet, tmp_path / "a.dcm")) == []


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("maker", [MAKER, Maker()])
def test_the_validator_finds_no_error_in_an_empty_one(plain, tmp_path, keep, maker):
    labels = np.zeros(SHAPE, np.uint8)
    path = written(labels, *plain, tmp_path / "a.dcm", identity=Identity("case", keep), maker=maker)
    assert errors_of(path) == []


def test_nothing_found_is_said(plain, tmp_path):
    found = read_seg(written(np.zeros(SHAPE, np.uint8), *plain, tmp_path / "a.dcm"), plain[0], reference=plain[1])
    assert [(region.name, region.voxels) for region in found.regions] == [(segment.name, 0) for segment in SEGMENTS]


def test_labels_that_do_not_fit_are_refused(plain, tmp_path):
    volume, reference = plain
    with pytest.raises(UsageError, match=r"values that no segment explains: \[2, 5\]"):
        written(some_labels(), *plain, tmp_path / "a.dcm", segments=SEGMENTS[:1])
    with pytest.raises(UsageError, match="values of their own"):
        written(some_labels(), *plain, tmp_path / "a.dcm", segments=[Segment(1, "a"), Segment(1, "b")])
    with pytest.raises(UsageError, match="whole numbers"):
        written(some_labels() / 2, *plain, tmp_path / "a.dcm")
    with pytest.raises(GeometryError, match=r"shape \(7, 6, 4\), the DICOM slices \(7, 6, 5\)"):
        from uptake.geometry import Volume

        short = Volume(some_labels()[:, :, :4], volume.affine)
        write_seg(short, SEGMENTS, reference, tmp_path / "a.dcm", maker=MAKER, identity=Identity("c"))
    for wrong in ({"type": "MAGIC"}, {"type": "AUTOMATIC"}):
        with pytest.raises(UsageError):
            Maker(**wrong)
    assert not list(tmp_path.glob("*.dcm"))


def test_a_file_that_reads_back_differently_is_dropped(plain, tmp_path, monkeypatch):
    old = written(some_labels(), *plain, tmp_path / "a.dcm").read_bytes()
    real = dicom_seg.read_seg

    def spoilt(path, pet, **options):
        found = real(path, pet, **options)
        found.regions[0].inside[0, 0, 0] ^= True
        return found

    monkeypatch.setattr(dicom_seg, "read_seg", spoilt)
    with pytest.raises(OutputError, match=r"a\.dcm: not kept.*1 voxels of the mask are missing") as caught:
        written(some_labels(), *plain, tmp_path / "a.dcm")
    assert ".partial" not in str(caught.value)
    monkeypatch.setattr(dicom_seg, "read_seg", lambda *_, **__: type("", (), {"regions": ()})())
    with pytest.raises(OutputError, match="0 regions, expected 3"):
        written(some_labels(), *plain, tmp_path / "a.dcm")
    assert (tmp_path / "a.dcm").read_bytes() == old
    assert [entry.name for entry in tmp_path.iterdir() if entry.is_file()] == ["a.dcm"]


def foreign(volume, reference, pixels, kind: str, path: Path, **options) -> Path:
    """Write a segmentation by highdicom, as somebody else would."""
    import highdicom as hd
    from pydicom.sr.codedict import codes

    described = [
        hd.seg.SegmentDescription(n, f"part {n}", codes.SCT.AnatomicalStructure, codes.SCT.Liver, "MANUAL")
        for n in range(1, int(options.pop("segments", 2)) + 1)
    ]
    change = options.pop("change", lambda dataset: None)
    dataset = hd.seg.Segmentation(
        reference.stand_ins(Identity("x")), pixels, kind, described, hd.UID(), 7, hd.UID(), 1, "m", "m", "1", "1",
        **options,
    )  # fmt: skip
    change(dataset)
    dataset.save_as(path)
    return path


def test_label_maps_are_read(plain, tmp_path):
    volume, reference = plain
    labels = some_labels() % 5
    path = foreign(*plain, labels.transpose(2, 1, 0), "LABELMAP", tmp_path / "a.dcm")
    found = read_seg(path, volume, reference=reference)
    assert [region.name for region in found.regions] == ["part 1", "part 2"]
    for region in found.regions:
        assert (region.mask() == (labels == region.number)).all()
    assert found.regions[0].code == "Liver"


def test_fractions_are_cut_at_the_threshold(plain, tmp_path):
    volume, reference = plain
    shares = np.linspace(0, 1, int(np.prod(SHAPE))).reshape(SHAPE)
    path = foreign(*plain, shares.transpose(2, 1, 0), "FRACTIONAL", tmp_path / "a.dcm", segments=1)
    for threshold in (0.5, 0.9, 1.0):
        found = read_seg(path, volume, reference=reference, threshold=threshold)
        stored = np.rint(shares * 255)
        assert (found.regions[0].mask() == (stored >= threshold * 255)).all()
        assert "fractional" in found.warnings[0]
    with pytest.raises(UsageError, match="threshold"):
        read_seg(path, volume, threshold=0.0)


def test_overlapping_segments_and_missing_frames(plain, tmp_path):
    volume, reference = plain
    pixels = np.zeros((5, 6, 7, 2), np.uint8)
    pixels[1, 2:5, 2:5, 0] = pixels[1:3, 3:, 3:, 1] = 1
    found = read_seg(foreign(*plain, pixels, "BINARY", tmp_path / "a.dcm"), volume, reference=reference)
    for n, region in enumerate(found.regions):
        assert (region.mask() == pixels[..., n].transpose(2, 1, 0)).all()


def positions(volume, orientation, starts):
    """Return highdicom's descriptions of planes at RAS positions, and of their direction."""
    import highdicom as hd

    flip = np.array([-1.0, -1.0, 1.0])
    planes = [hd.PlanePositionSequence("PATIENT", tuple(np.asarray(at) * flip)) for at in starts]
    return {"plane_positions": planes, "plane_orientation": hd.PlaneOrientationSequence("PATIENT", orientation)}


def test_the_same_voxels_in_other_words_are_no_resampling(plain, tmp_path):
    """Rows from back to front, slices from the head down, and a crop: still the PET's own voxels."""
    import highdicom as hd

    volume, reference = plain
    labels = some_labels() == 1
    flipped = labels[1:6, ::-1, ::-1].transpose(2, 1, 0).astype(np.uint8)
    starts = [volume.world_of(np.array([1, 5, k])) for k in (4, 3, 2, 1, 0)]
    measures = hd.PixelMeasuresSequence(pixel_spacing=(4.0, 4.0), slice_thickness=3.0)
    path = foreign(
        *plain, flipped, "BINARY", tmp_path / "a.dcm", segments=1, pixel_measures=measures,
        **positions(volume, (1, 0, 0, 0, -1, 0), starts),
    )  # fmt: skip
    found = read_seg(path, volume, reference=reference)
    assert (found.regions[0].mask() == labels).all()
    assert not found.warnings


def test_another_grid_is_taken_at_voxel_centres_and_said(plain, tmp_path):
    """Pixels of half the size and planes 1 mm apart: a ball in mm."""
    import highdicom as hd

    volume, reference = plain
    centre, radius = volume.world_of(np.array([3, 3, 2])), 7.3
    step = np.array([2.0, 2.0, 1.0])
    start = volume.world_of(np.array([-0.25, -0.25, -1 / 3]))
    index = np.indices((14, 12, 15)).reshape(3, -1).T
    directions = volume.direction
    ball = np.linalg.norm(start + (index * step) @ directions.T - centre, axis=1).reshape(14, 12, 15) <= radius
    starts = [start + k * directions[:, 2] for k in range(15)]
    measures = hd.PixelMeasuresSequence(pixel_spacing=(2.0, 2.0), slice_thickness=1.0)
    path = foreign(
        *plain, ball.transpose(2, 1, 0).astype(np.uint8), "BINARY", tmp_path / "a.dcm", segments=1,
        pixel_measures=measures, **positions(volume, (1, 0, 0, 0, 1, 0), starts),
    )  # fmt: skip
    found = read_seg(path, volume, reference=reference)
    i, j, k = np.indices(SHAPE)
    expected = ball[2 * i, 2 * j, 3 * k + 1]
    assert (found.regions[0].mask() == expected).all()
    assert "grid of 2.00 x 2.00 x 1.00 mm" in found.warnings[0]


def test_a_stack_askew_to_the_pet_is_taken_at_voxel_centres(plain, tmp_path):
    import highdicom as hd

    volume, reference = plain
    row, column = np.array([0.8, 0.6, 0.0]), np.array([0.0, 0.0, -1.0])  # RAS
    normal = np.cross(row, column)
    centre = volume.world_of(np.array([3, 3, 2]))
    start = centre - 20 * row - 20 * column - 20 * normal
    index = np.indices((41, 41, 41)).reshape(3, -1).T
    world = start + index @ np.stack([row, column, normal])
    ball = (np.linalg.norm(world - centre, axis=1) <= 8.1).reshape(41, 41, 41)
    flip = np.array([-1.0, -1.0, 1.0])
    measures = hd.PixelMeasuresSequence(pixel_spacing=(1.0, 1.0), slice_thickness=1.0)
    path = foreign(
        *plain, ball.transpose(2, 1, 0).astype(np.uint8), "BINARY", tmp_path / "a.dcm", segments=1,
        pixel_measures=measures,
        **positions(volume, (*(row * flip), *(column * flip)), [start + n * normal for n in range(41)]),
    )  # fmt: skip
    found = read_seg(path, volume, reference=reference)
    voxels = volume.world_of(np.indices(SHAPE).transpose(1, 2, 3, 0))
    distance = np.linalg.norm(voxels - centre, axis=-1)
    mask = found.regions[0].mask()
    assert mask[distance < 7.2].all() and not mask[distance > 9.0].any() and mask.any()
    assert "not that of the PET" in found.warnings[0]


def test_voxels_outside_the_pet_are_counted(plain, tmp_path):
    volume = plain[0]
    path = written(some_labels(), *plain, tmp_path / "a.dcm")
    from uptake.geometry import Volume

    smaller = Volume(volume.array[:3], volume.affine, frame_of_reference=volume.frame_of_reference)
    found = read_seg(path, smaller)
    assert found.warnings == (f"{path}: 7 of 16 labelled voxels lie outside the PET.",)
    away = volume.affine.copy()
    away[0, 3] += 500
    with pytest.raises(GeometryError, match="no labelled voxel of this SEG lies inside the PET"):
        read_seg(path, Volume(volume.array, away))


def test_another_study_or_frame_of_reference_is_refused(plain, tmp_path):
    import pydicom

    volume, reference = plain
    path = written(some_labels(), *plain, tmp_path / "a.dcm")
    dataset = pydicom.dcmread(path)
    dataset.StudyInstanceUID = "1.2.3.4"
    dataset.save_as(tmp_path / "study.dcm")
    with pytest.raises(GeometryError, match=r"belongs to study …1\.2\.3\.4"):
        read_seg(tmp_path / "study.dcm", volume, reference=reference)
    dataset.FrameOfReferenceUID = "1.2.3.5"
    dataset.save_as(tmp_path / "frame.dcm")
    with pytest.raises(GeometryError, match=r"in frame of reference …1\.2\.3\.5"):
        read_seg(tmp_path / "frame.dcm", volume)
    from uptake.geometry import Volume

    unknown = Volume(volume.array, volume.affine)
    assert "the PET names no frame of reference" in read_seg(path, unknown).warnings[0]


def test_what_is_no_segmentation_or_damaged_is_refused(plain, tmp_path):
    import pydicom

    volume = plain[0]
    path = written(some_labels(), *plain, tmp_path / "a.dcm")
    with pytest.raises(FileFormatError, match="no such file"):
        read_seg(tmp_path / "none.dcm", volume)
    (tmp_path / "text.dcm").write_text("no DICOM")
    with pytest.raises(FileFormatError, match="not DICOM"):
        read_seg(tmp_path / "text.dcm", volume)
    with pytest.raises(FileFormatError, match=r"another kind \(Modality PT\)"):
        read_seg(next((tmp_path / "pet").iterdir()), volume)
    content = path.read_bytes()
    for cut in range(1, len(content), 400):
        (tmp_path / "short.dcm").write_bytes(content[:-cut])
        with pytest.raises(InputError):
            read_seg(tmp_path / "short.dcm", volume)
    words = content.replace(b"-400.75", b"-4a0.75")
    assert words != content
    (tmp_path / "words.dcm").write_bytes(words)
    with pytest.raises(FileFormatError, match="the SEG is damaged"):
        read_seg(tmp_path / "words.dcm", volume)
    for keyword, error in (
        ("SegmentSequence", MissingAttributeError), ("PerFrameFunctionalGroupsSequence", MissingAttributeError),
        ("NumberOfFrames", FileFormatError), ("SharedFunctionalGroupsSequence", MissingAttributeError),
    ):  # fmt: skip
        dataset = pydicom.dcmread(path)
        delattr(dataset, keyword)
        dataset.save_as(tmp_path / "b.dcm")
        with pytest.raises(error):
            read_seg(tmp_path / "b.dcm", volume)
    dataset = pydicom.dcmread(path)
    dataset.PerFrameFunctionalGroupsSequence[0].SegmentIdentificationSequence[0].ReferencedSegmentNumber = 9
    dataset.save_as(tmp_path / "c.dcm")
    with pytest.raises(FileFormatError, match="segment 9, which is not described"):
        read_seg(tmp_path / "c.dcm", volume)


def test_names_choose_and_are_listed(plain, tmp_path):
    volume = plain[0]
    twice = (Segment(1, "spot"), Segment(2, "spot"), Segment(5, "liver"))
    found = read_seg(written(some_labels(), *plain, tmp_path / "a.dcm", segments=twice), volume)
    assert [region.name for region in found.regions] == ["spot (1)", "spot (2)", "liver"]
    assert (found.union(volume, ["liver", "1"]).array == np.isin(some_labels(), [1, 5])).all()
    with pytest.raises(InputError, match=r"no region 'brain'. It has: 'spot \(1\)', 'spot \(2\)', 'liver'"):
        found.union(volume, ["brain"])
