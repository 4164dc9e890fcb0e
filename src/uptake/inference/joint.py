"""Organs, a denoised image, or both, from one sliding window over a low-dose scan."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from uptake.cases import HarmonisedCase, Prediction
from uptake.core.types import Shape3
from uptake.inference.compiled import compiled_once
from uptake.inference.sliding_window import AIR_LOGIT, Predictor, averaged, mirrored, sliding_window
from uptake.networks.denoise_segment_net import DenoiseSegmentNet, Finest, SequentialNet


def joint_windows(
    networks: Sequence[nn.Module],
    case: HarmonisedCase,
    *,
    labels: int,
    denoised: bool,
    window: Shape3,
    step: float,
    mirror_axes: Sequence[int],
    focus: bool,
    smallest: Shape3,
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
    labels : int
        Logits per voxel, background included; 0: no organs, and the decoder for them does not run.
    denoised : bool
        Also the image. If False the denoising decoder does not run.
    window, step, mirror_axes, focus
        As in `sliding_window` and `mirrored`.
    smallest : tuple of int
        The smallest window that the network takes, for the compiler.
    device, dtype, engine, skip_air, batch_size, on_window
        As in `methods.ldos.predict`.
    """
    device = device or torch.device("cpu")
    channels = case.channels.shape[0]
    prepared = []
    for given in networks:
        given.to(device).eval()
        view = partial(_view, given, labels=labels > 0, denoised=denoised)
        predictor: Predictor
        if engine == "openvino":
            form = f"{'organs' if labels else 'no organs'}, {'image' if denoised else 'no image'}"
            predictor = compiled_once(
                given, form, view, channels=channels, window=window, smallest=smallest, dtype=dtype
            )
        else:
            predictor = view()
        if not labels:
            predictor = _after_zeros(predictor)
        prepared.append(mirrored(predictor, mirror_axes))
    with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
        return sliding_window(
            case.channels,
            averaged(prepared),
            labels=max(labels, 1) + denoised,
            window=window,
            step=step,
            body=case.body if skip_air else None,
            focus=focus,
            batch_size=batch_size,
            device=device,
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
