"""Denoised PETs against full-dose ones: scores in the body, SUV and noise per organ, files in pairs."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from uptake.core.errors import GeometryError, InputError, UsageError
from uptake.evaluation.image_quality import image_quality
from uptake.evaluation.site_features import body_mask
from uptake.geometry import Volume
from uptake.io.write import write_volume
from uptake.workflows.evaluate import evaluate_cohort
from uptake.workflows.image_scoring import find_image_pairs, score_images

GRID = np.diag([-5.0, 5.0, 5.0, 1.0])
SHAPE = (24, 22, 20)


def scan(seed, noise=0.1):
    """Return a full-dose PET, a noisy one that reads 10 % high, and an organ map with the organs 5 and 7."""
    rng = np.random.default_rng(seed)
    i, j, k = np.indices(SHAPE)
    body = ((i - 11.5) / 10) ** 2 + ((j - 10.5) / 9) ** 2 < 1
    organs = (5 * (body & (k > 12)) + 7 * (body & (k < 6))).astype(np.uint8)
    full = (body * (1.0 + (organs == 5))).astype(np.float32)
    noisy = (1.1 * full + rng.normal(0, noise, SHAPE) * body).astype(np.float32)
    return Volume(full, GRID), Volume(noisy, GRID), Volume(organs, GRID)


@pytest.fixture
def cohort(tmp_path):
    for n in range(4):
        volumes = scan(n)
        for role, volume in zip(("full", "denoised", "organs"), volumes, strict=True):
            (tmp_path / role).mkdir(exist_ok=True)
            write_volume(volume, tmp_path / role / f"c{n}.nii.gz")
    return tmp_path


def table(path):
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_scores_in_the_body_and_per_organ():
    full, noisy, organs = scan(0)
    body, liver, other = score_images("c", "p", noisy, full, organs=organs, labels={5: "liver", 9: "brain"})
    expected = image_quality(noisy.array, full.array, body=body_mask(full.array, None, full.spacing_mm))
    assert (body["label"], body["psnr_db"], body["ssim"]) == ("body", expected.psnr_db, expected.ssim)
    assert liver["label"] == "liver" and liver["suv_bias_percent"] == pytest.approx(10, abs=1)
    assert liver["suv_mean"] == pytest.approx(2.2, abs=0.02) and liver["reference_cov"] == 0
    assert liver["cov"] == pytest.approx(0.1 / 2.2, rel=0.1)
    # An organ that is not there is a row without numbers, not no row.
    assert other["label"] == "brain" and np.isnan(other["suv_mean"])
    unnamed = score_images("c", "p", noisy, full, organs=organs)
    assert [row["label"] for row in unnamed] == ["body", "organ 5", "organ 7"]


def test_images_are_never_resampled():
    full, noisy, organs = scan(0)
    shifted = GRID.copy()
    shifted[0, 3] = 2.5
    with pytest.raises(GeometryError, match="not resampled"):
        score_images("c", "p", Volume(noisy.array, shifted), full)
    with pytest.raises(GeometryError, match="organ map"):
        score_images("c", "p", noisy, full, organs=Volume(organs.array, shifted))


def test_a_cohort_from_the_command_line(cli, cohort):
    arguments = ("evaluate", cohort / "denoised", cohort / "full", "--images", "--organs", cohort / "organs")
    ran = cli(*arguments, "--labels", "5=liver,7=bladder", "-o", cohort / "out", "-j", "1")
    assert (ran.code, ran.err) == (0, "")
    assert "body: mean PSNR dB" in ran.out
    rows = table(cohort / "out" / "scores.csv")
    assert [(row["case"], row["label"]) for row in rows[:4]] == [
        ("c0", "body"), ("c0", "liver"), ("c0", "bladder"), ("c1", "body"),
    ]  # fmt: skip
    assert float(rows[1]["suv_bias_percent"]) == pytest.approx(10, abs=1) and rows[1]["psnr_db"] == ""
    means = {(row["label"], row["metric"]): row for row in table(cohort / "out" / "summary.csv")}
    assert means["body", "ssim"]["n"] == "4" and ("liver", "ssim") not in means
    report = (cohort / "out" / "report.html").read_text(encoding="utf-8")
    assert "Evaluation of images" in report and "body mean PSNR (dB)" in report and "empty references" not in report
    again = cli(*arguments, "--labels", "5=liver,7=bladder", "-o", cohort / "out", "-j", "1")
    assert "4 cases were scored by an earlier run" in again.out
    assert table(cohort / "out" / "scores.csv") == rows


def test_methods_are_compared_by_images(cli, cohort):
    for n in range(4):
        worse = scan(n, noise=0.3)[1]
        (cohort / "worse").mkdir(exist_ok=True)
        write_volume(worse, cohort / "worse" / f"c{n}.nii.gz")
    for name in ("denoised", "worse"):
        assert cli("evaluate", cohort / name, cohort / "full", "--images", "--organs", cohort / "organs", "-o",
                   cohort / f"e_{name}", "-q", "-j", "1").code == 0  # fmt: skip
    ran = cli("compare", cohort / "e_denoised", cohort / "e_worse", "--labels", "body", "-o", cohort / "cmp")
    assert ran.code == 0
    rows = {row["metric"]: row for row in table(cohort / "cmp" / "comparison.csv")}
    assert set(rows) == {"psnr_db", "ssim", "nrmse"}
    assert float(rows["psnr_db"]["difference"]) < -2 and float(rows["nrmse"]["difference"]) > 0


def test_pairs_by_name_or_alone(cohort):
    (cohort / "denoised" / "c3.nii.gz").unlink()
    pairs, missing, extra = find_image_pairs(cohort / "denoised", cohort / "full", organs=cohort / "organs")
    assert [pair.case for pair in pairs] == ["c0", "c1", "c2"] and (missing, extra) == (("c3",), ())
    assert pairs[0].organs == cohort / "organs" / "c0.nii.gz"
    found = evaluate_cohort(cohort / "denoised", cohort / "full", images=True)
    assert [f["error"] for f in found.failures] == ["MissingPrediction"]
    for n in (1, 2):
        (cohort / "denoised" / f"c{n}.nii.gz").rename(cohort / f"{n}.nii.gz")
    (one,), missing, _ = find_image_pairs(cohort / "denoised" / "c0.nii.gz", cohort / "full" / "c2.nii.gz")
    assert one.case == "c2" and missing == ()
    (cohort / "denoised" / "c0.nii.gz").rename(cohort / "denoised" / "z.nii.gz")
    with pytest.raises(InputError, match="no case has a PET in both"):
        find_image_pairs(cohort / "denoised", cohort / "full")


def test_studies_bring_their_own_organs(make_study, tmp_path, tiny_arrays):
    for n in range(2):
        study = make_study(tmp_path / "studies" / f"c{n}", roles=("pet",))
        make_study(tmp_path / "low" / f"c{n}", roles=("pet",), pet=tiny_arrays["pet"] * 0.9)
        (study / "pet.nii.gz").exists()
    make_study(tmp_path / "studies" / "c0", roles=("lesion",))
    (tmp_path / "studies" / "c0" / "lesion.nii.gz").rename(tmp_path / "studies" / "c0" / "organs.nii.gz")
    found = evaluate_cohort(tmp_path / "low", tmp_path / "studies", images=True)
    assert [(row["case"], row["label"]) for row in found.rows] == [("c0", "body"), ("c0", "organ 1"), ("c1", "body")]
    assert found.rows[1]["suv_bias_percent"] == pytest.approx(-10, abs=1e-3)


def test_options_that_do_not_go_together_are_refused(cohort):
    full = cohort / "full"
    with pytest.raises(UsageError, match="goes with masks only"):
        evaluate_cohort(full, full, images=True, pet=full)
    with pytest.raises(UsageError, match="goes with images only"):
        evaluate_cohort(full, full, organs=cohort / "organs")
    with pytest.raises(UsageError, match="folder of organ maps"):
        find_image_pairs(full, full, organs=cohort / "organs" / "c0.nii.gz")
    with pytest.raises(UsageError, match="two files or two folders"):
        find_image_pairs(full, full / "c0.nii.gz")
    with pytest.raises(InputError, match="does not exist"):
        find_image_pairs(full, cohort / "nowhere")
