"""Against nnU-Net itself, where it is installed: the same numbers from our own lines."""

from __future__ import annotations

import warnings
from functools import partial
from itertools import product

import numpy as np
import pytest
import torch

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pytest.importorskip("nnunetv2", reason="parity with nnU-Net needs the 'bench' extra")
    from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
    from nnunetv2.inference import predict_from_raw_data as predicting
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
    from nnunetv2.inference.sliding_window_prediction import compute_gaussian, compute_steps_for_sliding_window
    from nnunetv2.preprocessing.cropping.cropping import crop_to_nonzero as nnunet_crop
    from nnunetv2.preprocessing.normalization.default_normalization_schemes import CTNormalization, ZScoreNormalization
    from nnunetv2.preprocessing.resampling.default_resampling import compute_new_shape, resample_data_or_seg_to_shape
    from nnunetv2.training.loss.compound_losses import DC_and_CE_loss
    from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
    from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss

from uptake.harmonise.crop import crop_to_nonzero
from uptake.harmonise.normalise import ChannelRule, normalise
from uptake.harmonise.onto import grid_shape
from uptake.harmonise.plan import Fingerprint, Intensities, plan_from
from uptake.harmonise.resample import labels_resized, resized
from uptake.inference.sliding_window import importance, mirrored, sliding_window, window_starts
from uptake.networks.unet import finest_only, unet
from uptake.training.losses import deep_supervision_weights, deeply_supervised, dice_cross_entropy

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

CT = {"percentile_00_5": -832.062744140625, "percentile_99_5": 1127.758544921875, "mean": 107.734, "std": 286.344}
SPACING, TARGET = (5.0, 4.07283, 4.07283), (3.0, 2.0364201068878174, 2.0364201068878174)


def rule(scheme="clip_zscore"):
    return ChannelRule("ct", scheme, CT["percentile_00_5"], CT["percentile_99_5"], CT["mean"], CT["std"])


def image(shape, seed=0):
    return np.random.default_rng(seed).normal(100, 600, shape).astype(np.float32)


def resample(array, shape, *, order, seg=False):
    return resample_data_or_seg_to_shape(
        array[None], shape, SPACING, TARGET, is_seg=seg, order=order, order_z=0, force_separate_z=None
    )[0]


@pytest.mark.parametrize(("theirs", "scheme"), [(CTNormalization, "clip_zscore"), (ZScoreNormalization, "zscore")])
def test_normalisation(theirs, scheme):
    array = image((9, 8, 7))
    expected = theirs(False, CT).run(array.copy(), None)
    assert np.abs(normalise(array, rule(scheme)) - expected).max() < 1e-5


@pytest.mark.parametrize(
    ("shape", "spacing"),
    [
        ((263, 256, 256), (3.27, 2.734375, 2.734375)),
        ((409, 200, 200), (2.0, 4.07283, 4.07283)),
        ((165, 168, 168), (5.0, 4.07283, 4.07283)),
        ((5, 7, 3), (1.5, 1.0, 0.5)),
    ],
)
def test_grid_shapes(shape, spacing):
    assert grid_shape(shape, np.array(spacing), TARGET) == tuple(compute_new_shape(shape, spacing, TARGET))


@pytest.mark.parametrize("order", [1, 3])
def test_ct_normalised_then_resampled(order):
    array = image((12, 17, 15))
    shape = grid_shape(array.shape, np.array(SPACING), TARGET)
    expected = resample(CTNormalization(False, CT).run(array.copy(), None), shape, order=order)
    assert np.abs(resized(normalise(array, rule()), shape, order=order) - expected).max() < 1e-4


@pytest.mark.parametrize("shape", [(20, 34, 30), (7, 11, 6)])
def test_labels_resampled(shape):
    """Ties apart: there nnU-Net looks for the nearest voxel, we take the smaller label."""
    rng = np.random.default_rng(0)
    coarse = rng.choice([0, 1, 3], (4, 6, 5), p=[0.6, 0.25, 0.15])
    labels = coarse.repeat(3, 0).repeat(3, 1).repeat(3, 2).astype(np.uint8)
    expected = resample(labels, shape, order=1, seg=True)
    found = labels_resized(labels, shape)
    differ = found != expected
    shares = np.sort([resized((labels == n).astype(np.float32), shape, order=1) for n in (0, 1, 3)], axis=0)
    tie = shares[-1] - shares[-2] < 1e-5
    assert not (differ & ~tie).any()
    assert (~tie).mean() > 0.8


def test_crop():
    pet, ct = np.zeros((9, 8, 7), np.float32), np.zeros((9, 8, 7), np.float32)
    pet[2:5, 3:6, 1:2], ct[4:7, 3:4, 2:5] = 1.0, -5.0
    _, _, bbox = nnunet_crop(np.stack([ct, pet]))
    crop = crop_to_nonzero([ct, pet])
    assert [tuple(side) for side in bbox] == list(zip(crop.lower, crop.upper, strict=True))


