"""Segment one study from a file of prompts: what a session would answer, written like any other segmentation."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from uptake.cases import Case
from uptake.core.errors import InputError, ModelError
from uptake.gate.check import check
from uptake.geometry.volume import Volume
from uptake.quantification.lesions import measure_lesions
from uptake.workflows.bundles import Bundle
from uptake.workflows.tracers import tracer_warnings

LOW_CONFIDENCE = 0.7
"""Mean probability inside a mask below which its object is named in the warnings."""


def takes_prompts(bundle: Bundle) -> bool:
    """Return whether a model answers prompts instead of finding things by itself."""
    return hasattr(bundle.config, "prompts")


def require_matching(bundle: Bundle, prompts: Any) -> None:
    """Check that prompts come with a model that takes them, and that such a model gets some.

    Raises
    ------
    ModelError
        If not.
    """
    if takes_prompts(bundle) and prompts is None:
        raise ModelError(
            f"{bundle.card.name}: answers prompts and finds nothing by itself. Give a file of them (--prompts FILE), "
            "or take a model that segments on its own."
        )
    if prompts is not None and not takes_prompts(bundle):
        raise ModelError(f"{bundle.card.name}: takes no prompts; take a promptable model with --prompts.")


def prompted(
    case: Case, bundle: Bundle, settings: Any, *, device: str, gate: bool, timings_s: Mapping[str, float]
) -> dict[str, Any]:
    """Return what the prompts in ``settings.prompts`` mark, as the fields of a `Segmentation`.

    All objects together are the lesion mask.

    Raises
    ------
    InputError
        If a prompt is refused (`Session`), or there is none.
    """
    from uptake.workflows.session import Session  # it loads torch, which other models may not need

    clock, timings = time.perf_counter(), dict(timings_s)

    def lap(stage: str) -> None:
        nonlocal clock
        now = time.perf_counter()
        timings[stage], clock = now - clock, now

    card = bundle.card
    warnings = [
        *case.warnings,
        *tracer_warnings(card, str(case.acquisition.get("tracer") or "")),
        *(f"{card.name}: {limit}" for limit in card.limits[:1]),
    ]
    report = check(case) if gate else None
    if gate:
        lap("gate")
    session = Session(bundle, device=device)
    session.set_image(case)
    if not session.take_prompts(settings.prompts):
        raise InputError(f"{case.id}: there is no prompt in the file.")
    for object_id in session.objects:
        answer = session.predict(object_id)
        warnings += [f"Object {object_id}: {note}" for note in answer.notes]
        if answer.mask.array.any() and answer.confidence < LOW_CONFIDENCE:
            warnings.append(f"Object {object_id}: confidence is low ({answer.confidence:.2f}); look at its edge.")
    mask = (session.labels().array > 0).astype(np.uint8)
    lesions: Volume = case.pet.with_array(mask)
    lap("network")
    table = measure_lesions(case.pet, lesions, connectivity=settings.connectivity, min_volume_ml=settings.min_volume_ml)
    lap("quantify")
    return {
        "lesions": lesions,
        "mask": lesions,
        "table": table,
        "warnings": tuple(warnings),
        "timings_s": timings,
        "windows": (session.windows, 0),
        "gate": report,
        "lesion_names": {1: "lesion"},
        "device": str(session.device),
        # Sessions compute in float32 with torch, whatever else is asked for.
        "precision": "float32",
        "engine": "torch",
    }
