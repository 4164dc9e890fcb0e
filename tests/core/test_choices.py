"""Options with a few known values."""

from __future__ import annotations

import pytest

from uptake.core.choices import require_known
from uptake.core.errors import UsageError


def test_a_known_value_passes_and_another_is_told_the_known_ones():
    require_known("schedule", "poly", ("poly", "cosine"))
    with pytest.raises(UsageError, match=r"^schedule 'step' is unknown; choose one of poly, cosine\.$"):
        require_known("schedule", "step", (name for name in ("poly", "cosine")))
