"""uptake label-curve"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

from uptake.cli.console import progress, say
from uptake.cli.options import Device, Out, Quiet
from uptake.cli.options_training import (
    AllowOverlap,
    AssumeSuv,
    Bundles,
    DrawnSplit,
    Precision,
    SubsetSeed,
    TunedBatchSize,
    TunedLearningRate,
    given,
    hush_fabric,
)
from uptake.cli.values import decimals, named_bundles


def label_curve(
    dataset: Path,
    /,
    *,
    out: Out,
    init: Bundles,
    fractions: str = "0.1,0.3,1.0",
    draws: int = 5,
    seeds: int = 1,
    whole_runs: int | None = None,
    mode: Literal["full", "decoder", "head"] = "full",
    steps: int | None = None,
    batch_size: TunedBatchSize = None,
    learning_rate: TunedLearningRate = None,
    margin: float = 0.02,
    split: DrawnSplit = None,
    split_seed: SubsetSeed = 0,
    allow_overlap: AllowOverlap = False,
    device: Device = "auto",
    precision: Precision = "auto",
    assume_suv: AssumeSuv = False,
    quiet: Quiet = False,
) -> None:
    """Does pretraining save labels on this dataset? Dice against the share of labels, from scratch and pretrained.

    Every arm has the same network, subsets, seeds and number of steps, and is tested on the same scans. Differences
    are tested patient by patient, equivalence by two one-sided tests. What was done is not done again.

    Parameters
    ----------
    dataset
        Studies with lesion masks; nnU-Net raw datasets as they are.
    out
        Receives the cache, split.json, runs/, scores.csv, curve.csv, pairs.csv,
        labels_saved.csv, summary.json and curve.png.
    init
        NAME=BUNDLE of uptake pretrain petct_mae; repeat it to compare several. The arm scratch is always there.
    fractions
        Shares of the training scans, with commas.
    draws
        Subsets of each share.
    seeds
        Initialisations of each subset.
    whole_runs
        Initialisations with all labels, which are one subset; by default draws x seeds.
    mode
        What may change in pretrained arms: full, decoder (and head), head; from scratch all of it always does.
    steps
        Optimiser steps of every run; by default 17,500, or 1,000 for the small network.
    margin
        Of equivalence, in Dice: a smaller difference does not matter.
    """
    arms = named_bundles(init)
    shares = decimals(fractions, "--fractions", such_as="0.1,0.3,1.0")
    from uptake.workflows.bundles import load_bundle
    from uptake.workflows.finetune import planned
    from uptake.workflows.label_curve import SCRATCH
    from uptake.workflows.label_curve import label_curve as workflow

    hush_fabric()
    _, config = planned(load_bundle(next(iter(arms.values()))), None)
    changes = given(steps=steps, batch_size=batch_size, learning_rate=learning_rate, mode=mode)
    config = replace(config, **changes)
    with progress("reading", quiet=quiet) as on_case, progress("runs", quiet=quiet) as on_run:
        found = workflow(
            dataset,
            out,
            arms,
            config=config,
            fractions=shares,
            draws=draws,
            seeds=seeds,
            whole_runs=whole_runs,
            margin=margin,
            split=split,
            split_seed=split_seed,
            allow_overlap=allow_overlap,
            device=device,
            precision=precision,
            assume_suv=assume_suv,
            on_case=on_case,
            on_run=on_run,
        )
    if not quiet:
        for one in found.points:
            say(
                f"{one.arm:<16} {100 * one.fraction:>5g} % ({one.scans} scans, {one.runs} runs)  Dice {one.mean:.4f} "
                f"(95 % interval {one.low:.4f} to {one.high:.4f})"
            )
        for pair in found.pairs:
            verdict = "equivalent" if pair.equivalence.equivalent else "not shown to be equivalent"
            say(
                f"{pair.a} {100 * pair.a_fraction:g} % - {pair.b} {100 * pair.b_fraction:g} %: "
                f"{pair.comparison.difference:+.4f} ({pair.comparison.low:+.4f} to {pair.comparison.high:+.4f}), "
                f"p {pair.comparison.p:.3g}; {verdict} within {margin:g}"
            )
        for worth in found.worth:
            how = {"below": "at most ", "above": "at least "}.get(worth.beyond, "")
            say(
                f"{worth.arm} with {worth.scans} labelled scans is like {SCRATCH} with {how}{worth.like:.3g} "
                f"({worth.low:.3g} to {worth.high:.3g})"
            )
        say(f"tables and picture: {out}")
