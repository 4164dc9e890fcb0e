from __future__ import annotations

import errno
import gzip
import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from uptake.core.errors import OutputError
from uptake.geometry import Volume, corner_distance_mm
from uptake.io.image import read_image, read_labels
from uptake.io.write import (
    atomic_path,
    require_writable,
    sha256_of,
    sha256_of_files,
    write_csv,
    write_json,
    write_text,
    write_volume,
)

SUFFIXES = [".nii.gz", ".nii", ".mha", ".nrrd"]


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_volumes_come_back_where_they_were(tmp_path, suv, suffix):
    write_volume(suv, tmp_path / f"a{suffix}")
    back, warnings = read_image(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(back.array, suv.array)
    assert corner_distance_mm(back, suv) < 1e-3
    assert warnings == ()
    assert names(tmp_path) == [f"a{suffix}"]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("code", ["RAS", "LPS", "ASR", "PIL"])
def test_every_axis_order_survives(tmp_path, suv, suffix, code):
    from uptake.geometry import reorient

    turned = reorient(suv, code)
    write_volume(turned, tmp_path / f"a{suffix}")
    back, _ = read_image(tmp_path / f"a{suffix}")
    assert back.orientation == code
    np.testing.assert_array_equal(back.array, turned.array)
    assert corner_distance_mm(back, turned) < 1e-3


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.bool_, np.int64])
def test_labels_stay_integers(tmp_path, suv, suffix, dtype):
    labels = suv.with_array((suv.array > 5).astype(dtype))
    write_volume(labels, tmp_path / f"a{suffix}")
    back, _ = read_labels(tmp_path / f"a{suffix}")
    assert back.array.dtype == np.uint8
    np.testing.assert_array_equal(back.array, suv.array > 5)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_same_content_same_bytes_under_any_name_at_any_time(tmp_path, suv, suffix, monkeypatch):
    write_volume(suv, tmp_path / f"a{suffix}")
    monkeypatch.setattr(time, "time", lambda: 4e9)
    write_volume(suv, tmp_path / f"b{suffix}")
    assert sha256_of(tmp_path / f"a{suffix}") == sha256_of(tmp_path / f"b{suffix}")


def test_nifti_header_says_what_it_is(tmp_path, suv):
    nib = pytest.importorskip("nibabel")
    write_volume(suv.with_array((suv.array * 10).astype(np.int16)), tmp_path / "a.nii.gz")
    header = nib.load(tmp_path / "a.nii.gz").header
    assert (int(header["sform_code"]), int(header["qform_code"])) == (1, 1)
    assert header.get_xyzt_units()[0] == "mm"
    assert bytes(header["descrip"]).rstrip(b"\0") == b"uptake: research use only"
    assert header.get_data_dtype() == np.int16
    np.testing.assert_allclose(header.get_qform(), suv.affine, atol=1e-4)
    raw = (tmp_path / "a.nii.gz").read_bytes()
    assert raw[3] == 0  # no name in the gzip header
    assert raw[4:8] == b"\0\0\0\0"  # no time


def test_unstorable_images_are_refused(tmp_path, suv):
    with pytest.raises(OutputError, match="cannot tell the image format"):
        write_volume(suv, tmp_path / "a.png")
    with pytest.raises(OutputError, match="cannot be stored"):
        write_volume(suv.with_array(suv.array.astype(np.complex64)), tmp_path / "a.nii")
    with pytest.raises(OutputError, match="beyond 32 bits"):
        write_volume(suv.with_array(np.full(suv.shape, 2**40)), tmp_path / "a.nii")
    assert names(tmp_path) == []


