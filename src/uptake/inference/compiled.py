"""Compiled inference on CPUs with OpenVINO, where it is installed (extra ``cpu``).

A network is traced once and handed to OpenVINO's own front end, in memory: no file is written, and the converter
script that would report usage statistics is not called. Where a method writes its network down in OpenVINO's own
operations (`inference.unet_graph`), that is compiled instead, and torch is not even loaded.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from uptake.core.errors import UsageError
from uptake.core.types import Shape3
from uptake.inference.sliding_window import Predictor

if TYPE_CHECKING:
    import torch
    from torch import nn

log = logging.getLogger(__name__)

ENGINES = ("auto", "torch", "openvino")

_HINTS = {"float32": "f32", "bfloat16": "bf16"}


@dataclass(frozen=True, eq=False)
class Weights:
    """Weights of one network as arrays: what a program is made of where torch is not loaded.

    Attributes
    ----------
    arrays : mapping of str to array float32
        Named as in the network's state.
    """

    arrays: Mapping[str, npt.NDArray[np.float32]]


Owner = Any
"""Whose weights a program has: a network, or `Weights`."""

_PROGRAMS: WeakKeyDictionary[Owner, dict[tuple[object, ...], tuple[int, Predictor]]] = WeakKeyDictionary()
"""Owner -> (form, channels, window, number format, threads) -> fingerprint of its weights, compiled program."""


def resolve_engine(engine: str, device: torch.device | str) -> str:
    """Return "torch" or "openvino": "auto" takes OpenVINO on CPUs where it is installed.

    Parameters
    ----------
    engine : str
    device : torch.device or str
        "cpu", "cuda:1", ...

    Raises
    ------
    UsageError
        If the engine is unknown, not installed, or not for this device.
    """
    if engine not in ENGINES:
        raise UsageError(f"engine {engine!r} is unknown; choose one of {', '.join(ENGINES)}.")
    on_cpu = str(device).partition(":")[0] == "cpu"
    if engine == "torch" or (engine == "auto" and not on_cpu):
        return "torch"
    if not on_cpu:
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
        importlib.import_module("openvino")
    except Exception as error:  # a missing system library shows as ImportError, OSError or RuntimeError
        return f"openvino is installed but does not load ({error})"
    return None


def compiled(
    network: nn.Module, *, channels: int, window: Shape3, smallest: Shape3, dtype: torch.dtype | str
) -> Program:
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
    dtype : torch.dtype or str
        float32 (agrees with torch to about 1e-4 in the logits) or bfloat16.
    """
    import torch
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
    return program_of(model, dtype)


def program_of(model: Any, dtype: torch.dtype | str) -> Program:
    """Return an OpenVINO model of fixed shape, compiled for this CPU.

    Parameters
    ----------
    model : openvino.Model
        (1, c, *window) -> (1, labels, *window), float32.
    dtype : torch.dtype or str
        In which it computes.
    """
    import openvino as ov

    hints: dict[str, Any] = {"INFERENCE_PRECISION_HINT": _HINTS[_name(dtype)]}
    threads = _threads()
    if threads:
        hints["INFERENCE_NUM_THREADS"] = threads
    return Program(ov.Core().compile_model(model, "CPU", hints))


class Program:
    """A compiled network: a predictor that can let go of its working memory between cases.

    Parameters
    ----------
    program : openvino.CompiledModel
    """

    def __init__(self, program: Any) -> None:
        self._program = program

    def __call__(self, batch: Any) -> Any:
        """Return the logits of a batch of windows, one after the other: arrays of arrays, tensors of tensors."""
        if isinstance(batch, np.ndarray):
            found = [self._run(np.ascontiguousarray(item[None])) for item in batch]
            return found[0] if len(found) == 1 else np.concatenate(found)
        import torch

        return torch.cat([torch.from_numpy(self._run(item.unsqueeze(0).contiguous().numpy())) for item in batch])

    def _run(self, window: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        # The result array is reused by the next call, so it is copied.
        return np.array(self._program(window, share_inputs=True, share_outputs=True)[0])

    def release(self) -> None:
        """Free what the layers work in, several times the size of a window; the next call takes it again."""
        self._program.release_memory()


def compiled_once(
    owner: Owner,
    form: str,
    build: Callable[[], Any],
    *,
    channels: int,
    window: Shape3,
    smallest: Shape3,
    dtype: torch.dtype | str,
) -> Predictor:
    """Return a program of a network, from memory where it was compiled before: once for all cases of a cohort.

    The program lives as long as `owner` does; it is made anew when the owner's weights have changed.

    Parameters
    ----------
    owner : nn.Module or Weights
        Whose weights the network uses.
    form : str
        Which of the networks that `build` makes of this owner ("lesions", "lesions and organs", ...).
    build : callable
        Returns the network to compile, or of `Weights` the OpenVINO model; only called where it has to be.
    channels, window, smallest, dtype
        As for `compiled`.
    """
    programs = _PROGRAMS.setdefault(owner, {})
    key = (form, channels, window, _name(dtype), _threads())
    weights = _weights_fingerprint(owner)
    if key not in programs or programs[key][0] != weights:
        if isinstance(owner, Weights):
            predictor = program_of(build(), dtype)
        else:
            predictor = compiled(build(), channels=channels, window=window, smallest=smallest, dtype=dtype)
        programs[key] = (weights, predictor)
    return programs[key][1]


def forget(owner: Owner) -> None:
    """Drop the programs compiled of this network, and with them their memory."""
    _PROGRAMS.pop(owner, None)


def release(owner: Owner) -> None:
    """Free the working memory of what was compiled of this network; it stays compiled."""
    for _, predictor in _PROGRAMS.get(owner, {}).values():
        if isinstance(predictor, Program):
            predictor.release()


def _name(dtype: torch.dtype | str) -> str:
    return str(dtype).removeprefix("torch.")


def _threads() -> int:
    """Return how many threads torch works with, or is told to; 0 leaves it to OpenVINO (one per core)."""
    if "torch" in sys.modules:
        return int(sys.modules["torch"].get_num_threads())
    told = os.environ.get("OMP_NUM_THREADS", "")
    return int(told) if told.isdigit() else 0


def _weights_fingerprint(owner: Owner) -> int:
    """Return a number that changes whenever a weight of a network is replaced or written to; arrays are not."""
    if isinstance(owner, Weights):
        return 0
    return hash(tuple((parameter.data_ptr(), parameter._version) for parameter in owner.parameters()))
