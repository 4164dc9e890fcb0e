"""Whatever happens to the bytes of a slice: an image, or an error that is ours; nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uptake.core.errors import FileFormatError, InputError
from uptake.io.dicom import read_dicom

pytest.importorskip("pydicom")


@pytest.fixture(scope="module")
def slices(request, tmp_path_factory) -> tuple[Path, list[bytes]]:
    """Four slices as bytes, and a folder to put them into."""
    from pydicom import dcmread

    folder = tmp_path_factory.mktemp("damage")
    write = request.getfixturevalue("dicom_pet")
    files, _ = write(folder / "whole", (4, 3, 4))
    contents = [path.read_bytes() for path in sorted(files)]
    assert all(dcmread(path).Modality == "PT" for path in files)
    (folder / "study").mkdir()
    return folder / "study", contents


def put(folder: Path, contents: list[bytes]) -> None:
    for n, content in enumerate(contents):
        (folder / f"{n}.dcm").write_bytes(content)


@given(number=st.integers(0, 3), share=st.floats(0.0, 0.9999))
def test_a_file_cut_anywhere_is_named(slices, number, share):
    folder, contents = slices
    changed = list(contents)
    changed[number] = contents[number][: int(share * len(contents[number]))]
    put(folder, changed)
    with pytest.raises(FileFormatError) as caught:
        read_dicom(folder)
    assert str(folder / f"{number}.dcm") in str(caught.value)


@given(
    number=st.integers(0, 3),
    at=st.lists(st.tuples(st.floats(0.0, 0.9999), st.integers(0, 255)), min_size=1, max_size=5),
)
def test_bytes_that_change_give_an_image_or_an_error_of_ours(slices, number, at):
    folder, contents = slices
    content = bytearray(contents[number])
    for share, value in at:
        content[int(share * len(content))] = value
    changed = list(contents)
    changed[number] = bytes(content)
    put(folder, changed)
    try:
        study = read_dicom(folder)
    except InputError as error:
        assert str(error)
    else:
        assert study.pet.array.ndim == 3
