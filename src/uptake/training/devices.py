"""Which device and which precision."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from uptake.core.errors import UsageError

if TYPE_CHECKING:
    import torch  # 200 MB and a second, of which compiled inference needs nothing
    from lightning_fabric import Fabric  # 70 MB and seconds to load, of which inference needs nothing

LONGEST_WAIT = timedelta(days=2)
"""For another process of a data-parallel run."""

PRECISIONS = ("auto", "32-true", "bf16-mixed", "16-mixed")

ACCELERATORS = ("nvidiactl", "nvidia0", "kfd", "dxg", "nvmap", "nvhost-ctrl")
"""In /dev on Linux where torch could find a device: NVIDIA's driver, AMD's, that of WSL, and those of Jetson."""

BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "amx_tile"})
"""Of a CPU that multiplies in bfloat16, as Linux and torch name them."""


def make_fabric(device: str = "auto", precision: str = "auto", *, devices: int = 1) -> Fabric:
    """Return a Fabric on one device, or on several of them, data-parallel.

    Parameters
    ----------
    device : str
        "auto" (CUDA, then the CPU), "cpu", "cuda", "cuda:1", "mps".
    precision : str
        "auto": bfloat16 where the device multiplies in it (see `bf16_pays`), else float32.
    devices : int
        Above 1 the running command is started once more for each further device (DDP; NCCL on GPUs, gloo on CPUs);
        gradients are averaged over them. Batches are per device.

    Raises
    ------
    UsageError
        If the device or precision is unknown or absent, or there are not that many devices.
    """
    from lightning_fabric import Fabric
    from lightning_fabric.strategies.ddp import DDPStrategy

    if precision not in PRECISIONS:
        raise UsageError(f"precision {precision!r} is unknown; choose one of {', '.join(PRECISIONS)}.")
    target = resolve_device(device)
    if precision == "auto":
        precision = "bf16-mixed" if bf16_pays(target) else "32-true"
    if devices == 1:
        numbers: list[int] | int = [target.index or 0] if target.type == "cuda" else 1
        return Fabric(accelerator=target.type, devices=numbers, precision=precision)  # type: ignore[arg-type]
    _require_several(target, device, devices)
    # The first process scores held-out scans while the others wait for it at the next fold.
    strategy = DDPStrategy(timeout=LONGEST_WAIT)
    fabric = Fabric(accelerator=target.type, devices=devices, precision=precision, strategy=strategy)  # type: ignore[arg-type]
    fabric.launch()
    return fabric


def is_first_process() -> bool:
    """Return whether this is the process that the user started, not one started for a further device."""
    return int(os.environ.get("LOCAL_RANK", "0")) == 0


def _require_several(target: torch.device, name: str, devices: int) -> None:
    if devices < 1:
        raise UsageError(f"devices is 1 or more, came {devices}.")
    if target.type not in ("cuda", "cpu") or target.index is not None:
        raise UsageError(f"{devices} devices need the plain name cuda or cpu, came {name!r}.")
    import torch

    if target.type == "cuda" and devices > torch.cuda.device_count():
        raise UsageError(f"{devices} devices were asked for; this machine shows {torch.cuda.device_count()} of CUDA.")


@contextmanager
def one_by_one(fabric: Fabric) -> Iterator[None]:
    """Let the first process do something alone (fill a cache) before the others do the same (find it filled)."""
    if fabric.world_size == 1:
        yield
        return
    with fabric.rank_zero_first():
        yield


def resolve_device(name: str = "auto") -> torch.device:
    """Return the torch device for a name; see `make_fabric`.

    Raises
    ------
    UsageError
        If the device is unknown or not there.
    """
    import torch

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


def device_name(name: str = "auto") -> str:
    """Return what `resolve_device` says, as text; torch is not loaded where the answer is the CPU anyway.

    Raises
    ------
    UsageError
        As `resolve_device`.
    """
    if name == "cpu" or (name == "auto" and "torch" not in sys.modules and _no_accelerator()):
        return "cpu"
    return str(resolve_device(name))


def _no_accelerator(place: Path = Path("/dev")) -> bool:
    """Return whether this system can have no CUDA device, whatever torch would say."""
    if sys.platform == "darwin":
        return True
    return sys.platform == "linux" and not any((place / device).exists() for device in ACCELERATORS)


def number_format(precision: str) -> torch.dtype:
    """Return torch's type of that name: float32 or bfloat16."""
    import torch

    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[precision]


def bf16_pays(device: torch.device | str) -> bool:
    """Return whether the device has bfloat16 multiply-accumulate units (AVX512-BF16 or AMX on CPUs).

    Decided from the hardware, not from a timing, so that the same machine always computes the same numbers.
    """
    kind = str(device).partition(":")[0]
    if kind == "cpu" and "torch" not in sys.modules:
        flags = _cpu_flags()
        if flags is not None:
            return bool(flags & BF16_FLAGS)
    import torch

    if kind == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if kind != "cpu":
        return False
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    if capabilities:
        return any(capabilities.get(flag) for flag in BF16_FLAGS)
    probe = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(probe()) if probe is not None else False


def _cpu_flags(file: Path = Path("/proc/cpuinfo")) -> frozenset[str] | None:
    """Return what Linux says of the first core; None where it says nothing."""
    try:
        lines = file.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return None
