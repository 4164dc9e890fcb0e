"""uptake export-weights"""

from __future__ import annotations

from uptake.cli.console import say
from uptake.cli.options import Out


def export_weights(bundle: str, /, *, out: Out) -> None:
    """Write a bundle as an nnU-Net v2 model folder that nnU-Net's own predictor takes.

    Parameters
    ----------
    bundle
        Name of a shipped model or a bundle folder.
    out
        Receives Dataset/Trainer__Plans__Configuration/.
    """
    from uptake.workflows.export_weights import export_weights as run

    say(f"nnU-Net model folder: {run(bundle, out)}")
