"""Builds the parser and turns errors into messages and exit codes. Light: neither torch nor a file format is loaded."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
from collections.abc import Sequence
from types import FrameType

from cyclopts import App, CycloptsError

import uptake
from uptake.cli.console import complain
from uptake.core.errors import UptakeError

VERBS = {
    "inspect": "Show what a DICOM study holds, what is taken and why, and whether SUV can be known.",
    "convert": "Turn DICOM PET/CT into SUV and HU as NIfTI, with a side-car of all that was used.",
    "segment": "Find lesions in PET or PET/CT: masks, table, pictures, report.",
    "quantify": "Measure a lesion mask you already have: the same table, pictures, report.",
    "regions": "List the regions of a DICOM SEG or RTSTRUCT, or write them as masks on the PET's grid.",
    "export": "Bring any mask back onto its DICOM study: SEG, RTSTRUCT, measurement report.",
    "evaluate": "Compare masks with references: overlap, surfaces, lesions, SUV, with intervals.",
    "compare": "Is B better than A? Paired differences, tests, equivalence, ranks.",
    "audit": "Do the sites of a cohort differ in their images, before and after harmonisation?",
    "pretrain": "Teach a network on other scans first; what it writes is a start for training.",
    "finetune": "Train a pretrained network with a share of the labels, or the same from scratch; test it once.",
    "probe": "What can a linear map read off frozen features with five labelled scans?",
    "label-curve": "Does pretraining save labels here? Dice against the share of labels, with tests.",
    "train": "Train a method on your own labelled scans; writes a bundle.",
    "simulate": "Make digital patients, cohorts of them, or low-dose twins of real scans.",
    "denoise": "Make a clean PET of a low-dose one, and its organs, without CT.",
    "dose-study": "How low can we go? Noise, bias, lesions and organs of the same patients at several doses.",
    "labels": "Merge the classes of organ maps (TotalSegmentator's, autoPET's) into those of a method.",
    "demo": "Simulate a patient, segment it, open the report. No data needed.",
    "import-weights": "Turn an nnU-Net model folder, or a SAM-Med3D or SegAnyPET file, into a bundle.",
    "export-weights": "Write a bundle as a model folder for nnU-Net's own predictor.",
    "models": "List the models that come with the package.",
    "info": "Show what a model is, was trained on, and cannot do.",
}

EXIT_CODES = (
    "Exit codes: 0 done; 1 our own failure; 2 wrong usage; 3 some cases of a cohort failed (failures.csv); "
    "4 input refused; 130 stopped by Ctrl-C or SIGTERM."
)

app = App(
    name="uptake",
    version=uptake.__version__,
    help=(
        f"PET and PET/CT: scanner data in; lesions, numbers, pictures and reports out.\n\n{uptake.RESEARCH_USE_ONLY}"
    ),
    help_epilogue=EXIT_CODES,
    suppress_keyboard_interrupt=False,  # `run` says what Ctrl-C left behind
)
for verb, text in VERBS.items():
    module = verb.replace("-", "_")
    app.command(f"uptake.cli.{module}:{module}", name=verb, help=text)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal that knows only ASCII shows "?" for a dash; that is no reason to fail.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    sys.exit(run(argv))


def run(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; messages go to standard error."""
    # A scheduler's SIGTERM then unwinds like Ctrl-C: temporary files are removed, nothing is left half written.
    if hasattr(signal, "SIGTERM") and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _interrupt)
    try:
        app(argv, exit_on_error=False, result_action="return_value")
        sys.stdout.flush()  # here, where a closed pipe is expected
    except CycloptsError:
        return 2  # cyclopts has printed what was wrong
    except UptakeError as error:
        complain(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        complain("Stopped. Nothing is left half written; the same command goes on from here.")
        return 130
    except BrokenPipeError:
        # The reader of a pipe (head, less) has gone; that is no failure of ours.
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115
        return 0
    except Exception as error:
        if os.environ.get("UPTAKE_DEBUG"):
            raise
        complain(
            f"uptake failed, and that is its own fault: {type(error).__name__}: {error}\n"
            "Set UPTAKE_DEBUG=1 and run again for the traceback; please report it."
        )
        return 1
    return 0


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
