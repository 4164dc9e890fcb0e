"""What the gate says: lights, one finding per rule, and the report of all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

SCHEMA = "uptake-gate/1"


class Light(StrEnum):
    """The state of one rule, and of the whole scan.

    GREEN: measured and as expected. AMBER: usable, but a number or a picture will be off in the way that the sentence
    says. RED: a result would mislead unless the cause is mended. GREY: could not be measured, which is neither good nor
    bad: the header does not say, or the image does not show it.
    """

    GREEN = "green"
    AMBER = "amber"
    RED = "red"
    GREY = "grey"


_SEVERITY = {Light.GREY: 0, Light.GREEN: 1, Light.AMBER: 2, Light.RED: 3}


@dataclass(frozen=True)
class Finding:
    """The outcome of one rule.

    Attributes
    ----------
    check : str
        Name of the rule, stable over versions: ``"uptake_time"``, ``"orientation"``, ...
    light : Light
    title : str
        The rule in a few words, for a table.
    measured : str
        The value with its unit, in words; empty where nothing could be measured.
    expected : str
        The range that is green, with its unit.
    sentence : str
        What it means and what to do.
    details : mapping
        Numbers behind it, plain JSON values; units stand in the keys.
    """

    check: str
    light: Light
    title: str
    measured: str
    expected: str
    sentence: str
    details: Mapping[str, object] = field(default_factory=dict)

    def as_json(self) -> dict[str, object]:
        """Return the finding as plain JSON values."""
        return {
            "check": self.check,
            "light": str(self.light),
            "title": self.title,
            "measured": self.measured,
            "expected": self.expected,
            "sentence": self.sentence,
            "details": dict(self.details),
        }


def worst(lights: Sequence[Light]) -> Light:
    """Return the light of several: the most severe that was measured; grey only where nothing was."""
    return max(lights, key=_SEVERITY.__getitem__, default=Light.GREY)


@dataclass(frozen=True)
class GateReport:
    """All findings of one case.

    Attributes
    ----------
    findings : tuple of Finding
        In the order in which the rules were applied.
    """

    findings: tuple[Finding, ...]

    @property
    def light(self) -> Light:
        """The light of the scan: the most severe of its findings."""
        return worst([finding.light for finding in self.findings])

    def of(self, light: Light) -> tuple[Finding, ...]:
        """Return the findings of one light."""
        return tuple(finding for finding in self.findings if finding.light is light)

    def finding(self, check: str) -> Finding:
        """Return the finding of the rule of this name.

        Raises
        ------
        KeyError
            If the rule was not applied.
        """
        for finding in self.findings:
            if finding.check == check:
                return finding
        raise KeyError(check)

    def line(self) -> str:
        """Return the report in one line for a terminal: the light, and which rules are red or amber."""
        parts = [f"{light}: {_named(self.of(light))}" for light in (Light.RED, Light.AMBER) if self.of(light)]
        parts.append(f"{len(self.of(Light.GREEN))} green")
        unknown = len(self.of(Light.GREY))
        parts += [f"{unknown} not known"] if unknown else []
        return f"input gate {str(self.light).upper()} ({'; '.join(parts)})"

    def as_json(self) -> dict[str, object]:
        """Return the report as plain JSON values, as it stands in ``run.json``."""
        return {
            "schema": SCHEMA,
            "light": str(self.light),
            "line": self.line(),
            "findings": [finding.as_json() for finding in self.findings],
        }


def _named(findings: Sequence[Finding]) -> str:
    return ", ".join(finding.title.lower() for finding in findings)
