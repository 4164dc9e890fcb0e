"""Training end to end on tiny cases: folds, scores, bundle, and a killed run that goes on to the same weights."""

from __future__ import annotations

import csv
import json
import shutil
import signal
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

import uptake
from uptake.core.errors import CheckpointError, InputError, UsageError
from uptake.io.find import CaseFiles
from uptake.io.image import read_labels
from uptake.workflows import training_data

KILLED = """
import os, signal, sys
from uptake.cli.main import run
from uptake.workflows import train as module
real = module.fit

def fit(*arguments, on_epoch, **options):
    def stop(report):
        if report.step == int(sys.argv[1]):
            os.kill(os.getpid(), signal.SIGKILL)
    return real(*arguments, on_epoch=stop, **options)

module.fit = fit
sys.exit(run(sys.argv[2:]))
"""


def tiny_config(**changes):
    from uptake.methods.lesiontracer import Config

    tiny = replace(
        Config.small(),
        spacing_mm=(8.0, 8.0, 8.0),
        window=(16, 16, 16),
        features=(4, 8),
        blocks=(1, 1),
        steps=4,
        epoch_steps=2,
        validation_batches=1,
        mirror_axes=(),
    )
    return replace(tiny, **changes)


OPTIONS = ("--steps", "4", "--window", "16", "16", "16", "--spacing-mm", "8", "8", "8", "--features", "4,8")
OPTIONS = (*OPTIONS, "--blocks", "1,1", "--device", "cpu", "--preset", "small")


