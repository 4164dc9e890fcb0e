"""Against MONAI, where it is installed."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pytest.importorskip("monai", reason="parity with MONAI needs the 'bench' extra")
    from monai.inferers import sliding_window_inference
    from monai.losses import DiceLoss

from uptake.inference.sliding_window import sliding_window
from uptake.training.losses import soft_dice_loss

pytestmark = pytest.mark.filterwarnings("ignore")


def test_windows_side_by_side_and_padding_of_a_small_image():
    """Without overlap the two weightings do not matter, and only which voxels a window sees decides."""

    def depends_on_place(batch):
        ramp = torch.arange(batch[0, 0].numel(), dtype=torch.float32).reshape(batch.shape[2:])
        return batch * ramp + batch.mean((2, 3, 4), keepdim=True)

    channels = np.random.default_rng(0).normal(size=(2, 16, 24, 5)).astype(np.float32)
    ours = sliding_window(channels, depends_on_place, labels=2, window=(8, 8, 8), step=1.0).logits
    theirs = sliding_window_inference(torch.from_numpy(channels)[None], (8, 8, 8), 1, depends_on_place, overlap=0.0)
    assert ours.shape == theirs.shape[1:]
    assert np.abs(ours - theirs[0].numpy()).max() < 1e-3  # values up to a thousand


def test_soft_dice():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn((2, 3, 5, 6, 7), generator=generator)
    labels = torch.randint(0, 3, (2, 5, 6, 7), generator=generator)
    theirs = DiceLoss(include_background=False, to_onehot_y=True, softmax=True, smooth_nr=0.0, smooth_dr=0.0)
    assert float(soft_dice_loss(logits, labels)) == pytest.approx(float(theirs(logits, labels[:, None])) - 1, abs=1e-6)
