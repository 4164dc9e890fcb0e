"""PET and PET/CT: scanner data in; trustworthy SUV, lesions, numbers, pictures and reports out.

Research use only; not a medical device. Public names are attached lazily: importing `uptake` loads neither torch nor a
file format.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

RESEARCH_USE_ONLY = "Research use only. Not a medical device; not for diagnosis or treatment decisions."

_WHERE = {
    "Case": "uptake.cases",
    "DenoiseSettings": "uptake.workflows.denoise",
    "SegmentSettings": "uptake.workflows.segment",
    "Session": "uptake.workflows.session",
    "Volume": "uptake.geometry.volume",
    "denoise": "uptake.workflows.denoise",
    "evaluate": "uptake.workflows.evaluate",
    "export": "uptake.workflows.export",
    "finetune": "uptake.workflows.finetune",
    "label_curve": "uptake.workflows.label_curve",
    "load_bundle": "uptake.workflows.bundles",
    "pretrain_petct_mae": "uptake.workflows.pretrain_mae",
    "probe": "uptake.workflows.probe",
    "quantify": "uptake.workflows.quantify",
    "read": "uptake.io.read",
    "read_regions": "uptake.workflows.regions",
    "segment": "uptake.workflows.segment",
    "train": "uptake.workflows.train",
    "train_ldos": "uptake.workflows.train_ldos",
    "train_seganypet": "uptake.workflows.train_seganypet",
}

__all__ = ["RESEARCH_USE_ONLY", "__version__", *sorted(_WHERE)]


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        value = getattr(importlib.import_module(_WHERE[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'uptake' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
