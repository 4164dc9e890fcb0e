"""The CT: values, noise and its distribution, streaks, contrast medium, couch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from uptake.core.errors import UsageError
from uptake.simulation.ct import (
    CtSettings,
    add_contrast,
    add_couch,
    ct_image,
    filtered_back_projection,
)
from uptake.simulation.projector import Projector, ScanGeometry

SPACING = (5.0, 5.0, 5.0)
SHAPE = (88, 64, 24)


@pytest.fixture(scope="module")
def projector():
    return Projector(ScanGeometry.of_image(SHAPE, SPACING))


def cylinder(a: float, b: float) -> np.ndarray:
    x, y = ((np.arange(n) - (n - 1) / 2) * 5.0 for n in SHAPE[:2])
    inside = (x[:, None] / a) ** 2 + (y[None, :] / b) ** 2 < 1
    return np.repeat(np.where(inside, 0.0, -1000.0)[:, :, None], SHAPE[2], axis=2).astype(np.float32)


def take(hu, projector, seed=0, **settings):
    return ct_image(hu, projector, SPACING, CtSettings(**settings), np.random.default_rng(seed))


def test_filtered_back_projection_inverts_the_projector(projector):
    density = (cylinder(150.0, 120.0) + 1000.0) / 1000.0
    image = filtered_back_projection(projector.apply(density), projector)
    assert image[34:54, 24:40].mean() == pytest.approx(1.0, abs=0.01)
    assert image[2:6, 2:6].mean() == pytest.approx(0.0, abs=0.02)


def test_noise_has_its_level_in_30_cm_of_water_and_its_mean_is_zero(projector):
    ct = take(cylinder(150.0, 150.0), projector, noise_hu=15.0, slice_mm=5.0)
    middle = ct[40:48, 28:36]
    assert middle.std() == pytest.approx(15.0, rel=0.12)
    assert middle.mean() == pytest.approx(0.0, abs=1.0)
    assert (ct == np.rint(ct)).all() and ct.min() >= -1024


def test_noise_grows_with_the_body_and_streaks_along_it(projector):
    small, wide = (take(cylinder(a, 100.0), projector, noise_hu=15.0, slice_mm=5.0) for a in (100.0, 200.0))
    assert wide[40:48, 28:36].std() > 1.3 * small[40:48, 28:36].std()
    core = wide[24:64, 20:44].astype(float)
    core -= core.mean(axis=(0, 1))
    along = (core[1:] * core[:-1]).mean()
    across = (core[:, 1:] * core[:, :-1]).mean()
    assert along > across


def test_thick_sections_blur_along_the_body_and_the_offset_leaves_air_alone(projector):
    hu = cylinder(150.0, 120.0)
    hu[:, :, 12:] = -1000.0
    quiet = {"noise_hu": 0.0, "kernel_sigma_mm": 0.0}
    thin, thick = take(hu, projector, slice_mm=5.0, **quiet), take(hu, projector, slice_mm=15.0, **quiet)
    assert set(np.unique(thin[44, 32])) == {-1000.0, 0.0}
    assert -900 < thick[44, 32, 11] < -100
    shifted = take(hu, projector, slice_mm=5.0, offset_hu=4.0, **quiet)
    assert shifted[44, 32, 5] == 4.0 and shifted[1, 1, 5] == -1000.0


def test_metal_darkens_what_lies_between_two_implants(projector):
    hu = cylinder(180.0, 120.0)
    hu[24:30, 30:35, 8:16] = hu[58:64, 30:35, 8:16] = 3000.0
    ct = take(hu, projector, noise_hu=0.0, slice_mm=5.0)
    assert ct[40:48, 31:34, 12].mean() < -15.0
    assert ct[40:48, 10:14, 12].mean() > -15.0
    assert abs(ct[40:48, 31:34, 2].mean()) < 1.0


def test_same_seed_same_bytes(projector):
    hu = cylinder(150.0, 120.0)
    assert take(hu, projector, seed=3).tobytes() == take(hu, projector, seed=3).tobytes()
    assert take(hu, projector, seed=3).tobytes() != take(hu, projector, seed=4).tobytes()


def test_contrast_medium_raises_vessels_and_organs_not_fat_or_bone(trunk):
    portal, arterial = add_contrast(trunk, "portal"), add_contrast(trunk, "arterial")
    assert add_contrast(trunk, "none") is trunk
    liver, bone = trunk.mask("liver"), trunk.mask("vertebrae_*")
    rise = portal.hu.array - trunk.hu.array
    assert rise[liver].mean() == pytest.approx(52.0, abs=6.0)
    assert np.median(rise[bone]) < 5.0
    assert (arterial.hu.array - trunk.hu.array)[trunk.mask("aorta")].mean() > rise[trunk.mask("aorta")].mean() > 50
    assert portal.activity is trunk.activity


def test_a_couch_lies_under_the_back_and_never_in_the_body(trunk):
    body = trunk.organs.array > 0
    with_couch = add_couch(trunk.hu.array, body, trunk.hu.spacing_mm, "curved", back_is_last=True)
    changed = with_couch != trunk.hu.array
    assert changed.any() and not (changed & body).any()
    rows = np.nonzero(changed)[1]
    assert rows.min() > 27
    front = add_couch(trunk.hu.array, body, trunk.hu.spacing_mm, "flat", back_is_last=False)
    assert np.nonzero(front != trunk.hu.array)[1].max() < 27
    assert add_couch(trunk.hu.array, body, trunk.hu.spacing_mm, "none", back_is_last=True) is trunk.hu.array


@pytest.mark.parametrize(
    "wrong", [{"kvp": 90}, {"noise_hu": -1.0}, {"phase": "late"}, {"couch": "sofa"}, {"slice_mm": 0.0}]
)
def test_impossible_settings_are_refused(wrong, trunk):
    with pytest.raises(UsageError):
        CtSettings(**wrong)
    with pytest.raises(UsageError, match="late"):
        add_contrast(replace(trunk), "late")
