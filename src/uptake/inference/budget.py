"""What an ensemble may cost: folds, flips and tile step that fit a given time, and networks that fit a given memory.

A rule, not a search: the same measured times give the same choice, and everything that is left out is named. It follows
the account of LesionTracer's container, of which no code was published: the first fold runs plain and is timed; the
others share one or two mirroring axes, as time allows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from uptake.core.errors import BudgetError, UsageError

RESERVE_SHARE = 40.0 / 300.0
"""Share of the time kept for what follows the networks (resampling, tables, pictures, files): 40 s of the challenge's
five minutes, and never more than these 40 s."""

RESERVE_S = 40.0

FAST_TILE_STEP = 0.6
"""Windows lie at least this share of a window apart where time is short; published for the challenge. On LesionTracer's
usual grids it saves a third to a half of the windows of step 0.5."""

MOST_FLIPPED_AXES = 2
"""Published: one or two mirroring axes for the folds after the first."""


@dataclass(frozen=True)
class Budget:
    """What a case may cost.

    Attributes
    ----------
    max_seconds : float or None
        Wall time of the whole case, s.
    max_ram_gb : float or None
        Resident memory of this process, GB (1e9 bytes). Memory of an accelerator is not counted.
    """

    max_seconds: float | None = None
    max_ram_gb: float | None = None

    def __post_init__(self) -> None:
        for name, value in (("max_seconds", self.max_seconds), ("max_ram_gb", self.max_ram_gb)):
            if value is not None and not 0 < value < float("inf"):
                raise UsageError(f"{name} is a positive number, came {value!r}.")

    @property
    def given(self) -> bool:
        """Whether anything is limited."""
        return self.max_seconds is not None or self.max_ram_gb is not None

    @property
    def reserve_s(self) -> float:
        """Seconds kept for what follows the networks."""
        return 0.0 if self.max_seconds is None else min(RESERVE_S, RESERVE_SHARE * self.max_seconds)

    def seconds_left(self, spent_s: float) -> float:
        """Return what is left for the networks after `spent_s`; infinite without a limit."""
        return float("inf") if self.max_seconds is None else self.max_seconds - spent_s - self.reserve_s


@dataclass(frozen=True)
class Wish:
    """What would be done without a limit.

    Attributes
    ----------
    folds : int
    flip_axes : tuple of int
        Image axes whose flips are averaged; in the order in which they are added when time is short.
    tile_step : float
    step_fixed : bool
        The caller named the step, so that it stays.
    windows : callable
        Tile step -> number of windows to compute.
    """

    folds: int
    flip_axes: tuple[int, ...]
    tile_step: float
    windows: Callable[[float], int]
    step_fixed: bool = False


def flip_order(axes: Sequence[int], transpose: Sequence[int] = (0, 1, 2)) -> tuple[int, ...]:
    """Return the axes of the model grid in the order in which flips are added: left-right, front-back, head-foot.

    `transpose` is the plan's order of (z, y, x) on the model grid.
    """
    return tuple(sorted(axes, key=lambda axis: -transpose[axis]))


def everything_fits(wish: Wish, *, window_s: float, setup_s: float, left_s: float) -> bool:
    """Return whether all folds with all flips at the wished tile step take no longer than `left_s`.

    Parameters
    ----------
    wish : Wish
    window_s : float
        Seconds for one window and one network, measured.
    setup_s : float
        Seconds to make a further fold ready (compile it), measured on the first.
    left_s : float
    """
    passes = wish.folds * 2 ** len(wish.flip_axes)
    return wish.windows(wish.tile_step) * passes * window_s + (wish.folds - 1) * setup_s <= left_s


def first_pass_step(wish: Wish, *, window_s: float, left_s: float, spent_s: float, reserve_s: float) -> float:
    """Return the tile step of a plain pass of the first fold, where not everything fits.

    Raises
    ------
    BudgetError
        If even that pass does not fit, with the least time that would do.
    """
    step = wish.tile_step if wish.step_fixed else max(wish.tile_step, FAST_TILE_STEP)
    pass_s = wish.windows(step) * window_s
    if pass_s > left_s:
        # The reserve is a share of the limit, so that a larger limit keeps more.
        least = max((spent_s + pass_s) / (1.0 - RESERVE_SHARE), 0.0)
        if RESERVE_SHARE * least > RESERVE_S:
            least = spent_s + pass_s + RESERVE_S
        raise BudgetError(
            f"the time granted does not suffice: {spent_s:.1f} s are spent, one pass of one network takes about "
            f"{pass_s:.1f} s ({wish.windows(step)} windows of {window_s:.3g} s at tile step {step:g}), and "
            f"{reserve_s:.1f} s are kept for what follows. The least for this case is {rounded_up(least)} s "
            "(--max-seconds)."
        )
    return step


@dataclass(frozen=True)
class Rest:
    """What follows the first pass: `folds` further folds, each with the flips of `flip_axes`; of a bundle of one fold,
    that fold once more with these flips."""

    folds: int
    flip_axes: tuple[int, ...]


def after_first_pass(wish: Wish, *, first_pass_s: float, setup_s: float, left_s: float) -> Rest:
    """Return how the time that is left after a plain pass of the first fold is used.

    With k folds to go, as many flip axes m as fit, two at most: k (2^m t + setup) <= left; if not even m = 0 fits, the
    last folds are dropped. A single fold is run again with the flips that fit: 2^m t <= left.

    Parameters
    ----------
    wish : Wish
    first_pass_s : float
        Seconds of the first pass, t.
    setup_s : float
    left_s : float
    """
    further = wish.folds - 1
    axes = wish.flip_axes[:MOST_FLIPPED_AXES]
    if not further:
        most = max(m for m in range(len(axes) + 1) if m == 0 or 2**m * first_pass_s <= left_s)
        return Rest(0, axes[:most])
    for m in range(len(axes), -1, -1):
        if further * (2**m * first_pass_s + setup_s) <= left_s:
            return Rest(further, axes[:m])
    return Rest(max(0, min(further, int(left_s / max(first_pass_s + setup_s, 1e-9)))), ())


@dataclass(frozen=True)
class Memory:
    """Where memory goes, bytes.

    Attributes
    ----------
    resident : int
        In use before any network ran.
    working : int
        What the first network took on top at its highest, on one window, itself made ready included.
    per_network : int
        What it keeps.
    logits : int
        Of the whole image.
    stretch : int
        Of what a single pass holds of the logits: all of them, or a window's depth where they are handed out.
    limit : int
    """

    resident: int
    working: int
    per_network: int
    logits: int
    stretch: int
    limit: int

    @property
    def least(self) -> int:
        """Of one network that makes a single pass."""
        return self.resident + self.working + self.stretch

    @property
    def arrays_of_logits(self) -> int:
        """How many times the whole image's logits can be held beside one network: 0, 1 or 2."""
        return max(0, min(2, (self.limit - self.least) // max(1, self.logits)))

    def networks_at_a_time(self, folds: int) -> tuple[int, int]:
        """Return how many networks are held at a time, and how many of the wished folds are run.

        All at once where they fit; else one after the other, which costs two arrays of logits, the sum and the one that
        is added; else the first alone.

        Raises
        ------
        BudgetError
            If not even one network fits, with the least memory that would do.
        """
        if self.least > self.limit:
            raise BudgetError(
                f"the memory granted does not suffice: {self.least / 1e9:.2f} GB are needed for one network at a time "
                f"on this case ({self.resident / 1e9:.2f} GB in use, {self.working / 1e9:.2f} GB for the network and "
                f"one window, {self.stretch / 1e9:.2f} GB for the logits). The least is "
                f"{rounded_up(self.least / 1e9, 2)} GB (--max-ram-gb)."
            )
        if self.least + (folds - 1) * self.per_network <= self.limit:
            return folds, folds
        return (1, folds) if self.arrays_of_logits == 2 else (1, 1)


def rounded_up(value: float, decimals: int = 0) -> str:
    """Return a number as text, rounded up, so that granting it suffices."""
    unit = 10.0**-decimals
    return f"{-(-value // unit) * unit:.{decimals}f}"
