"""Compiled inference on CPUs with OpenVINO, where it is installed (extra ``cpu``).

The network is traced once and handed to OpenVINO's own front end, in memory: no file is written, and the converter
script that would report usage statistics is not called.
"""

from __future__ import annotations

import importlib.util
import warnings

import torch
from torch import nn

from uptake.core.errors import UsageError
from uptake.core.types import Shape3
from uptake.inference.sliding_window import Predictor

ENGINES = ("auto", "torch", "openvino")

_HINTS = {torch.float32: "f32", torch.bfloat16: "bf16"}


def resolve_engine(engine: str, device: torch.device) -> str:
    """Return "torch" or "openvino": "auto" takes OpenVINO on CPUs where it is installed.

    Raises
    ------
    UsageError
        If the engine is unknown, not installed, or not for this device.
    """
    if engine not in ENGINES:
        raise UsageError(f"engine {engine!r} is unknown; choose one of {', '.join(ENGINES)}.")
    installed = importlib.util.find_spec("openvino") is not None
    if engine == "auto":
        return "openvino" if installed and device.type == "cpu" else "torch"
    if engine == "openvino" and not installed:
        raise UsageError('openvino is not installed; pip install "uptake[cpu]", or take --engine torch.')
    if engine == "openvino" and device.type != "cpu":
        raise UsageError(f"openvino runs on the CPU here, the device is {device}; take --engine torch.")
    return engine


def compiled(network: nn.Module, *, channels: int, window: Shape3, smallest: int, dtype: torch.dtype) -> Predictor:
    """Return the network as a compiled predictor for single windows of one size.

    Parameters
    ----------
    network : nn.Module
        In evaluation mode, returning one tensor.
    channels : int
        Of the input.
    window : tuple of int
        (z, y, x).
    smallest : int
        Side of the smallest cube that the network takes; it is traced on that, which is quick.
    dtype : torch.dtype
        float32 (agrees with torch to about 1e-4 in the logits) or bfloat16.
    """
    import openvino as ov
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    example = torch.zeros(1, channels, smallest, smallest, smallest)
    example[..., 0] = 1.0  # instance norm of a constant would trace a division by its epsilon alone
    with torch.inference_mode(), warnings.catch_warnings():
        # OpenVINO's front end reads TorchScript; torch announces that tracing will go one day.
        warnings.simplefilter("ignore")
        traced = torch.jit.freeze(torch.jit.trace(network, example, check_trace=False))
    front_end = FrontEndManager().load_by_framework("pytorch")
    decoder = TorchScriptPythonDecoder(traced, example_input=example, shared_memory=True)
    read = front_end.load(decoder)  # both stay referenced until convert is done with them
    model = front_end.convert(read)
    model.reshape([1, channels, *window])
    hints = {"INFERENCE_PRECISION_HINT": _HINTS[dtype], "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    program = ov.Core().compile_model(model, "CPU", hints)

    def predict(batch: torch.Tensor) -> torch.Tensor:
        # The result array is reused by the next call, so it is copied.
        results = [torch.from_numpy(program(item.unsqueeze(0).contiguous().numpy())[0].copy()) for item in batch]
        return torch.cat(results)

    return predict
