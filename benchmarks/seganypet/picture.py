"""One click on the thigh sarcoma of a real whole-body scan, as a picture.

python benchmarks/seganypet/picture.py BUNDLE STUDY OUT.png

STUDY holds pet.nii.gz and lesion.nii.gz (../shared/data/wholebody/STS_001). The click is the hottest voxel of the
tumour; the reference is drawn for comparison only.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from uptake.evaluation.overlap import Counts, overlap_scores
from uptake.io.find import find_cases
from uptake.io.read import read_case
from uptake.workflows.session import Session


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("bundle", type=Path)
    parser.add_argument("study", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    case = read_case(find_cases(arguments.study)[0])
    truth = case.lesions.array > 0
    click = np.unravel_index(int(np.where(truth, case.pet.array, -1).argmax()), truth.shape)
    session = Session(arguments.bundle, device="cpu")
    session.set_image(case)
    session.add_point(click)
    answer = session.predict()
    mask = answer.mask.array
    dice = overlap_scores(Counts.of(mask, truth), voxel_ml=case.pet.voxel_volume_ml)["dice"]
    print(
        f"click {click}, Dice {dice:.3f}, {answer.volume_ml:.1f} mL, confidence {answer.confidence:.2f}, {answer.notes}"
    )
    figure = Figure(figsize=(9, 5), layout="constrained")
    FigureCanvasAgg(figure)
    whole, near = figure.subplots(1, 2)
    across = case.pet.spacing_mm[2] / case.pet.spacing_mm[0]
    whole.imshow(case.pet.array.max(axis=1).T, cmap="gray_r", vmin=0, vmax=8, origin="lower", aspect=across)
    whole.contour(mask.any(axis=1).T, [0.5], colors="#c0504d", linewidths=1)
    whole.set_title("maximum projection, SUV 0 to 8")
    near.imshow(case.pet.array[:, click[1]].T, cmap="gray_r", vmin=0, vmax=8, origin="lower", aspect=across)
    near.contour(mask[:, click[1]].T, [0.5], colors="#c0504d", linewidths=1.5)
    near.contour(truth[:, click[1]].T, [0.5], colors="#1f4e79", linewidths=1, linestyles="dashed")
    near.plot(click[0], click[2], "+", color="#4f8f3a", markersize=14, markeredgewidth=2)
    box = np.argwhere(mask | truth)
    near.set_xlim(box[:, 0].min() - 15, box[:, 0].max() + 15)
    near.set_ylim(box[:, 2].min() - 10, box[:, 2].max() + 10)
    near.set_title(f"one click: red answer, blue reference, Dice {dice:.2f}")
    for axes in (whole, near):
        axes.set_axis_off()
    figure.savefig(arguments.out, dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    main()
