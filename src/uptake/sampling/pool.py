"""A pool of stored cases that is opened case by case: 5,000 scans take no more memory than one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

from uptake.core.errors import FileFormatError
from uptake.sampling.store import TrainingCase, stored


@dataclass(frozen=True)
class StoredName:
    """Where a case lies: cache folder, case id, and the stamp it must bear."""

    folder: Path
    case: str
    stamp: str


class StoredCases(Sequence[TrainingCase]):
    """The cases of a pool; an access opens the files, and only the last case opened is kept.

    Raises
    ------
    FileFormatError
        On access to a case that is no longer there, or is another one than when the pool was made.
    """

    def __init__(self, names: Sequence[StoredName]) -> None:
        self.names = tuple(names)
        self._last: tuple[int, TrainingCase] | None = None

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, index: int) -> TrainingCase: ...

    @overload
    def __getitem__(self, index: slice) -> StoredCases: ...

    def __getitem__(self, index: int | slice) -> TrainingCase | StoredCases:
        if isinstance(index, slice):
            return StoredCases(self.names[index])
        last = self._last
        if last is not None and last[0] == index:
            return last[1]
        name = self.names[index]
        found = stored(name.folder, name.case, name.stamp)
        if found is None:
            raise FileFormatError(
                f"{name.folder / name.case}: the cached case is gone or was changed while it was in use; run again."
            )
        self._last = (index, found)
        return found
