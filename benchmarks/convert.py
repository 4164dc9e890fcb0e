"""Time from a DICOM PET series to NIfTI: ours (SUV, side-car, hashes, checks) and dicom2nifti's plain conversion.

    python benchmarks/convert.py --series DATA/dicom/ge_raw/STS_001/PT [--repeats 7] [--others]

Both run in this process after everything has been imported, in turns, so that a busy machine slows both. Wall time and
CPU time; the ratio of each turn, and their median. `--others` adds plain reading of the files by pydicom (headers and
pixels, no volume, nothing written) and ours without the CT and without writing.
"""

from __future__ import annotations

import argparse
import logging
import os
import platform
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np


def timed(action: Callable[[], object]) -> tuple[float, float]:
    """Return wall and CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    action()
    return time.perf_counter() - wall, time.process_time() - cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=Path, required=True, help="folder of one PET series")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--others", action="store_true")
    args = parser.parse_args()

    import dicom2nifti
    import pydicom

    from uptake.io.dicom import read_dicom
    from uptake.io.find import find_cases
    from uptake.workflows.convert import convert

    logging.disable(logging.CRITICAL)  # dicom2nifti tells every file
    with tempfile.TemporaryDirectory() as work:
        out = Path(work)

        def ours() -> None:
            (case,) = find_cases(args.series, only_dicom=True)
            convert(case, out / "ours", again=True)

        def theirs() -> None:
            dicom2nifti.dicom_series_to_nifti(str(args.series), str(out / "theirs.nii.gz"), reorient_nifti=False)

        rivals: dict[str, Callable[[], object]] = {"uptake convert": ours, "dicom2nifti": theirs}
        if args.others:
            rivals["pydicom, reading only"] = lambda: [
                pydicom.dcmread(path).pixel_array for path in sorted(args.series.iterdir())
            ]
            rivals["uptake, reading to SUV only"] = lambda: read_dicom(args.series)
        for action in rivals.values():
            action()  # imports, caches of the system
        turns = [{name: timed(action) for name, action in rivals.items()} for _ in range(args.repeats)]
        (converted,) = (out / "ours").rglob("pet_suv.nii.gz")
        sizes = {"uptake convert": converted, "dicom2nifti": out / "theirs.nii.gz"}
        print(f"{len(list(args.series.iterdir()))} files, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
        rival = version("dicom2nifti")
        print(f"Python {platform.python_version()}, pydicom {pydicom.__version__}, dicom2nifti {rival}")
        print("| | median wall s | fastest wall s | median CPU s | MB |\n|---|---|---|---|---|")
        for name in rivals:
            wall, cpu = np.array([turn[name] for turn in turns]).T
            size = f"{sizes[name].stat().st_size / 1e6:.1f}" if name in sizes else ""
            print(f"| {name} | {np.median(wall):.3f} | {wall.min():.3f} | {np.median(cpu):.3f} | {size} |")
        for kind, column in (("wall", 0), ("CPU", 1)):
            ratios = [turn["dicom2nifti"][column] / turn["uptake convert"][column] for turn in turns]
            spread = f"median {np.median(ratios):.2f}, range {min(ratios):.2f} to {max(ratios):.2f}"
            print(f"dicom2nifti / uptake, {kind}: {spread}")


if __name__ == "__main__":
    main()
