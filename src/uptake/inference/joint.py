"""Organs, a denoised image, or both, from one sliding window over a low-dose scan."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from uptake.cases import HarmonisedCase, Prediction
from uptake.inference.ensemble import WindowRules, predict_windows
from uptake.inference.sliding_window import AIR_LOGIT, Predictor
from uptake.networks.denoise_segment_net import DenoiseSegmentNet, Finest, SequentialNet


def joint_windows(
    networks: Sequence[nn.Module],
    case: HarmonisedCase,
    rules: WindowRules,
    *,
    labels: int,
    denoised: bool,
    device: torch.device | None = None,
    dtype: torch.dtype = torch.float32,
    engine: str = "torch",
    skip_air: bool = True,
    batch_size: int = 1,
    on_window: Callable[[int, int], None] | None = None,
) -> Prediction:
    """Return logits, then the denoised image, as channels of one prediction (labels + denoised, z, y, x).

    Without logits a channel of zeros stands before the image; like the background's it shows where no window was
    computed (`image_of`).

    Parameters
    ----------
    networks : sequence of DenoiseSegmentNet or SequentialNet
        The folds; what they give is averaged.
    case : HarmonisedCase
    rules : WindowRules
    labels : int
        Logits per voxel, background included; 0: no organs, and the decoder for them does not run.
    denoised : bool
        Also the image. If False the denoising decoder does not run.
    device, dtype, engine, skip_air, batch_size, on_window
        As in `predict_windows`.
    """
    return predict_windows(
        networks,
        case,
        rules,
        labels=max(labels, 1) + denoised,
        form=f"{'organs' if labels else 'no organs'}, {'image' if denoised else 'no image'}",
        view=partial(_view, labels=labels > 0, denoised=denoised),
        after=None if labels else _after_zeros,
        device=device,
        dtype=dtype,
        engine=engine,
        skip_air=skip_air,
        batch_size=batch_size,
        on_window=on_window,
    )


def image_of(found: Prediction, case: HarmonisedCase) -> npt.NDArray[np.float32]:
    """Return the denoised image (z, y, x) of `joint_windows`, normalised; the input where no window was computed."""
    # Channel 0 is 0 wherever a window was computed without organs, and is hardly ever AIR_LOGIT to the bit with them.
    computed = found.logits[0] != AIR_LOGIT
    return np.where(computed, found.logits[-1], case.channels[0])


def _view(network: DenoiseSegmentNet | SequentialNet, *, labels: bool, denoised: bool) -> nn.Module:
    return Finest(network, labels=labels, denoised=denoised).eval()


def _after_zeros(predictor: Predictor) -> Predictor:
    def predict(batch: torch.Tensor) -> torch.Tensor:
        images = predictor(batch)
        return torch.cat([torch.zeros_like(images), images], dim=1)

    return predict