@pytest.fixture(scope="module")
def dataset(make_study, tiny_arrays, tmp_path_factory):
    """Four studies; they differ in noise."""
    folder = tmp_path_factory.mktemp("dataset")
    rng = np.random.default_rng(1)
    for name in ("p1", "p2", "p3", "p4"):
        noisy = np.clip(tiny_arrays["pet"] + rng.normal(0, 0.1, tiny_arrays["pet"].shape), 0, None)
        make_study(folder / name, pet=noisy.astype(np.float32))
    (folder / "cohort.csv").write_text("case,tracer\np1,FDG\np2,FDG\np3,FDG\np4,PSMA-11\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def trained(dataset, tmp_path_factory):
    """Two folds, four steps each, without any interruption."""
    out = tmp_path_factory.mktemp("run")
    steps = []
    result = uptake.train(
        "lesiontracer",
        dataset,
        out,
        config=tiny_config(),
        folds=(0, 1),
        n_folds=2,
        device="cpu",
        precision="32-true",
        on_epoch=lambda fold, report: steps.append((fold, report.step)),
    )
    assert steps == [("0", 2), ("0", 4), ("1", 2), ("1", 4)]
    return out, result


def weights(out):
    return {f.name: f.read_bytes() for f in sorted((out / "bundle").glob("*.safetensors"))}


def test_every_case_is_scored_once_by_the_fold_that_did_not_see_it(trained):
    out, result = trained
    with (out / "cases.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert sorted(row["case"] for row in rows) == ["p1", "p2", "p3", "p4"]
    assert sorted(row["fold"] for row in rows) == ["0", "0", "1", "1"]
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    assert summary["cases"] == 4
    folds = json.loads((out / "splits_final.json").read_text(encoding="utf-8"))
    assert sorted(case for fold in folds for case in fold["val"]) == ["p1", "p2", "p3", "p4"]
    assert summary["metrics"]["dice"]["mean"] == pytest.approx(np.mean([float(row["dice"]) for row in rows]), rel=1e-6)
    assert result.summary["dice"]["n"] == 4


def test_held_out_masks_are_on_the_grid_of_their_scan_and_score_as_stated(trained, dataset):
    out, result = trained
    for row in result.rows:
        mask = out / f"fold_{row['fold']}" / "held_out" / f"{row['case']}.nii.gz"
        reference, _ = read_labels(dataset / row["case"] / "lesion.nii.gz")
        np.testing.assert_allclose(read_labels(mask)[0].affine, reference.affine, atol=1e-5)
        (again,) = uptake.evaluate(mask, dataset / row["case"] / "lesion.nii.gz")
        assert again["dice"] == pytest.approx(row["dice"])


def test_log_and_checkpoints_are_there(trained):
    out, _ = trained
    for fold in ("fold_0", "fold_1"):
        assert {"last.ckpt", "best.ckpt", "log.csv", "loss.png", "held_out"} <= {f.name for f in (out / fold).iterdir()}
        with (out / fold / "log.csv").open(encoding="utf-8", newline="") as stream:
            assert [float(row["step"]) for row in csv.DictReader(stream)] == [2, 4]


def test_the_bundle_segments_and_its_card_says_how_it_was_made(trained, dataset):
    _, result = trained
    bundle = uptake.load_bundle(result.bundle)
    assert sorted(bundle.states) == ["0", "1"]
    assert bundle.card.training["cases"] == 4
    assert bundle.card.training["steps"] == 4
    assert bundle.card.training["tracers"] == ["FDG", "PSMA-11"]
    assert bundle.card.needs == ["pet"], "CT dropout lets it read PET alone"
    assert bundle.card.scores[0]["cases"] == 4
    found = uptake.segment(dataset / "p1", model=bundle, device="cpu")
    assert found.lesions.shape == found.case.pet.shape


def test_training_twice_gives_the_same_bytes(trained, dataset, tmp_path):
    uptake.train("lesiontracer", dataset, tmp_path, config=tiny_config(), folds=(0,), n_folds=2, device="cpu",
                 precision="32-true")  # fmt: skip
    assert weights(tmp_path)["fold_0.safetensors"] == weights(trained[0])["fold_0.safetensors"]


def test_a_run_killed_with_kill_9_goes_on_to_the_same_weights(trained, dataset, tmp_path, fresh, cli, monkeypatch):
    from uptake.methods import lesiontracer

    out = tmp_path / "out"
    command = ("train", "lesiontracer", dataset, "-o", out, "--folds", "0", "--n-folds", "2", *OPTIONS)
    command = (*command, "--precision", "32-true")
    # Options change the preset, and these two have no option: two epochs, so that there is something to resume from.
    small = tiny_config()
    patch = (
        "from uptake.methods import lesiontracer\n"
        "real_small = lesiontracer.Config.small\n"
        "from dataclasses import replace\n"
        "lesiontracer.Config.small = classmethod(lambda cls: replace(real_small(), epoch_steps=2, "
        "validation_batches=1, mirror_axes=()))\n"
    )
    ran = fresh(patch + KILLED, 2, *command)
    assert ran.code == -signal.SIGKILL, ran.err
    assert ran.err == ""
    assert (out / "fold_0" / "last.ckpt").exists()
    assert not (out / "bundle").exists()
    monkeypatch.setattr(lesiontracer.Config, "small", classmethod(lambda cls: small))
    ran = cli(*command)
    assert ran.code == 0, ran.err
    assert "step      4/4" in ran.out
    assert "step      2/4" not in ran.out, "it went on where it was killed"
    assert weights(out)["fold_0.safetensors"] == weights(trained[0])["fold_0.safetensors"]


def test_nothing_but_our_own_words_reaches_the_terminal(dataset, tmp_path, fresh):
    # Lightning announces mixed precision on standard error when it is set up, which happens before folds are looked at.
    command = ("train", "lesiontracer", dataset, "-o", tmp_path / "out", "--folds", "7", "--precision", "bf16-mixed")
    ran = fresh("from uptake.cli.main import main; main()", *command, "--n-folds", "2", "--device", "cpu")
    assert ran.code == 2
    assert ran.err == "uptake: fold 7 does not exist; there are 2, numbered from 0, and 'all'.\n"


def test_other_settings_do_not_go_on_from_a_run(trained, dataset, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(trained[0], out)
    with pytest.raises(CheckpointError, match=r"fold_0: a run with other settings.*Choose another output folder"):
        uptake.train("lesiontracer", dataset, out, config=tiny_config(learning_rate=1e-4), folds=(0,), n_folds=2,
                     device="cpu", precision="32-true")  # fmt: skip


def test_one_model_on_every_case_has_no_scores(dataset, tmp_path):
    result = uptake.train("lesiontracer", dataset, tmp_path, config=tiny_config(steps=2), folds=("all",), device="cpu",
                          precision="32-true")  # fmt: skip
    assert result.rows == []
    assert result.summary == {}
    assert list(weights(tmp_path)) == ["fold_all.safetensors"]
    assert uptake.load_bundle(result.bundle).card.scores == []


def test_an_nnunet_raw_dataset_is_read_as_it_is(dataset, tmp_path):
    raw = tmp_path / "Dataset001_Tiny"
    for folder in ("imagesTr", "labelsTr"):
        (raw / folder).mkdir(parents=True)
    for case in ("p1", "p2"):
        shutil.copy(dataset / case / "ct.nii.gz", raw / "imagesTr" / f"{case}_0000.nii.gz")
        shutil.copy(dataset / case / "pet.nii.gz", raw / "imagesTr" / f"{case}_0001.nii.gz")
        shutil.copy(dataset / case / "lesion.nii.gz", raw / "labelsTr" / f"{case}.nii.gz")
    (raw / "dataset.json").write_text(
        json.dumps({"channel_names": {"0": "CT", "1": "PET"}, "labels": {"background": 0, "lesion": 1}}),
        encoding="utf-8",
    )
    splits = raw / "splits_final.json"
    splits.write_text(json.dumps([{"train": ["p2"], "val": ["p1"]}]), encoding="utf-8")
    result = uptake.train("lesiontracer", raw, tmp_path / "out", config=tiny_config(steps=2), folds=(0,), splits=splits,
                          device="cpu", precision="32-true")  # fmt: skip
    assert [row["case"] for row in result.rows] == ["p1"]
    assert uptake.load_bundle(result.bundle).card.name == "lesiontracer-Dataset001_Tiny"


@pytest.mark.parametrize("kind", ["no masks", "empty masks"])
def test_a_dataset_without_lesions_is_refused(make_study, tmp_path, tiny_arrays, kind):
    for name in ("p1", "p2"):
        roles = ("pet", "ct") if kind == "no masks" else ("pet", "ct", "lesion")
        make_study(tmp_path / "data" / name, roles=roles, lesion=np.zeros_like(tiny_arrays["lesion"]))
    with pytest.raises(InputError, match="lesion"):
        uptake.train("lesiontracer", tmp_path / "data", tmp_path / "out", config=tiny_config(), folds=(0,), n_folds=2,
                     device="cpu")  # fmt: skip
    assert not (tmp_path / "out" / "bundle").exists()


def test_a_broken_case_is_refused_before_training(dataset, tmp_path, cli):
    data = tmp_path / "data"
    shutil.copytree(dataset, data)
    pet = data / "p3" / "pet.nii.gz"
    pet.write_bytes(pet.read_bytes()[:2000])
    ran = cli("train", "lesiontracer", data, "-o", tmp_path / "out", "--folds", "0", "--n-folds", "2", *OPTIONS)
    assert ran.code == 4
    assert str(pet) in ran.err
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--folds", "7"), "fold 7 does not exist"),
        (("--folds", "first"), "--folds takes whole numbers"),
        (("--window", "15", "16", "16"), "must divide by (8, 8, 8)"),
        (("--features", "4,8,16"), "features and blocks name the same stages"),
        (("--steps", "0"), "1 or more"),
        (("--n-folds", "9"), "4 patients cannot be split into 9 folds"),
    ],
)
def test_settings_that_cannot_be_are_refused_by_name(dataset, tmp_path, cli, options, words):
    out = tmp_path / "out"
    if "--n-folds" not in options:
        options = (*options, "--n-folds", "2")
    ran = cli("train", "lesiontracer", dataset, "-o", out, "--device", "cpu", "--preset", "small", *options)
    assert ran.code == (4 if "patients" in words else 2)
    assert words in ran.err
    assert list(out.iterdir()) == []


def test_an_unknown_method_or_fold_is_refused(dataset, tmp_path):
    with pytest.raises(CheckpointError, match="method 'magic' is unknown"):
        uptake.train("magic", dataset, tmp_path)
    with pytest.raises(UsageError, match="fold 2 does not exist; there are 2"):
        uptake.train("lesiontracer", dataset, tmp_path, config=tiny_config(), folds=(2,), n_folds=2, device="cpu")


def test_two_visits_of_a_patient_stay_on_one_side_of_every_fold(tmp_path):
    files = [
        CaseFiles(f"{patient}_{visit}", subject=patient) for patient in ("a", "b", "c", "d") for visit in ("v1", "v2")
    ]
    for fold in training_data.dataset_splits(files, (0, 1), 2, None):
        held_out = {case.split("_")[0] for case in fold.validation}
        assert held_out.isdisjoint(case.split("_")[0] for case in fold.train)
        assert len(fold.validation) == 4


def test_a_study_that_cannot_be_read_stops_training_before_any_work(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for file in ("pet.nii.gz", "lesion.nii.gz"):
            (tmp_path / name / file).touch()
    (tmp_path / "b" / "SUV_2.nii.gz").touch()
    (tmp_path / "b" / "SUV.nii.gz").touch()
    with pytest.raises(InputError, match="1 of 2 studies"):
        training_data.labelled_studies(tmp_path)


def test_studies_without_a_mask_are_named(tmp_path, caplog):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "pet.nii.gz").touch()
    (tmp_path / "a" / "lesion.nii.gz").touch()
    files, left_out = training_data.labelled_studies(tmp_path)
    assert [found.id for found in files] == ["a"] and left_out == ("b",)
    assert "b" in caplog.text


def test_folds_of_one_bundle_share_the_plan_that_each_was_trained_with(trained, dataset):
    out, result = trained
    assert result.bundles == (out / "bundle",)
    assert [path.name for path in (out / "cache").iterdir()] == ["shared"]


def test_folds_planned_apart_get_a_bundle_each_with_their_own_numbers(dataset, tmp_path):
    result = uptake.train(
        "lesiontracer",
        dataset,
        tmp_path,
        config=tiny_config(steps=1),
        folds=(0, 1),
        n_folds=2,
        separate_plans=True,
        device="cpu",
        precision="32-true",
    )
    assert result.bundles == (tmp_path / "fold_0" / "bundle", tmp_path / "fold_1" / "bundle")
    first, second = (uptake.load_bundle(path) for path in result.bundles)
    assert list(first.states) == ["0"] and list(second.states) == ["1"]
    assert first.plan != second.plan, "each is planned without its held-out cases"
    assert first.card.scores[0]["cases"] == 2


def test_training_starts_from_the_weights_of_a_bundle_and_says_so(trained, dataset, tmp_path):
    _, first = trained
    options = {"folds": ("all",), "device": "cpu", "precision": "32-true"}
    still = tiny_config(steps=1, learning_rate=0.0, weight_decay=0.0)
    result = uptake.train("lesiontracer", dataset, tmp_path / "a", config=still, init=first.bundle, **options)
    bundle, origin = uptake.load_bundle(result.bundle), uptake.load_bundle(first.bundle)
    for name, tensor in origin.states["0"].items():
        np.testing.assert_array_equal(bundle.states["all"][name], tensor)
    assert origin.checksum[:12] in bundle.card.training["started_from"]
    wider = tiny_config(steps=1, features=(8, 8))
    with pytest.raises(CheckpointError, match="do not fit the network"):
        uptake.train("lesiontracer", dataset, tmp_path / "b", config=wider, init=first.bundle, **options)


class TestOrgans:
    @pytest.fixture
    def maps(self, dataset, tmp_path):
        """TotalSegmentator numbers: liver (5) where there is much uptake, left kidney (3) where there is little."""
        from uptake.geometry.volume import Volume
        from uptake.io.image import read_image
        from uptake.io.write import write_volume

        folder = tmp_path / "organs"
        folder.mkdir()
        for study in sorted(path for path in dataset.iterdir() if path.is_dir()):
            pet, _ = read_image(study / "pet.nii.gz")
            numbers = np.where(pet.array > np.median(pet.array), 5, 3).astype(np.uint8)
            write_volume(Volume(numbers, pet.affine), folder / f"{study.name}.nii.gz")
        return folder

    def test_a_network_learns_organs_beside_lesions(self, dataset, maps, tmp_path):
        config = tiny_config(organs=("background", "liver", "kidney"), steps=2)
        result = uptake.train(
            "lesiontracer", dataset, tmp_path / "run", config=config, folds=("all",), organ_maps=maps, device="cpu"
        )
        bundle = uptake.load_bundle(result.bundle)
        assert bundle.config.organs == ("background", "liver", "kidney")
        assert bundle.states["all"]["decoder.organ_seg_layers.0.weight"].shape[0] == 3
        cached = sorted((tmp_path / "run" / "cache" / "shared").glob("*/organs.b2nd"))
        assert len(cached) == 4
        import blosc2

        assert set(np.unique(blosc2.open(str(cached[0]), mode="r")[:])) == {1, 2}
        found = uptake.segment(dataset / "p1", model=result.bundle)
        assert set(np.unique(found.lesions.array)) <= {0, 1}

    def test_every_case_needs_its_organ_map(self, dataset, maps, tmp_path):
        config = tiny_config(organs=("background", "liver"))
        with pytest.raises(InputError, match=r"4 of 4 cases have no organ map, first p1.*--organs none"):
            uptake.train("lesiontracer", dataset, tmp_path / "a", config=config, folds=("all",), device="cpu")
        (maps / "p3.nii.gz").unlink()
        with pytest.raises(InputError, match="1 of 4 cases have no organ map, first p3"):
            uptake.train(
                "lesiontracer", dataset, tmp_path / "a", config=config, folds=("all",), organ_maps=maps, device="cpu"
            )

    def test_a_label_beyond_the_numbering(self, dataset, maps, tmp_path):
        config = tiny_config(organs=("background", "liver"))
        numbering = tmp_path / "numbers.json"
        numbering.write_text('{"3": "liver"}')
        with pytest.raises(InputError, match=r"p1: its organ map holds label 5, the table of organ labels ends at 3"):
            uptake.train(
                "lesiontracer", dataset, tmp_path / "a", config=config, organ_maps=maps, organ_labels=numbering,
                folds=("all",), device="cpu",
            )  # fmt: skip

    @pytest.mark.parametrize("content", [None, "[", "[1]", '{"a": "b"}'])
    def test_a_numbering_that_is_none(self, tmp_path, content):
        if content is not None:
            (tmp_path / "x.json").write_text(content)
        with pytest.raises(UsageError, match="neither total nor autopet, nor a JSON file"):
            training_data.organ_names(tmp_path / "x.json")

    def test_known_numberings(self, tmp_path):
        assert training_data.organ_names("total")[5] == "liver"
        assert training_data.organ_names("autopet")[5] == "lungs"
        (tmp_path / "x.json").write_text('{"7": "liver"}')
        assert training_data.organ_names(tmp_path / "x.json") == {7: "liver"}

    def test_from_the_command_line(self, cli, dataset, maps, tmp_path):
        result = cli(
            "train", "lesiontracer", dataset, "-o", tmp_path / "run", *OPTIONS, "--organs", "lesiontracer",
            "--organ-maps", maps, "--folds", "all",
        )  # fmt: skip
        assert result.code == 0, result.err
        assert len(uptake.load_bundle(tmp_path / "run" / "bundle").config.organs) == 11
        wrong = cli("train", "lesiontracer", dataset, "-o", tmp_path / "no", *OPTIONS, "--organs", "kidneys")
        assert wrong.code == 2
        assert "'kidneys' is no grouping" in wrong.err


def test_the_split_of_the_dataset_is_taken_unless_new_folds_are_asked_for(tmp_path):
    files = [CaseFiles(name) for name in ("a", "b", "c", "d")]
    shipped = [{"train": ["a", "b"], "val": ["c"]}, {"train": ["c", "d"], "val": ["a"]}]
    (tmp_path / "splits_final.json").write_text(json.dumps(shipped))
    found = training_data.dataset_splits(files, (0, 1), None, None, tmp_path)
    assert [(fold.train, fold.validation) for fold in found] == [(("a", "b"), ("c",)), (("c", "d"), ("a",))]
    assert len(training_data.dataset_splits(files, (0, 1), 2, None, tmp_path)) == 2
    other = tmp_path / "other.json"
    other.write_text(json.dumps(shipped[:1]))
    assert len(training_data.dataset_splits(files, (0,), None, other, tmp_path)) == 1


def test_a_shipped_split_with_a_patient_on_both_sides_is_refused(tmp_path):
    visits = ["psma_95b833d65be26d9f_2018-04-23", "psma_95b833d65be26d9f_2019-01-02"]
    (tmp_path / "splits_final.json").write_text(json.dumps([{"train": visits[:1], "val": visits[1:]}]))
    with pytest.raises(InputError, match="fold 0 of the split file has 1 patients in training and validation"):
        training_data.dataset_splits([CaseFiles(name) for name in visits], (0,), None, None, tmp_path)


def test_two_processes_train_and_one_of_them_writes(dataset, tmp_path):
    out = tmp_path / "out"
    command = [sys.executable, "-m", "uptake", "train", "lesiontracer", dataset, "-o", out, "--folds", "0"]
    command += ["--n-folds", "2", *OPTIONS, "--devices", "2", "--precision", "32-true"]
    ran = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False, timeout=600)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("bundle: ") == ran.stdout.count("mean Dice of 2 held-out scans") == 1
    assert list(uptake.load_bundle(out / "bundle").states) == ["0"]
    assert len((out / "cases.csv").read_text().splitlines()) == 3


