"""Pairs of low and full dose: found, refused where they are none, trained on, and the bundle that comes out."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import numpy as np
import pytest

from uptake.core.anatomy import classes_of
from uptake.core.errors import GeometryError, InputError, UnitError, UsageError
from uptake.geometry import Volume
from uptake.io.write import write_volume
from uptake.methods import ldos
from uptake.methods.ldos import Config
from uptake.workflows.bundles import load_bundle
from uptake.workflows.paired_data import find_pairs, harmonised_pair, pair_plan, read_pair
from uptake.workflows.train_ldos import train_ldos

SHAPE = (20, 18, 32)
AFFINE = np.diag([-4.0, -4.0, 4.0, 1.0])


def images(seed=0):
    """Return low dose, full dose and organs: a liver of SUV 3 (label 14) and a brain of 6 (13) in a body of 1."""
    rng = np.random.default_rng(seed)
    i, j, k = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    centre = rng.uniform(-1, 1, 3)
    organs = np.zeros(SHAPE, np.uint8)
    organs[((i - 8 - centre[0]) / 5) ** 2 + ((j - 9) / 5) ** 2 + ((k - 12 - centre[2]) / 6) ** 2 < 1] = 14
    organs[((i - 10) / 4) ** 2 + ((j - 9 - centre[1]) / 4) ** 2 + ((k - 26) / 4) ** 2 < 1] = 13
    full = np.where(organs == 14, 3.0, np.where(organs == 13, 6.0, 1.0)).astype(np.float32)
    full[:, :2] = 0.0
    low = (full + 0.3 * np.sqrt(full) * rng.normal(size=SHAPE)).astype(np.float32)
    return low, full, organs


def write(array, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_volume(Volume(array, AFFINE), path)


@pytest.fixture
def folders(tmp_path):
    """Four patients as plain case folders."""
    place = tmp_path / "pairs"
    for n in range(4):
        for name, array in zip(("ld", "fd", "seg"), images(n), strict=True):
            write(array, place / f"p{n}" / f"{name}.nii.gz")
    (place / "dataset.json").write_text(json.dumps({"dose_fraction": 0.05, "tracer": "FDG"}))
    return place


@pytest.fixture
def cohort(tmp_path):
    """Two patients as `uptake simulate cohort` lays them out, organs in TotalSegmentator's numbers."""
    place = tmp_path / "cohort"
    for n, tracer in enumerate(("FDG", "FAPI-04")):
        low, full, organs = images(n)
        organs = np.select([organs == 14, organs == 13], [5, 90]).astype(np.uint8)
        case = f"sim_{n:05d}"
        write(full, place / "imagesTr" / f"{case}_0001.nii.gz")
        write(low, place / "imagesTr_dose_0.05" / f"{case}_0001.nii.gz")
        write(organs, place / "organsTr" / f"{case}.nii.gz")
        (place / "cases").mkdir(exist_ok=True)
        (place / "cases" / f"{case}.json").write_text(json.dumps({"parameters": {"tracer": tracer}}))
    (place / "imagesTr_dose_0.05" / ".partial-1_0001.nii.gz").write_text("half a file")
    return place


@pytest.fixture
def tiny():
    return replace(
        Config.small(), spacing_mm=None, window=(16, 8, 8), features=(4, 8), blocks=(1, 1), steps=6, epoch_steps=3,
    )  # fmt: skip


def test_a_simulated_cohort_is_read_as_pairs(cohort):
    found = find_pairs(cohort)
    assert [(pair.id, pair.tracer) for pair in found.pairs] == [("sim_00000", "FDG"), ("sim_00001", "FAPI-04")]
    assert found.dose_fraction == 0.05 and found.tracers == ("FAPI-04", "FDG")
    case = read_pair(found.pairs[0])
    low, full, _ = images(0)
    assert np.array_equal(case.pet.array, low) and np.array_equal(case.full_dose.array, full)
    assert {source.role for source in case.sources} == {"pet", "full_dose", "organs"}
    harmonised = harmonised_pair(case, pair_plan([case], Config.small()), Config.small(), found.organ_names)
    assert set(np.unique(harmonised.labels)) == {0, 13, 14}


def test_case_folders_are_read_as_pairs_in_the_papers_numbering(folders):
    found = find_pairs(folders)
    assert [pair.id for pair in found.pairs] == ["p0", "p1", "p2", "p3"]
    assert dict(found.organ_names) == dict(enumerate(classes_of("ldos")))
    (folders / "dataset.json").write_text(json.dumps({"dose_fraction": 0.05, "organ_labels": {"14": "liver"}}))
    assert dict(find_pairs(folders).organ_names) == {14: "liver"}


