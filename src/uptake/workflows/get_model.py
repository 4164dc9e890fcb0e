"""Published weights -> a bundle in the user's model folder: fetched by their record, imported, the rest removed."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from uptake.core.errors import UsageError
from uptake.io.write import require_writable
from uptake.workflows.import_weights import Imported, import_weights
from uptake.zoo.fetch import download, unpack_model
from uptake.zoo.places import user_models
from uptake.zoo.records import Record, find_record


def get_model(
    name: str | Record,
    *,
    out: Path | None = None,
    file: Path | None = None,
    url: str | None = None,
    half: bool = False,
    on_bytes: Callable[[int, int], None] | None = None,
) -> Imported:
    """Fetch a published model, import it, and keep only the bundle.

    Parameters
    ----------
    name : str or Record
        A key of `zoo.records.RECORDS`.
    out : Path, optional
        Bundle folder; by default ``<name>`` in `zoo.places.user_models`, where ``-m name`` finds it.
    file : Path, optional
        The archive, fetched by other means; no network is used then. Its checksum is not demanded.
    url : str, optional
        A mirror; the checksum stays that of the record.
    half : bool
        Store float16.
    on_bytes : callable, optional
        Told (done, all) while the archive comes.

    Raises
    ------
    ModelError
        If there is no such model, or the network refuses.
    CheckpointError
        If the archive is not what the record says.
    """
    record = name if isinstance(name, Record) else find_record(name)
    if file is not None and url is not None:
        raise UsageError("give the archive as --file, or a mirror as --url, not both.")
    place = out if out is not None else user_models() / record.name
    require_writable(place.parent)
    place.parent.mkdir(parents=True, exist_ok=True)
    archive = file
    if archive is None:
        archive = download(url or record.url, place.parent / f".{record.name}.zip", md5=record.md5, on_bytes=on_bytes)
    with tempfile.TemporaryDirectory(prefix=f".{record.name}.", dir=place.parent) as temporary:
        unpacked = unpack_model(Path(archive), Path(temporary))
        imported = import_weights(
            unpacked / record.source,
            place,
            name=record.name,
            licence=record.licence,
            stored_as="float16" if half else "float32",
            cite=record.cite,
            doi=record.doi,
        )
    if file is None:
        Path(archive).unlink()
    return replace(imported, notes=(*imported.notes, f"Cite: {record.cite}"))
