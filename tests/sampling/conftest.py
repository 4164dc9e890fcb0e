from __future__ import annotations

import numpy as np
import pytest

from uptake.cases import HarmonisedCase
from uptake.sampling.store import training_case


@pytest.fixture
def make_harmonised():
    """Return a maker of random two-channel cases with the given lesion voxels (z, y, x)."""

    def make(shape=(9, 8, 7), lesions=((4, 4, 3),), case_id="case", seed=0):
        channels = np.random.default_rng(seed).normal(size=(2, *shape)).astype(np.float32)
        labels = np.zeros(shape, np.uint8)
        for voxel in lesions:
            labels[voxel] = 1
        return HarmonisedCase(case_id, channels, labels, np.ones(shape, bool))

    return make


@pytest.fixture
def make_training(make_harmonised):
    def make(*args, **options):
        return training_case(make_harmonised(*args, **options))

    return make
