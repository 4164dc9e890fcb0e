"""uptake probe"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from uptake.cli.console import progress, say
from uptake.core.errors import UsageError


def probe(
    dataset: Path,
    /,
    *,
    out: Annotated[Path, Parameter(name=["--out", "-o"])],
    init: Annotated[list[str], Parameter(negative=())],
    shots: int = 5,
    draws: int = 10,
    updates: int = 1000,
    batch_size: int = 4,
    source: Literal["last", "multiscale"] = "last",
    split: Path | None = None,
    split_seed: int = 0,
    allow_overlap: Annotated[bool, Parameter(negative="")] = False,
    device: str = "auto",
    precision: str = "auto",
    assume_suv: Annotated[bool, Parameter(negative="")] = False,
    quiet: Annotated[bool, Parameter(name=["--quiet", "-q"], negative="")] = False,
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
    split
        JSON file with the lists train, validation, test; by default drawn by patient.
    split_seed
        Of the drawn split and of the draws.
    allow_overlap
        Test even on scans that a network was pretrained on.
    device
        auto, cpu, cuda, cuda:1, mps.
    precision
        auto (bfloat16 where the device has it), 32-true, bf16-mixed, 16-mixed.
    assume_suv
        Take every PET as SUV although its values say otherwise.
    quiet
        Print nothing but errors.
    """
    import logging

    arms = named_bundles(init)
    from uptake.workflows.probe import probe as workflow

    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
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


def named_bundles(texts: list[str]) -> dict[str, str]:
    """Return name -> bundle of options NAME=BUNDLE; a bundle without a name is called after its folder.

    Raises
    ------
    UsageError
        If a name is empty or given twice.
    """
    found: dict[str, str] = {}
    for text in texts:
        name, separator, bundle = text.partition("=")
        if not separator:
            path = Path(text)
            name, bundle = (path.parent.name if path.name == "bundle" else path.name), text
        if not name or not bundle or name in found or "/" in name:
            raise UsageError(f"--init takes NAME=BUNDLE, each name once, came {text!r}.")
        found[name] = bundle
    return found
