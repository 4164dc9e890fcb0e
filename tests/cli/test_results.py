"""The folder of a segmented case, printed."""

from __future__ import annotations

import json

from uptake.cli.results import SHOWN_LESIONS, show_results

NUMBERS = {"volume_ml": 1.5, "suv_max": 4.0, "suv_mean": 2.0, "suv_peak": 3.0, "tlg_g": 3.0}


def write(folder, lesions=None, organs=None):
    run = {"warnings": ["The CT is cut."], "gate": {"line": "Input: green"}}
    contents = {"run": run, "lesions": lesions, "organs": organs}
    for name, content in contents.items():
        if content is not None:
            (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def test_tables_totals_light_warnings_and_the_report_are_shown(tmp_path, capsys):
    lesions = {
        "lesions": [{"lesion": n + 1, **NUMBERS} for n in range(SHOWN_LESIONS + 2)],
        "totals": {"mtv_ml": 25.5, "tlg_g": 51.0},
    }
    organs = {"organs": [{"organ": "liver", "volume_ml": 1500.0, "suv_mean": 2.1, "suv_max": 4.0}]}
    show_results(write(tmp_path, lesions, organs))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split("  ")[1:] == ["lesion", "volume mL", "SUVmax", "SUVmean", "SUVpeak", "TLG g"]
    assert "  … 2 more in lesions.csv" in lines and "  total: MTV 25.5 mL, TLG 51.0 g" in lines
    assert any(line.split() == ["liver", "1500.00", "2.10", "4.00"] for line in lines)
    assert lines[-3:] == ["  Input: green", "  ! The CT is cut.", f"  {tmp_path / 'report.html'}"]


def test_nothing_found_is_said(tmp_path, capsys):
    show_results(write(tmp_path, {"lesions": [], "totals": {}}, {"organs": []}))
    out = capsys.readouterr().out
    assert "No lesion was found." in out and "No organ was found." in out
