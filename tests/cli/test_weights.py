from __future__ import annotations

import hashlib
import zipfile
from dataclasses import replace

import nnunet_folders as folders
import pytest

from uptake.zoo import records
from uptake.zoo.cards import find_bundle, read_card


def test_import_use_and_export(cli, tmp_path, make_study):
    folder = folders.write(tmp_path / "given")
    result = cli("import-weights", folder, "-o", tmp_path / "mine", "--licence", "CC0-1.0")
    assert result.code == 0, result.err
    assert "labels: background, lesion" in result.out
    assert "taken as CT, then PET" in result.out
    assert cli("info", tmp_path / "mine").code == 0
    study = make_study(tmp_path / "study")
    found = cli("segment", study, "-o", tmp_path / "out", "-m", tmp_path / "mine", "--no-mirror")
    assert found.code == 0, found.err
    exported = cli("export-weights", tmp_path / "mine", "-o", tmp_path / "back")
    assert exported.code == 0, exported.err
    assert (tmp_path / "back" / "Dataset777_Toy" / folder.name / "fold_0" / "checkpoint_final.pth").is_file()


def test_refusals_name_the_file_and_leave_nothing(cli, tmp_path):
    result = cli("import-weights", tmp_path, "-o", tmp_path / "mine")
    assert result.code == 4
    assert "no plans.json there" in result.err
    folder = folders.write(tmp_path / "given")
    (folder / "fold_0" / "checkpoint_final.pth").write_bytes(b"PK")
    result = cli("import-weights", folder, "-o", tmp_path / "mine")
    assert result.code == 4
    assert "checkpoint_final.pth" in result.err
    assert not (tmp_path / "mine").exists()


@pytest.fixture
def archive(tmp_path):
    folder = folders.write(tmp_path / "given", networks={"0": folders.network(organs=11)})
    file = tmp_path / "published.zip"
    with zipfile.ZipFile(file, "w") as content:
        for path in sorted(folder.rglob("*")):
            content.write(path, path.relative_to(tmp_path / "given"))
    return file


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("UPTAKE_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


def test_a_published_model_is_fetched_imported_and_found_by_name(cli, archive, home, monkeypatch):
    checksum = hashlib.md5(archive.read_bytes(), usedforsecurity=False).hexdigest()
    record = replace(records.RECORDS["lesiontracer"], url=archive.as_uri(), md5=checksum)
    monkeypatch.setitem(records.RECORDS, "lesiontracer", record)
    result = cli("models", "get", "lesiontracer")
    assert result.code == 0, result.err
    assert "licence CC-BY-4.0" in result.out
    assert "doi:10.5281/zenodo.14007247" in result.out
    assert [path.name for path in home.iterdir()] == ["lesiontracer"]
    card = read_card(find_bundle("lesiontracer"))
    assert card.training["doi"] == "10.5281/zenodo.14007247"
    assert card.licence == "CC-BY-4.0"
    listed = cli("models")
    assert "lesiontracer  " in listed.out
    assert "can be fetched" not in listed.out


def test_an_archive_fetched_by_other_means(cli, archive, home):
    result = cli("models", "get", "lesiontracer", "--file", archive, "-q")
    assert (result.code, result.out) == (0, ""), result.err
    assert archive.exists()
    assert (home / "lesiontracer" / "card.json").is_file()


def test_what_cannot_be_fetched_leaves_nothing(cli, archive, home):
    assert cli("models", "get", "nothing").code == 4
    wrong = cli("models", "get", "lesiontracer", "--url", archive.as_uri())
    assert wrong.code == 4
    assert "has MD5" in wrong.err
    assert list(home.iterdir()) == []
    assert cli("models", "get", "lesiontracer", "--url", "x", "--file", archive).code == 2


def test_names_for_labels_go_with_a_folder(cli, tmp_path):
    folder = folders.write(tmp_path / "given")
    ran = cli("import-weights", folder, "-o", tmp_path / "b", "--labels", "1=liver")
    assert ran.code == 0
    assert "labels: background, liver" in ran.out
    assert "No label is called a lesion" in ran.out
    file = tmp_path / "weights.pth"
    file.write_bytes(b"")
    refused = cli("import-weights", file, "-o", tmp_path / "c", "--labels", "1=liver")
    assert refused.code == 2
    assert "--labels names the labels of an nnU-Net folder" in refused.err
