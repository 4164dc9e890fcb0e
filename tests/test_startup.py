"""A fresh interpreter: help and information come at once, nothing heavy is loaded for them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import uptake

HEAVY = ("torch", "monai", "SimpleITK", "nibabel", "pydicom", "scipy", "matplotlib", "fastapi")

PROBE = """
import sys
from uptake.cli.main import run
code = run(sys.argv[1:])
print("LOADED", *sorted({name.split(".")[0] for name in sys.modules}))
sys.exit(code)
"""


def loaded(text: str) -> set[str]:
    return set(text.splitlines()[-1].split()[1:]) & set(HEAVY)


@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("info",),
        ("models",),
        ("segment", "--help"),
        ("evaluate", "--help"),
        ("compare", "--help"),
        ("audit", "--help"),
        ("convert", "--help"),
        ("inspect", "--help"),
        ("train", "--help"),
        ("pretrain", "lesiontracer", "--help"),
        ("pretrain", "petct_mae", "--help"),
        ("finetune", "--help"),
        ("probe", "--help"),
        ("label-curve", "--help"),
        ("simulate", "--help"),
        ("denoise", "--help"),
        ("dose-study", "--help"),
        ("labels", "map", "--help"),
        ("--version",),
    ],
)
def test_help_and_information_load_nothing_heavy(fresh, arguments):
    ran = fresh(PROBE, *arguments)
    assert ran.code == 0, ran.err
    assert loaded(ran.out) == set()
    assert ran.err == ""


def test_the_probe_sees_torch_where_it_is_loaded(fresh):
    ran = fresh("import sys, uptake; uptake.Session; print('LOADED', *sys.modules)")
    assert "torch" in loaded(ran.out)


def test_compiled_inference_loads_no_torch(fresh, tiny_bundle, make_study, tmp_path):
    pytest.importorskip("openvino")
    given = (
        "segment",
        make_study(tmp_path / "study"),
        "-o",
        tmp_path / "out",
        "-m",
        tiny_bundle,
        "--device",
        "cpu",
        "--no-mirror",
    )
    ran = fresh(PROBE, *given, "--engine", "openvino", "-q")
    assert ran.code == 0, ran.err
    assert "torch" not in loaded(ran.out) and "monai" not in loaded(ran.out)
    run = next((tmp_path / "out").glob("*/run.json"))
    assert '"engine": "openvino"' in run.read_text()


def test_importing_the_package_loads_nothing_heavy(fresh):
    ran = fresh("import sys, uptake; dir(uptake); print('LOADED', *sys.modules)")
    assert loaded(ran.out) == set()


def test_the_module_can_be_run():
    ran = subprocess.run([sys.executable, "-m", "uptake", "--version"], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout.strip(), ran.stderr) == (0, uptake.__version__, "")


def test_help_says_research_use_only_names_every_verb_and_the_exit_codes(cli):
    ran = cli("--help")
    assert "Research use only" in ran.out
    for verb in ("segment", "quantify", "evaluate", "train", "simulate", "demo", "models", "info"):
        assert verb in ran.out
    for code in ("0 done", "1 our own failure", "2 wrong usage", "3 some cases", "4 input refused"):
        assert code in " ".join(ran.out.replace("│", " ").split())


@pytest.mark.parametrize(
    "verb", ["inspect", "convert", "segment", "quantify", "evaluate", "train", "simulate", "demo", "models", "info"]
)
def test_every_verb_explains_every_option(cli, verb):
    ran = cli(verb, "--help")
    assert ran.code == 0
    assert "Usage: uptake" in ran.out


def test_a_terminal_that_knows_only_ascii_is_no_failure(fresh):
    code = (
        "import io, sys; sys.stdout = io.TextIOWrapper(sys.stdout.buffer, encoding='ascii');"
        "from uptake.cli import console, main; main.run = lambda argv: console.say('a – b') or 0; main.main([])"
    )
    ran = fresh(code)
    assert (ran.code, ran.out.strip(), ran.err) == (0, "a ? b", "")


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_closed_pipe_is_no_failure_and_no_traceback(unbuffered):
    process = subprocess.Popen(
        [sys.executable, "-m", "uptake", "info"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(timeout=60) == 0


def test_the_command_line_runs_outside_the_main_thread(fresh):
    code = (
        "import threading; from uptake.cli.main import run; codes = [];"
        "t = threading.Thread(target=lambda: codes.append(run(['info']))); t.start(); t.join(); print(codes)"
    )
    assert fresh(code).out.splitlines()[-1] == "[0]"
