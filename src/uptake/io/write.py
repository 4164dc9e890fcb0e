"""Files out: whole or not at all, and the same bytes for the same content.

Every writer goes through `atomic_path`: the content is written under a temporary name in the target's own folder,
forced to disk, then renamed. A crash, Ctrl-C or a full disk leaves the old file, or none, never half of a new one.
"""

from __future__ import annotations

import csv
import errno
import gzip
import hashlib
import io
import json
import math
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from uptake.core.errors import OutputError
from uptake.geometry.volume import Volume
from uptake.io.deflate import BLOCK, gzip_pieces

DESCRIPTION = "uptake: research use only"
"""Written into the `descrip` field of every NIfTI header; 79 characters at most."""

GZIP_LEVEL = 1
"""Of images. Level 6 makes a PET 10 % smaller and takes four times as long."""

GZIP_LEVEL_LABELS = 6
"""Of label maps, which become small at no cost."""

_REMEDIES = {
    errno.ENOSPC: "the disk is full; free space or write elsewhere",
    errno.EDQUOT: "the disk quota is used up; free space or write elsewhere",
    errno.EACCES: "permission denied; choose a folder you may write to",
    errno.EPERM: "permission denied; choose a folder you may write to",
    errno.EROFS: "the file system is read-only; choose another folder",
    errno.ENOTDIR: "a file is in the way of a folder; choose another folder",
    errno.EEXIST: "a file is in the way of a folder; choose another folder",
    errno.EISDIR: "a folder is in the way of the file; choose another name",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
}


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary path to write to; on success it becomes `path` in one step.

    Parameters
    ----------
    path : Path
        Final name. Its folder has to exist.

    Yields
    ------
    Path
        A name in the same folder that starts with a dot and keeps the suffix, for writers that look at it.

    Raises
    ------
    OutputError
        If the system refuses (no space, no permission, read-only); `path` is as it was.

    Notes
    -----
    On any exception, KeyboardInterrupt included, the temporary file is removed and `path` is as it was. A process that
    is killed outright may leave a file whose name starts with ``.partial-``; it is never mistaken for a result.
    """
    path = Path(path)
    temporary = path.with_name(f".partial-{uuid.uuid4().hex[:12]}-{path.name}")
    try:
        yield temporary
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())
        os.replace(temporary, path)  # noqa: PTH105  # named after the system call that makes it atomic
    except OSError as error:
        raise _output_error(path, error) from error
    finally:
        # After success the name is gone already.
        temporary.unlink(missing_ok=True)


def require_writable(folder: Path) -> None:
    """Create an output folder where needed and check that a file can be written into it. Call before any work.

    Raises
    ------
    OutputError
        Naming the folder and what to do.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _output_error(folder, error) from error
    with atomic_path(folder / f".writable-{uuid.uuid4().hex[:12]}") as probe:
        probe.write_bytes(b"")
        # The probe must not stay: remove what the rename would leave.
        final = probe.with_name(probe.name.split("-", 2)[2])
    final.unlink(missing_ok=True)


