"""Input gate: is this scan fit for use, and why or why not.

`check` looks at a `Case` and returns a `GateReport`: one traffic light, and one `Finding` per rule with the value that
was measured, the range that was expected, and what to do. It refuses nothing and changes nothing; what physics cannot
accept at all is refused where files are read. `GateReport.as_json` is what ``run.json`` keeps under ``gate``.
"""

from uptake.gate.check import check
from uptake.gate.findings import Finding, GateReport, Light
from uptake.gate.organs import Organs

__all__ = ["Finding", "GateReport", "Light", "Organs", "check"]
