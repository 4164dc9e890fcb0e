"""Ctrl-C, SIGTERM and kill -9 at awkward moments: the old state or the new one, and the next run goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

FAST = ("--no-mirror", "--precision", "float32", "--device", "cpu", "--engine", "torch")

DRIVER = """
import pathlib, signal, sys, time
from uptake.workflows import cuts, outputs
# A shell starts background jobs with Ctrl-C ignored, and children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
moment, flag = sys.argv[1], pathlib.Path(sys.argv[2])

def wait():
    flag.touch()
    time.sleep(600)

png = bytes.fromhex("89504e470d0a1a0a")
outputs.mip_picture = cuts.fusion_picture = lambda *_, **__: png
if moment == "mask written":
    real = outputs.write_csv
    outputs.write_csv = lambda *a, **k: wait()
elif moment == "between the renames":
    real = pathlib.Path.replace
    def replace(self, target):
        if ".part-" in self.name:
            wait()
        return real(self, target)
    pathlib.Path.replace = replace
from uptake.cli.main import main
main(sys.argv[3:])
"""


@pytest.fixture
def stopped(make_study, tiny_bundle, tmp_path):
    """Return a function that starts a run in its own process, stops it at a moment, and returns its exit code."""
    study = make_study(tmp_path / "studies" / "patient_7")
    command = ["segment", str(study), "-o", str(tmp_path / "out"), "-m", str(tiny_bundle), *FAST]

    def run(moment, how, *more):
        flag = tmp_path / "flag"
        flag.unlink(missing_ok=True)
        process = subprocess.Popen(
            [sys.executable, "-c", DRIVER, moment, str(flag), *command, *more],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            limit = time.monotonic() + 120
            while not flag.exists():
                assert process.poll() is None, process.communicate()
                assert time.monotonic() < limit
                time.sleep(0.02)
            process.send_signal(how)
            _, err = process.communicate(timeout=60)
        finally:
            process.kill()
            process.communicate()
        return process.returncode, err

    run.command = command
    return run


def state(out):
    return {f.relative_to(out): f.read_bytes() for f in sorted(out.rglob("*")) if f.is_file()}


@pytest.mark.skipif(os.name != "posix", reason="signals as on Linux and macOS")
class TestStopped:
    @pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
    def test_ctrl_c_leaves_nothing_half_written(self, stopped, tmp_path, how):
        code, err = stopped("mask written", how)
        assert code == 130
        assert "Stopped. Nothing is left half written" in err
        assert "Traceback" not in err
        assert list((tmp_path / "out").iterdir()) == []

    def test_kill_9_while_writing_leaves_the_old_result_and_the_next_run_cleans_up(
        self, stopped, cli, tmp_path, plain_pictures
    ):
        out = tmp_path / "out"
        assert cli(*stopped.command).code == 0
        before = state(out)
        code, _ = stopped("mask written", signal.SIGKILL, "--again")
        assert code == -signal.SIGKILL
        after = state(out)
        assert before.items() <= after.items()
        left = [f.name for f in out.iterdir() if f.name != "patient_7"]
        assert left and all(name.startswith(".patient_7.part-") for name in left), "only a hidden part is left"
        assert "kept" in cli(*stopped.command).out, "the old result is complete"
        assert cli(*stopped.command, "--again").code == 0
        assert [f.name for f in out.iterdir()] == ["patient_7"]

    def test_kill_9_between_the_two_renames_is_mended_by_the_next_run(self, stopped, cli, tmp_path, plain_pictures):
        out = tmp_path / "out"
        assert cli(*stopped.command).code == 0
        before = state(out)
        stopped("between the renames", signal.SIGKILL, "--again")
        assert not (out / "patient_7").exists()
        assert (out / ".patient_7.old" / "run.json").exists()
        ran = cli(*stopped.command)
        assert ran.code == 0
        assert "kept" in ran.out
        assert before.items() <= state(out).items()
        assert cli(*stopped.command, "--again").code == 0
        assert [f.name for f in out.iterdir()] == ["patient_7"]
