"""Where voxels are: affines, orientations, grids and the `Volume` that keeps an array in its place.

World coordinates are RAS+ millimetres: x grows to the patient's right, y to the front, z to the head.
"""

from uptake.geometry.affine import orientation_code
from uptake.geometry.grid import Grid, corner_distance_mm, overlap_fraction, require_same_grid, same_grid
from uptake.geometry.orientation import AxisChange, axis_change, reorient
from uptake.geometry.volume import Volume

__all__ = [
    "AxisChange",
    "Grid",
    "Volume",
    "axis_change",
    "corner_distance_mm",
    "orientation_code",
    "overlap_fraction",
    "reorient",
    "require_same_grid",
    "same_grid",
]
