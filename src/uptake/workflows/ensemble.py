"""Run a bundle's folds on one case, within the time and memory that was granted, and say what was done and left out."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from uptake.cases import HarmonisedCase, Prediction
from uptake.core.errors import UsageError
from uptake.inference.budget import (
    Budget,
    Wish,
    after_first_pass,
    everything_fits,
    first_pass_step,
    flip_order,
    networks_at_a_time,
)
from uptake.inference.compiled import forget, release
from uptake.inference.memory import Highest, resident_bytes
from uptake.inference.sliding_window import window_boxes
from uptake.workflows.bundles import Bundle

AXES = ("head-foot", "front-back", "left-right")
"""Names of the flips along (z, y, x)."""

FLOAT_BYTES = 4


@dataclass(frozen=True)
class Ensemble:
    """What made a prediction.

    Attributes
    ----------
    tile_step : float or None
        None where the method has no windows.
    folds : tuple of str
        That were run.
    flips : mapping of str to tuple of str
        Fold -> axes whose flips were averaged, in words.
    dropped : tuple of str
        What was left out for want of time or memory, in words; empty where nothing was.
    networks_at_a_time : int
    measured : mapping
        Seconds and bytes that the choice was made by; empty without a budget.
    """

    tile_step: float | None
    folds: tuple[str, ...]
    flips: Mapping[str, tuple[str, ...]]
    dropped: tuple[str, ...] = ()
    networks_at_a_time: int = 0
    measured: Mapping[str, float] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return plain values for run.json."""
        return asdict(self)


@dataclass
class _Passes:
    """Everything that the passes over one case share."""

    bundle: Bundle
    case: HarmonisedCase
    options: Mapping[str, Any]

    def run(self, folds: Sequence[str], config: Any, case: HarmonisedCase | None = None, **more: Any) -> Prediction:
        """Return the mean logits of the folds, all at once."""
        networks = self.bundle.networks(folds)
        result: Prediction = self.bundle.method.predict(networks, case or self.case, config, **{**self.options, **more})
        for network in networks:
            release(network)
        return result

    def run_in_turn(self, folds: Sequence[str], config: Any, *, together: int) -> Prediction:
        """Return the mean logits of the folds; one after the other where they are not held together."""
        if together >= len(folds):
            return self.run(folds, config)
        total: Prediction | None = None
        for fold in folds:
            found = self.run([fold], config)
            self.let_go(fold)
            total = found if total is None else added(total, found)
        assert total is not None
        return divided(total, len(folds))

    def let_go(self, fold: str) -> None:
        """Drop what was compiled of a fold; its weights stay with the bundle."""
        forget(self.bundle.networks([fold])[0])


def predict_within(
    bundle: Bundle,
    case: HarmonisedCase,
    config: Any,
    budget: Budget,
    *,
    options: Mapping[str, Any],
    channels_out: int,
    step_fixed: bool = False,
    spent_s: float = 0.0,
    clock: Callable[[], float] = time.perf_counter,
    resident: Callable[[], int] = resident_bytes,
    highest: Callable[[], Any] = Highest,
) -> tuple[Prediction, Ensemble]:
    """Return the prediction of a bundle for one case, and what made it.

    Parameters
    ----------
    bundle : Bundle
    case : HarmonisedCase
    config : Any
        The method's, with the flips and the tile step that are wished.
    budget : Budget
    options : mapping
        Further arguments of the method's `predict`.
    channels_out : int
        Of the logits, all heads together.
    step_fixed : bool
        Whether the caller chose the tile step, so that it is not changed.
    spent_s : float
        Seconds of `budget.max_seconds` that are spent already.
    clock, resident, highest : callables
        Seconds that pass; bytes in use; a context that tells the most bytes in use within.

    Raises
    ------
    BudgetError
        If the time or the memory does not suffice for one pass of one network.
    UsageError
        If a budget is given for a method without sliding windows.
    """
    passes = _Passes(bundle, case, options)
    folds = bundle.folds
    flips = tuple(getattr(config, "mirror_axes", ()))
    if not budget.given:
        prediction = passes.run(folds, config)
        return prediction, Ensemble(
            getattr(config, "tile_step", None), folds, dict.fromkeys(folds, _named(bundle, flips)), (), len(folds)
        )
    if not all(hasattr(config, name) for name in ("window", "tile_step", "mirror_axes")):
        raise UsageError(f"{bundle.card.name}: method {bundle.card.method} has no windows that a budget could choose.")
    began = clock()

    def spent() -> float:
        return spent_s + clock() - began

    wish = Wish(
        len(folds), flip_order(flips, bundle.plan.transpose), config.tile_step, _counter(case, config), step_fixed
    )
    before = resident()
    probe = _window_of(case, config)
    plain = replace(config, mirror_axes=(), tile_step=1.0)
    with highest() as memory:
        start = clock()
        passes.run(folds[:1], plain, probe, on_window=None)
        middle = clock()
        passes.run(folds[:1], plain, probe, on_window=None)
        window_s = clock() - middle
    setup_s = max(0.0, middle - start - window_s)
    together, count = len(folds), len(folds)
    if budget.max_ram_gb is not None:
        together, count = networks_at_a_time(
            folds=len(folds),
            resident=before,
            working=max(0, memory.bytes - before),
            per_network=max(0, resident() - before),
            logits=_logits_bytes(case, config, channels_out),
            limit=int(budget.max_ram_gb * 1e9),
        )
    dropped = []
    if count < len(folds):
        dropped.append(f"folds {', '.join(folds[count:])}: the memory granted holds no second array of logits")
        folds = folds[:count]
        wish = replace(wish, folds=count)
    measured = {"window_s": window_s, "setup_s": setup_s, "reserve_s": budget.reserve_s}
    left = budget.seconds_left(spent())
    if everything_fits(wish, window_s=window_s, setup_s=setup_s, left_s=left):
        prediction = passes.run_in_turn(folds, config, together=together)
        done = Ensemble(
            config.tile_step, folds, dict.fromkeys(folds, _named(bundle, flips)), tuple(dropped), together, measured
        )
        return prediction, done
    step = first_pass_step(wish, window_s=window_s, left_s=left, spent_s=spent(), reserve_s=budget.reserve_s)
    if step > config.tile_step:
        dropped.append(f"tile step {config.tile_step:g}: {step:g} was taken")
    start = clock()
    prediction = passes.run(folds[:1], replace(config, mirror_axes=(), tile_step=step))
    first_s = clock() - start
    rest = after_first_pass(wish, first_pass_s=first_s, setup_s=setup_s, left_s=budget.seconds_left(spent()))
    measured["first_pass_s"] = first_s
    chosen = replace(config, mirror_axes=rest.flip_axes, tile_step=step)
    if together == 1 and len(folds) > 1:
        passes.let_go(folds[0])
    run = folds[: 1 + rest.folds]
    if rest.folds:
        others = passes.run_in_turn(run[1:], chosen, together=together)
        prediction = divided(added(prediction, times(others, rest.folds)), len(run))
    elif rest.flip_axes:
        prediction = passes.run(run, chosen)
    used = {run[0]: () if rest.folds else rest.flip_axes, **dict.fromkeys(run[1:], rest.flip_axes)}
    dropped += _left_out(bundle, folds, used, wish)
    flipped = {fold: _named(bundle, axes) for fold, axes in used.items()}
    return prediction, Ensemble(step, run, flipped, tuple(dropped), together, measured)


