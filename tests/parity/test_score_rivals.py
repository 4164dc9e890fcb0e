"""Label scores against nnU-Net's, image quality against scikit-image's and MONAI's, where they are installed."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest

from uptake.evaluation.image_quality import nrmse, psnr, ssim
from uptake.evaluation.labels import Rules, evaluate_labels

pytestmark = pytest.mark.filterwarnings("ignore")


def label_maps(seed, shape=(17, 13, 11), labels=6):
    """Return two maps that disagree, one label absent from each and one from both."""
    rng = np.random.default_rng(seed)
    reference = rng.integers(0, labels, shape).astype(np.uint8)
    prediction = np.where(rng.random(shape) < 0.6, reference, rng.integers(0, labels, shape)).astype(np.uint8)
    prediction[prediction == 2], reference[reference == 3] = 0, 0
    return prediction, reference


@pytest.mark.parametrize("seed", range(3))
def test_counts_and_dice_are_those_of_nnunet(seed):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("nnunetv2", reason="needs the 'bench' extra")
        from nnunetv2.evaluation.evaluate_predictions import compute_metrics

    prediction, reference = label_maps(seed)

    class Memory:
        """A reader that has both maps in memory, with the channel axis of nnU-Net."""

        def read_seg(self, name):
            return {"p": prediction, "r": reference}[name][None], {}

    labels = [1, 2, 3, 4, (1, 2, 5), 9]
    theirs = compute_metrics("r", "p", Memory(), labels)["metrics"]
    names = {label: str(label) for label in labels} | {5: "rest"}
    found = evaluate_labels(
        prediction, reference, (1.0, 1.0, 1.0), labels=names, metrics=["overlap"], rules=Rules(empty="zero")
    )
    for label, scores in zip(labels, found, strict=False):
        ours, expected = scores.scores, theirs[label]
        assert ours["dice"] == pytest.approx(expected["Dice"], nan_ok=True)
        assert ours["iou"] == pytest.approx(expected["IoU"], nan_ok=True)
        counts = [int(expected[name]) for name in ("TP", "FP", "FN", "TN")]
        assert [ours[f"{name}_voxels"] for name in ("tp", "fp", "fn", "tn")] == counts


def images(seed, shape=(23, 21, 19)):
    rng = np.random.default_rng(seed)
    reference = rng.gamma(1.5, 2.0, shape)
    return reference * rng.normal(1.0, 0.2, shape), reference


@pytest.mark.parametrize("seed", range(3))
def test_image_quality_is_that_of_scikit_image(seed):
    theirs = pytest.importorskip("skimage.metrics", reason="needs the 'bench' extra")
    image, reference = images(seed)
    expected = theirs.peak_signal_noise_ratio(reference, image, data_range=15.0)
    assert psnr(image, reference, data_range=15.0) == pytest.approx(expected, rel=1e-9)
    for ours, name in (("rms", "euclidean"), ("range", "min-max"), ("mean", "mean")):
        expected = theirs.normalized_root_mse(reference, image, normalization=name)
        assert nrmse(image, reference, normalisation=ours) == pytest.approx(expected, rel=1e-9)
    expected = theirs.structural_similarity(reference, image, data_range=15.0)
    assert ssim(image, reference, data_range=15.0, window="uniform") == pytest.approx(expected, rel=1e-9)
    expected = theirs.structural_similarity(
        reference, image, data_range=15.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert ssim(image, reference, data_range=15.0) == pytest.approx(expected, rel=1e-9)


def test_scikit_images_gaussian_default_is_another_number():
    """With Gaussian weights it still multiplies variances by n / (n - 1), n = 1331: Wang et al. do not."""
    theirs = pytest.importorskip("skimage.metrics", reason="needs the 'bench' extra")
    image, reference = images(0)
    expected = theirs.structural_similarity(reference, image, data_range=15.0, gaussian_weights=True)
    assert abs(ssim(image, reference, data_range=15.0) - expected) > 1e-8
    assert ssim(image, reference, data_range=15.0) == pytest.approx(expected, abs=1e-3)


def test_image_quality_is_that_of_monai():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("monai", reason="needs the 'bench' extra")
        import torch
        from monai.metrics import PSNRMetric, SSIMMetric

    image, reference = images(1)
    first, second = (torch.from_numpy(array)[None, None] for array in (image, reference))
    expected = float(SSIMMetric(3, data_range=15.0)(first, second))
    # MONAI convolves in single precision.
    assert ssim(image, reference, data_range=15.0) == pytest.approx(expected, abs=1e-5)
    expected = float(PSNRMetric(15.0)(first, second))
    assert psnr(image, reference, data_range=15.0) == pytest.approx(expected, rel=1e-6)
    assert math.isfinite(expected)
