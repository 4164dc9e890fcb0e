from __future__ import annotations

import gzip
import zlib

import numpy as np
import pytest

from uptake.io import deflate
from uptake.io.deflate import BLOCK, gzip_pieces


@pytest.mark.parametrize("size", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 17])
@pytest.mark.parametrize("level", [1, 6])
def test_what_is_packed_comes_back(size, level):
    content = np.random.default_rng(3).integers(0, 9, size).astype(np.uint8).tobytes()
    packed = b"".join(gzip_pieces(content, level))
    assert gzip.decompress(packed) == content
    assert zlib.decompress(packed, 31) == content  # one member: nothing is left over


def test_the_bytes_do_not_depend_on_the_cores(monkeypatch):
    content = np.random.default_rng(4).normal(size=400_000).astype(np.float32).tobytes()
    packed = []
    for cores in (1, 2, 7):
        monkeypatch.setattr(deflate.os, "cpu_count", lambda cores=cores: cores)
        packed.append(b"".join(gzip_pieces(content, 1)))
    assert packed[0] == packed[1] == packed[2]


def test_blocks_see_what_came_before():
    content = np.random.default_rng(5).bytes(20_000) * 200  # repeats across block borders
    assert len(b"".join(gzip_pieces(content, 6))) < 1.05 * len(zlib.compress(content, 6))


def test_a_flipped_bit_is_noticed():
    packed = bytearray(b"".join(gzip_pieces(bytes(range(256)) * 9000, 1)))
    packed[-6] ^= 1
    with pytest.raises(gzip.BadGzipFile):
        gzip.decompress(bytes(packed))
