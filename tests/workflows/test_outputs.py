"""A folder of results appears whole or not at all, and never in the place of something else."""

from __future__ import annotations

from pathlib import Path

import pytest

from uptake.core.errors import OutputError
from uptake.workflows.outputs import RUN, is_done, recover, require_replaceable, whole_folder


def write_result(folder, text):
    with whole_folder(folder) as place:
        (place / "a.txt").write_text(text)
        (place / RUN).write_text('{"outputs": [{"name": "a.txt"}]}')


def test_nothing_shows_before_the_block_ends(tmp_path):
    with whole_folder(tmp_path / "case") as place:
        (place / RUN).write_text("{}")
        assert not (tmp_path / "case").exists()
        assert place.parent == tmp_path
    assert [f.name for f in tmp_path.iterdir()] == ["case"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, OSError])
def test_an_exception_leaves_the_old_result(tmp_path, error):
    write_result(tmp_path / "case", "old")
    with pytest.raises((error, OutputError)), whole_folder(tmp_path / "case") as place:
        (place / "a.txt").write_text("new")
        raise error("stop")
    assert (tmp_path / "case" / "a.txt").read_text() == "old"
    assert [f.name for f in tmp_path.iterdir()] == ["case"]


def test_a_refused_rename_puts_the_old_result_back(tmp_path, monkeypatch):
    write_result(tmp_path / "case", "old")
    real = Path.replace

    def replace(path, target):
        if ".part-" in path.name:
            raise PermissionError(13, "Permission denied")
        return real(path, target)

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(OutputError, match=r"case: cannot be written: Permission denied"):
        write_result(tmp_path / "case", "new")
    assert (tmp_path / "case" / "a.txt").read_text() == "old"
    assert [f.name for f in tmp_path.iterdir()] == ["case"]


def test_a_new_result_replaces_the_old_one_whole(tmp_path):
    write_result(tmp_path / "case", "old")
    with whole_folder(tmp_path / "case") as place:
        (place / RUN).write_text('{"outputs": []}')
    assert [f.name for f in (tmp_path / "case").iterdir()] == [RUN]


def test_what_a_killed_run_left_is_put_back_or_removed(tmp_path):
    write_result(tmp_path / "case", "old")
    (tmp_path / "case").rename(tmp_path / ".case.old")
    (tmp_path / ".case.part-abc").mkdir()
    (tmp_path / ".case_2.part-abc").mkdir()
    recover(tmp_path / "case")
    assert (tmp_path / "case" / "a.txt").read_text() == "old"
    write_result(tmp_path / "case", "new")
    assert {f.name for f in tmp_path.iterdir()} == {"case", ".case_2.part-abc"}, "another case's part is not touched"


def test_a_name_with_wildcards_removes_no_other_parts(tmp_path):
    (tmp_path / ".case1.part-abc").mkdir()
    write_result(tmp_path / "case[1]", "new")
    assert (tmp_path / ".case1.part-abc").exists()


def test_an_old_copy_is_not_put_over_a_result(tmp_path):
    write_result(tmp_path / "case", "new")
    (tmp_path / ".case.old").mkdir()
    recover(tmp_path / "case")
    assert (tmp_path / "case" / "a.txt").read_text() == "new"


def test_only_an_earlier_result_may_be_replaced(tmp_path):
    folder = tmp_path / "case"
    require_replaceable(folder)
    folder.mkdir()
    require_replaceable(folder)
    write_result(folder, "old")
    (folder / ".DS_Store").write_text("")
    require_replaceable(folder)
    (folder / "notes.txt").write_text("")
    with pytest.raises(OutputError, match=r"it holds files that are none: notes\.txt\."):
        require_replaceable(folder)
    require_replaceable(folder, own=("notes.txt",))


def test_a_result_with_a_missing_or_changed_file_is_not_done(tmp_path):
    import hashlib
    import json

    folder = tmp_path / "case"
    request = {"settings": {"connectivity": 18}, "inputs": [("pet", "abc")]}
    with whole_folder(folder) as place:
        (place / "a.txt").write_text("text")
        outputs = [{"name": "a.txt", "sha256": hashlib.sha256(b"text").hexdigest()}]
        (place / RUN).write_text(json.dumps({"request": request, "outputs": outputs}))
    assert is_done(folder, request)
    assert not is_done(folder, {**request, "settings": {"connectivity": 26}})
    (folder / "a.txt").write_text("other")
    assert not is_done(folder, request)
    (folder / "a.txt").unlink()
    assert not is_done(folder, request)
    assert not is_done(tmp_path / "absent", request)