def write_text(text: str, path: Path) -> None:
    """Write text as UTF-8 with ``\\n`` line ends on every system."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(text.encode("utf-8"))


def write_json(content: object, path: Path) -> None:
    """Write JSON with sorted keys, two spaces of indent and a final newline; NaN and infinities become null.

    NumPy numbers and arrays, paths, tuples and mappings are accepted.
    """
    write_text(json.dumps(_plain(content), indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n", path)


def write_csv(rows: Iterable[Mapping[str, object]], path: Path, *, columns: Sequence[str]) -> None:
    """Write a table with the given columns in the given order.

    Parameters
    ----------
    rows : iterable of mappings
        A key that is no column is an error; a missing one, None and NaN are written as an empty field.
    path : Path
    columns : sequence of str
        Header line.

    Raises
    ------
    OutputError
        If the file cannot be written.
    ValueError
        If a row has a key that is no column.
    """
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(buffer, list(columns), lineterminator="\n", restval="")
    writer.writeheader()
    for row in rows:
        writer.writerow({key: _cell(value) for key, value in row.items()})
    write_text(buffer.getvalue(), path)


def write_volume(volume: Volume, path: Path) -> None:
    """Write an image; the suffix decides the format.

    Parameters
    ----------
    volume : Volume
        Booleans are written as uint8; other integers keep their type (64-bit ones are narrowed where the values fit);
        float16 becomes float32.
    path : Path
        ``.nii.gz`` (deterministic: neither name nor time in the gzip header), ``.nii``, ``.mha`` or ``.nrrd``.

    Raises
    ------
    OutputError
        If the suffix is none of these, or the file cannot be written.
    """
    name = Path(path).name.lower()
    stored = volume.with_array(_storable(volume.array, path))
    if name.endswith((".nii.gz", ".nii")):
        from uptake.io.nifti import nifti_bytes

        content = nifti_bytes(stored, DESCRIPTION)
        with atomic_path(path) as temporary, temporary.open("wb") as stream:
            if name.endswith(".gz"):
                _write_gzip(stream, content, stored.array.dtype)
            else:
                stream.write(content)
    elif name.endswith((".mha", ".nrrd")):
        from uptake.io.sitk import write_sitk

        with atomic_path(path) as temporary:
            write_sitk(stored, temporary)
    else:
        raise OutputError(f"{path}: cannot tell the image format; name it .nii.gz, .nii, .mha or .nrrd.")


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, hexadecimal; of a folder, the SHA-256 over the sorted hashes of its files.

    A folder's value depends on the contents only, neither on names nor on nesting.
    """
    path = Path(path)
    if path.is_dir():
        return sha256_of_files(entry for entry in path.rglob("*") if entry.is_file())
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sha256_of_files(paths: Iterable[Path]) -> str:
    """Return the SHA-256 over the sorted hashes of files: one value for a DICOM series, in whatever order it came."""
    return hashlib.sha256("\n".join(sorted(sha256_of(path) for path in paths)).encode("ascii")).hexdigest()


def _write_gzip(stream: BinaryIO, content: bytes, kind: np.dtype[Any]) -> None:
    """Write without name and time, so that the same content gives the same bytes."""
    level = GZIP_LEVEL_LABELS if kind.kind == "u" and kind.itemsize <= 2 else GZIP_LEVEL
    if len(content) <= BLOCK:
        with gzip.GzipFile(filename="", fileobj=stream, mode="wb", compresslevel=level, mtime=0) as compressed:
            compressed.write(content)
        return
    for piece in gzip_pieces(content, level):
        stream.write(piece)


def _output_error(path: Path, error: OSError) -> OutputError:
    reason = _REMEDIES.get(error.errno or 0) or error.strerror or str(error)
    return OutputError(f"{path}: cannot be written: {reason}.")


def _storable(array: np.ndarray[Any, Any], path: Path) -> np.ndarray[Any, Any]:
    """Return the array in a type that all formats know, values unchanged."""
    if array.dtype == np.bool_:
        return array.astype(np.uint8)
    if array.dtype == np.float16:
        return array.astype(np.float32)
    if array.dtype in (np.int64, np.uint64):
        for narrow in (np.int32, np.uint32):
            limits = np.iinfo(narrow)
            if limits.min <= int(array.min()) and int(array.max()) <= limits.max:
                return array.astype(narrow)
        raise OutputError(f"{path}: integers beyond 32 bits cannot be stored in an image file.")
    if array.dtype.kind not in "iuf":
        raise OutputError(f"{path}: an image of type {array.dtype} cannot be stored; give integers or real numbers.")
    return array


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Path):
        return value.as_posix()
    return value


def _cell(value: object) -> object:
    plain = _plain(value)
    return "" if plain is None else plain
