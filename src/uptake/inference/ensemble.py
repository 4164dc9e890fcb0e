"""One sliding window over a case by several folds and flips, each compiled once: what every method predicts by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from uptake.cases import HarmonisedCase, Prediction
from uptake.core.types import Shape3
from uptake.inference.compiled import Weights, compiled_once
from uptake.inference.sliding_window import Finished, Predictor, averaged, mirrored, sliding_window

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class WindowRules:
    """How windows are laid and averaged.

    Attributes
    ----------
    window : tuple of int
        (z, y, x) voxels.
    step : float
        As a share of the window.
    mirror_axes : tuple of int
        Flips averaged, 0 to 2 for z, y, x.
    smallest : tuple of int
        The smallest window that the network takes, for the compiler.
    focus : bool
        Windows over the body alone.
    layers : int
        Axis along which `focus` follows the body.
    """

    window: Shape3
    step: float
    mirror_axes: tuple[int, ...]
    smallest: Shape3
    focus: bool = False
    layers: int = 0


def predict_windows(
    networks: Sequence[nn.Module | Weights],
    case: HarmonisedCase,
    rules: WindowRules,
    *,
    labels: int,
    form: str,
    view: Callable[[Any], Any],
    after: Callable[[Predictor], Predictor] | None = None,
    organs: int = 0,
    device: torch.device | None = None,
    dtype: torch.dtype | str = "float32",
    engine: str = "torch",
    skip_air: bool = True,
    batch_size: int = 1,
    finished: Finished | None = None,
    on_window: Callable[[int, int], None] | None = None,
) -> Prediction:
    """Return the outputs of the networks, averaged over folds and flips, on the model grid.

    Parameters
    ----------
    networks : sequence of nn.Module or Weights
        The folds; networks are moved to the device and set to evaluation. Weights go with "openvino".
    case : HarmonisedCase
    rules : WindowRules
    labels, organs : int
        Channels of the output, and how many of them more are organs'.
    form : str
        Name of what `view` makes, under which a compiled program is kept.
    view : callable
        A network -> one that shares its weights and gives one tensor (b, labels + organs, z, y, x). Weights -> the same
        as an OpenVINO model.
    after : callable, optional
        Wraps what runs a network, compiled or not.
    device : torch.device, optional
    dtype : torch.dtype or str
        Of the convolutions; sums are float32.
    engine : str
        "torch", or "openvino" on CPUs (`inference.compiled`).
    skip_air : bool
        Do not compute windows without body.
    batch_size : int
        Windows at a time.
    finished : callable, optional
        Takes the outputs stretch by stretch, see `sliding_window`.
    on_window : callable, optional
        Told (done, all).
    """
    arrays = all(isinstance(network, Weights) for network in networks)
    if not arrays:
        import torch

        device = device or torch.device("cpu")
    prepared = []
    for network in networks:
        if not isinstance(network, Weights):
            network.to(device).eval()
        predictor: Predictor
        if engine == "openvino":
            predictor = compiled_once(
                network,
                form,
                lambda one=network: view(one),  # type: ignore[misc]
                channels=case.channels.shape[0],
                window=rules.window,
                smallest=rules.smallest,
                dtype=dtype,
            )
        else:
            predictor = view(network)
        prepared.append(mirrored(predictor if after is None else after(predictor), rules.mirror_axes))
    with nullcontext() if arrays else _autocast(device, dtype):
        return sliding_window(
            case.channels,
            averaged(prepared),
            labels=labels,
            organs=organs,
            window=rules.window,
            step=rules.step,
            body=case.body if skip_air else None,
            focus=rules.focus,
            layers=rules.layers,
            batch_size=batch_size,
            device=device,
            arrays=arrays,
            finished=finished,
            on_window=on_window,
        )


def _autocast(device: Any, dtype: torch.dtype | str) -> Any:
    import torch

    number_format = getattr(torch, dtype) if isinstance(dtype, str) else dtype
    return torch.autocast(device.type, dtype=number_format, enabled=number_format != torch.float32)