@pytest.mark.parametrize("error", [ValueError("boom"), KeyboardInterrupt()])
def test_an_exception_in_the_middle_leaves_the_old_file(tmp_path, error):
    target = tmp_path / "a.txt"
    write_text("old", target)
    with pytest.raises(type(error)), atomic_path(target) as temporary:
        temporary.write_text("half of the n")
        raise error
    assert target.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_full_disk_leaves_the_old_file_and_says_what_to_do(tmp_path, suv, suffix, monkeypatch):
    target = tmp_path / f"a{suffix}"
    write_volume(suv, target)
    before = sha256_of(target)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match=r"the disk is full; free space"):
        write_volume(suv.with_array(suv.array + 1), target)
    assert sha256_of(target) == before
    assert names(tmp_path) == [target.name]


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
def test_a_killed_process_leaves_the_old_file(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    code = (
        "import os, signal, sys; from pathlib import Path; from uptake.io.write import atomic_path\n"
        "with atomic_path(Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(target)], check=False).returncode == -9
    assert target.read_text() == "old"
    assert [name for name in names(tmp_path) if not name.startswith(".partial-")] == ["a.txt"]


def test_a_full_disk_while_writing_leaves_nothing(tmp_path, suv, monkeypatch):
    def full(self: gzip.GzipFile, content: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(gzip.GzipFile, "write", full)
    with pytest.raises(OutputError, match="the disk is full"):
        write_volume(suv, tmp_path / "a.nii.gz")
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("number", "remedy"), [(errno.EACCES, "permission denied"), (errno.EROFS, "read-only"), (errno.EDQUOT, "quota")]
)
def test_other_refusals_of_the_system_are_explained(tmp_path, monkeypatch, number, remedy):
    def refuse(source: object, target: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OutputError, match=remedy):
        write_text("x", tmp_path / "a.txt")
    assert names(tmp_path) == []


def test_a_missing_folder_is_an_output_error(tmp_path):
    with pytest.raises(OutputError, match="cannot be written"):
        write_text("x", tmp_path / "absent" / "a.txt")


def test_require_writable_makes_the_folder_and_leaves_nothing_in_it(tmp_path):
    require_writable(tmp_path / "new" / "deep")
    assert names(tmp_path / "new" / "deep") == []


def test_require_writable_refuses(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="in the way"):
        require_writable(tmp_path / "file")
    with pytest.raises(OutputError, match="in the way"):
        require_writable(tmp_path / "file" / "below")

    def refuse(self: Path, content: bytes) -> int:
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(OutputError, match="permission denied; choose a folder you may write to"):
        require_writable(tmp_path)
    assert names(tmp_path) == ["file"]


def test_json_is_sorted_plain_and_without_nan(tmp_path):
    write_json(
        {"b": np.float32(0.5), "a": [float("nan"), np.int64(3), (1, 2)], "c": Path("x/y"), "d": np.arange(2)},
        tmp_path / "a.json",
    )
    text = (tmp_path / "a.json").read_text()
    assert json.loads(text) == {"a": [None, 3, [1, 2]], "b": 0.5, "c": "x/y", "d": [0, 1]}
    assert text.startswith('{\n  "a": [') and text.endswith("}\n")


def test_csv_has_the_columns_asked_for(tmp_path):
    rows = [{"b": 1.5, "a": "x,y"}, {"a": float("nan"), "b": None}, {"a": np.int64(2)}]
    write_csv(rows, tmp_path / "a.csv", columns=["a", "b"])
    assert (tmp_path / "a.csv").read_bytes() == b'a,b\n"x,y",1.5\n,\n2,\n'
    with pytest.raises(ValueError, match="fields not in fieldnames"):
        write_csv([{"c": 1}], tmp_path / "b.csv", columns=["a"])
    assert names(tmp_path) == ["a.csv"]


def test_hashes(tmp_path):
    (tmp_path / "one").write_bytes(b"1")
    (tmp_path / "two").write_bytes(b"2")
    assert sha256_of(tmp_path / "one") == hashlib.sha256(b"1").hexdigest()
    folder = sha256_of(tmp_path)
    assert folder == sha256_of_files([tmp_path / "two", tmp_path / "one"])
    (tmp_path / "one").rename(tmp_path / "three")  # names do not matter
    assert sha256_of(tmp_path) == folder
    (tmp_path / "two").write_bytes(b"3")
    assert sha256_of(tmp_path) != folder


def test_a_sheared_volume_keeps_its_sform(tmp_path):
    affine = np.diag([2.0, 2.0, 3.0, 1.0])
    affine[0, 2] = 0.01  # 0.003 in the direction cosine: repaired on reading, and said
    write_volume(Volume(np.ones((3, 3, 3), np.float32), affine), tmp_path / "a.nii")
    _, warnings = read_image(tmp_path / "a.nii")
    assert any("made perpendicular" in text for text in warnings)
