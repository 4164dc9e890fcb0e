"""Checkpoints of others, read without running anything in them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from uptake.core.errors import CheckpointError


def load_restricted(path: Path, *, allowed: Sequence[Any] = ()) -> Any:
    """Return the content of a pickled checkpoint, tensors on the CPU, through torch's restricted unpickler.

    Parameters
    ----------
    path : Path
    allowed : sequence
        Plain classes that may be made besides tensors, Python's own values and NumPy's scalars and arrays, which logs
        inside checkpoints hold.

    Raises
    ------
    CheckpointError
        If the file is missing or damaged, or asks for any other global.
    """
    try:
        with torch.serialization.safe_globals([*_numpy_globals(), *allowed]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: this checkpoint is missing.") from error
    except Exception as error:  # torch raises UnpicklingError, RuntimeError, EOFError, BadZipFile ...
        asked = re.search(r"GLOBAL (\S+)", str(error))
        if asked:
            raise CheckpointError(
                f"{path}: the pickle asks for {asked.group(1)}, which tensors and plain values do not need; it was "
                "not run. Take the checkpoint from its first source."
            ) from error
        raise CheckpointError(
            f"{path}: cannot be read as a checkpoint ({type(error).__name__}); copy it again."
        ) from error


def _numpy_globals() -> list[Any]:
    """Return the NumPy types that training logs pickle, under the names of NumPy 1 and 2."""
    import numpy as np
    from numpy import dtypes
    from numpy._core import multiarray

    scalar: Any = multiarray.scalar  # type: ignore[attr-defined]
    rebuild: Any = multiarray._reconstruct  # type: ignore[attr-defined]
    named = [(scalar, "numpy.core.multiarray.scalar"), (rebuild, "numpy.core.multiarray._reconstruct")]
    kinds = [
        getattr(dtypes, name) for name in ("Float64DType", "Float32DType", "Int64DType", "Int32DType", "BoolDType")
    ]
    return [scalar, rebuild, *named, np.ndarray, np.dtype, *kinds]
