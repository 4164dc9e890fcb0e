"""Fixtures that several rooms share."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parents[1]

# A busy machine is no failure, and a run can be repeated.
settings.register_profile("uptake", deadline=None, derandomize=True)
settings.load_profile("uptake")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real development data beside the repository; tests that need it are skipped where it is absent."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("real development data (../shared/data) is not here")
    return folder
