from __future__ import annotations

import json

import pytest

from uptake.gate import Finding, GateReport, Light
from uptake.gate.findings import worst


def finding(check: str, light: Light) -> Finding:
    return Finding(check, light, check.upper(), "1 mm", "2 mm", "Do it.", {"a_mm": 1.0})


def test_grey_neither_hides_nor_raises_a_light():
    assert worst([Light.GREEN, Light.GREY]) is Light.GREEN
    assert worst([Light.GREY, Light.AMBER]) is Light.AMBER
    assert worst([Light.AMBER, Light.RED, Light.GREEN]) is Light.RED
    assert worst([Light.GREY]) is Light.GREY and worst([]) is Light.GREY


def test_the_line_names_what_is_wrong_and_counts_the_rest():
    lights = {"a": Light.GREEN, "b": Light.RED, "c": Light.AMBER, "d": Light.GREY}
    report = GateReport(tuple(finding(name, light) for name, light in lights.items()))
    assert report.light is Light.RED
    assert report.line() == "input gate RED (red: b; amber: c; 1 green; 1 not known)"
    assert GateReport((finding("a", Light.GREEN),)).line() == "input gate GREEN (1 green)"


def test_a_report_is_plain_json_and_gives_findings_by_name():
    report = GateReport((finding("a", Light.AMBER),))
    content = json.loads(json.dumps(report.as_json()))
    assert content["schema"] == "uptake-gate/1" and content["light"] == "amber"
    assert content["findings"] == [
        {"check": "a", "light": "amber", "title": "A", "measured": "1 mm", "expected": "2 mm", "sentence": "Do it.",
         "details": {"a_mm": 1.0}}
    ]  # fmt: skip
    assert report.finding("a").measured == "1 mm"
    with pytest.raises(KeyError):
        report.finding("b")
