"""Which device and which precision."""

from __future__ import annotations

import torch
from lightning_fabric import Fabric

from uptake.core.errors import UsageError

PRECISIONS = ("auto", "32-true", "bf16-mixed", "16-mixed")


def make_fabric(device: str = "auto", precision: str = "auto") -> Fabric:
    """Return a Fabric on one device.

    Parameters
    ----------
    device : str
        "auto" (CUDA, then the CPU), "cpu", "cuda", "cuda:1", "mps".
    precision : str
        "auto": bfloat16 where the device multiplies in it (see `bf16_pays`), else float32.

    Raises
    ------
    UsageError
        If the device or precision is unknown or absent.
    """
    if precision not in PRECISIONS:
        raise UsageError(f"precision {precision!r} is unknown; choose one of {', '.join(PRECISIONS)}.")
    target = resolve_device(device)
    if precision == "auto":
        precision = "bf16-mixed" if bf16_pays(target) else "32-true"
    devices: list[int] | int = [target.index or 0] if target.type == "cuda" else 1
    return Fabric(accelerator=target.type, devices=devices, precision=precision)  # type: ignore[arg-type]


def resolve_device(name: str = "auto") -> torch.device:
    """Return the torch device for a name; see `make_fabric`.

    Raises
    ------
    UsageError
        If the device is unknown or not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"device {name!r} is unknown; choose auto, cpu, cuda, cuda:N or mps.") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(f"device {name!r} is not there: this machine shows {torch.cuda.device_count()} CUDA devices.")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UsageError("device 'mps' is not there on this machine.")
    return device


def bf16_pays(device: torch.device) -> bool:
    """Return whether the device has bfloat16 multiply-accumulate units (AVX512-BF16 or AMX on CPUs).

    Decided from the hardware, not from a timing, so that the same machine always computes the same numbers.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return False
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    if capabilities:
        return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") or capabilities.get("amx_tile"))
    probe = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(probe()) if probe is not None else False