def test_the_full_dose_can_be_the_input_and_each_image_have_its_own_scale(folders):
    found = find_pairs(folders)
    case = read_pair(found.pairs[0])
    config = Config.small()
    plan = pair_plan([case], replace(config, spacing_mm=None))
    assert plan.spacing_mm == (4.0, 4.0, 4.0)
    whole = harmonised_pair(case, plan, config.comparator("fdpet"), found.organ_names)
    assert whole.target is None and whole.scales[0].mean == pytest.approx(float(images(0)[1][:, 2:].mean()), rel=1e-5)
    apart = harmonised_pair(case, plan, replace(config, separate_scales=True), found.organ_names)
    assert float(apart.target.mean()) == pytest.approx(0.0, abs=1e-4)
    assert float(apart.target.std()) == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize(
    ("spoil", "error", "complaint"),
    [
        (lambda f: (f / "p1" / "fd.nii.gz").unlink(), InputError, "p1: .*ld.nii.gz has no full-dose PET beside it"),
        (lambda f: (f / "p1" / "seg.nii.gz").unlink(), InputError, "p1: .* has no organ map"),
        (lambda f: (f / "p1" / "ld.nii.gz").unlink(), InputError, "p1: no ld image"),
        (lambda f: (f / "dataset.json").unlink(), InputError, "does not tell the dose_fraction"),
        (lambda f: (f / "dataset.json").write_text('{"dose_fraction": 5}'), InputError, "lies between 0 and 1, came 5"),
        (lambda f: (f / "dataset.json").write_text("{"), InputError, "dataset.json: cannot be read"),
        (lambda f: (f / "dataset.json").write_text("[]"), InputError, "expected a JSON object"),
        (lambda f: write(images(1)[0][:-1], f / "p1" / "fd.nii.gz"), GeometryError, "ld.nii.gz has shape .*fd.nii.gz"),
        (lambda f: write(4e4 * images(1)[0], f / "p1" / "ld.nii.gz"), UnitError, "ld.nii.gz"),
        (lambda f: write(4e4 * images(1)[1], f / "p1" / "fd.nii.gz"), UnitError, "fd.nii.gz"),
        (lambda f: write(images(1)[0] - images(1)[0].mean(), f / "p1" / "ld.nii.gz"), UnitError, "ld.nii.gz"),
        (
            lambda f: write(0.5 * images(1)[0], f / "p1" / "ld.nii.gz"),
            InputError,
            r"is 0\.(5|49)\d* times",
        ),
        (lambda f: write(images(1)[1], f / "p1" / "ld.nii.gz"), InputError, "are the same image"),
    ],
)
def test_pairs_that_are_none_are_refused_before_any_work(folders, tiny, tmp_path, spoil, error, complaint):
    spoil(folders)
    with pytest.raises(error, match=complaint):
        train_ldos(folders, tmp_path / "out", config=tiny, folds=["all"], device="cpu")
    assert not list((tmp_path / "out").glob("fold_*"))


def test_doses_have_to_agree(folders, cohort, tmp_path):
    with pytest.raises(InputError, match=r"dataset.json says dose_fraction 0.05, the command 0.1"):
        find_pairs(folders, dose=0.1)
    with pytest.raises(InputError, match=r"has no dose 0.1; there are 0.05"):
        find_pairs(cohort, dose=0.1)
    (cohort / "imagesTr_dose_0.2").mkdir()
    with pytest.raises(InputError, match=r"holds the doses 0.05, 0.2; choose one"):
        find_pairs(cohort)
    with pytest.raises(InputError, match="no pairs there"):
        find_pairs(cohort, dose=0.2)
    with pytest.raises(InputError, match="no such folder"):
        find_pairs(tmp_path / "nothing")
    (tmp_path / "plain" / "imagesTr").mkdir(parents=True)
    with pytest.raises(InputError, match="no folder imagesTr_dose_<fraction>"):
        find_pairs(tmp_path / "plain")


