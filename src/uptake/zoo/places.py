"""Where fetched models are kept."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def user_models() -> Path:
    """Return the folder of fetched bundles: UPTAKE_MODELS, or the user's data folder."""
    if "UPTAKE_MODELS" in os.environ:
        return Path(os.environ["UPTAKE_MODELS"])
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return base / "uptake" / "models"
