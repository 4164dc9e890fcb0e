"""What is said of many cases."""

from __future__ import annotations

import pytest

from uptake.cli.cohorts import SHOWN_FAILURES, require_no_failure, tell_counts, tell_state
from uptake.core.errors import CohortError
from uptake.workflows.failures import CohortResult, Failure


def failure(n: int) -> Failure:
    return Failure(f"case_{n}", "InputError", f"case_{n}: the PET is broken.\nAccepted would be …", 4)


def test_failures_are_told_by_their_first_line_and_end_with_their_exit_code(tmp_path, capsys):
    require_no_failure([], 3, tmp_path)
    with pytest.raises(CohortError, match=r"^12 of 20 maps failed; they are listed in .*failures\.csv\.$") as caught:
        require_no_failure([failure(n) for n in range(12)], 20, tmp_path, what="maps")
    assert caught.value.exit_code == 3
    told = capsys.readouterr().err.splitlines()
    assert len(told) == SHOWN_FAILURES and told[0] == "uptake: case_0: the PET is broken."


def test_states_and_counts(tmp_path, capsys):
    tell_state("a", "start")
    tell_state("a", "written")
    tell_counts(CohortResult(("a",), ("b", "c"), (failure(1),)), tmp_path)
    assert capsys.readouterr().out.splitlines() == ["a: written", f"1 written, 2 kept, 1 failed; see {tmp_path}"]