def test_training_gives_a_bundle_that_segments_and_denoises(folders, tiny, tmp_path):
    out = tmp_path / "out"
    reports = []
    result = train_ldos(
        folders, out, config=tiny, folds=[0], n_folds=4, device="cpu", precision="32-true",
        on_epoch=lambda fold, report: reports.append((fold, report.step)),
    )  # fmt: skip
    assert reports == [("0", 3), ("0", 6)]
    (row,) = result.rows
    assert 0.0 <= row["dice"] <= 1.0 and row["psnr_db"] > 0 and row["low_dose_psnr_db"] > 0
    assert not row["dice_spleen"] > 0 and row["dice_liver"] >= 0
    with (out / "cases.csv").open() as stream:
        assert next(csv.DictReader(stream))["case"] == row["case"]
    bundle = load_bundle(result.bundle)
    assert bundle.card.method == "ldos" and list(bundle.card.labels) == list(classes_of("ldos"))
    assert bundle.card.training["dose_fraction"] == 0.05 and bundle.card.training["tracers"] == ["FDG"]
    assert bundle.card.needs == ["pet"] and result.summary["dice"]["n"] == 1
    case = read_pair(find_pairs(folders).pairs[0])
    harmonised = harmonised_pair(case, bundle.plan, bundle.config, find_pairs(folders).organ_names)
    made = ldos.denoise(bundle.networks(), harmonised, bundle.config, organs=True)
    assert made.suv.shape == harmonised.body.shape and made.prediction.logits.shape[0] == 19
    epochs = len((out / "fold_0" / "log.csv").read_text().splitlines())
    again = train_ldos(
        folders, out, config=tiny, folds=[0], n_folds=4, device="cpu", precision="32-true",
        on_epoch=lambda fold, report: pytest.fail("nothing was left to train"),
    )  # fmt: skip
    assert again.rows == result.rows or np.isclose(again.rows[0]["dice"], row["dice"])
    assert len((out / "fold_0" / "log.csv").read_text().splitlines()) == epochs


@pytest.mark.parametrize("name", ["ldpet", "fake-fdpet"])
def test_comparators_train_by_the_same_road(folders, tiny, tmp_path, name):
    result = train_ldos(
        folders, tmp_path / name, config=replace(tiny.comparator(name), steps=3), folds=["all"], device="cpu",
        precision="32-true",
    )  # fmt: skip
    bundle = load_bundle(result.bundle)
    assert result.rows == [] and bundle.config.design == tiny.comparator(name).design
    with pytest.raises(UsageError, match="fold 9 does not exist"):
        train_ldos(folders, tmp_path / "other", config=tiny, folds=[9], n_folds=2, device="cpu")


def test_the_command_trains_on_pairs_and_refuses_options_of_the_other_method(folders, tmp_path, capsys):
    from uptake.cli.main import app

    def run(*options):
        app(
            ["train", "ldos", str(folders), "--out", str(tmp_path / "cli"), "--device", "cpu", *options],
            result_action="return_value",
        )

    with pytest.raises(UsageError, match=r"--init, --organs: not for ldos"):
        run("--init", "somewhere", "--organs", "ldos")
    with pytest.raises(UsageError, match="--comparator: not for lesiontracer"):
        app(
            ["train", "lesiontracer", str(folders), "--out", str(tmp_path / "x"), "--comparator", "ldpet"],
            result_action="return_value",
        )
    run(
        "--steps", "2", "--features", "4,8", "--blocks", "1,1", "--window", "16", "8", "8",
        "--spacing-mm", "4", "4", "4", "--folds", "all", "--comparator", "ldpet", "--dose", "0.05", "--name", "tiny",
    )  # fmt: skip
    printed = capsys.readouterr().out
    assert "step      2/2" in printed and "bundle:" in printed
    card = load_bundle(tmp_path / "cli" / "bundle").card
    assert card.name == "tiny" and card.training["preset"] == "small ldpet"


def test_segment_gives_the_organs_of_such_a_bundle_on_the_scans_own_grid(folders, tiny, tmp_path):
    from uptake.workflows.segment import SegmentSettings, segment

    result = train_ldos(
        folders, tmp_path / "out", config=replace(tiny, steps=2), folds=["all"], device="cpu", precision="32-true"
    )
    low = folders / "p0" / "ld.nii.gz"
    found = segment(low, model=result.bundle, device="cpu", settings=SegmentSettings(engine="torch"), gate=False)
    assert found.lesions is None and found.organs.shape == SHAPE
    assert dict(found.organ_names) == {n: name for n, name in enumerate(classes_of("ldos")) if n}


def test_train_sends_other_methods_to_their_own_road(folders, tmp_path):
    import uptake

    assert uptake.train_ldos is train_ldos
    with pytest.raises(UsageError, match=r"ldos by uptake\.train_ldos"):
        uptake.train("ldos", folders, tmp_path / "out")


def test_the_shipped_model_is_small_and_says_what_it_is():
    bundle = load_bundle("phantom-ldos-small")
    assert list(bundle.card.labels) == list(classes_of("ldos")) and bundle.config.denoises
    assert bundle.card.training["dose_fraction"] == 0.05 and bundle.card.training["tracers"] == ["FAPI-04", "FDG"]
    assert sum(path.stat().st_size for path in bundle.folder.iterdir()) < 8e6
    assert any("simulated patients only" in limit for limit in bundle.card.limits)
    (scores,) = bundle.card.scores
    assert scores["metrics"]["psnr_db"]["mean"] > scores["metrics"]["low_dose_psnr_db"]["mean"]
