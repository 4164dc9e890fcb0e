"""The part of summary.json that nnU-Net knows is what nnU-Net writes: labels, regions, an ignored label, empties."""

import json
import warnings

import numpy as np
import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pytest.importorskip("nnunetv2", reason="parity with nnU-Net needs the 'bench' extra")
    from nnunetv2.evaluation import evaluate_predictions as theirs_is
    from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

from uptake.geometry import Volume
from uptake.io.write import write_json, write_volume
from uptake.workflows.evaluate import evaluate_cohort
from uptake.workflows.evaluation_outputs import write_evaluation
from uptake.workflows.evaluation_results import results_of
from uptake.workflows.label_table import find_labels
from uptake.workflows.scoring import EvaluateSettings

GRID = np.diag([2.0, 3.0, 4.0, 1.0])


class InThisProcess:
    """Stands in for nnU-Net's pool of processes, which takes half a minute to start."""

    def Pool(self, _processes):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def starmap(self, function, arguments):
        return [function(*each) for each in arguments]


@pytest.fixture
def folders(tmp_path):
    rng = np.random.default_rng(0)
    maps = {
        "a": rng.integers(0, 4, (2, 9, 8, 7)),
        "b": rng.integers(0, 3, (2, 9, 8, 7)),  # no label 3 in either
        "c": np.zeros((2, 9, 8, 7)),  # nothing in either
        "d": np.stack([rng.integers(0, 4, (9, 8, 7)), np.zeros((9, 8, 7))]),  # nothing in the reference
        "e": np.stack([np.zeros((9, 8, 7)), rng.integers(0, 4, (9, 8, 7))]),  # nothing predicted
    }
    for side in (0, 1):
        (tmp_path / "pr"[side]).mkdir()
        for case, pair in maps.items():
            write_volume(Volume(pair[side].astype(np.uint8), GRID), tmp_path / "pr"[side] / f"{case}.nii.gz")
    return tmp_path


def summary(folders, labels=None):
    """Return the path of our summary.json."""
    table = find_labels(labels, folders / "p", folders / "r")
    found = evaluate_cohort(folders / "p", folders / "r", table=table, settings=EvaluateSettings(metrics=("overlap",)))
    write_evaluation(found, results_of(found), folders / "o")
    return folders / "o" / "summary.json"


TABLES = {
    "labels": ({"background": 0, "liver": 1, "spleen": 2, "lesion": 3}, [1, 2, 3], None),
    "regions": ({"background": 0, "whole": [1, 2, 3], "core": [2, 3], "hot": 3}, [(1, 2, 3), (2, 3), 3], None),
    "ignore": ({"background": 0, "liver": 1, "spleen": 2, "ignore": 3}, [1, 2], 3),
}


@pytest.mark.parametrize("table", TABLES)
def test_every_number_is_nnunets(folders, table, monkeypatch):
    labels, regions, ignore = TABLES[table]
    if ignore is not None:
        for file in (folders / "p").glob("*.nii.gz"):  # nobody predicts the label that counts for nothing
            array = SimpleITKIO().read_seg(str(file))[0][0].transpose(2, 1, 0)
            write_volume(Volume(np.where(array == 3, 0, array).astype(np.uint8), GRID), file)
    write_json({"labels": labels}, folders / "p" / "dataset.json")
    ours = json.loads(summary(folders).read_text(encoding="utf-8"))

    monkeypatch.setattr(theirs_is.multiprocessing, "get_context", lambda _kind: InThisProcess())
    (folders / "p" / "dataset.json").unlink()
    with np.errstate(invalid="ignore"):
        theirs_is.compute_metrics_on_folder(
            str(folders / "r"),
            str(folders / "p"),
            str(folders / "theirs.json"),
            SimpleITKIO(),
            ".nii.gz",
            regions,
            ignore,
        )
    theirs = json.loads((folders / "theirs.json").read_text(encoding="utf-8"))
    assert set(ours) == {*theirs, "uptake"}
    for part in ("foreground_mean", "mean"):
        same(ours[part], theirs[part])
    assert len(ours["metric_per_case"]) == len(theirs["metric_per_case"]) == 5
    for one, other in zip(ours["metric_per_case"], theirs["metric_per_case"], strict=True):
        same(one["metrics"], other["metrics"])
        assert one["prediction_file"] == other["prediction_file"]


def same(ours, theirs):
    """Compare nested dictionaries; nnU-Net's NaN, which is no JSON, is null in ours."""
    assert ours.keys() == theirs.keys()
    for key, value in theirs.items():
        if isinstance(value, dict):
            same(ours[key], value)
        elif np.isnan(value):
            assert ours[key] is None
        else:
            assert ours[key] == pytest.approx(value, rel=1e-12)


def test_nnunets_own_reader_reads_ours(folders):
    found = theirs_is.load_summary_json(str(summary(folders, labels="1=a,2=b,3=c")))
    assert set(found["mean"]) == {1, 2, 3} and set(found["metric_per_case"][0]["metrics"]) == {1, 2, 3}
