"""Train `phantom-lesion-small` on simulated patients and score it on other simulated patients.

Usage: python benchmarks/phantom/train.py --work /tmp/phantom

61 patients (seeds 0 to 60) of twelve simulated sites to learn from, 16 others (seeds 10000 to 10015) to score; 4 mm
voxels, lesions as drawn (a good third of the patients have none). Training starts from the weights that shipped before
(`--init`; any bundle, or "none"). Afterwards the lesion logit is lowered by what serves twelve training patients best.
Writes the bundle to WORK/bundle and the table of the 16 to ``cases.csv`` and ``summary.json`` beside this file. A
stopped run goes on when the same command is given again.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from uptake.evaluation.overlap import evaluate_pair
from uptake.harmonise.onto import harmonise
from uptake.harmonise.restore import restore
from uptake.inference.compiled import resolve_engine
from uptake.io.find import find_cases
from uptake.io.read import read_case
from uptake.io.write import write_csv, write_json
from uptake.methods.lesiontracer import Config
from uptake.training.protocol import EpochReport
from uptake.workflows.bundles import Bundle, load_bundle
from uptake.workflows.simulate import simulate
from uptake.workflows.simulated import SimulationSettings
from uptake.workflows.train import About, summary_values, train
from uptake.zoo.bundle import save_bundle

HERE = Path(__file__).parent
CPU = torch.device("cpu")

SETTINGS = SimulationSettings(sites=12)

ABOUT = About(
    name="phantom-lesion-small",
    summary="FDG-avid lesions on whole-body PET/CT, taught by simulated patients only",
    data="61 simulated FDG PET/CT patients of 12 simulated sites, vertex to mid-thigh (seeds 0 to 60)",
    data_licence="none needed: no such persons exist",
    weights_licence="Apache-2.0",
    limits=(
        "Trained on simulated patients only; nothing is known about its quality on real ones. It shows how the tool "
        "works and is a start for training, not a finding.",
        "FDG only. Physiological uptake that the simulator does not draw (inflammation, implants, other tracers) is "
        "likely to be marked.",
    ),
)

OFFSETS = (0.0, 1.0, 2.0, 3.0, 4.0, 5.0)
"""Half of the training windows are centred on a lesion, hardly one in a hundred windows of a scan is; so the lesion
logit starts out too high. The offset is chosen on training patients, never on those that are scored."""

CALIBRATION_PATIENTS = 12


def config(steps: int) -> Config:
    """Return the `small` preset on a 4 mm grid with a wider view; left-right flips alone at inference."""
    return replace(
        Config.small(),
        preset="small, 4 mm",
        spacing_mm=(4.0, 4.0, 4.0),
        window=(64, 48, 48),
        steps=steps,
        foreground_share=0.4,
        mirror_axes=(2,),
    )


def say(fold: str, report: EpochReport) -> None:
    print(
        f"step {report.step}/{report.steps} loss {report.row['train_loss']:+.4f} {report.row['seconds']:.0f} s",
        flush=True,
    )


def scores(bundle: Bundle, folder: Path, offsets: tuple[float, ...]) -> dict[float, list[dict[str, Any]]]:
    """Return a row of scores for each patient of `folder`, for each offset of the lesion logit."""
    found: dict[float, list[dict[str, Any]]] = {offset: [] for offset in offsets}
    networks = bundle.networks()
    for files in find_cases(folder):
        case = read_case(files, labels=("lesions",))
        harmonised, trace = harmonise(case, bundle.plan)
        prediction = bundle.method.predict(
            networks, harmonised, bundle.config, dtype=torch.bfloat16, engine=resolve_engine("auto", CPU)
        )
        for offset in offsets:
            logits = prediction.logits.copy()
            logits[1] -= offset
            mask = restore(replace(prediction, logits=logits), trace).labels
            (one,) = evaluate_pair(mask, case.lesions)
            found[offset].append({"case": files.id, "patient": files.id, **one.row()})
        print(files.id, *(f"{found[offset][-1]['dice']:.3f}" for offset in offsets), flush=True)
    return found


def chosen_offset(found: dict[float, list[dict[str, Any]]]) -> float:
    """Return the offset with the highest mean of Dice, where lesion-free patients count 1 if nothing is marked."""

    def value(rows: list[dict[str, Any]]) -> float:
        return float(np.mean([np.nan_to_num(row["dice"], nan=float(row["fp_volume_ml"] == 0)) for row in rows]))

    return max(found, key=lambda offset: value(found[offset]))


def with_offset(bundle: Bundle, offset: float, note: str, score: dict[str, Any], target: Path) -> None:
    """Write the bundle with the offset in the bias of the finest lesion head, and its scores on the card."""
    states = {}
    for fold, state in bundle.states.items():
        heads = sorted(name for name in state if name.startswith("decoder.seg_layers.") and name.endswith(".bias"))
        states[fold] = {**state, heads[-1]: state[heads[-1]] - torch.tensor([0.0, offset])}
    training = {**bundle.card.training, "calibration": note}
    save_bundle(replace(bundle.card, training=training, scores=[score]), states, target)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=2400, help="the shipped weights are those of step 2,000")
    parser.add_argument("--patients", type=int, nargs=2, default=(61, 16), help="to learn from, to score")
    parser.add_argument("--init", default="phantom-lesion-small")
    args = parser.parse_args()
    learn, test = args.patients
    simulate(args.work / "train", patients=learn, seed=0, settings=SETTINGS)
    simulate(args.work / "test", patients=test, seed=10_000, settings=SETTINGS)
    train(
        "lesiontracer",
        args.work / "train",
        args.work / "run",
        config=config(args.steps),
        about=ABOUT,
        folds=["all"],
        init=None if args.init == "none" else args.init,
        stored_as="float16",
        on_epoch=say,
    )
    finish(args.work)


def finish(work: Path) -> None:
    """Calibrate, score and write the bundle."""
    bundle = load_bundle(work / "run" / "bundle")
    some = work / "calibration"
    if not some.exists():
        some.mkdir()
        for study in sorted((work / "train").iterdir())[:CALIBRATION_PATIENTS]:
            (some / study.name).symlink_to(study.resolve())
    offset = chosen_offset(scores(bundle, some, OFFSETS))
    rows = scores(bundle, work / "test", (offset,))[offset]
    columns = ["case", *(name for name in rows[0] if name != "case")]
    write_csv(rows, HERE / "cases.csv", columns=columns)
    summary = {"cases": len(rows), "lesion_logit_offset": offset, "metrics": summary_values(rows)}
    write_json(summary, HERE / "summary.json")
    score = {
        **summary,
        "protocol": f"{len(rows)} other simulated patients, whole scans",
        "table": "benchmarks/phantom/cases.csv",
    }
    note = f"lesion logit lowered by {offset:g} after training, chosen on {CALIBRATION_PATIENTS} training patients"
    with_offset(bundle, offset, note, score, work / "bundle")
    print(json.dumps(summary, indent=1))


if __name__ == "__main__":
    main()
