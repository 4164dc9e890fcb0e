from __future__ import annotations

import nnunet_folders as folders


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
