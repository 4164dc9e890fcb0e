"""An empty figure, and its bytes: what every picture of this package begins and ends with.

Matplotlib's object interface with the Agg canvas only: no window, no global state; same input, same bytes.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PIXELS_PER_INCH = 110


def new_figure(size: tuple[float, float]) -> Figure:
    """Return an empty white figure, inches, with its own canvas: no pyplot, nothing global."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=PIXELS_PER_INCH, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def png_bytes(figure: Figure) -> bytes:
    """Return the figure as PNG without any metadata that changes from run to run."""
    stream = io.BytesIO()
    # Without the Software entry, which names the release of Matplotlib.
    figure.savefig(stream, format="png", facecolor=figure.get_facecolor(), metadata={"Software": None})
    return stream.getvalue()