def test_accumulated_batches_are_one_step(dataset, tmp_path):
    result = uptake.train("lesiontracer", dataset, tmp_path, config=tiny_config(steps=2, accumulate=2), folds=("all",),
                          device="cpu", precision="32-true")  # fmt: skip
    assert uptake.load_bundle(result.bundle).config.accumulate == 2
    with (tmp_path / "fold_all" / "log.csv").open(encoding="utf-8", newline="") as stream:
        assert [float(row["step"]) for row in csv.DictReader(stream)] == [2]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--preset", "small", "--without", "ct-dropout"), "--without leaves out departures of the preset best"),
        (("--preset", "best", "--without", "ct-drop"), "'ct-drop' is no departure of the preset best"),
        (("--preset", "small", "--accumulate", "0"), "accumulate must be 1 or more"),
        (("--preset", "small", "--devices", "0"), "devices is 1 or more"),
    ],
)
def test_departures_and_batches_that_cannot_be_are_refused(dataset, tmp_path, cli, options, words):
    ran = cli("train", "lesiontracer", dataset, "-o", tmp_path / "out", "--device", "cpu", *options)
    assert ran.code == 2
    assert words in ran.err


@pytest.mark.parametrize(
    ("options", "preset", "rate"),
    [
        (("--preset", "best"), "best from scratch", 1e-2),
        (("--preset", "best", "--init", "x"), "best", 1e-3),
        (("--preset", "best", "--without", "ct-dropout,organ-ids", "--init", "x"),
         "best, without ct-dropout, without organ-ids", 1e-3),
        (("--preset", "published"), "published from scratch", 1e-2),
        (("--preset", "published", "--init", "x", "--accumulate", "3", "--batch-size", "1"), "published", 1e-3),
    ],
)  # fmt: skip
def test_large_presets_start_at_the_rate_that_fits_their_weights(tmp_path, cli, monkeypatch, options, preset, rate):
    import uptake.workflows.train as module

    seen = []

    def train(method, dataset, out, *, config, devices, **rest):
        seen.append(config)
        return module.TrainingResult((), [], {})

    monkeypatch.setattr(module, "train", train)
    ran = cli("train", "lesiontracer", tmp_path, "-o", tmp_path / "out", "--device", "cpu", *options)
    assert ran.code == 0, ran.err
    (config,) = seen
    assert (config.preset, config.learning_rate) == (preset, rate)
    if "--accumulate" in options:
        assert (config.batch_size, config.accumulate, config.fit_settings().accumulate) == (1, 3, 3)
