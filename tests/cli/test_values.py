"""Values typed as text: what is read, and what is refused by the name of its option."""

from __future__ import annotations

import pytest

from uptake.cli.values import decimals, named_bundles, numbers, tracer_shares
from uptake.core.errors import UsageError


def test_whole_numbers_keep_their_order_and_none_stays_none():
    assert numbers("32,64,8", "--features") == (32, 64, 8)
    assert numbers(None, "--features") is None
    with pytest.raises(UsageError, match=r"--features takes whole numbers.*'32,a'"):
        numbers("32,a", "--features")


def test_decimals_skip_empty_parts():
    assert decimals("0.5, 0.05,", "--dose") == (0.5, 0.05)
    assert decimals(None, "--dose") == ()
    with pytest.raises(UsageError, match=r"--dose takes numbers.*such as 1,0\.1; came 'low'"):
        decimals("low", "--dose", such_as="1,0.1")
    with pytest.raises(UsageError, match="--dose takes fractions"):
        decimals("low", "--dose", kind="fractions")


def test_tracers_have_shares_or_the_same():
    assert tracer_shares("FDG=0.6, PSMA-11=0.4") == (("FDG", 0.6), ("PSMA-11", 0.4))
    assert tracer_shares("FDG,PSMA-11") == (("FDG", 1.0), ("PSMA-11", 1.0))
    with pytest.raises(UsageError, match="--tracers"):
        tracer_shares("FDG=much")


def test_bundles_are_named_or_called_after_their_folder():
    assert named_bundles(["a=x/bundle", "runs/start/bundle", "other"]) == {
        "a": "x/bundle",
        "start": "runs/start/bundle",
        "other": "other",
    }
    for wrong in (["a=x", "a=y"], ["=x"], ["a="]):
        with pytest.raises(UsageError, match="NAME=BUNDLE"):
            named_bundles(wrong)
