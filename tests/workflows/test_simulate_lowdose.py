"""Low-dose twins of scans: levels, records, refusals, going on."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from uptake.core.errors import InputError, OutputError, UnitError, UsageError
from uptake.geometry import Volume
from uptake.io.find import find_cases
from uptake.io.image import read_image
from uptake.io.write import write_volume
from uptake.workflows import simulate_lowdose as workflow
from uptake.workflows.simulate_lowdose import LowDoseSettings, simulate_lowdose


@pytest.fixture(scope="module")
def torso(tmp_path_factory):
    """A trunk with a liver and a lesion as a study folder: 8 mm, SUV with 6 % noise, HU, liver mask."""
    shape = (48, 40, 30)
    i, j, k = np.indices(shape)
    body = ((i - 24) / 20) ** 2 + ((j - 20) / 14) ** 2 < 1
    liver = ((i - 16) / 9) ** 2 + ((j - 20) / 9) ** 2 + ((k - 15) / 8) ** 2 < 1
    hot = (i - 32) ** 2 + (j - 20) ** 2 + (k - 15) ** 2 < 5
    suv = 0.8 * body + 1.4 * (liver & body) + 7.0 * hot
    noise = np.random.default_rng(0).normal(0, 0.06, shape)
    pet = np.maximum(suv * (1 + noise), 0).astype(np.float32)
    affine = np.diag([-8.0, -8.0, 8.0, 1.0])
    folder = tmp_path_factory.mktemp("torso") / "case_a"
    folder.mkdir()
    write_volume(Volume(pet, affine), folder / "pet.nii.gz")
    write_volume(Volume(np.where(body, 40.0, -1000.0).astype(np.float32), affine), folder / "ct.nii.gz")
    # Beside the study folder: a mask within it would be one of the files of the case.
    write_volume(Volume(liver.astype(np.uint8), affine), folder.parent / "liver.nii.gz")
    return folder


@pytest.fixture(scope="module")
def twins(torso, tmp_path_factory):
    out = tmp_path_factory.mktemp("low")
    settings = LowDoseSettings(doses=(0.5, 0.05), liver_cov=(0.15,))
    result = simulate_lowdose(find_cases(torso), out, settings=settings, liver=torso.parent / "liver.nii.gz")
    assert result.written == ("case_a",)
    return out, settings


def table(out):
    with (out / "lowdose.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_noise_and_counts_follow_the_dose(twins, torso):
    out, _ = twins
    rows = {row["dose"]: row for row in table(out)}
    assert set(rows) >= {"0.5", "0.05"}
    full = float(rows["0.5"]["liver_cov_full"])
    assert full == pytest.approx(0.06, rel=0.15)
    assert float(rows["0.05"]["liver_cov"]) == pytest.approx(full * 20**0.5)
    assert float(rows["0.05"]["nec_per_litre"]) == pytest.approx(float(rows["0.5"]["nec_per_litre"]) / 10)
    pet = read_image(torso / "pet.nii.gz")[0].array
    liver = read_image(torso.parent / "liver.nii.gz")[0].array > 0
    for dose in ("0.5", "0.05"):
        low, _ = read_image(out / rows[dose]["file"])
        assert low.array.min() >= 0
        assert low.array[liver].mean() == pytest.approx(pet[liver].mean(), rel=0.05)
        spread = low.array[liver].std() / low.array[liver].mean()
        assert spread == pytest.approx(float(rows[dose]["liver_cov"]), rel=0.35)


def test_a_level_of_noise_becomes_a_dose(twins):
    out, _ = twins
    (row,) = [row for row in table(out) if row["dose"] not in ("0.5", "0.05")]
    assert float(row["dose"]) == pytest.approx((float(row["liver_cov_full"]) / 0.15) ** 2, rel=1e-4)
    assert float(row["liver_cov"]) == pytest.approx(0.15, rel=1e-3)


def test_the_record_holds_how_it_was_made(twins):
    out, _ = twins
    record = json.loads((out / "case_a" / "lowdose.json").read_text(encoding="utf-8"))
    assert "Research use only" in record["notice"]
    assert record["twins"]["dose_0.05"]["record"]["method"] == "residual injection"
    assert record["twins"]["dose_0.05"]["record"]["attenuation"] == "ct"
    assert record["twins"]["dose_0.05"]["counts"]["nec_per_litre"] > 0


def test_the_same_call_keeps_what_is_there_and_the_twins_are_readable(twins, torso):
    out, settings = twins
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    states = []
    result = simulate_lowdose(
        find_cases(torso), out, settings=settings, liver=torso.parent / "liver.nii.gz",
        on_case=lambda *told: states.append(told),
    )  # fmt: skip
    assert (result.kept, states) == (("case_a",), [("case_a", "kept")])
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    assert {case.id for case in find_cases(out / "case_a")} >= {"dose_0.05", "dose_0.5"}


def test_without_ct_the_attenuation_is_made_of_the_pet(torso, tmp_path):
    settings = LowDoseSettings(doses=(0.2,), with_ct=False, full_liver_cov=0.08)
    simulate_lowdose(find_cases(torso), tmp_path, settings=settings)
    record = json.loads((tmp_path / "case_a" / "lowdose.json").read_text(encoding="utf-8"))
    assert record["twins"]["dose_0.2"]["record"]["attenuation"] == "pet"
    assert float(table(tmp_path)[0]["liver_cov_full"]) == 0.08


def test_negative_values_and_values_that_are_no_suv_are_refused(torso, make_study, tmp_path, tiny_arrays):
    pet, _ = read_image(torso / "pet.nii.gz")
    settings = LowDoseSettings(doses=(0.1,))
    negative = np.where(np.indices(pet.shape).sum(axis=0) % 2 == 0, -pet.array, pet.array).astype(np.float32)
    for name, array, message in (
        ("negative", negative, "negative"),
        ("becquerels", pet.array * 5000, "plainly not in SUV"),
    ):
        (tmp_path / name).mkdir()
        write_volume(pet.with_array(array), tmp_path / name / "pet.nii.gz")
        with pytest.raises(UnitError, match=message):
            simulate_lowdose(find_cases(tmp_path / name), tmp_path / "out", settings=settings)
    # Nothing even enough for a liver, and no level given.
    with pytest.raises(InputError, match="measure the noise"):
        simulate_lowdose(find_cases(make_study(tmp_path / "tiny")), tmp_path / "out", settings=settings)
    assert not list((tmp_path / "out").rglob("*.nii.gz"))


def test_one_bad_study_does_not_stop_the_others(torso, tmp_path):
    import shutil

    shutil.copytree(torso, tmp_path / "in" / "good")
    (tmp_path / "in" / "bad").mkdir()
    (tmp_path / "in" / "bad" / "pet.nii.gz").write_bytes(b"no image")
    settings = LowDoseSettings(doses=(0.3,), full_nec_per_litre=5e5, full_liver_cov=0.06)
    result = simulate_lowdose(find_cases(tmp_path / "in"), tmp_path / "out", settings=settings)
    assert result.written == ("good",)
    assert [(failure.case, failure.exit_code) for failure in result.failures] == [("bad", 4)]
    assert "bad" in (tmp_path / "out" / "failures.csv").read_text(encoding="utf-8")
    assert [row["case"] for row in table(tmp_path / "out")] == ["good"]


def test_a_disk_that_fills_up_ends_the_run_and_keeps_what_is_finished(torso, tmp_path, monkeypatch):
    import shutil

    for name in "abc":
        shutil.copytree(torso, tmp_path / "in" / name)
    real, begun = workflow.write_volume, []

    def full(volume, path):
        begun.append(str(path))
        if len(begun) == 2:
            raise OSError(28, "No space left on device")
        real(volume, path)

    monkeypatch.setattr(workflow, "write_volume", full)
    settings = LowDoseSettings(doses=(0.3,), full_nec_per_litre=5e5, full_liver_cov=0.06)
    with pytest.raises(OutputError, match=r"No space left.* 1 of 3 cases are finished and kept"):
        simulate_lowdose(find_cases(tmp_path / "in"), tmp_path / "out", settings=settings)
    assert len(begun) == 2  # the third was not begun
    assert [row["case"] for row in table(tmp_path / "out")] == ["a"]
    assert not (tmp_path / "out" / "b").exists()
    monkeypatch.undo()
    result = simulate_lowdose(find_cases(tmp_path / "in"), tmp_path / "out", settings=settings)
    assert (result.kept, result.written) == (("a",), ("b", "c"))


def test_other_files_in_the_way_are_seen_before_any_work(torso, tmp_path, monkeypatch):
    (tmp_path / torso.name).mkdir()
    (tmp_path / torso.name / "thesis.docx").write_bytes(b"years")
    monkeypatch.setattr(workflow, "read_case", lambda *_args, **_options: pytest.fail("work was done"))
    with pytest.raises(OutputError, match=r"thesis\.docx"):
        simulate_lowdose(find_cases(torso), tmp_path, settings=LowDoseSettings(doses=(0.3,)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "name a dose fraction"),
        ({"doses": (0.0,)}, "dose fraction"),
        ({"doses": (1.2,)}, "dose fraction"),
        ({"liver_cov": (-0.1,)}, "positive"),
        ({"nec_per_litre": (0.0,)}, "positive"),
        ({"doses": (0.1,), "scanner": "Acme"}, "no scanner is called"),
        ({"doses": (0.1,), "seed": -1}, "seed"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings, message):
    with pytest.raises(UsageError, match=message):
        LowDoseSettings(**settings)


def test_a_level_better_than_the_full_dose_is_refused(torso, tmp_path):
    with pytest.raises(UsageError, match="higher dose"):
        simulate_lowdose(find_cases(torso), tmp_path, settings=LowDoseSettings(liver_cov=(0.021,)))


def test_one_liver_mask_for_several_studies_is_refused(torso, tmp_path):
    import shutil

    for name in ("one", "two"):
        shutil.copytree(torso, tmp_path / "in" / name)
    with pytest.raises(UsageError, match="goes with one study"):
        simulate_lowdose(
            find_cases(tmp_path / "in"), tmp_path / "out", settings=LowDoseSettings(doses=(0.1,)),
            liver=torso.parent / "liver.nii.gz",
        )  # fmt: skip
