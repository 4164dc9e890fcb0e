"""Digital patients as study folders that every other verb reads."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

from uptake import __version__
from uptake.core.errors import UsageError
from uptake.io.write import require_writable, write_json, write_volume
from uptake.simulation.phantoms import PatientConfig, SimulatedPatient, simulate_patient
from uptake.workflows.outputs import recover, require_replaceable, whole_folder

TRUTH = "truth.json"
FILES = ("pet.nii.gz", "ct.nii.gz", "lesion.nii.gz", "organs.nii.gz", TRUTH)


def simulate(
    out: Path,
    *,
    patients: int = 1,
    seed: int = 0,
    spacing_mm: float = 4.0,
    n_lesions: int | None = None,
    config: PatientConfig | None = None,
    on_patient: Callable[[str, SimulatedPatient], None] | None = None,
) -> list[Path]:
    """Write `patients` study folders and return them; patient n has seed ``seed + n`` and is named after it.

    Each holds pet.nii.gz (SUV), ct.nii.gz (HU), lesion.nii.gz, organs.nii.gz and truth.json (every lesion's true
    volume and uptake, the patient's parameters). A folder that is complete already, made by the same call, is kept.

    Raises
    ------
    UsageError
        If the number of patients is not positive, or the seed is negative.
    OutputError
        If a folder of that name holds other files.
    """
    if patients < 1:
        raise UsageError(f"the number of patients is 1 or more, came {patients}.")
    if seed < 0:
        raise UsageError(f"the seed is 0 or more, came {seed}.")
    require_writable(out)
    folders = []
    for number in range(seed, seed + patients):
        folder = out / f"sim_{number:05d}"
        folders.append(folder)
        request = {
            "seed": number,
            "spacing_mm": float(spacing_mm),
            "lesions": n_lesions,
            "config": asdict(config or PatientConfig()),
            "version": __version__,
        }
        recover(folder)
        require_replaceable(folder, own=FILES)
        if _is_of(folder, request):
            continue
        patient = simulate_patient(number, spacing_mm=(spacing_mm,) * 3, n_lesions=n_lesions, config=config)
        write_patient(patient, folder, request=request)
        if on_patient is not None:
            on_patient(folder.name, patient)
    return folders


def write_patient(patient: SimulatedPatient, folder: Path, *, request: Mapping[str, object] | None = None) -> None:
    """Write one simulated patient as a study folder, whole or not at all; `request` is what was asked for."""
    case = patient.case
    assert case.ct is not None and case.lesions is not None and case.organs is not None
    with whole_folder(folder, own=FILES) as place:
        write_volume(case.pet, place / "pet.nii.gz")
        write_volume(case.ct, place / "ct.nii.gz")
        write_volume(case.lesions, place / "lesion.nii.gz")
        write_volume(case.organs, place / "organs.nii.gz")
        truth = {
            "notice": "Simulated; no such person exists.",
            "request": dict(request or {}),
            "parameters": patient.parameters,
            "lesions": [asdict(lesion) for lesion in patient.lesion_table],
            "mimics": [asdict(mimic) for mimic in patient.mimics],
            "organs": patient.organ_names,
        }
        write_json(truth, place / TRUTH)


def _is_of(folder: Path, request: Mapping[str, object]) -> bool:
    """Return whether `folder` holds the complete patient of this very request."""
    try:
        truth = json.loads((folder / TRUTH).read_text(encoding="utf-8"))
        return truth["request"] == json.loads(json.dumps(request)) and all((folder / name).is_file() for name in FILES)
    except (OSError, ValueError, KeyError, TypeError):
        return False
