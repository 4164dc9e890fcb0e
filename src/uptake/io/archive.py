"""Files in folders and in zip archives, read alike: a zip is looked into, never unpacked to disk.

A file inside an archive is named by a path that goes through it: ``study.zip/PT/000.dcm``.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import BinaryIO

from uptake.core.errors import FileFormatError

SUFFIX = ".zip"

MOST_MEMBERS = 500_000
"""Files in one archive; a study has some thousands."""

LARGEST_MEMBER = 8 * 2**30
"""Bytes of one file when unpacked; it is held in memory. A multi-frame CT of a whole body is 1 GiB."""

LARGEST_ARCHIVE = 256 * 2**30
"""Bytes of all files of an archive when unpacked."""

LARGEST_RATIO = 250.0
"""Unpacked over packed size above which an archive of more than `RATIO_FROM` bytes is taken for a decompression bomb;
noise-free synthetic images reach 100."""

RATIO_FROM = 2**30

SMALL_FILE = 4 * 2**20
"""Files up to this size are read in one go for their header."""

_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)


class Files:
    """Reads files below a folder or inside archives; archives stay open until the ``with`` block ends.

    Examples
    --------
    >>> with Files() as files:
    ...     for path in files.below(Path("study.zip")):
    ...         content = files.content(path)
    """

    def __init__(self) -> None:
        self._archives: dict[Path, zipfile.ZipFile] = {}

    def __enter__(self) -> Files:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for archive in self._archives.values():
            archive.close()
        self._archives.clear()

    def below(self, place: Path) -> list[Path]:
        """Return the files below a folder or in an archive, sorted; of a plain file, the file itself.

        Hidden files and folders, and what macOS adds to archives (``__MACOSX``), are passed over. Archives inside a
        folder are looked into; archives inside archives are not.

        Raises
        ------
        FileFormatError
            If an archive is damaged, encrypted, names files outside of itself, or unpacks to absurd sizes.
        """
        if is_archive(place):
            return self._members(place)
        if not place.is_dir():
            return [place]
        found: list[Path] = []
        for entry in sorted(place.rglob("*")):
            if _hidden(entry.relative_to(place)) or not entry.is_file():
                continue
            found += self._members(entry) if is_archive(entry) else [entry]
        return found

    def content(self, path: Path) -> bytes:
        """Return all bytes of a file.

        Raises
        ------
        FileFormatError
            If the archive that holds it is damaged.
        OSError
            If it cannot be read.
        """
        archive = archive_of(path)
        if archive is None:
            return path.read_bytes()
        try:
            return self._open(archive).read(path.relative_to(archive).as_posix())
        except _DAMAGE as error:
            raise _damaged(archive, f"{path.relative_to(archive)} cannot be unpacked ({error})") from error

    def stream(self, path: Path) -> BinaryIO:
        """Return a file opened for reading its beginning; large files are not read as a whole. To be closed."""
        if archive_of(path) is not None or path.stat().st_size <= SMALL_FILE:
            return io.BytesIO(self.content(path))
        return path.open("rb")

    def _members(self, archive: Path) -> list[Path]:
        entries = [entry for entry in self._open(archive).infolist() if not entry.is_dir()]
        names = [PurePosixPath(entry.filename) for entry in entries]
        return sorted(archive / name for name in names if not _hidden(name))

    def _open(self, archive: Path) -> zipfile.ZipFile:
        if archive not in self._archives:
            try:
                opened = zipfile.ZipFile(archive)
            except (*_DAMAGE, ValueError) as error:
                raise _damaged(archive, str(error)) from error
            try:
                _require_harmless(archive, opened.infolist())
            except BaseException:
                opened.close()
                raise
            self._archives[archive] = opened
        return self._archives[archive]


def is_archive(path: Path) -> bool:
    """Return whether a path names a zip archive."""
    return path.suffix.lower() == SUFFIX and path.is_file()


def archive_of(path: Path) -> Path | None:
    """Return the archive that a path goes through, or None for a plain path."""
    for parent in path.parents:
        if parent.suffix.lower() == SUFFIX and parent.is_file():
            return parent
    return None


def content_of(path: Path) -> bytes:
    """Return all bytes of one file, be it in an archive or not; for many files of one archive use `Files`."""
    with Files() as files:
        return files.content(path)


def _hidden(path: Path | PurePosixPath) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in path.parts)


def _require_harmless(archive: Path, entries: list[zipfile.ZipInfo]) -> None:
    if len(entries) > MOST_MEMBERS:
        raise _refused(archive, f"it lists {len(entries)} files")
    unpacked = packed = 0
    for entry in entries:
        name = PurePosixPath(entry.filename)
        if name.is_absolute() or ".." in name.parts or (name.parts and ":" in name.parts[0]):
            raise _refused(archive, "it names a file outside of itself ('..' or an absolute path)")
        if entry.flag_bits & 1:
            raise FileFormatError(
                f"{archive}: the archive is encrypted. Unpack it with its password and give the folder."
            )
        if entry.file_size > LARGEST_MEMBER:
            raise _refused(archive, f"one of its files unpacks to {entry.file_size / 2**30:.0f} GiB")
        unpacked += entry.file_size
        packed += entry.compress_size
    if unpacked > LARGEST_ARCHIVE or (unpacked > RATIO_FROM and unpacked > LARGEST_RATIO * max(packed, 1)):
        raise _refused(archive, f"its {packed / 2**20:.0f} MiB unpack to {unpacked / 2**30:.0f} GiB")


def _refused(archive: Path, why: str) -> FileFormatError:
    return FileFormatError(f"{archive}: not opened: {why}. Unpack it where that is safe, and give the folder.")


def _damaged(archive: Path, why: str) -> FileFormatError:
    return FileFormatError(f"{archive}: the zip archive is truncated or damaged: {why}. Copy or export it again.")
