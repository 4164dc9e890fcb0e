"""Protocols of prompting: a simulated user, who knows the truth, talks to a `Session`, and every answer is scored."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Literal

import numpy as np

from uptake.core.errors import InputError, UsageError
from uptake.core.types import Mask
from uptake.evaluation.interactive import STEPS, ClickScores, click_scores
from uptake.evaluation.overlap import Counts, overlap_scores
from uptake.evaluation.simulated_users import ClickRule, autopet_iv_clicks, next_click, next_scribble
from uptake.geometry.components import bounding_box
from uptake.geometry.volume import Volume
from uptake.workflows.session import Session

Window = Literal["click", "oracle"]
"""Where the window lies: on the first click, as in use; or on the middle of the true object's bounding box, as in the
scores of SegAnyPET and SAM-Med3D. The two are never to be mixed in one table."""

PUBLISHED_CLICKS = (1, 3, 5)
"""After which SegAnyPET reports Dice."""

ONE = 1


def object_dice(
    session: Session,
    target: Mask,
    *,
    clicks: int = 5,
    rule: ClickRule = "centre",
    first: ClickRule = "random",
    window: Window = "click",
    seed: int = 0,
) -> list[float]:
    """Return the Dice of one object after each of `clicks` clicks.

    Parameters
    ----------
    session : Session
        With the image set; its prompts are forgotten.
    target : array (i, j, k) bool
        The true object, on the PET's grid.
    clicks : int
    rule, first : {"centre", "random", "deep"}
        Of corrections, and of the first click, which lies in the object.
    window : {"click", "oracle"}
    seed : int

    Raises
    ------
    InputError
        If the object is empty.
    """
    pet = session.case.pet
    box = bounding_box(target)
    if box is None:
        raise InputError("the object is empty: there is nothing to click on.")
    if window not in ("click", "oracle"):
        raise UsageError(f"the window lies on the click or on the oracle, came {window!r}.")
    rng = np.random.default_rng(seed)
    session.reset()
    middle = np.array([(side.start + side.stop - 1) / 2 for side in box])
    session.place_windows(pet.world_of(middle) if window == "oracle" else None)
    try:
        mask, scores = np.zeros(target.shape, dtype=bool), []
        for number in range(clicks):
            click = next_click(mask, target, rng, rule=rule if number else first, spacing_mm=pet.spacing_mm)
            if click is not None:
                with suppress(InputError):  # a click that contradicts an earlier one changes nothing
                    session.add_point(click.place, positive=click.positive, object_id=ONE)
            mask = session.predict(ONE).mask.array
            scores.append(float(overlap_scores(Counts.of(mask, target), voxel_ml=pet.voxel_volume_ml)["dice"]))
        return scores
    finally:
        session.place_windows(None)
        session.reset()


def protocol_scores(
    session: Session,
    reference: Volume,
    protocol: Literal["autopet_iv", "autopet_v"],
    *,
    seed: int = 42,
    start: Volume | None = None,
) -> ClickScores:
    """Return the scores of one case under a protocol of autoPET, all lesions being one object.

    Parameters
    ----------
    session : Session
        With the image set; its prompts are forgotten.
    reference : Volume
        Lesion mask on the PET's grid.
    protocol : {"autopet_iv", "autopet_v"}
        IV: a mask before any click and one after each of 10 pairs of tumour and background clicks, drawn beforehand. V:
        one before any stroke and one after each of 5 strokes into the largest mistake, centreline and random by turns.
    seed : int
    start : Volume, optional
        What an automatic model found: the mask before the first prompt, and what prompts then mend. Without it the
        first mask is empty.
    """
    if protocol not in STEPS:
        raise UsageError(f"protocols are {', '.join(STEPS)}; came {protocol!r}.")
    truth = np.asarray(reference.array) != 0
    session.reset()
    try:
        return click_scores(
            _answers(session, truth, protocol, seed, start),
            truth,
            voxel_ml=session.case.pet.voxel_volume_ml,
            protocol=protocol,
        )
    finally:
        session.reset()


def _answers(session: Session, truth: Mask, protocol: str, seed: int, start: Volume | None) -> Iterator[Mask]:
    pet, rng = session.case.pet, np.random.default_rng(seed)
    mask = np.zeros(truth.shape, dtype=bool)
    if start is not None and np.any(start.array):
        session.add_mask(start, object_id=ONE)
        mask = session.predict(ONE).mask.array
    yield mask
    steps = STEPS["autopet_iv" if protocol == "autopet_iv" else "autopet_v"] - 1
    if protocol == "autopet_iv":
        pairs = autopet_iv_clicks(truth, pet.array, rng, clicks=steps, spacing_mm=pet.spacing_mm)
    for number in range(steps):
        if protocol == "autopet_iv":
            for kind in pairs:
                for click in kind[number : number + 1]:
                    with suppress(InputError):
                        session.add_point(click.place, positive=click.positive, object_id=ONE)
        else:
            stroke = next_scribble(mask, truth, rng, style="random" if number % 2 else "centreline")
            if stroke is not None:
                with suppress(InputError):
                    session.add_scribble(stroke.places, positive=stroke.positive, object_id=ONE)
        if session.objects:
            mask = session.predict(ONE).mask.array
        yield mask
