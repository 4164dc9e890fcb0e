"""The pictures of a page as files of their own."""

from __future__ import annotations

from uptake.core.pages import Picture
from uptake.workflows.page_pictures import file_word, write_pictures


def test_pictures_of_an_earlier_run_go_and_other_files_stay(tmp_path):
    folder = tmp_path / "pictures"
    old = {"scores_dice": Picture(b"1", "", ""), "scores_iou": Picture(b"2", "", "")}
    write_pictures(old, folder, kinds=("scores_",))
    (folder / "mine.png").write_bytes(b"mine")
    write_pictures({"scores_dice": Picture(b"3", "", "")}, folder, kinds=("scores_",))
    assert {f.name: f.read_bytes() for f in folder.iterdir()} == {"scores_dice.png": b"3", "mine.png": b"mine"}


def test_labels_become_parts_of_file_names():
    assert file_word("kidney left/2 (mm)") == "kidney_left_2__mm_" and file_word("a-b_c") == "a-b_c"
