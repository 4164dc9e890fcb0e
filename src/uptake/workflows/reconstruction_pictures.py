"""What a masked autoencoder sees, hides and gives back, as one picture per epoch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from uptake.io.write import atomic_path
from uptake.sampling.masking import MaskedWindows

TITLES = ("scan", "what it sees", "what it gives back", "error")
LIMITS = (-1.5, 3.0)
"""Of the grey scale, in standard deviations of the scan."""


def draw_reconstruction(
    network: nn.Module, source: MaskedWindows, path: Path, *, seed: int, device: torch.device
) -> None:
    """Write a PNG of one validation window: a coronal slice of each channel in a row, four columns.

    Hidden voxels of the second column are red. The network is left in the mode it came in.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    plain = source.plain(seed=seed)
    batch = plain.finished(plain.cut(0), device)
    was_training = network.training
    network.eval()
    with torch.no_grad():
        output = network(batch.channels[:1]).float()[0].cpu().numpy()
    network.train(was_training)
    target, hidden = batch.target[0].cpu().numpy(), batch.hidden[0].cpu().numpy()
    # The coronal slice with most in it, so that a window at the skin is not drawn as air.
    middle = int(np.abs(target).sum((0, 1, 3)).argmax())
    channels = source.rules.channels
    figure = Figure(figsize=(10, 3.2 * len(channels)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(channels), len(TITLES), squeeze=False)
    for row, name in enumerate(channels):
        scan, mask, answer = (array[row, ::-1, middle] for array in (target, hidden, output))
        images = (scan, np.where(mask, np.nan, scan), answer, np.abs(answer - scan))
        for axis, image, title in zip(axes[row], images, TITLES, strict=True):
            axis.set_facecolor("#c0504d")
            limits = (0.0, LIMITS[1] - LIMITS[0]) if title == "error" else LIMITS
            axis.imshow(image, cmap="gray_r" if name == "pet" else "gray", vmin=limits[0], vmax=limits[1])
            axis.set_xticks([])
            axis.set_yticks([])
            axis.set_title(f"{name.upper()}: {title}", fontsize=9)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=90, metadata={"Software": None})
