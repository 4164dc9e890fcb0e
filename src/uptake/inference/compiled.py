"""Compiled inference on CPUs with OpenVINO, where it is installed (extra ``cpu``).

The network is traced once and handed to OpenVINO's own front end, in memory: no file is written, and the converter
script that would report usage statistics is not called.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import warnings
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

from uptake.core.errors import UsageError
from uptake.core.types import Shape3
from uptake.inference.sliding_window import Predictor

log = logging.getLogger(__name__)

ENGINES = ("auto", "torch", "openvino")

_HINTS = {torch.float32: "f32", torch.bfloat16: "bf16"}

_PROGRAMS: WeakKeyDictionary[nn.Module, dict[tuple[object, ...], tuple[int, Predictor]]] = WeakKeyDictionary()
"""Network -> (form, channels, window, number format, threads) -> fingerprint of its weights, compiled program."""


def resolve_engine(engine: str, device: torch.device) -> str:
    """Return "torch" or "openvino": "auto" takes OpenVINO on CPUs where it is installed.

    Raises
    ------
    UsageError
        If the engine is unknown, not installed, or not for this device.
    """
    if engine not in ENGINES:
        raise UsageError(f"engine {engine!r} is unknown; choose one of {', '.join(ENGINES)}.")
    if engine == "torch" or (engine == "auto" and device.type != "cpu"):
        return "torch"
    if device.type != "cpu":
        raise UsageError(f"openvino runs on the CPU here, the device is {device}; take --engine torch.")
    problem = _why_not_openvino()
    if problem is None:
        return "openvino"
    if engine == "openvino":
        raise UsageError(f'{problem}; pip install "uptake[cpu]", or take --engine torch.')
    log.info("%s; networks run through torch", problem)
    return "torch"


def _why_not_openvino() -> str | None:
    """Return why OpenVINO cannot be used, or None if it loads: an installation can be there and broken."""
    if importlib.util.find_spec("openvino") is None:
        return "openvino is not installed"
    try:
        importlib.import_module("openvino.frontend.pytorch.ts_decoder")
    except Exception as error:  # a missing system library shows as ImportError, OSError or RuntimeError
        return f"openvino is installed but does not load ({error})"
    return None


def compiled(network: nn.Module, *, channels: int, window: Shape3, smallest: Shape3, dtype: torch.dtype) -> Predictor:
    """Return the network as a compiled predictor for single windows of one size.

    Parameters
    ----------
    network : nn.Module
        In evaluation mode, returning one tensor.
    channels : int
        Of the input.
    window : tuple of int
        (z, y, x).
    smallest : tuple of int
        The smallest window (z, y, x) that the network takes; it is traced on that, which is quick.
    dtype : torch.dtype
        float32 (agrees with torch to about 1e-4 in the logits) or bfloat16.
    """
    import openvino as ov
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    example = torch.zeros(1, channels, *smallest)
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

    return Program(program)


class Program:
    """A compiled network: a predictor that can let go of its working memory between cases.

    Parameters
    ----------
    program : openvino.CompiledModel
    """

    def __init__(self, program: Any) -> None:
        self._program = program

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        """Return the logits of a batch of windows, one after the other."""
        # The result array is reused by the next call, so it is copied.
        results = [torch.from_numpy(self._program(item.unsqueeze(0).contiguous().numpy())[0].copy()) for item in batch]
        return torch.cat(results)

    def release(self) -> None:
        """Free what the layers work in, several times the size of a window; the next call takes it again."""
        self._program.release_memory()


def compiled_once(
    owner: nn.Module,
    form: str,
    build: Callable[[], nn.Module],
    *,
    channels: int,
    window: Shape3,
    smallest: Shape3,
    dtype: torch.dtype,
) -> Predictor:
    """Return `compiled` of a network, from memory where it was compiled before: once for all cases of a cohort.

    The program lives as long as `owner` does; it is made anew when the owner's weights have changed.

    Parameters
    ----------
    owner : nn.Module
        Whose weights the network uses.
    form : str
        Which of the networks that `build` makes of this owner ("lesions", "lesions and organs", ...).
    build : callable
        Returns the network to compile; only called where it has to be.
    channels, window, smallest, dtype
        As for `compiled`.
    """
    programs = _PROGRAMS.setdefault(owner, {})
    key = (form, channels, window, dtype, torch.get_num_threads())
    weights = _weights_fingerprint(owner)
    if key not in programs or programs[key][0] != weights:
        predictor = compiled(build(), channels=channels, window=window, smallest=smallest, dtype=dtype)
        programs[key] = (weights, predictor)
    return programs[key][1]


def forget(owner: nn.Module) -> None:
    """Drop the programs compiled of this network, and with them their memory."""
    _PROGRAMS.pop(owner, None)


def release(owner: nn.Module) -> None:
    """Free the working memory of what was compiled of this network; it stays compiled."""
    for _, predictor in _PROGRAMS.get(owner, {}).values():
        if isinstance(predictor, Program):
            predictor.release()


def _weights_fingerprint(network: nn.Module) -> int:
    """Return a number that changes whenever a weight is replaced or written to."""
    return hash(tuple((parameter.data_ptr(), parameter._version) for parameter in network.parameters()))
