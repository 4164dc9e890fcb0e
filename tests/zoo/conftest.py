from __future__ import annotations

import pytest

from uptake.zoo.cards import Card


@pytest.fixture
def make_card():
    def make(**changes):
        values = {
            "name": "tiny", "version": "1", "summary": "A model for tests.", "method": "lesiontracer",
            "config": {"window": [8, 8, 8]}, "plan": {"spacing_mm": [3.0, 2.0, 2.0]},
            "labels": ["background", "lesion"], "needs": ["pet"], "accepts": ["pet", "ct"], "suv": "SUV, g/mL",
            "training": {"cases": 3}, "scores": [{"metric": "dice", "mean": 0.5}], "limits": ["Läsionen > 1 mL"],
            "licence": "CC-BY-4.0", "files": {}, "stored_as": "float32", "package_version": "0.0",
        }  # fmt: skip
        return Card(**(values | changes))

    return make
