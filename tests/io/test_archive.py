from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path

import pytest

from uptake.core.errors import FileFormatError
from uptake.io import archive
from uptake.io.archive import Files, archive_of, content_of, is_archive


@pytest.fixture
def packed(tmp_path) -> Path:
    path = tmp_path / "Study.ZIP"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        target.writestr("PT/b", b"second" * 1000)
        target.writestr("PT/a", b"first")
        target.writestr("PT/", b"")
        target.writestr("__MACOSX/PT/a", b"junk")
        target.writestr("PT/.hidden", b"junk")
    return path


def test_an_archive_is_read_in_place(packed, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    with Files() as files:
        found = files.below(packed)
        assert found == [packed / "PT" / "a", packed / "PT" / "b"]
        assert files.content(found[1]) == b"second" * 1000
        with files.stream(found[0]) as stream:
            assert stream.read(3) == b"fir"
    assert content_of(found[0]) == b"first"
    assert (is_archive(packed), archive_of(found[0]), archive_of(packed)) == (True, packed, None)
    assert sorted(tmp_path.rglob("*")) == before


def test_archives_within_a_folder_and_plain_files_are_listed_alike(packed, tmp_path):
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "x").write_bytes(b"plain")
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "x").write_bytes(b"hidden")
    with Files() as files:
        assert files.below(tmp_path) == [packed / "PT" / "a", packed / "PT" / "b", tmp_path / "deep" / "er" / "x"]
        assert files.content(tmp_path / "deep" / "er" / "x") == b"plain"
        assert files.below(tmp_path / "deep" / "er" / "x") == [tmp_path / "deep" / "er" / "x"]


@pytest.mark.parametrize("name", ["../evil", "PT/../../evil", "/etc/passwd", "C:/evil"])
def test_names_that_lead_outside_are_refused(tmp_path, name):
    path = tmp_path / "s.zip"
    with zipfile.ZipFile(path, "w") as target:
        target.writestr(name, b"x")
    with Files() as files, pytest.raises(FileFormatError, match="names a file outside of itself"):
        files.below(path)


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        target.writestr("zeros", bytes(3_000_000))
    monkeypatch.setattr(archive, "RATIO_FROM", 1_000_000)
    with Files() as files, pytest.raises(FileFormatError, match=r"unpack to .* GiB"):
        files.below(path)
    monkeypatch.setattr(archive, "LARGEST_MEMBER", 2_000_000)
    with Files() as files, pytest.raises(FileFormatError, match="one of its files unpacks"):
        files.below(path)
    monkeypatch.setattr(archive, "MOST_MEMBERS", 0)
    with Files() as files, pytest.raises(FileFormatError, match="lists 1 files"):
        files.below(path)


def test_a_size_that_lies_does_not_grow(tmp_path):
    """The directory says 10 bytes, the data are a million: no more than 10 are unpacked, and the check sum fails."""
    path = tmp_path / "s.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        target.writestr("zeros", bytes(1_000_000))
    content = bytearray(path.read_bytes())
    at = content.index(b"PK\x01\x02") + 24
    content[at : at + 4] = struct.pack("<L", 10)
    path.write_bytes(bytes(content))
    with Files() as files, pytest.raises(FileFormatError, match="truncated or damaged"):
        files.content(files.below(path)[0])


def test_an_encrypted_archive_is_refused(packed):
    content = bytearray(packed.read_bytes())
    at = content.index(b"PK\x01\x02") + 8
    content[at] |= 1
    packed.write_bytes(bytes(content))
    with Files() as files, pytest.raises(FileFormatError, match="encrypted"):
        files.below(packed)


@pytest.mark.parametrize("length", [0, 10, -30])
def test_a_truncated_archive_is_named(packed, length):
    packed.write_bytes(packed.read_bytes()[:length])
    with Files() as files, pytest.raises(FileFormatError, match="truncated or damaged") as caught:
        files.below(packed)
    assert str(packed) in str(caught.value)


def test_a_damaged_member_is_named(packed):
    content = bytearray(packed.read_bytes())
    content[content.index(b"PT/b") + 12] ^= 0xFF
    packed.write_bytes(bytes(content))
    with Files() as files, pytest.raises(FileFormatError, match="PT/b cannot be unpacked"):
        files.content(packed / "PT" / "b")


def test_large_files_are_not_read_for_their_header(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "SMALL_FILE", 3)
    (tmp_path / "large").write_bytes(b"large")
    (tmp_path / "tiny").write_bytes(b"t")
    with Files() as files:
        with files.stream(tmp_path / "large") as stream:
            assert not isinstance(stream, io.BytesIO)
        with files.stream(tmp_path / "tiny") as stream:
            assert isinstance(stream, io.BytesIO)
