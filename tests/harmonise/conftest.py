"""Small cases on grids of every kind."""

from __future__ import annotations

import numpy as np
import pytest

from uptake.cases import Case
from uptake.geometry import Volume
from uptake.geometry.affine import compose
from uptake.harmonise.normalise import ChannelRule
from uptake.harmonise.plan import Plan

CT_RULE = ChannelRule("ct", "clip_zscore", -832.0, 1127.0, 107.0, 286.0)
PET_RULE = ChannelRule("pet", "clip_zscore", 1.0, 51.0, 7.0, 8.0)


def oblique_affine(spacing=(2.0, 3.0, 5.0), origin=(-40.0, 12.5, 7.0), degrees=(9.0, -6.0, 14.0)):
    """Return the affine of a grid turned a little about every axis; still nearest to RAS."""
    turn = np.eye(3)
    for axis, angle in enumerate(np.deg2rad(degrees)):
        a, b = [other for other in range(3) if other != axis]
        step = np.eye(3)
        step[a, a] = step[b, b] = np.cos(angle)
        step[a, b], step[b, a] = -np.sin(angle), np.sin(angle)
        turn = step @ turn
    return compose(np.array(spacing), turn, np.array(origin))


@pytest.fixture
def make_plan():
    def make(spacing_mm, channels=(CT_RULE, PET_RULE), **options):
        return Plan(tuple(channels), spacing_mm, **options)

    return make


@pytest.fixture
def make_case():
    """Return a maker of cases with random PET, CT and lesion mask on one oblique grid."""

    def make(shape=(7, 6, 5), affine=None, seed=0, ct=True, lesions=True, case_id="case"):
        rng = np.random.default_rng(seed)
        affine = oblique_affine() if affine is None else affine
        pet = rng.uniform(0.5, 12.0, shape).astype(np.float32)
        hu = rng.uniform(-900.0, 400.0, shape).astype(np.float32)
        mask = (rng.random(shape) < 0.3).astype(np.uint8)
        return Case(
            case_id,
            Volume(pet, affine),
            Volume(hu, affine) if ct else None,
            Volume(mask, affine) if lesions else None,
        )

    return make
