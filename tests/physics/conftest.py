"""One complete header, as plain values."""

from __future__ import annotations

from datetime import datetime

import pytest

from uptake.physics.suv import SuvRecord
from uptake.physics.timing import AcquisitionTimes


@pytest.fixture(scope="session")
def record() -> SuvRecord:
    """F-18, 60 min uptake, 70 kg, 350 MBq, BQML/START; a man of 1.75 m."""
    scan = datetime(2024, 1, 2, 11, 0)
    return SuvRecord(
        units="BQML",
        decay_correction="START",
        patient_weight_kg=70.0,
        patient_height_m=1.75,
        patient_sex="M",
        injected_dose_bq=350e6,
        half_life_s=6586.2,
        times=AcquisitionTimes(acquisition=(scan,), series=scan),
        injection_date_and_time=datetime(2024, 1, 2, 10, 0),
        corrected_image=("ATTN", "DECY"),
    )
