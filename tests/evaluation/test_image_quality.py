import math

import numpy as np
import pytest

from uptake.core.errors import InputError, UsageError
from uptake.evaluation.image_quality import image_quality, nrmse, psnr, ssim, ssim_map
from uptake.evaluation.organ_quality import organ_quality, recovery


def images(shape=(16, 14, 15), noise=0.5, seed=0):
    rng = np.random.default_rng(seed)
    reference = rng.gamma(2.0, 2.0, shape)
    return reference + rng.normal(0, noise, shape), reference


def test_by_hand():
    reference, image = np.zeros((2, 2, 2, 2))
    reference[0], image[0] = 4.0, 2.0  # error 2 in half of the voxels
    found = image_quality(image, reference)
    assert found.rmse == pytest.approx(math.sqrt(2)) and found.mae == 1 and found.bias == -1
    assert found.data_range == 4 and found.psnr_db == pytest.approx(10 * math.log10(16 / 2))
    assert found.nrmse == pytest.approx(math.sqrt(2) / math.sqrt(8))
    assert nrmse(image, reference, normalisation="range") == pytest.approx(math.sqrt(2) / 4)
    assert nrmse(image, reference, normalisation="mean") == pytest.approx(math.sqrt(2) / 2)
    assert psnr(image, reference, data_range=8.0) == pytest.approx(10 * math.log10(64 / 2))
    assert found.ssim_voxels == 0 and math.isnan(found.ssim)  # too small for a window


def test_only_the_body_counts():
    image, reference = images()
    body = np.zeros(image.shape, bool)
    body[3:12, 2:11, 3:12] = True
    inside = image_quality(image, reference, body=body)
    image[~body] += 100
    far = image_quality(image, reference, body=body)
    assert (far.psnr_db, far.nrmse, far.bias) == (inside.psnr_db, inside.nrmse, inside.bias)
    assert inside.voxels == body.sum() == 9**3
    assert psnr(image, reference) < inside.psnr_db
    # A window of SSIM reaches five voxels out of the body, and may not reach out of the image.
    assert inside.ssim_voxels == 6 * 4 * 5


def slow_ssim(x, y, scale, radius, weights, correction):
    values = []
    for i, j, k in np.ndindex(*(n - 2 * radius for n in x.shape)):
        place = tuple(slice(s, s + 2 * radius + 1) for s in (i, j, k))
        a, b = x[place], y[place]
        mx, my = (weights * a).sum(), (weights * b).sum()
        vx, vy = (correction * (weights * (v - m) ** 2).sum() for v, m in ((a, mx), (b, my)))
        vxy = correction * (weights * (a - mx) * (b - my)).sum()
        c1, c2 = (0.01 * scale) ** 2, (0.03 * scale) ** 2
        values.append((2 * mx * my + c1) * (2 * vxy + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2)))
    return np.array(values)


@pytest.mark.parametrize("window", ["gaussian", "uniform"])
def test_similarity_is_its_definition_window_by_window(window):
    x, y = images((13, 12, 14))
    if window == "gaussian":
        line = np.exp(-((np.arange(11) - 5) ** 2) / (2 * 1.5**2))
        weights, radius, correction = line[:, None, None] * line[:, None] * line, 5, 1.0
    else:
        weights, radius, correction = np.ones((7, 7, 7)), 3, 343 / 342
    expected = slow_ssim(x, y, 20.0, radius, weights / weights.sum(), correction)
    np.testing.assert_allclose(ssim_map(x, y, data_range=20.0, window=window), expected, rtol=1e-9)
    assert ssim(x, y, data_range=20.0, window=window) == pytest.approx(expected.mean())


def test_equal_images_and_flat_ones():
    image, reference = images(noise=0.0)
    found = image_quality(image, reference)
    assert found.psnr_db == math.inf and found.nrmse == 0 and found.ssim == pytest.approx(1.0)
    flat = np.full((4, 4, 4), 3.0)
    with pytest.raises(InputError, match="one number everywhere"):
        psnr(flat + 1, flat)
    assert psnr(flat + 1, flat, data_range=10.0) == pytest.approx(20.0)
    assert math.isnan(nrmse(flat, np.zeros_like(flat)))


def test_organs_by_hand():
    reference, image, organs = np.ones((3, 4, 4, 4))
    organs[...] = 0
    organs[0], organs[1, :2] = 5, 2
    reference[0] = 2.0
    image[0] = 2.5
    image[1, 0], image[1, 1] = 0.5, 1.5
    liver, aorta, brain = organ_quality(
        image, reference, organs.astype(np.uint8), labels={5: "liver", 2: "aorta", 9: "brain"}
    )
    assert (liver.organ, liver.voxels, liver.mean, liver.reference_mean) == ("liver", 16, 2.5, 2.0)
    assert liver.bias == 0.5 and liver.bias_percent == 25 and liver.cov == 0 == liver.reference_cov
    assert aorta.mean == 1 and aorta.bias == 0 and aorta.cov == pytest.approx(math.sqrt(8 * 0.25 / 7))
    assert brain.voxels == 0 and math.isnan(brain.mean) and math.isnan(brain.bias_percent) and math.isnan(brain.cov)
    nothing = organ_quality(image, reference, np.zeros(image.shape, np.uint8), labels={1: "liver"})
    assert nothing[0].voxels == 0 and math.isnan(nothing[0].reference_cov)


def test_recovery_by_hand():
    image = np.ones((4, 4, 4))
    sphere = np.zeros(image.shape, bool)
    sphere[1, 1, 1:3] = True
    image[1, 1, 1], image[1, 1, 2] = 4.0, 2.0
    found = recovery(image, sphere, true_value=5.0, background=~sphere, true_background=1.0)
    assert (found.mean, found.maximum) == (pytest.approx(0.6), pytest.approx(0.8))
    assert found.contrast == pytest.approx((3 - 1) / (5 - 1))
    assert math.isnan(recovery(image, sphere, true_value=5.0).contrast)


def test_guards():
    image, reference = images()
    body = np.ones(image.shape, bool)
    with pytest.raises(InputError, match="shape"):
        psnr(image[1:], reference)
    with pytest.raises(InputError, match="boolean"):
        psnr(image, reference, body=body.astype(int))
    with pytest.raises(InputError, match="empty"):
        psnr(image, reference, body=~body)
    with pytest.raises(UsageError, match="data range"):
        psnr(image, reference, data_range=0)
    with pytest.raises(UsageError, match="rms, range, mean"):
        nrmse(image, reference, normalisation="std")
    with pytest.raises(UsageError, match="window"):
        ssim(image, reference, window="box")
    image[0, 0, 0] = np.nan
    with pytest.raises(InputError, match="NaN"):
        psnr(image, reference)
    body[:2] = False
    assert psnr(image, reference, body=body) > 0
    with pytest.raises(InputError, match="window of SSIM"):
        ssim(image, reference, body=body)
    with pytest.raises(UsageError, match="both or neither"):
        recovery(reference, body, true_value=1.0, background=body)
    with pytest.raises(InputError, match="positive"):
        recovery(reference, body, true_value=0.0)
