"""How much memory this process holds, now and at its highest within a stretch of code."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from types import TracebackType

INTERVAL_S = 0.005
"""Between two looks; a layer of a network on a window takes longer."""


def resident_bytes() -> int:
    """Return the resident memory of this process, bytes.

    Linux: now. Elsewhere the highest so far, which is what the system tells: a budget is then held too strictly, never
    too loosely. 0 where the system tells nothing.
    """
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    try:
        import resource
    except ImportError:  # Windows
        return 0
    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(highest) * (1 if sys.platform == "darwin" else 1024)


class Highest:
    """Context that watches resident memory; `bytes` is the highest seen.

    Examples
    --------
    >>> with Highest() as memory:
    ...     network(window)
    >>> memory.bytes
    """

    def __init__(self) -> None:
        self.bytes = resident_bytes()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Highest:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()
        self.bytes = max(self.bytes, resident_bytes())

    def _watch(self) -> None:
        while not self._done.wait(INTERVAL_S):
            self.bytes = max(self.bytes, resident_bytes())
