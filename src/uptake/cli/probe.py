"""uptake probe"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from uptake.cli.console import progress, say
from uptake.cli.options import Device, Out, Quiet
from uptake.cli.options_training import AllowOverlap, AssumeSuv, Bundles, DrawnSplit, Precision, hush_fabric
from uptake.cli.values import named_bundles


def probe(
    dataset: Path,
    /,
    *,
    out: Out,
    init: Bundles,
    shots: int = 5,
    draws: int = 10,
    updates: int = 1000,
    batch_size: int = 4,
    source: Literal["last", "multiscale"] = "last",
    split: DrawnSplit = None,
    split_seed: int = 0,
    allow_overlap: AllowOverlap = False,
    device: Device = "auto",
    precision: Precision = "auto",
    assume_suv: AssumeSuv = False,
    quiet: Quiet = False,
) -> None:
    """Ask what a linear map can read off frozen features with a handful of labels, and compare bundles by it.

    Every draw of labelled scans is used for all bundles and for untrained weights, the floor. What was done is not done
    again.

    Parameters
    ----------
    dataset
        Studies with lesion masks.
    out
        Receives the cache, split.json, runs/, scores.csv and summary.json.
    init
        NAME=BUNDLE of uptake pretrain petct_mae; repeat it to compare. NAME=PET+CT puts the features of two
        bundles, one of each channel, side by side.
    shots
        Labelled scans, each with a lesion, each of another patient.
    draws
        How often they are drawn.
    updates
        Steps of AdamW at 1e-3 on the map.
    batch_size
        Windows per step.
    source
        last: the feature before the head; multiscale: every decoder stage.
    split_seed
        Of the drawn split and of the draws.
    """
    arms = named_bundles(init)
    from uptake.workflows.probe import probe as workflow

    hush_fabric()
    with progress("probing", quiet=quiet) as on_run:
        found = workflow(
            dataset,
            out,
            arms,
            shots=shots,
            draws=draws,
            updates=updates,
            batch_size=batch_size,
            source=source,
            split=split,
            split_seed=split_seed,
            allow_overlap=allow_overlap,
            device=device,
            precision=precision,
            assume_suv=assume_suv,
            on_run=on_run,
        )
    if not quiet:
        for arm, scores in found.summary.items():
            dice = scores["dice"]
            say(f"{arm:<20} Dice {dice['mean']:.4f} (95 % interval {dice['low']:.4f} to {dice['high']:.4f})")
        for (a, b), one in found.comparisons.items():
            say(f"{a} - {b}: {one.difference:+.4f} ({one.low:+.4f} to {one.high:+.4f}), p {one.p:.3g}")
        say(f"tables: {out}")
