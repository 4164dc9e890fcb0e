"""One file over the network, only when asked for: resumed where it broke off, kept only if its checksum is right."""

from __future__ import annotations

import hashlib
import shutil
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from uptake.core.errors import CheckpointError, ModelError, OutputError

CHUNK_BYTES = 1 << 20

TIMEOUT_S = 60.0
"""Without a byte for this long the connection is given up; the next call goes on from there."""

WANTED = ("plans.json", "dataset.json", "checkpoint_final.pth")
"""What of a model archive is unpacked."""


def download(url: str, file: Path, *, md5: str, on_bytes: Callable[[int, int], None] | None = None) -> Path:
    """Fetch `url` into `file` and return it.

    Bytes arrive in ``<file>.part``; a call that broke off is resumed there by an HTTP range request. The file gets its
    name only after its checksum was found right; a wrong one is deleted, so that the next call starts anew.

    Parameters
    ----------
    url : str
        https, http or file.
    file : Path
    md5 : str
        Expected, hexadecimal.
    on_bytes : callable, optional
        Told (done, all); all is 0 where the server does not say.

    Raises
    ------
    ModelError
        If the network or the server refuses.
    CheckpointError
        If the checksum is another one.
    OutputError
        If the disk is full.
    """
    if file.is_file() and file_md5(file) == md5:
        return file
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(file.name + ".part")
    try:
        _receive(url, part, on_bytes)
    except urllib.error.HTTPError as error:
        raise ModelError(f"{url}: the server answers {error.code} {error.reason}.") from error
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        got = part.stat().st_size if part.exists() else 0
        raise ModelError(
            f"{url}: no connection ({getattr(error, 'reason', error)}). {got:,} bytes are kept; the same command goes "
            "on from there. Behind a firewall, fetch the file elsewhere and give it with --file."
        ) from error
    except OSError as error:
        raise OutputError(f"{part}: cannot be written ({error.strerror or error}); is the disk full?") from error
    found = file_md5(part)
    if found != md5:
        part.unlink()
        raise CheckpointError(
            f"{url}: what came has MD5 {found}, expected {md5}; it was deleted. Try again; if it stays so, the deposit "
            "was changed and must not be trusted unseen."
        )
    part.replace(file)
    return file


def _receive(url: str, part: Path, on_bytes: Callable[[int, int], None] | None) -> None:
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        answer = urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:  # nothing is left to send
            return
        raise
    with answer:
        resumed = have and answer.status == 206
        done = have if resumed else 0
        total = done + int(answer.headers.get("Content-Length") or 0)
        with part.open("ab" if resumed else "wb") as target:
            while chunk := answer.read(CHUNK_BYTES):
                target.write(chunk)
                done += len(chunk)
                if on_bytes is not None:
                    on_bytes(done, total)
    if done < total:
        raise ConnectionError(f"the connection closed after {done:,} of {total:,} bytes")


def file_md5(file: Path) -> str:
    """Return the MD5 of a file, hexadecimal (deposits state it; it guards against damage, not against malice)."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def unpack_model(archive: Path, folder: Path) -> Path:
    """Unpack what a model folder needs from a zip archive and return `folder`.

    Raises
    ------
    CheckpointError
        If the archive is damaged, holds no model folder, or names files outside of itself.
    """
    try:
        with zipfile.ZipFile(archive) as content:
            members = [one for one in content.infolist() if PurePosixPath(one.filename).name in WANTED]
            if not members:
                raise CheckpointError(f"{archive}: holds no plans.json and no checkpoint; it is no model archive.")
            for member in members:
                inside = PurePosixPath(member.filename.replace("\\", "/"))
                if inside.is_absolute() or ".." in inside.parts or ":" in inside.parts[0]:
                    raise CheckpointError(f"{archive}: names {member.filename!r}, outside of itself; not unpacked.")
                target = folder.joinpath(*inside.parts)
                target.parent.mkdir(parents=True, exist_ok=True)
                with content.open(member) as source, target.open("wb") as copy:
                    shutil.copyfileobj(source, copy, CHUNK_BYTES)
    except zipfile.BadZipFile as error:
        raise CheckpointError(f"{archive}: is no zip archive, or a damaged one ({error}).") from error
    return folder
