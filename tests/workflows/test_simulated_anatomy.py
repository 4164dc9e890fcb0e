"""Label maps from files as anatomies: what is refused, what is written, and that no file name is."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest

from uptake.core.errors import GeometryError, InputError, UsageError
from uptake.geometry import Volume
from uptake.io.image import read_labels
from uptake.io.write import write_volume
from uptake.simulation import PatientConfig, simulate_truth
from uptake.simulation.labels import ORGAN_IDS
from uptake.workflows.simulate_cohort import CohortSettings, simulate_cohort
from uptake.workflows.simulated import SimulationSettings
from uptake.workflows.simulated_anatomy import anatomy_files

COARSE = (12.0, 12.0, 12.0)


@pytest.fixture(scope="module")
def maps(tmp_path_factory):
    """Return a folder with two maps in the numbering of TotalSegmentator, named after people."""
    folder = tmp_path_factory.mktemp("maps")
    for seed, name in ((1, "smith_john"), (2, "doe_jane")):
        organs = simulate_truth(seed, spacing_mm=(10.0, 10.0, 10.0), n_lesions=0,
                                config=PatientConfig(conditions=False)).organs  # fmt: skip
        array = np.where(organs.array <= 117, organs.array, 0).astype(np.uint8)
        array[organs.array == ORGAN_IDS["heart_myocardium"]] = ORGAN_IDS["heart"]
        write_volume(organs.with_array(array), folder / f"{name}.nii.gz")
    return folder


def test_a_cohort_of_two_maps_draws_both_and_names_neither(maps, tmp_path):
    files = anatomy_files(maps)
    assert len(files.files) == len(files.sha256) == 2
    # Both are drawn by some seed, and the same one by the same seed.
    drawn = [files.of(seed).structure("liver").volume_ml for seed in range(4)]
    assert len(set(drawn)) == 2 and drawn[0] == files.of(0).structure("liver").volume_ml
    settings = CohortSettings(SimulationSettings(spacing_mm=COARSE, n_lesions=1, anatomy=files))
    assert simulate_cohort(tmp_path, patients=1, seed=3, settings=settings, jobs=1).written == ("sim_00003",)
    written = [path.read_text(encoding="utf-8") for path in tmp_path.rglob("*") if path.suffix in (".json", ".csv")]
    assert not any("smith" in text or "doe" in text or str(maps) in text for text in written)
    record = json.loads((tmp_path / "cases" / "sim_00003.json").read_text(encoding="utf-8"))
    assert record["parameters"]["anatomy"] == "label map"
    assert record["request"]["simulation"]["anatomy"] == {"labels": "total", "sha256": list(files.sha256)}
    # In the world of the map it was made of.
    organs, _ = read_labels(tmp_path / "organsTr" / "sim_00003.nii.gz")
    liver = organs.world_of(np.argwhere(organs.array == 5).astype(float)).mean(axis=0)
    np.testing.assert_allclose(liver, files.of(3).structure("liver").centre_mm, atol=12.0)
    assert simulate_cohort(tmp_path, patients=1, seed=3, settings=settings, jobs=1).kept == ("sim_00003",)
    other = CohortSettings(SimulationSettings(spacing_mm=COARSE, n_lesions=1))
    with pytest.raises(UsageError, match="other settings"):
        simulate_cohort(tmp_path, patients=1, seed=3, settings=other, jobs=1)


def test_without_a_map_the_request_is_what_it_was():
    assert "anatomy" not in SimulationSettings().request(0)


def test_a_map_that_cannot_be_placed_or_named_is_refused(maps, tmp_path):
    source = maps / "doe_jane.nii.gz"
    image = nib.load(source)
    nowhere = nib.Nifti1Image(np.asarray(image.dataobj), None)
    nib.save(nowhere, tmp_path / "nowhere.nii.gz")
    with pytest.raises(GeometryError, match=r"nowhere.nii.gz: neither sform nor qform is set"):
        anatomy_files(tmp_path / "nowhere.nii.gz")
    with pytest.raises(GeometryError, match="neither sform nor qform"):
        anatomy_files(tmp_path)
    with pytest.raises(InputError, match=r"the labels 11, 12, 13.* have no name in this numbering"):
        anatomy_files(source, "autopet")
    labels, _ = read_labels(source)
    write_volume(labels.with_array(np.where(labels.array == 5, 200, labels.array)), tmp_path / "odd.nii.gz")
    with pytest.raises(InputError, match="the label 200 has no name"):
        anatomy_files(tmp_path / "odd.nii.gz")
    write_volume(Volume(np.zeros((4, 4, 4), np.uint8), np.eye(4)), tmp_path / "empty.nii.gz")
    with pytest.raises(InputError, match="holds no organ"):
        anatomy_files(tmp_path / "empty.nii.gz")
    with pytest.raises(InputError, match="no such file"):
        anatomy_files(tmp_path / "absent.nii.gz")
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="holds no label map"):
        anatomy_files(tmp_path / "folder")
    with pytest.raises(UsageError, match="brand-new"):
        anatomy_files(source, "brand-new")


def test_names_of_ones_own(maps, tmp_path):
    names, few = tmp_path / "names.json", tmp_path / "few.nii.gz"
    labels, _ = read_labels(maps / "smith_john.nii.gz")
    write_volume(labels.with_array(np.isin(labels.array, (5, 1, 29)) * labels.array), few)
    named = {"5": "liver", "1": "spleen", "29": "vertebrae_L3"}
    names.write_text(json.dumps(named), encoding="utf-8")
    assert anatomy_files(few, str(names)).as_json()["labels"] == named
    names.write_text(json.dumps({**named, "29": "liver"}), encoding="utf-8")
    with pytest.raises(InputError, match="tells where it lies in the body"):
        anatomy_files(few, str(names))
    names.write_text(json.dumps({**named, "1": "tail"}), encoding="utf-8")
    with pytest.raises(InputError, match="tail is no class"):
        anatomy_files(few, str(names))
