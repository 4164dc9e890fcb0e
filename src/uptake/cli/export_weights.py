"""uptake export-weights"""

from __future__ import annotations

from pathlib import Path

from uptake.cli.console import say
from uptake.cli.options import OptionalOut
from uptake.core.errors import UsageError


def export_weights(bundle: str, /, *, out: OptionalOut = None, onnx: Path | None = None) -> None:
    """Write a bundle as an nnU-Net v2 model folder that nnU-Net's own predictor takes, or as ONNX.

    Parameters
    ----------
    bundle
        Name of a shipped model or a bundle folder.
    out
        Receives Dataset/Trainer__Plans__Configuration/.
    onnx
        An .onnx file, one for each of several folds; grid, normalisation and labels stand in its metadata.
    """
    if out is None and onnx is None:
        raise UsageError("name a folder for nnU-Net's model folder (--out), or a file (--onnx FILE.onnx).")
    if out is not None:
        from uptake.workflows.export_weights import export_weights as run

        say(f"nnU-Net model folder: {run(bundle, out)}")
    if onnx is not None:
        from uptake.workflows.export_onnx import export_onnx

        for file in export_onnx(bundle, onnx):
            say(f"ONNX: {file}")
