"""Resident memory is that of the process, and its highest is seen."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from uptake.inference.memory import Highest, resident_bytes


@pytest.mark.skipif(sys.platform == "win32", reason="the system does not tell")
def test_an_array_of_sixty_four_megabytes_shows():
    before = resident_bytes()
    assert before > 10e6
    with Highest() as memory:
        array = np.ones(8_000_000)
        held = resident_bytes()
    assert memory.bytes >= held - 2**20
    assert held >= before
    if sys.platform == "linux":
        assert held - before > 0.9 * array.nbytes
        del array
        assert resident_bytes() < held


def test_the_highest_is_kept_when_the_memory_is_gone():
    if sys.platform != "linux":
        pytest.skip("elsewhere the system tells only the highest of the whole process")
    before = resident_bytes()
    with Highest() as memory:
        array = np.ones(16_000_000)
        for _ in range(4):
            array += 1.0
        del array
    assert memory.bytes - before > 0.9 * 128e6
