"""The tracer of a scan against those of a model's training."""

from __future__ import annotations

import numpy as np
import pytest

from uptake.cases import Case
from uptake.core.errors import UsageError
from uptake.geometry import Volume
from uptake.workflows.tracers import dataset_tracers, require_tracer, tracer_warnings, trained_tracers, with_tracer
from uptake.zoo.cards import find_bundle, read_card


@pytest.fixture
def card():
    return read_card(find_bundle("phantom-lesion-small"))


@pytest.mark.parametrize(
    ("tracer", "warned"), [("", 0), ("FDG", 0), ("Fluorodeoxyglucose", 0), ("PSMA-11", 1), ("x", 1)]
)
def test_only_a_tracer_that_was_not_trained_on_is_warned_about(card, tracer, warned):
    assert trained_tracers(card) == ("FDG",)
    found = tracer_warnings(card, tracer)
    assert len(found) == warned
    assert all(f"The tracer is {tracer}; phantom-lesion-small was trained on FDG alone." in text for text in found)


@pytest.mark.parametrize(
    "name", ["phantom-lesion-small", "sts-lesion-small", "phantom-ldos-small", "phantom-prompt-small"]
)
def test_every_shipped_model_tells_its_tracers(name):
    assert "FDG" in trained_tracers(read_card(find_bundle(name)))


def test_the_users_tracer_wins_over_the_header_and_leaves_the_rest():
    pet = Volume(np.ones((4, 4, 4), dtype=np.float32), np.diag([4.0, 4.0, 4.0, 1.0]))
    case = Case("case", pet, acquisition={"tracer": "FDG", "uptake_time_min": 61.0})
    assert with_tracer(case, None) is case
    assert with_tracer(case, "Ga-68 PSMA").acquisition == {"tracer": "PSMA-11", "uptake_time_min": 61.0}


def test_unknown_tracers_are_refused():
    require_tracer(None)
    require_tracer("[18F]FDG")
    with pytest.raises(UsageError, match="the tracer 'water' is not known; known are FDG"):
        require_tracer("water")


def test_a_dataset_tells_its_tracers_in_its_cohort_table(tmp_path):
    assert dataset_tracers(tmp_path, ["a"]) == ()
    (tmp_path / "cohort.csv").write_text("case,tracer,site\na,PSMA-11,x\nb,FDG,x\nc,FDG,y\nd,,y\n", encoding="utf-8")
    assert dataset_tracers(tmp_path, ["a", "b", "c"]) == ("FDG", "PSMA-11")
    assert dataset_tracers(tmp_path, ["b", "c"]) == ("FDG",)
    assert dataset_tracers(tmp_path, ["b", "d"]) == dataset_tracers(tmp_path, ["b", "e"]) == ()
    (tmp_path / "cohort.csv").write_bytes(b"case,tracer\n\xff\xfe,FDG\n")
    assert dataset_tracers(tmp_path, ["b"]) == ()