@pytest.mark.parametrize("window", [(16, 16, 16), (64, 40, 40), (28, 20, 12)])
def test_importance_map(window):
    expected = compute_gaussian(window, 1 / 8, 10, dtype=torch.float32, device=torch.device("cpu"))
    assert torch.allclose(importance(window), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("step", [0.3, 0.5, 0.6, 1.0])
def test_window_starts(step):
    for size in range(64, 400):
        (expected,) = compute_steps_for_sliding_window((size,), (64,), step)
        assert list(window_starts(size, 64, step)) == expected


@pytest.mark.parametrize("smooth", [0.0, 1e-5])
def test_dice_and_cross_entropy_with_gradients(smooth):
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn((3, 3, 6, 7, 8), generator=generator)
    labels = torch.randint(0, 3, (3, 6, 7, 8), generator=generator)
    labels[2] = 0  # a sample without any label
    kwargs = {"batch_dice": False, "smooth": smooth, "do_bg": False, "ddp": False}
    theirs = DC_and_CE_loss(kwargs, {}, weight_ce=1, weight_dice=1, dice_class=MemoryEfficientSoftDiceLoss)
    one, other = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    expected = theirs(one, labels[:, None])
    found = dice_cross_entropy(other, labels, smooth=smooth)
    expected.backward()
    found.backward()
    assert found.item() == pytest.approx(expected.item(), abs=1e-5)
    assert torch.allclose(one.grad, other.grad, atol=1e-7)


def test_deep_supervision():
    generator = torch.Generator().manual_seed(1)
    outputs = [torch.randn((2, 2, n, n, n), generator=generator) for n in (16, 8, 4, 2, 1)]
    labels = (torch.rand((2, 16, 16, 16), generator=generator) < 0.3).to(torch.uint8)
    targets = [
        torch.nn.functional.interpolate(labels[:, None].float(), size=o.shape[2:], mode="nearest-exact")
        for o in outputs
    ]
    kwargs = {"batch_dice": False, "smooth": 0.0, "do_bg": False, "ddp": False}
    loss = DC_and_CE_loss(kwargs, {}, dice_class=MemoryEfficientSoftDiceLoss)
    raw = np.array([0.5**n for n in range(5)])
    raw[-1] = 0
    theirs = DeepSupervisionWrapper(loss, raw / raw.sum())
    assert deep_supervision_weights(5) == pytest.approx(tuple(raw / raw.sum()))
    assert float(deeply_supervised(outputs, labels)) == pytest.approx(float(theirs(outputs, targets)), abs=1e-5)


@pytest.mark.parametrize("seed", range(12))
def test_target_spacing(seed):
    """nnU-Net's rule read off a planner that has been told nothing but the fingerprint."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(2, 12)
    spacings = [(float(rng.uniform(0.5, 1.0) * coarse), *([float(rng.uniform(0.8, 2.0))] * 2)) for _ in range(9)]
    shapes = [tuple(int(n) for n in rng.integers((5, 120, 120), (90, 260, 260))) for _ in range(9)]
    planner = object.__new__(ExperimentPlanner)
    planner.overwrite_target_spacing, planner.anisotropy_threshold = None, 3
    planner.dataset_fingerprint = {"spacings": spacings, "shapes_after_crop": shapes}
    values = Intensities(0, 1, 0, 1, 0, 1)
    found = plan_from(Fingerprint(tuple(spacings), tuple(shapes), {"pet": values}, 9, 9), schemes={"pet": "zscore"})
    assert found.spacing_mm == pytest.approx(tuple(planner.determine_fullres_target_spacing()), abs=2e-5)


class Told:
    """The two answers that nnU-Net's predictor asks its managers for."""

    patch_size = (16, 16, 8)
    num_segmentation_heads = 2


@pytest.fixture(scope="module")
def network():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        found = unet(2, 2, features=(4, 8, 8), blocks=(1, 1, 1))
    return finest_only(found.eval())


def slid(network, channels, mirror):
    predictor = nnUNetPredictor(
        tile_step_size=0.5, use_gaussian=True, use_mirroring=mirror is not None, perform_everything_on_device=False,
        device=torch.device("cpu"), verbose=False, allow_tqdm=False,
    )  # fmt: skip
    predictor.network, predictor.configuration_manager, predictor.label_manager = network, Told, Told
    predictor.allowed_mirroring_axes = mirror
    return predictor.predict_sliding_window_return_logits(torch.from_numpy(channels)).float().numpy()


@pytest.mark.parametrize("mirror", [None, (0, 1, 2), (2, 1)])
@pytest.mark.parametrize("shape", [(30, 25, 17), (12, 20, 5)], ids=["larger", "smaller"])
def test_a_network_slid_over_an_image(network, monkeypatch, mirror, shape):
    """With nnU-Net's sums in float32 as well; one image is smaller than the window."""
    channels = np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)
    monkeypatch.setattr(torch, "half", torch.float32)
    monkeypatch.setattr(predicting, "compute_gaussian", partial(compute_gaussian, dtype=torch.float32))
    expected = slid(network, channels, mirror)
    ours = sliding_window(channels, mirrored(network, mirror or ()), labels=2, window=Told.patch_size, step=0.5)
    assert ours.logits.shape == expected.shape
    assert np.abs(ours.logits - expected).max() < 1e-4
    assert np.abs(expected).max() > 1


def test_half_precision_sums_differ_little_where_weights_are_not_tiny(network):
    """As published. Towards the image's corners, where half precision counts in steps of 6e-8, they differ more."""
    shape = (30, 25, 17)
    channels = np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)
    expected = slid(network, channels, (0, 1, 2))
    ours = sliding_window(channels, mirrored(network, (0, 1, 2)), labels=2, window=Told.patch_size, step=0.5).logits
    weight = np.zeros(shape)
    for corner in product(*(window_starts(n, w, 0.5) for n, w in zip(shape, Told.patch_size, strict=True))):
        where = tuple(slice(a, a + w) for a, w in zip(corner, Told.patch_size, strict=True))
        weight[where] += importance(Told.patch_size).numpy()
    clear = weight > 0.1
    assert clear.mean() > 0.4
    assert np.abs(ours - expected)[:, clear].max() < 1e-2
    assert np.abs(ours - expected)[:, clear].mean() < 1e-3
