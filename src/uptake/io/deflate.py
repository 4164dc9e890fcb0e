"""Gzip in blocks that are compressed side by side: the same bytes whatever the number of cores."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

BLOCK = 2**20
"""Bytes that one thread compresses at a time; part of what decides the result."""

WINDOW = 2**15
"""Bytes before a block that it may refer back to (RFC 1951 section 3.2)."""

_HEADER = b"\x1f\x8b\x08\x00" + b"\0" * 4 + b"\x00\xff"
"""RFC 1952: deflate, no name, no time, unknown system."""


def gzip_pieces(content: bytes, level: int) -> Iterator[bytes]:
    """Yield a gzip file of one member, piece by piece.

    Parameters
    ----------
    content : bytes
    level : int
        1 fastest to 9 smallest.

    Notes
    -----
    Every block but the last ends on a byte boundary with an empty stored block (zlib's sync flush), so that blocks
    compressed apart make one deflate stream. zlib lets other threads run meanwhile.

    References
    ----------
    RFC 1951 (deflate), RFC 1952 (gzip).
    """
    view = memoryview(content)
    starts = range(0, len(view), BLOCK) or range(1)

    def block(start: int) -> bytes:
        packer = zlib.compressobj(
            level, zlib.DEFLATED, -zlib.MAX_WBITS, zdict=bytes(view[max(0, start - WINDOW) : start])
        )
        last = start + BLOCK >= len(view)
        return packer.compress(view[start : start + BLOCK]) + packer.flush(zlib.Z_FINISH if last else zlib.Z_SYNC_FLUSH)

    yield _HEADER
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        yield from pool.map(block, starts)
    yield struct.pack("<II", zlib.crc32(view), len(view) & 0xFFFFFFFF)
