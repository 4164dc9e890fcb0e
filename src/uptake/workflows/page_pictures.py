"""The pictures of a page as files of their own beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from uptake.core.pages import Picture
from uptake.io.write import atomic_path, require_writable


def write_pictures(pictures: Mapping[str, Picture], folder: Path, *, kinds: tuple[str, ...]) -> None:
    """Write each picture as ``folder/<name>.png``, and take away those of an earlier run that are made no more.

    Parameters
    ----------
    pictures : mapping of str to Picture
    folder : Path
    kinds : tuple of str
        Beginnings of the names of pictures that are made here. A file of such a name from an earlier run, with other
        labels or scores, would be taken for a part of the new tables; other files stay.

    Raises
    ------
    OutputError
        If the folder cannot be written.
    """
    require_writable(folder)
    for name, picture in pictures.items():
        with atomic_path(folder / f"{name}.png") as temporary:
            temporary.write_bytes(picture.png)
    for stale in folder.glob("*.png"):
        if stale.stem not in pictures and stale.stem.startswith(kinds):
            stale.unlink()


def file_word(label: str) -> str:
    """Return a label as a part of a file name: letters, digits, hyphens; an underscore for all else."""
    return "".join(c if c.isalnum() or c in "-_" else "_" for c in label)