def added(one: Prediction, other: Prediction) -> Prediction:
    """Return the sum of two predictions of one case; the first array is reused."""
    return _each(one, lambda logits, more: np.add(logits, more, out=logits), other)


def times(one: Prediction, factor: float) -> Prediction:
    """Return a prediction with its logits multiplied, in place."""
    return _each(one, lambda logits, _: np.multiply(logits, np.float32(factor), out=logits), one)


def divided(one: Prediction, count: int) -> Prediction:
    """Return a prediction with its logits divided, in place."""
    return _each(one, lambda logits, _: np.divide(logits, np.float32(count), out=logits), one)


def _each(one: Prediction, change: Callable[[Any, Any], Any], other: Prediction) -> Prediction:
    organs = None
    if one.organ_logits is not None:
        organs = change(one.organ_logits, other.organ_logits)
    return replace(one, logits=change(one.logits, other.logits), organ_logits=organs)


def _counter(case: HarmonisedCase, config: Any) -> Callable[[float], int]:
    focus, layers = bool(getattr(config, "focus", False)), getattr(config, "transpose", (0, 1, 2)).index(0)
    return lambda step: len(window_boxes(case.body, config.window, step, focus=focus, layers=layers))


def _window_of(case: HarmonisedCase, config: Any) -> HarmonisedCase:
    """Return the middle one of a case's windows as a case of its own."""
    boxes = window_boxes(case.body, config.window, 1.0)
    box = boxes[len(boxes) // 2] if boxes else tuple(slice(0, n) for n in config.window)
    channels = np.ascontiguousarray(case.channels[(slice(None), *box)])
    return replace(
        case,
        channels=channels,
        body=np.ones(channels.shape[1:], dtype=bool),
        **{name: None for name in ("labels", "organs", "target") if getattr(case, name, None) is not None},
    )


def _logits_bytes(case: HarmonisedCase, config: Any, channels: int) -> int:
    """Return the bytes of the sliding window's sums: logits of all heads, their weights, and the image, padded."""
    padded = [max(n, w) for n, w in zip(case.body.shape, config.window, strict=True)]
    return int(np.prod(padded, dtype=np.int64)) * FLOAT_BYTES * (channels + 1)


def _named(bundle: Bundle, axes: Sequence[int]) -> tuple[str, ...]:
    transpose = bundle.plan.transpose
    return tuple(AXES[transpose[axis]] for axis in axes)


def _left_out(bundle: Bundle, folds: Sequence[str], used: Mapping[str, Sequence[int]], wish: Wish) -> list[str]:
    """Return what the time granted left out, in words."""
    notes = []
    missing = [fold for fold in folds if fold not in used]
    if missing:
        notes.append(f"fold{'s' if len(missing) > 1 else ''} {', '.join(missing)}")
    for fold, axes in used.items():
        unflipped = [axis for axis in wish.flip_axes if axis not in axes]
        if unflipped:
            notes.append(f"flips {', '.join(_named(bundle, unflipped))} of fold {fold}")
    return notes
