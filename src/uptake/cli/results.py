"""The folder of a segmented case, printed: its tables, its light, its warnings and where the report is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from uptake.cli.console import say, show_gate, table

SHOWN_LESIONS = 15


def show_results(folder: Path) -> None:
    """Print the tables of one case and where its files are.

    Parameters
    ----------
    folder : Path
        ``OUT/<case>`` of `uptake segment`.
    """
    run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    if (folder / "lesions.json").is_file():
        _show_lesions(json.loads((folder / "lesions.json").read_text(encoding="utf-8")))
    if (folder / "organs.json").is_file():
        _show_organs(json.loads((folder / "organs.json").read_text(encoding="utf-8")))
    show_gate(run)
    for warning in run["warnings"]:
        say(f"  ! {warning}")
    say(f"  {folder / 'report.html'}")


def _show_lesions(content: dict[str, Any]) -> None:
    rows = content["lesions"]
    shown = {
        "lesion": "lesion",
        "volume_ml": "volume mL",
        "suv_max": "SUVmax",
        "suv_mean": "SUVmean",
        "suv_peak": "SUVpeak",
        "tlg_g": "TLG g",
    }
    if not rows:
        say("  No lesion was found.")
        return
    table(rows[:SHOWN_LESIONS], shown)
    if len(rows) > SHOWN_LESIONS:
        say(f"  … {len(rows) - SHOWN_LESIONS} more in lesions.csv")
    totals = content["totals"]
    say(f"  total: MTV {totals['mtv_ml']:.1f} mL, TLG {totals['tlg_g']:.1f} g")


def _show_organs(content: dict[str, Any]) -> None:
    rows = content["organs"]
    if not rows:
        say("  No organ was found.")
        return
    table(rows, {"organ": "organ", "volume_ml": "volume mL", "suv_mean": "SUVmean", "suv_max": "SUVmax"})
