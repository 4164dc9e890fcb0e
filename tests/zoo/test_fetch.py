"""Against a server on this machine: whole, broken off, resumed, wrong, refused."""

from __future__ import annotations

import hashlib
import http.server
import threading
import zipfile
from pathlib import Path
from typing import ClassVar

import pytest

from uptake.core.errors import CheckpointError, ModelError
from uptake.zoo import fetch
from uptake.zoo.fetch import download, unpack_model
from uptake.zoo.places import user_models

CONTENT = bytes(range(256)) * 40
MD5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()


class Server(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT; `script` says after how many bytes each answer breaks off (None: never)."""

    script: ClassVar[list[int | None]] = []
    asked: ClassVar[list[str]] = []
    ranges = True

    def do_GET(self) -> None:
        wanted = self.headers.get("Range", "")
        Server.asked.append(wanted)
        if self.path == "/missing":
            self.send_error(404)
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.ranges else 0
        if start >= len(CONTENT):
            self.send_error(416)
            return
        body = CONTENT[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        stop = Server.script.pop(0) if Server.script else None
        self.wfile.write(body if stop is None else body[:stop])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def url():
    Server.script, Server.asked, Server.ranges = [], [], True
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(fetch, "CHUNK_BYTES", 1000)


def test_a_file_arrives_whole_and_tells_how_far_it_is(url, tmp_path):
    told = []
    file = download(f"{url}/a.zip", tmp_path / "deep" / "a.zip", md5=MD5, on_bytes=lambda *n: told.append(n))
    assert file.read_bytes() == CONTENT
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert [path.name for path in file.parent.iterdir()] == ["a.zip"]


def test_what_is_there_already_is_not_fetched_again(url, tmp_path):
    (tmp_path / "a.zip").write_bytes(CONTENT)
    download(f"{url}/a.zip", tmp_path / "a.zip", md5=MD5)
    assert Server.asked == []


def test_a_broken_download_goes_on_where_it_stopped(url, tmp_path):
    Server.script = [3000, 2500]
    for _ in range(2):
        with pytest.raises(ModelError, match="bytes are kept; the same command goes on from there"):
            download(f"{url}/a.zip", tmp_path / "a.zip", md5=MD5)
        assert not (tmp_path / "a.zip").exists()
    download(f"{url}/a.zip", tmp_path / "a.zip", md5=MD5)
    assert (tmp_path / "a.zip").read_bytes() == CONTENT
    assert Server.asked == ["", "bytes=3000-", "bytes=5500-"]


def test_a_server_that_knows_no_ranges_starts_anew(url, tmp_path):
    Server.ranges = False
    (tmp_path / "a.zip.part").write_bytes(b"old")
    download(f"{url}/a.zip", tmp_path / "a.zip", md5=MD5)
    assert (tmp_path / "a.zip").read_bytes() == CONTENT


def test_a_part_that_is_complete_is_only_checked(url, tmp_path):
    (tmp_path / "a.zip.part").write_bytes(CONTENT)
    assert download(f"{url}/a.zip", tmp_path / "a.zip", md5=MD5).read_bytes() == CONTENT


def test_another_content_is_deleted(url, tmp_path):
    with pytest.raises(CheckpointError, match=f"has MD5 {MD5}, expected 00"):
        download(f"{url}/a.zip", tmp_path / "a.zip", md5="00")
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_refuses_is_quoted(url, tmp_path):
    with pytest.raises(ModelError, match="the server answers 404"):
        download(f"{url}/missing", tmp_path / "a.zip", md5=MD5)


def test_no_server(tmp_path):
    with pytest.raises(ModelError, match=r"no connection .*--file"):
        download("http://127.0.0.1:9/a.zip", tmp_path / "a.zip", md5=MD5)


class TestArchives:
    def archive(self, tmp_path: Path, *names: str) -> Path:
        with zipfile.ZipFile(tmp_path / "m.zip", "w") as content:
            for name in names:
                content.writestr(name, name)
        return tmp_path / "m.zip"

    def test_only_what_a_model_needs_is_unpacked(self, tmp_path):
        archive = self.archive(
            tmp_path, "D/T__P__C/plans.json", "D/T__P__C/dataset.json", "D/T__P__C/fold_0/checkpoint_final.pth",
            "D/T__P__C/fold_0/progress.png", "D/run.sh",
        )  # fmt: skip
        unpack_model(archive, tmp_path / "x")
        found = sorted(path.name for path in (tmp_path / "x").rglob("*") if path.is_file())
        assert found == ["checkpoint_final.pth", "dataset.json", "plans.json"]

    @pytest.mark.parametrize(
        "name", ["../plans.json", "/plans.json", "a/../../plans.json", "C:/plans.json", "..\\plans.json"]
    )
    def test_paths_that_lead_out_are_refused(self, tmp_path, name):
        (tmp_path / "inside").mkdir()
        with pytest.raises(CheckpointError, match=r"outside of itself|no model archive"):
            unpack_model(self.archive(tmp_path, name), tmp_path / "inside" / "x")
        assert not list(tmp_path.rglob("plans.json"))

    def test_what_is_no_archive_or_no_model(self, tmp_path):
        (tmp_path / "no.zip").write_bytes(b"PK no")
        with pytest.raises(CheckpointError, match="is no zip archive"):
            unpack_model(tmp_path / "no.zip", tmp_path / "x")
        with pytest.raises(CheckpointError, match="no model archive"):
            unpack_model(self.archive(tmp_path, "a.txt"), tmp_path / "x")


@pytest.mark.parametrize(
    ("platform", "variable", "expected"),
    [
        ("linux", "XDG_DATA_HOME", "uptake/models"),
        ("win32", "LOCALAPPDATA", "uptake/models"),
        ("darwin", "HOME", "Library/Application Support/uptake/models"),
        ("linux", "UPTAKE_MODELS", ""),
    ],
)
def test_fetched_models_lie_in_the_users_data_folder(tmp_path, monkeypatch, platform, variable, expected):
    for name in ("XDG_DATA_HOME", "UPTAKE_MODELS", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.platform", platform)
    monkeypatch.setenv(variable, str(tmp_path))
    assert user_models() == tmp_path / expected
