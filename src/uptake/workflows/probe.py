"""How much can be read off frozen features with a handful of labels? One linear map, several draws, several arms."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import torch

from uptake.core.errors import UsageError
from uptake.evaluation.comparison import Comparison, compare_paired
from uptake.io.write import require_writable, write_csv, write_json
from uptake.methods import petct_mae
from uptake.methods.petct_mae import Config
from uptake.networks.linear_probe import LinearProbe
from uptake.training.devices import make_fabric
from uptake.training.transfer import transfer
from uptake.workflows.bundles import Bundle, load_bundle
from uptake.workflows.finetune import SPLIT, planned, split_of, tune
from uptake.workflows.labelled_cases import (
    KEPT_BYTES,
    LabelledCases,
    TestScans,
    inference_dtype,
    labelled_cases,
    require_unseen,
    scores_on,
)
from uptake.workflows.labelled_split import shots_of
from uptake.workflows.train import summary_values

SHOTS = 5
DRAWS = 10
UPDATES = 1000
RATE = 1e-3
BATCH = 4
"""Of the protocol: five scans with lesions, ten draws, a thousand steps of AdamW at a constant rate."""

RANDOM = "random"
"""Arm of a frozen network that was never trained: the floor."""

JOINED = "+"
"""Between the bundles of an arm whose features are concatenated: PET.bundle+CT.bundle."""


@dataclass(frozen=True)
class ProbeResult:
    """What the probe found.

    Attributes
    ----------
    rows : list of dict
        Arm, draw, case, patient and scores, one per test scan with a lesion.
    summary : mapping
        Arm -> mean, median and interval of the headline scores.
    comparisons : mapping
        (arm, arm) -> paired comparison of the Dice of each patient, averaged over the draws.
    """

    rows: list[dict[str, Any]]
    summary: Mapping[str, Mapping[str, Any]]
    comparisons: Mapping[tuple[str, str], Comparison]


def probe(
    dataset: Path | str,
    out: Path | str,
    arms: Mapping[str, str],
    *,
    shots: int = SHOTS,
    draws: int = DRAWS,
    updates: int = UPDATES,
    batch_size: int = BATCH,
    source: str = "last",
    split: Path | None = None,
    split_seed: int = 0,
    allow_overlap: bool = False,
    device: str = "auto",
    precision: str = "auto",
    assume_suv: bool = False,
    on_run: Callable[[int, int], None] | None = None,
) -> ProbeResult:
    """Fit a linear map on the frozen features of every arm, for every draw of labelled scans, and compare the arms.

    The draws are the same for all arms. A run that is done is not done again.

    Parameters
    ----------
    dataset : Path
        Studies with lesion masks.
    out : Path
        Receives cache/, split.json, runs/, scores.csv and summary.json.
    arms : mapping
        Name -> bundle of masked pretraining; two bundles joined by "+" give their features side by side (PET alone and
        CT alone: separated pretraining). A floor of untrained weights, "random", is added, on the first arm's network.
    shots : int
        Labelled scans, each with a lesion, each of another patient.
    draws, updates, batch_size : int
    source : str
        "last" or "multiscale"; see `networks.linear_probe`.
    split, split_seed, allow_overlap, device, precision, assume_suv
        As in `finetune`.
    on_run : callable, optional
        Told (done, all) of runs.

    Raises
    ------
    UsageError
        If there is no arm, or the bundles of an arm have different grids.
    """
    dataset, out = Path(dataset), Path(out)
    require_writable(out)
    if not arms or min(draws, updates, batch_size) < 1:
        raise UsageError("a probe needs at least one bundle, and draws, updates and windows of 1 or more.")
    starts = {name: [load_bundle(one) for one in text.split(JOINED)] for name, text in arms.items()}
    starts[RANDOM] = next(iter(starts.values()))[:1]
    fabric = make_fabric(device, precision)
    dtype = inference_dtype(precision, fabric.device)
    rows: list[dict[str, Any]] = []
    done, wanted = 0, len(starts) * draws
    read: dict[str, LabelledCases] = {}
    scans: dict[str, TestScans] = {}
    for name, bundles in starts.items():
        plan, config, inputs = _joined(name, bundles)
        config = replace(
            config, batch_size=batch_size, steps=updates, epoch_steps=updates, validation_batches=0, accumulate=1
        )
        key = json.dumps(plan.as_json(), sort_keys=True)
        if key not in read:
            read[key] = labelled_cases(dataset, plan, out / "cache" / f"{len(read)}", assume_suv=assume_suv)
            scans[key] = TestScans(read[key], assume_suv=assume_suv, limit=KEPT_BYTES // 2)
        data = read[key]
        parts = split_of(data, split, split_seed)
        write_json(parts.as_json(), out / SPLIT)
        if not allow_overlap:
            for bundle in bundles:
                require_unseen(data, parts.test, bundle)
        tested = [case for case in parts.test if data.positive[case]]
        for draw in range(draws):
            chosen = shots_of(parts.train, data.patients, data.positive, shots, draw=draw, seed=split_seed)
            place = out / "runs" / name / f"draw_{draw}"
            network = _frozen(bundles, inputs, config, source, trained=name != RANDOM, seed=draw)
            identity = [name, source, *(bundle.checksum for bundle in bundles), *tested]
            optimizer = torch.optim.AdamW(network.head.parameters(), RATE)
            state = tune(
                network, config, data, chosen, (), place, fabric, identity=identity, optimizer=optimizer,
                rate=lambda number: RATE,
            )  # fmt: skip
            kept = place / "scores.json"
            if not kept.is_file():
                fresh = _frozen(bundles, inputs, config, source, trained=name != RANDOM, seed=draw)
                fresh.load_state_dict(state, strict=False)
                found = scores_on(fresh, config, scans[key], tested, device=fabric.device, dtype=dtype)
                write_json(found, kept)
            rows += [{"arm": name, "draw": draw, **row} for row in read_scores(kept)]
            done += 1
            if on_run is not None:
                on_run(done, wanted)
    return _concluded(rows, out, list(starts))


def read_scores(path: Path) -> list[dict[str, Any]]:
    """Return rows that `write_json` wrote; null is a score that is not defined."""
    rows = json.loads(path.read_text(encoding="utf-8"))
    return [{key: math.nan if value is None else value for key, value in row.items()} for row in rows]


def _joined(name: str, bundles: Sequence[Bundle]) -> tuple[Any, Config, tuple[tuple[int, ...], ...]]:
    """Return the plan with the channels of all bundles, a configuration on it, and which channels each bundle takes."""
    plans, configs = zip(*(planned(bundle, None) for bundle in bundles), strict=True)
    if len({(plan.spacing_mm, plan.orientation, plan.crop, config.window) for plan, config in zip(plans, configs)}) > 1:
        raise UsageError(f"{name}: its bundles were pretrained on different grids or windows; join like with like.")
    channels: list[Any] = []
    for plan in plans:
        channels += [rule for rule in plan.channels if rule not in channels]
    names = [rule.name for rule in channels]
    if len(set(names)) < len(names):
        raise UsageError(f"{name}: its bundles normalise {names[0]} differently; join like with like.")
    inputs = tuple(tuple(channels.index(rule) for rule in plan.channels) for plan in plans)
    config = replace(configs[0], channels=tuple(names), normalisation=tuple(rule.scheme for rule in channels))
    return replace(plans[0], channels=tuple(channels)), config, inputs


def _frozen(
    bundles: Sequence[Bundle], inputs: Sequence[Sequence[int]], config: Config, source: str, *, trained: bool, seed: int
) -> LinearProbe:
    networks, designs = [], []
    for bundle in bundles:
        own = replace(bundle.config.for_segmentation(), seed=config.seed + seed)
        network = petct_mae.build_network(own)
        if trained:
            transfer(network, bundle.states["0"], own.design.kind)
        networks.append(network)
        designs.append(own.design)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed + seed)
        return LinearProbe(networks, designs, inputs, len(config.labels), source=source)


def _concluded(rows: list[dict[str, Any]], out: Path, arms: Sequence[str]) -> ProbeResult:
    write_csv(rows, out / "scores.csv", columns=list(rows[0]))
    summary = {arm: summary_values([row for row in rows if row["arm"] == arm]) for arm in arms}
    comparisons = {}
    for a, b in combinations(arms, 2):
        first = {(row["draw"], row["case"]): row for row in rows if row["arm"] == a}
        second = {(row["draw"], row["case"]): row for row in rows if row["arm"] == b}
        keys = sorted(first.keys() & second.keys())
        comparisons[a, b] = compare_paired(
            [float(first[key]["dice"]) for key in keys],
            [float(second[key]["dice"]) for key in keys],
            patients=[first[key]["patient"] for key in keys],
        )
    content = {
        "arms": summary,
        "comparisons": [{"a": a, "b": b, **asdict(one)} for (a, b), one in comparisons.items()],
    }
    write_json(content, out / "summary.json")
    return ProbeResult(rows, summary, comparisons)
