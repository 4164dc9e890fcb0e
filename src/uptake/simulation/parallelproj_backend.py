"""The same lines, projected by the parallelproj library where it is installed (many cores or a GPU).

Written against the functions of parallelproj 1.5 to 1.10 (`joseph3d_fwd`, `joseph3d_back`), which conda-forge ships;
the default projector needs nothing of it.

References
----------
Schramm and Thielemans, Frontiers in Nuclear Medicine 3, 2024. doi:10.3389/fnume.2023.1324562
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

from uptake.core.errors import UsageError
from uptake.simulation.fields import Array
from uptake.simulation.projector import Projector, ScanGeometry

NEEDED = ("joseph3d_fwd", "joseph3d_back")


def available() -> bool:
    """Return whether a parallelproj with the functions needed can be imported."""
    try:
        module = import_module("parallelproj")
    except ImportError:
        return False
    return all(hasattr(module, name) for name in NEEDED)


class ParallelprojProjector(Projector):
    """`Projector` by parallelproj; same lines, same order, same units."""

    def __init__(self, geometry: ScanGeometry, *, subsets: int = 1, threads: int = 1) -> None:
        if not available():
            raise UsageError(
                "the backend 'parallelproj' was asked for, but no parallelproj 1.x with joseph3d_fwd and joseph3d_back "
                "can be imported. Install it from conda-forge, or take the backend 'sparse'."
            )
        self._check_subsets(geometry, subsets)
        self.geometry, self.subsets, self.threads = geometry, subsets, threads
        self._library: Any = import_module("parallelproj")

    def apply_subset(self, subset: int, image: Array) -> Array:
        """Return the line integrals (angles of the subset, bins, slices) of an image."""
        start, end = self._ends(subset, image.shape[2])
        lines = self._library.joseph3d_fwd(start, end, np.ascontiguousarray(image), *self._grid(image.shape[2]))
        shape = (len(self.angles_of(subset)), self.geometry.n_bins, image.shape[2])
        return np.asarray(lines, dtype=np.float32).reshape(shape)

    def adjoint_subset(self, subset: int, lines: Array) -> Array:
        """Return the back-projection of the lines of one subset."""
        start, end = self._ends(subset, lines.shape[2])
        shape = (*self.geometry.shape, lines.shape[2])
        values = np.ascontiguousarray(lines, dtype=np.float32).ravel()
        image = self._library.joseph3d_back(start, end, shape, *self._grid(lines.shape[2]), values)
        return np.asarray(image, dtype=np.float32).reshape(shape)

    def _grid(self, slices: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Return the position of the first voxel and the voxel size, mm; slices lie 1 apart."""
        size = np.array([*self.geometry.pixel_mm, 1.0], dtype=np.float32)
        count = np.array([*self.geometry.shape, slices], dtype=np.float32)
        return np.asarray(-(count - 1) / 2 * size), size

    def _ends(self, subset: int, slices: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Return where each line enters and leaves, (lines, 3) mm, in the order (angle, bin, slice)."""
        g = self.geometry
        angle = g.angles_rad()[self.angles_of(subset)][:, None, None]
        s = g.radial_mm()[None, :, None]
        z = (np.arange(slices) - (slices - 1) / 2)[None, None, :]
        half = float(np.hypot(g.shape[0] * g.pixel_mm[0], g.shape[1] * g.pixel_mm[1]))
        ends = []
        for along in (-half, half):
            x = s * np.cos(angle) - along * np.sin(angle) + 0 * z
            y = s * np.sin(angle) + along * np.cos(angle) + 0 * z
            ends.append(np.stack([x, y, np.broadcast_to(z, x.shape)], axis=-1).reshape(-1, 3).astype(np.float32))
        return ends[0], ends[1]
