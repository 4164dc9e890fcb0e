"""Array conventions, stated once.

Image arrays outside the network are indexed ``[i, j, k]`` in the order of the affine's columns, as nibabel gives them.
Inside `harmonise`, `sampling`, `networks` and `inference` arrays are channel first and in the order that the model card
names, ``[c, z, y, x]`` for the methods shipped here. A shape is written in that order wherever it appears.

World coordinates are millimetres in RAS+ (x to the patient's right, y to the front, z to the head), as in NIfTI.
DICOM's LPS becomes it where DICOM is read and comes back where DICOM is written, nowhere else.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.floating[Any]]
"""Real numbers of any shape."""

Image = npt.NDArray[Any]
"""(i, j, k) voxels of one image: SUV, HU, labels or a mask."""

Channels = npt.NDArray[np.float32]
"""(c, z, y, x) normalised model input."""

LabelMap = npt.NDArray[np.unsignedinteger[Any]]
"""(i, j, k) or (z, y, x) integers, 0 is background."""

Mask = npt.NDArray[np.bool_]
"""(i, j, k) booleans."""

Affine = npt.NDArray[np.float64]
"""(4, 4) voxel index -> world mm (RAS+), last row 0 0 0 1."""

Shape3 = tuple[int, int, int]
Vector3 = tuple[float, float, float]
