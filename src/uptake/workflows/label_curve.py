"""Dice against the share of labels, from scratch and pretrained: does pretraining save labels on this dataset?"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from uptake.core.errors import UsageError
from uptake.evaluation.comparison import Comparison, compare_paired, patient_differences
from uptake.evaluation.equivalence import Equivalence, equivalence
from uptake.evaluation.intervals import mean_interval
from uptake.io.write import require_writable, write_csv, write_json
from uptake.methods import petct_mae
from uptake.methods.petct_mae import Config
from uptake.training.devices import make_fabric
from uptake.training.transfer import transfer
from uptake.workflows.bundles import Bundle, load_bundle
from uptake.workflows.finetune import SPLIT, checkpoints_into, planned, split_of, tune
from uptake.workflows.label_curve_picture import draw_curve
from uptake.workflows.labelled_cases import TestScans, inference_dtype, labelled_cases, require_unseen, scores_on
from uptake.workflows.labelled_split import fraction_of
from uptake.workflows.labels_saved import Worth, worth_of
from uptake.workflows.probe import read_scores

SCRATCH = "scratch"
FRACTIONS = (0.1, 0.3, 1.0)
DRAWS = 5
MARGIN = 0.02
"""Of Dice: a difference below it is said not to matter. Chosen before any result, as the field usually does."""

PAIR_COLUMNS = ("a", "a_fraction", "b", "b_fraction")


@dataclass(frozen=True)
class Point:
    """A point of the curve: mean Dice over test patients, each averaged over draws and seeds, with its interval."""

    arm: str
    fraction: float
    scans: int
    runs: int
    mean: float
    low: float
    high: float
    spread: float


@dataclass(frozen=True)
class Pair:
    """Two points compared patient by patient: is a - b different from 0, and are they equivalent?"""

    a: str
    a_fraction: float
    b: str
    b_fraction: float
    comparison: Comparison
    equivalence: Equivalence


@dataclass(frozen=True)
class LabelCurve:
    """The curve.

    Attributes
    ----------
    points : tuple of Point
    pairs : tuple of Pair
        At each fraction every pretrained arm against scratch, and at each fraction against scratch with all labels.
    rows : list of dict
        Arm, fraction, draw, seed, case, patient and scores.
    worth : tuple of Worth
        How many labels training from scratch needs for each pretrained point.
    """

    points: tuple[Point, ...]
    pairs: tuple[Pair, ...]
    rows: list[dict[str, Any]]
    worth: tuple[Worth, ...] = ()


@dataclass(frozen=True)
class Run:
    """One training of the grid."""

    arm: str
    fraction: float
    draw: int
    seed: int

    @property
    def folder(self) -> str:
        """Name of its folder below runs/."""
        return f"{self.arm}/f{self.fraction:g}_d{self.draw}_s{self.seed}"


def grid(
    arms: Sequence[str], fractions: Sequence[float], draws: int, seeds: int, whole_runs: int | None = None
) -> list[Run]:
    """Return the runs, the cheap comparison first: every arm of a draw before the next draw.

    With all labels there is nothing to draw; the seeds then run over draws · seeds, so that every point of the curve
    has as many runs, or over `whole_runs`.
    """
    runs = []
    for repeat in range(draws):
        for seed in range(seeds):
            for fraction in fractions:
                whole = fraction == 1.0
                draw, start = (0, repeat * seeds + seed) if whole else (repeat, seed)
                if whole and whole_runs is not None and start >= whole_runs:
                    continue
                runs += [Run(arm, fraction, draw, start) for arm in arms]
    return runs


def label_curve(
    dataset: Path | str,
    out: Path | str,
    arms: Mapping[str, str],
    *,
    config: Config | None = None,
    fractions: Sequence[float] = FRACTIONS,
    draws: int = DRAWS,
    seeds: int = 1,
    whole_runs: int | None = None,
    margin: float = MARGIN,
    split: Path | None = None,
    split_seed: int = 0,
    allow_overlap: bool = False,
    device: str = "auto",
    precision: str = "auto",
    assume_suv: bool = False,
    on_case: Callable[[int, int], None] | None = None,
    on_run: Callable[[int, int], None] | None = None,
) -> LabelCurve:
    """Train every arm on every fraction of the labels, test all on the same scans, and compare.

    All arms have the same network, plan, subsets, seeds and number of steps; only where the weights start differs,
    and with ``config.mode`` which of them move in the pretrained arms. A run that is done is not done again.

    Parameters
    ----------
    dataset : Path
        Studies with lesion masks.
    out : Path
        Receives cache/, split.json, runs/, scores.csv, curve.csv, pairs.csv, labels_saved.csv, summary.json, curve.png.
    arms : mapping
        Name -> bundle of masked pretraining. The arm "scratch" is always there.
    config : Config, optional
        Of segmentation; by default that of the first bundle's network.
    fractions : sequence of float
    draws, seeds : int
        Subsets per fraction, and initialisations per subset.
    whole_runs : int, optional
        Initialisations with all labels, of which there is one subset only; by default draws · seeds.
    margin : float
        Of equivalence, in Dice.
    split, split_seed, allow_overlap, device, precision, assume_suv
        As in `finetune`.
    on_case, on_run : callable, optional
        Told (done, all) of scans read, and of runs.

    Raises
    ------
    UsageError
        If there is no pretrained arm, a fraction or count is wrong, or bundles have different networks or plans.
    """
    dataset, out = Path(dataset), Path(out)
    _require(arms, fractions, draws, seeds, whole_runs)
    require_writable(out)
    starts = {name: load_bundle(path) for name, path in arms.items()}
    plan, config = planned(next(iter(starts.values())), config)
    for name, start in starts.items():
        if start.plan != plan or start.config.design != config.design:
            raise UsageError(
                f"{name}: has another network or plan than the first bundle; a curve compares like with like."
            )
    fabric = make_fabric(device, precision)
    dtype = inference_dtype(precision, fabric.device)
    data = labelled_cases(dataset, plan, out / "cache", assume_suv=assume_suv, on_case=on_case)
    parts = split_of(data, split, split_seed)
    if not allow_overlap:
        for start in starts.values():
            require_unseen(data, parts.test, start)
    write_json(parts.as_json(), out / SPLIT)
    runs = grid([SCRATCH, *starts], sorted(fractions), draws, seeds, whole_runs)
    rows: list[dict[str, Any]] = []
    scans = TestScans(data, assume_suv=assume_suv)
    for number, run in enumerate(runs):
        place = out / "runs" / run.folder
        kept = place / "scores.json"
        chosen = fraction_of(parts.train, data.patients, data.positive, run.fraction, draw=run.draw, seed=split_seed)
        # From scratch there is no part that could be kept as it is.
        mode = config.mode if run.arm in starts else "full"
        own = replace(config, seed=config.seed + 1000 * run.draw + run.seed, mode=mode)
        state = tune(
            _started(own, starts.get(run.arm)),
            own,
            data,
            chosen,
            parts.validation,
            place,
            fabric,
            identity=[run.arm, starts[run.arm].checksum if run.arm in starts else "", *parts.test],
        )
        if not kept.is_file():
            network = petct_mae.build_network(own)
            checkpoints_into(network, state)
            found = scores_on(network, own, scans, parts.test, device=fabric.device, dtype=dtype)
            write_json(found, kept)
        facts = {"arm": run.arm, "fraction": run.fraction, "scans": len(chosen), "draw": run.draw, "seed": run.seed}
        rows += [{**facts, **row} for row in read_scores(kept)]
        if on_run is not None:
            on_run(number + 1, len(runs))
    return conclude(rows, out, margin=margin)


def _require(
    arms: Mapping[str, str], fractions: Sequence[float], draws: int, seeds: int, whole_runs: int | None
) -> None:
    if not arms or SCRATCH in arms:
        raise UsageError(f"a label curve needs pretrained bundles under names other than {SCRATCH!r}.")
    if not fractions or any(not 0 < one <= 1 for one in fractions) or len(set(fractions)) < len(fractions):
        raise UsageError(f"fractions lie in (0, 1], each once, came {tuple(fractions)}.")
    if min(draws, seeds) < 1:
        raise UsageError(f"draws and seeds are 1 or more, came {draws} and {seeds}.")
    if whole_runs is not None and not 1 <= whole_runs <= draws * seeds:
        raise UsageError(f"runs with all labels are 1 to draws x seeds ({draws * seeds}), came {whole_runs}.")


def _started(config: Config, start: Bundle | None) -> Any:
    network = petct_mae.build_network(config)
    if start is not None:
        transfer(network, start.states["0"], config.design.kind)
    return network


def conclude(rows: Sequence[Mapping[str, Any]], out: Path | None, *, margin: float = MARGIN) -> LabelCurve:
    """Return the curve and its tests from the scores of all runs; write them where `out` is given.

    Parameters
    ----------
    rows : sequence of mapping
        Arm, fraction, scans, draw, seed, case, patient, dice. Scans without lesions, whose Dice is undefined, count in
        no mean.
    out : Path, optional
    margin : float
    """
    keyed: dict[tuple[str, float], dict[str, list[float]]] = {}
    owner = {str(row["case"]): row["patient"] for row in rows}
    for row in rows:
        if math.isfinite(float(row["dice"])):
            cases = keyed.setdefault((row["arm"], float(row["fraction"])), {})
            cases.setdefault(str(row["case"]), []).append(float(row["dice"]))
    means = {key: {case: float(np.mean(values)) for case, values in cases.items()} for key, cases in keyed.items()}
    points = tuple(_point(key, rows, cases, owner) for key, cases in sorted(means.items()))
    pairs = []
    fractions = sorted({fraction for _, fraction in means})
    for arm in sorted({arm for arm, _ in means} - {SCRATCH}):
        for fraction in fractions:
            others = [(SCRATCH, fraction)]
            if fraction < fractions[-1]:
                others.append((SCRATCH, fractions[-1]))
            pairs += [_pair((arm, fraction), other, means, owner, margin) for other in others if other in means]
    by_patient = {key: _by_patient(cases, owner) for key, cases in means.items()}
    scans = {(point.arm, point.fraction): point.scans for point in points}
    worth = worth_of(by_patient, scans, scratch=SCRATCH)
    found = LabelCurve(points, tuple(pairs), [dict(row) for row in rows], worth)
    if out is not None:
        _write(found, out, margin)
    return found


def _point(
    key: tuple[str, float], rows: Sequence[Mapping[str, Any]], cases: Mapping[str, float], owner: Mapping[str, Any]
) -> Point:
    own = [row for row in rows if (row["arm"], float(row["fraction"])) == key]
    runs: dict[tuple[int, int], list[float]] = {}
    for row in own:
        if math.isfinite(float(row["dice"])):
            runs.setdefault((row["draw"], row["seed"]), []).append(float(row["dice"]))
    values = np.array(list(_by_patient(cases, owner).values()))
    found = mean_interval(values)
    spread = float(np.std([np.mean(one) for one in runs.values()], ddof=1)) if len(runs) > 1 else math.nan
    scans = round(float(np.mean([row["scans"] for row in own])))
    return Point(*key, scans, len(runs), float(values.mean()), found.low, found.high, spread)


def _by_patient(cases: Mapping[str, float], owner: Mapping[str, Any]) -> dict[str, float]:
    values: dict[str, list[float]] = {}
    for case, value in cases.items():
        values.setdefault(str(owner[case]), []).append(value)
    return {person: float(np.mean(values[person])) for person in sorted(values)}


def _pair(
    a: tuple[str, float],
    b: tuple[str, float],
    means: Mapping[tuple[str, float], Mapping[str, float]],
    owner: Mapping[str, Any],
    margin: float,
) -> Pair:
    shared = sorted(means[a].keys() & means[b].keys())
    first, second = [means[a][case] for case in shared], [means[b][case] for case in shared]
    people = [owner[case] for case in shared]
    differences = patient_differences(first, second, patients=people)
    return Pair(*a, *b, compare_paired(first, second, patients=people), equivalence(differences, margin))


def _write(found: LabelCurve, out: Path, margin: float) -> None:
    write_csv(found.rows, out / "scores.csv", columns=list(found.rows[0]))
    write_csv([asdict(one) for one in found.points], out / "curve.csv", columns=list(Point.__dataclass_fields__))
    pairs = [
        {
            **{name: getattr(one, name) for name in PAIR_COLUMNS},
            "difference": one.comparison.difference,
            "low": one.comparison.low,
            "high": one.comparison.high,
            "p": one.comparison.p,
            "p_equivalence": one.equivalence.p,
            "equivalent": int(one.equivalence.equivalent),
            "patients": one.comparison.patients,
        }
        for one in found.pairs
    ]
    columns = [*PAIR_COLUMNS, "difference", "low", "high", "p", "p_equivalence", "equivalent", "patients"]
    write_csv(pairs, out / "pairs.csv", columns=columns)
    points, worth = [asdict(one) for one in found.points], [asdict(one) for one in found.worth]
    write_csv(worth, out / "labels_saved.csv", columns=list(Worth.__dataclass_fields__))
    write_json({"margin": margin, "points": points, "pairs": pairs, "labels_saved": worth}, out / "summary.json")
    draw_curve([asdict(one) for one in found.points], out / "curve.png")
