"""One door for SEG and RTSTRUCT."""

from __future__ import annotations

import numpy as np
import pytest

from uptake.core.errors import FileFormatError, InputError
from uptake.io.dicom_labels import is_dicom_labels, lesion_names, read_dicom_labels, read_lesions
from uptake.io.dicom_reference import Identity, read_reference
from uptake.io.dicom_result import Maker, Segment
from uptake.io.dicom_seg import write_seg
from uptake.io.rtstruct import write_rtstruct


@pytest.fixture
def objects(dicom_pet, tmp_path):
    """A PET, the reference to it, and the same labels as SEG and as RTSTRUCT."""
    files, volume = dicom_pet(tmp_path / "pet")
    reference = read_reference(files, volume)
    labels = np.zeros(volume.shape, np.uint8)
    labels[1:3, 1:3, 1:3], labels[5, 5, 3], labels[0, 0, 0] = 1, 2, 3
    segments = [Segment(1, "lesion 1"), Segment(2, "lesion 2"), Segment(3, "liver")]
    options = {"maker": Maker(), "identity": Identity("case")}
    write_seg(volume.with_array(labels), segments, reference, tmp_path / "a.dcm", **options)
    write_rtstruct(volume.with_array(labels), segments, reference, tmp_path / "b.dcm", **options)
    return volume, reference, labels, (tmp_path / "a.dcm", tmp_path / "b.dcm")


def test_both_kinds_give_the_same_regions(objects):
    volume, reference, labels, paths = objects
    for path, kind in zip(paths, ("SEG", "RTSTRUCT"), strict=True):
        assert is_dicom_labels(path)
        found = read_dicom_labels(path, volume, reference=reference)
        assert found.kind == kind
        assert lesion_names(found) == ("lesion 1", "lesion 2")
        assert (found.union(volume, lesion_names(found)).array == np.isin(labels, [1, 2])).all()
        only = read_dicom_labels(path, volume, reference=reference, names=["liver"])
        assert lesion_names(only) == ("liver",) and only.regions[0].voxels == 1
        with pytest.raises(InputError, match="no region 'brain'"):
            read_dicom_labels(path, volume, names=["brain"])


def test_who_is_a_lesion_is_not_guessed(objects):
    volume, _, _, (path, _) = objects
    found = read_dicom_labels(path, volume)
    nobody = type(found)(path, "SEG", (found.regions[2], found.regions[2]))
    assert lesion_names(nobody) is None


def test_other_files_are_refused(objects, tmp_path):
    volume = objects[0]
    (tmp_path / "text.dcm").write_text("no DICOM")
    slices = next((tmp_path / "pet").iterdir())
    for path in (slices, tmp_path / "text.dcm", tmp_path / "none.dcm", tmp_path):
        assert not is_dicom_labels(path)
        with pytest.raises(FileFormatError):
            read_dicom_labels(path, volume)


def test_a_study_is_read_with_the_lesions_of_a_dicom_file(objects, tmp_path):
    import uptake

    volume, _, labels, paths = objects
    for path in paths:
        case = uptake.read(tmp_path / "pet", lesions=path, assume_suv=True)
        assert (case.lesions.array == np.isin(labels, [1, 2])).all()
        assert [source.role for source in case.sources] == ["pet", "lesions"]
    mask, warnings = read_lesions(paths[0], volume, names=["liver"])
    assert (mask.array == (labels == 3)).all() and warnings == ()
