"""Organ maps of other numberings: what becomes of each label, of grids, of numbers nobody knows."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from uptake.core.anatomy import TOTAL_NAMES, classes_of
from uptake.core.errors import GeometryError, InputError, OutputError, UsageError
from uptake.geometry import Volume
from uptake.io.image import read_labels
from uptake.io.write import write_volume
from uptake.workflows.map_labels import map_labels, mapped, merged_masks, numbering

NUMBERS = {name: number for number, name in TOTAL_NAMES.items()}
LDOS = {name: number for number, name in enumerate(classes_of("ldos"))}


@pytest.fixture
def oblique(turned):
    """Return a function that makes an organ map on an oblique grid, one voxel per label in the order given."""

    def make(*labels):
        array = np.zeros((3, 4, 5), np.uint8)
        array.ravel()[: len(labels)] = labels
        return Volume(array, turned)

    return make


def rows_of(path):
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_parts_become_one_class_and_the_grid_stays(oblique):
    organs = oblique(0, *(NUMBERS[n] for n in ("kidney_left", "kidney_right", "vertebrae_S1", "rib_left_3", "liver")))
    found = mapped(organs, TOTAL_NAMES, classes_of("ldos"))
    assert found.labels.array.dtype == np.uint8
    expected = [0, LDOS["kidney"], LDOS["kidney"], LDOS["sacrum"], 0, LDOS["liver"]]
    assert found.labels.array.ravel()[:6].tolist() == expected
    assert not found.labels.array.ravel()[6:].any()
    np.testing.assert_array_equal(found.labels.affine, organs.affine)
    assert found.to_background == ("rib_left_3",)
    assert "spleen" in found.absent and "liver" not in found.absent
    assert len(found.absent) == 15


def test_a_number_without_a_name_is_refused_or_listed(oblique):
    organs = oblique(NUMBERS["spleen"], 200, 200, 118)
    with pytest.raises(InputError, match=r"map x: .* does not name: 118 \(1 voxels\), 200 \(2 voxels\)"):
        mapped(organs, TOTAL_NAMES, classes_of("ldos"), name="map x")
    found = mapped(organs, TOTAL_NAMES, classes_of("ldos"), unknown="background")
    assert found.unknown == {118: 1, 200: 2}
    assert found.labels.array.ravel()[:4].tolist() == [LDOS["spleen"], 0, 0, 0]


def test_a_map_without_any_wanted_class_is_refused(oblique):
    with pytest.raises(InputError, match="not a single voxel belongs to a wanted class"):
        mapped(oblique(NUMBERS["skull"]), TOTAL_NAMES, classes_of("ldos"))
    with pytest.raises(InputError, match="not a single voxel"):
        mapped(oblique(), TOTAL_NAMES, classes_of("ldos"))


def test_a_folder_of_maps(tmp_path, oblique):
    source = tmp_path / "organsTr"
    source.mkdir()
    write_volume(oblique(NUMBERS["liver"], NUMBERS["humerus_left"]), source / "a.nii.gz")
    write_volume(oblique(NUMBERS["brain"]), source / "b.nrrd")
    write_volume(oblique(250), source / "c.nii.gz")
    told = []
    result = map_labels(source, tmp_path / "out", to="ldos", on_case=lambda *each: told.append(each))
    assert result.written == ("a", "b")
    assert [failure.case for failure in result.failures] == ["c"]
    assert told == [("a", "written"), ("b", "written"), ("c", "failed")]
    out = tmp_path / "out"
    assert read_labels(out / "a.nii.gz")[0].array.ravel()[:2].tolist() == [LDOS["liver"], 0]
    assert read_labels(out / "b.nii.gz")[0].array.ravel()[0] == LDOS["brain"]
    assert json.loads((out / "organ_labels.json").read_text(encoding="utf-8")) == {
        str(number): name for name, number in LDOS.items() if number
    }
    table = {row["from_name"]: (row["to"], row["to_name"]) for row in rows_of(out / "mapping.csv")}
    assert table["kidney_left"] == ("12", "kidney")
    assert table["rib_left_3"] == ("0", "background")
    (first, _) = rows_of(out / "cases.csv")
    assert (first["case"], first["classes"], first["to_background"]) == ("a", "1", "humerus_left")
    assert rows_of(out / "failures.csv")[0]["exit_code"] == "4"


def test_names_beside_the_maps_are_taken_unless_others_are_named(tmp_path, oblique):
    source = tmp_path / "organsTr"
    source.mkdir()
    write_volume(oblique(7, 9), source / "a.nii.gz")
    (tmp_path / "organ_labels.json").write_text('{"0": "background", "7": "liver", "9": "my muscle"}', encoding="utf-8")
    map_labels(source, tmp_path / "beside", to="ldos")
    assert read_labels(tmp_path / "beside/a.nii.gz")[0].array.max() == LDOS["liver"]
    map_labels(source, tmp_path / "total", to="ldos", from_numbering="total")
    assert read_labels(tmp_path / "total/a.nii.gz")[0].array.max() == LDOS["pancreas"]


def test_mapped_maps_can_be_mapped_on(tmp_path, oblique):
    write_volume(oblique(NUMBERS["kidney_left"], NUMBERS["lung_upper_lobe_left"]), tmp_path / "one.nii.gz")
    map_labels(tmp_path / "one.nii.gz", tmp_path / "ldos", to="ldos")
    map_labels(tmp_path / "ldos/one.nii.gz", tmp_path / "lt", to="lesiontracer")
    names = classes_of("lesiontracer")
    found = read_labels(tmp_path / "lt/one.nii.gz")[0].array.ravel()
    assert [names[value] for value in found[:2]] == ["kidneys", "lungs"]


def test_masks_of_totalsegmentator_and_studies(tmp_path, oblique):
    masks = tmp_path / "data" / "s0001" / "segmentations"
    masks.mkdir(parents=True)
    write_volume(oblique(1, 0, 0), masks / "liver.nii.gz")
    write_volume(oblique(0, 1, 0), masks / "kidney_left.nii.gz")
    write_volume(oblique(0, 0, 1), masks / "rib_left_1.nii.gz")
    study = tmp_path / "data" / "s0002"
    study.mkdir()
    write_volume(oblique(NUMBERS["heart"]), study / "organs.nii.gz")
    write_volume(oblique(1), study / "ct.nii.gz")
    result = map_labels(tmp_path / "data", tmp_path / "out", to="ldos")
    assert result.written == ("s0001", "s0002")
    found = read_labels(tmp_path / "out/s0001.nii.gz")[0].array.ravel()
    assert found[:4].tolist() == [LDOS["liver"], LDOS["kidney"], 0, 0]
    assert read_labels(tmp_path / "out/s0002.nii.gz")[0].array.max() == LDOS["heart"]
    map_labels(masks, tmp_path / "one", to="ldos")
    assert (tmp_path / "one/s0001.nii.gz").is_file()


def test_masks_that_do_not_go_together(tmp_path, oblique):
    write_volume(oblique(1, 1), tmp_path / "liver.nii.gz")
    write_volume(oblique(0, 1), tmp_path / "spleen.nii.gz")
    with pytest.raises(InputError, match="liver and spleen share voxels"):
        merged_masks(tmp_path)
    write_volume(Volume(np.ones((2, 2, 2), np.uint8), np.eye(4)), tmp_path / "spleen.nii.gz")
    with pytest.raises(GeometryError):
        merged_masks(tmp_path)
    (tmp_path / "spleen.nii.gz").rename(tmp_path / "tail.nii.gz")
    with pytest.raises(InputError, match=r"tail.*named like none"):
        merged_masks(tmp_path)


def test_refusals(tmp_path, oblique):
    with pytest.raises(UsageError, match="no grouping"):
        map_labels(tmp_path, tmp_path / "out", to="nothing")
    with pytest.raises(InputError, match="no organ maps"):
        map_labels(tmp_path, tmp_path / "out", to="ldos")
    with pytest.raises(InputError, match="no such file"):
        map_labels(tmp_path / "gone", tmp_path / "out", to="ldos")
    write_volume(oblique(5), tmp_path / "a.nii.gz")
    with pytest.raises(OutputError, match="take the place of the map itself"):
        map_labels(tmp_path, tmp_path, to="ldos")
    with pytest.raises(UsageError, match="numbering 'mine' is neither one of total, autopet, lesiontracer"):
        map_labels(tmp_path, tmp_path / "out", to="ldos", from_numbering="mine")
    with pytest.raises(UsageError, match="unknown is one of refuse, background"):
        map_labels(tmp_path, tmp_path / "out", to="ldos", unknown="drop")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="belongs to a wanted class"):
        (tmp_path / "t.json").write_text('{"1": "femur bone"}', encoding="utf-8")
        map_labels(tmp_path, tmp_path / "out", to="ldos", from_numbering=tmp_path / "t.json")
    assert not (tmp_path / "out").exists()
    assert numbering("autopet").names[2] == "kidneys"


def test_a_real_map_keeps_its_voxels(shared_data, tmp_path):
    source = shared_data / "anatomy/totalsegmentator/example_seg.nii.gz"
    map_labels(source, tmp_path, to="ldos")
    before, after = read_labels(source)[0], read_labels(tmp_path / "example_seg.nii.gz")[0]
    np.testing.assert_array_equal(before.affine, after.affine)
    parts = {
        LDOS["liver"]: ("liver",),
        LDOS["kidney"]: ("kidney_left", "kidney_right"),
        LDOS["vertebrae"]: tuple(name for name in NUMBERS if name.startswith("vertebrae_") and name != "vertebrae_S1"),
    }
    for number, names in parts.items():
        expected = np.isin(before.array, [NUMBERS[name] for name in names])
        assert expected.any()
        np.testing.assert_array_equal(after.array == number, expected)


def test_command(cli, tmp_path, oblique):
    write_volume(oblique(NUMBERS["liver"]), tmp_path / "a.nii.gz")
    ran = cli("labels", "map", tmp_path / "a.nii.gz", "-o", tmp_path / "out", "--to", "ldos")
    assert (ran.code, ran.err) == (0, "")
    assert "1 written, 0 failed" in ran.out
    write_volume(oblique(250), tmp_path / "b.nii.gz")
    ran = cli("labels", "map", tmp_path, "-o", tmp_path / "two", "--to", "ldos", "--from", "total")
    assert ran.code == 3
    assert "b: " in ran.err and "--unknown background" in ran.err
