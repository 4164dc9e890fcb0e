"""Run a bundle's folds on one case, within the time and memory that was granted, and say what was done and left out."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from uptake.cases import HarmonisedCase, Prediction
from uptake.core.errors import UsageError
from uptake.harmonise.resample import SLAB_VOXELS
from uptake.inference.budget import (
    Budget,
    Memory,
    Rest,
    Wish,
    after_first_pass,
    everything_fits,
    first_pass_step,
    flip_order,
)
from uptake.inference.compiled import forget, release
from uptake.inference.memory import Highest, resident_bytes
from uptake.inference.sliding_window import Finished, window_boxes
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
    finished: Finished | None = None

    @property
    def hands_out(self) -> bool:
        """Whether the method gives logits stretch by stretch, so that the whole of them is never held."""
        return self.finished is not None and "finished" in inspect.signature(self.bundle.method.predict).parameters

    def runners(self, folds: Sequence[str]) -> list[Any]:
        """Return the networks of the folds, or their weights, as the engine takes them."""
        return self.bundle.runners(folds, engine=str(self.options.get("engine", "torch")))

    def run(
        self,
        folds: Sequence[str],
        config: Any,
        case: HarmonisedCase | None = None,
        *,
        last: bool = False,
        **more: Any,
    ) -> Prediction:
        """Return the mean logits of the folds, all at once; the last pass hands them out where it can."""
        if last and self.hands_out:
            more["finished"] = self.finished
        networks = self.runners(folds)
        result: Prediction = self.bundle.method.predict(networks, case or self.case, config, **{**self.options, **more})
        for network in networks:
            release(network)
        return result

    def run_in_turn(self, folds: Sequence[str], config: Any, *, together: int, last: bool = False) -> Prediction:
        """Return the mean logits of the folds; one after the other where they are not held together."""
        if together >= len(folds):
            return self.run(folds, config, last=last)
        total: Prediction | None = None
        for fold in folds:
            found = self.run([fold], config)
            self.let_go(fold)
            total = found if total is None else added(total, found)
        assert total is not None
        return divided(total, len(folds))

    def let_go(self, fold: str) -> None:
        """Drop what was compiled of a fold; its weights stay with the bundle."""
        forget(self.runners([fold])[0])


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
    finished: Finished | None = None,
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
    finished : callable, optional
        Takes the logits of the model grid's slices, first to last, in one stretch or in several
        (`inference.sliding_window.Finished`). Where the method hands them out itself, the prediction has none.
    clock, resident, highest : callables
        Seconds that pass; bytes in use; a context that tells the most bytes in use within.

    Raises
    ------
    BudgetError
        If the time or the memory does not suffice for one pass of one network.
    UsageError
        If a budget is given for a method without sliding windows.
    """
    passes = _Passes(bundle, case, options, finished)
    prediction, done = _within(
        passes, config, budget, channels_out=channels_out, step_fixed=step_fixed, spent_s=spent_s, clock=clock,
        resident=resident, highest=highest,
    )  # fmt: skip
    if finished is not None and prediction.logits.shape[1]:
        finished(prediction.logits, prediction.organ_logits)
    return prediction, done


def _within(
    passes: _Passes,
    config: Any,
    budget: Budget,
    *,
    channels_out: int,
    step_fixed: bool,
    spent_s: float,
    clock: Callable[[], float],
    resident: Callable[[], int],
    highest: Callable[[], Any],
) -> tuple[Prediction, Ensemble]:
    """Return what `predict_within` does, handed out or not."""
    bundle, case, folds = passes.bundle, passes.case, passes.bundle.folds
    flips = tuple(getattr(config, "mirror_axes", ()))
    if not budget.given:
        prediction = passes.run(folds, config, last=True)
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
    memory_left = None
    if budget.max_ram_gb is not None:
        whole, stretch = _logits_bytes(case, config, channels_out)
        memory_left = Memory(
            resident=before,
            working=max(0, memory.bytes - before),
            per_network=max(0, resident() - before),
            logits=whole,
            stretch=stretch if passes.hands_out else whole + stretch,
            limit=int(budget.max_ram_gb * 1e9),
        )
        together, count = memory_left.networks_at_a_time(len(folds))
    dropped = []
    if count < len(folds):
        dropped.append(f"folds {', '.join(folds[count:])}: the memory granted holds no second array of logits")
        folds = folds[:count]
        wish = replace(wish, folds=count)
    measured = {"window_s": window_s, "setup_s": setup_s, "reserve_s": budget.reserve_s}
    left = budget.seconds_left(spent())
    if everything_fits(wish, window_s=window_s, setup_s=setup_s, left_s=left):
        prediction = passes.run_in_turn(folds, config, together=together, last=True)
        done = Ensemble(
            config.tile_step, folds, dict.fromkeys(folds, _named(bundle, flips)), tuple(dropped), together, measured
        )
        return prediction, done
    step = first_pass_step(wish, window_s=window_s, left_s=left, spent_s=spent(), reserve_s=budget.reserve_s)
    if step > config.tile_step:
        dropped.append(f"tile step {config.tile_step:g}: {step:g} was taken")
    arrays = 2 if memory_left is None else memory_left.arrays_of_logits
    if arrays < 2 and len(folds) > 1:
        dropped.append(f"folds {', '.join(folds[1:])}: the memory granted holds no second array of logits")
        folds, wish = folds[:1], replace(wish, folds=1)
    start = clock()
    prediction = passes.run(folds[:1], replace(config, mirror_axes=(), tile_step=step), last=not arrays)
    first_s = clock() - start
    rest = Rest(0, ())
    if arrays:
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
        del prediction  # its logits make room for those with flips
        prediction = passes.run(run, chosen, last=True)
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


def _logits_bytes(case: HarmonisedCase, config: Any, channels: int) -> tuple[int, int]:
    """Return the bytes of the whole image's logits, of all heads, and those of the sliding window's own sums: a
    window's depth of logits and weights, the stretch that is handed out, and what resampling it takes."""
    depth, height, width = (max(n, w) for n, w in zip(case.body.shape, config.window, strict=True))
    plane = height * width * FLOAT_BYTES
    sums = config.window[0] * plane * (2 * channels + 1)
    return depth * plane * channels, sums + 3 * SLAB_VOXELS * FLOAT_BYTES


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
