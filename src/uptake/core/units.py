"""Unit conversions by name, so that no bare factor of ten stands in a formula."""

from __future__ import annotations

MM3_PER_ML = 1000.0
"""1 mL = 1 cm³ = 1000 mm³."""

GRAMS_PER_KG = 1000.0

BQ_PER_MBQ = 1.0e6

SECONDS_PER_MINUTE = 60.0

MILLISECONDS_PER_SECOND = 1000.0

CM_PER_M = 100.0

MM_PER_M = 1000.0

CM2_PER_M2 = 1.0e4

AIR_HU = -1024.0
"""CT value written where a CT does not reach the PET grid (the autoPET convention)."""
