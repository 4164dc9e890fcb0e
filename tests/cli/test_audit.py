"""`uptake audit`: sites that differ are told apart, sites that do not are at chance, confounds are named."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from uptake.geometry import Volume
from uptake.io.write import write_volume

GRID = np.diag([-5.0, 5.0, 5.0, 1.0])
SHAPE = (20, 18, 16)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """Twenty-four patients; the second half (site "west") reads 30 % high, of which the column "coin" knows nothing."""
    root = tmp_path_factory.mktemp("audit")
    i, j, k = np.indices(SHAPE)
    body = ((i - 9.5) / 8.5) ** 2 + ((j - 8.5) / 7) ** 2 < 1
    liver = body & (k > 9) & (i > 9)
    lines = []
    for n in range(24):
        rng = np.random.default_rng(n)
        level = rng.uniform(0.9, 1.1) * (1.3 if n >= 12 else 1.0)
        pet = body * (1.0 + 1.5 * liver) * level + rng.normal(0, 0.05, SHAPE) * body
        ct = np.where(body, 40.0, -1000.0) + rng.normal(0, 10, SHAPE)
        folder = root / "studies" / f"p{n:02d}"
        folder.mkdir(parents=True)
        write_volume(Volume(pet.astype(np.float32), GRID), folder / "pet.nii.gz")
        write_volume(Volume(ct.astype(np.float32), GRID), folder / "ct.nii.gz")
        write_volume(Volume(liver.astype(np.uint8) * 5, GRID), folder / "organs.nii.gz")
        site, coin = ("east", "west")[n >= 12], ("heads", "tails")[n % 2]
        lines.append(f"p{n:02d},{site},{5 if n < 12 else 6},{('FDG', 'PSMA')[n >= 13]},{coin}")
    (root / "sites.csv").write_text("case,site,fwhm_mm,tracer,coin\n" + "\n".join(lines) + "\n", encoding="utf-8")
    return root


def table(path):
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_sites_that_differ_are_told_apart_and_a_step_that_harmonises_ends_it(cli, cohort, tmp_path):
    ran = cli("audit", cohort / "studies", "--sites", cohort / "sites.csv", "--harmonise", "gaussian,zscore", "-o",
              tmp_path / "out", "--labels", "5=liver", "--permutations", "20", "-j", "1")  # fmt: skip
    assert (ran.code, ran.err) == (0, "")
    out = tmp_path / "out"
    assert {f.name for f in out.iterdir()} == {
        "audit.json", "cases", "confounds.csv", "distances.csv", "features.csv", "pictures", "readings.csv",
        "report.html", "table.md", "table.tex",
    }  # fmt: skip
    read = {(row["column"], row["step"]): row for row in table(out / "readings.csv")}
    assert float(read["site", "as it is"]["balanced_accuracy"]) > 0.9 and float(read["site", "as it is"]["p"]) < 0.05
    coin = read["coin", "as it is"]
    assert float(coin["low"]) <= 0.5 <= float(coin["high"]) and float(coin["p"]) > 0.05
    far = {(row["step"], row["channel"], row["region"]): row for row in table(out / "distances.csv")}
    before, after = far["as it is", "pet", "body"], far["zscore", "pet", "body"]
    # A factor of 1.3: W1 over the mean of the two means is 0.3 / 1.15.
    assert float(before["w1_over_mean"]) == pytest.approx(0.3 / 1.15, abs=0.06) and float(before["p"]) < 0.05
    assert float(after["w1_over_sd"]) < 0.5 * float(before["w1_over_sd"]) and after["unit"] == ""
    liver = far["as it is", "pet", "liver"]
    assert float(liver["w1"]) == pytest.approx(0.3 * 2.5, abs=0.2) and liver["unit"] == "g/mL"
    assert float(far["as it is", "ct", "body"]["p"]) > 0.02 and far["as it is", "ct", "body"]["w1_over_mean"] == ""
    confounds = {row["column"]: row for row in table(out / "confounds.csv")}
    assert float(confounds["tracer"]["value"]) > 0.8 and float(confounds["coin"]["value"]) < 0.2
    assert "site and tracer go together" in ran.out and "site and coin" not in ran.out
    content = json.loads((out / "audit.json").read_text(encoding="utf-8"))
    assert content["sites"] == {"east": 12, "west": 12} and content["target_fwhm_mm"] == 6
    assert content["readings"][0]["confusion"][0][0] >= 10
    report = (out / "report.html").read_text(encoding="utf-8")
    assert "Can the site be read off an image?" in report and "site and tracer go together" in report
    assert {f.name for f in (out / "pictures").iterdir()} == {"readings.png", "values_ct.png", "values_pet.png"}

    again = cli("audit", cohort / "studies", "--sites", cohort / "sites.csv", "--harmonise", "gaussian,zscore", "-o",
                out, "--labels", "5=liver", "--permutations", "20", "-j", "1")  # fmt: skip
    assert again.out == ran.out, "kept scans give the same audit"


@pytest.mark.parametrize(("step", "column"), [("gaussian", "1.0"), ("zscore+gaussian", "1.0")])
def test_the_target_resolution_may_not_be_finer_than_a_scans_own(cli, cohort, step, column):
    ran = cli("audit", cohort / "studies", "--sites", cohort / "sites.csv", "--harmonise", step, "--target-fwhm-mm",
              column, "-j", "1")  # fmt: skip
    assert ran.code == 4 and "coarser than the target of 1 mm" in ran.err


def test_the_plan_of_a_model_is_a_step(cli, cohort, tiny_bundle):
    ran = cli("audit", cohort / "studies", "--sites", cohort / "sites.csv", "--harmonise", "plan", "--plan",
              tiny_bundle, "--permutations", "5", "-j", "1")  # fmt: skip
    assert ran.code == 0 and "plan" in ran.out


def test_a_scan_that_cannot_be_read_is_listed(cli, cohort, tmp_path):
    import shutil

    shutil.copytree(cohort / "studies", tmp_path / "studies")
    (tmp_path / "studies" / "p03" / "pet.nii.gz").write_bytes(b"no image")
    sites = tmp_path / "sites.csv"
    lines = (cohort / "sites.csv").read_text(encoding="utf-8").splitlines()
    sites.write_text("\n".join(line for line in lines if not line.startswith("p05")) + "\n", encoding="utf-8")
    ran = cli("audit", tmp_path / "studies", "--sites", sites, "-o", tmp_path / "out", "--permutations", "5", "-j", "1")
    assert ran.code == 3 and "p03" in ran.err
    assert [row["case"] for row in table(tmp_path / "out" / "failures.csv")] == ["p03"]
    assert "1 of 24 studies have no site in sites.csv and were left out: p05" in ran.out
    assert len(table(tmp_path / "out" / "features.csv")) == 22


@pytest.mark.parametrize(("text", "words"), [
    ("case,place\np00,east\n", "a column 'site'"),
    ("case,site\np00,east\np01,east\n", "to 1 sites; two sites are needed"),
    ("case,site\np00,east\np00,west\n", "two lines about case 'p00' that differ"),
    ("case,site,fwhm_mm\np00,east,fine\np01,west,5\n", "a resolution in mm, came 'fine'"),
])  # fmt: skip
def test_tables_of_sites_that_say_nothing_are_refused(cli, cohort, tmp_path, text, words):
    (tmp_path / "s.csv").write_text(text, encoding="utf-8")
    ran = cli("audit", cohort / "studies", "--sites", tmp_path / "s.csv")
    assert ran.code == 4 and words in ran.err


@pytest.mark.parametrize(("options", "words"), [
    (["--harmonise", "sharpen"], "no step is called 'sharpen'"),
    (["--harmonise", "plan"], "name one with --plan"),
    (["--harmonise", "gaussian"], "a column 'fwhm_mm'"),
])  # fmt: skip
def test_steps_that_lack_what_they_need_are_refused(cli, cohort, tmp_path, options, words):
    (tmp_path / "s.csv").write_text("case,site\n" + "".join(f"p{n:02d},{n % 2}\n" for n in range(24)), encoding="utf-8")
    ran = cli("audit", cohort / "studies", "--sites", tmp_path / "s.csv", *options)
    assert ran.code == 2 and words in ran.err
