"""Two masks on one grid, or a refusal that shows both grids; resampling only where it was asked for, and on record."""

from __future__ import annotations

import numpy as np

from uptake.core.errors import GeometryError, InputError
from uptake.geometry.grid import Grid, overlap_fraction, require_same_frame, require_same_grid, same_grid
from uptake.geometry.volume import Volume
from uptake.harmonise.resample import to_grid

LEAST_OVERLAP = 0.5
"""Share of the reference's field of view that a prediction to be resampled has to cover without a note."""


def on_one_grid(prediction: Volume, reference: Volume, *, resample: bool) -> tuple[Volume, str]:
    """Return the prediction on the reference's grid, and how it got there in words ("" if it was there).

    Raises
    ------
    GeometryError
        If the two do not meet in space, or lie on different grids and may not be resampled; both grids are in the
        message.
    InputError
        If fractions were to be resampled.
    """
    names = ("the prediction", "the reference")
    require_same_frame(prediction, reference, names=names)
    if same_grid(prediction, reference):
        return prediction, ""
    grids = f"Prediction: {grid_text(prediction)}. Reference: {grid_text(reference)}."
    covered = overlap_fraction(reference, prediction)
    if covered == 0.0 and overlap_fraction(prediction, reference) == 0.0:
        raise GeometryError(
            "the prediction and the reference do not meet in space: masks of two patients under one name, or a header "
            f"that has lost its origin. {grids}"
        )
    if not resample:
        require_same_grid(
            prediction,
            reference,
            names=names,
            remedy=f"Segment on the reference's grid, or allow resampling (--resample, nearest neighbour). {grids}",
        )
    if not np.array_equal(prediction.array, np.rint(prediction.array)):
        raise InputError("the prediction holds fractions; only whole labels can be resampled to the nearest.")
    moved = to_grid(prediction, Grid.of(reference), order=0, fill=0.0)
    words = f"nearest neighbour, from {grid_text(prediction)}"
    if covered < LEAST_OVERLAP:
        words += f", which covers {covered:.0%} of the reference"
    return moved.with_array(moved.array.astype(prediction.array.dtype)), words


def grid_text(volume: Volume) -> str:
    """Return size, spacing, orientation and position of a grid in words."""
    shape = " x ".join(str(n) for n in volume.shape)
    spacing = " x ".join(f"{mm:.4g}" for mm in volume.spacing_mm)
    origin = ", ".join(f"{mm:.1f}" for mm in volume.origin_mm)
    return f"{shape} voxels of {spacing} mm, {volume.orientation}, first voxel at ({origin}) mm RAS"
