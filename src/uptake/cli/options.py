"""Options that many verbs have alike: their short names and, where it is one, their explanation.

A verb writes `out: Out`; what an option means to that verb alone stays in its docstring.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

Out = Annotated[Path, Parameter(name=["--out", "-o"])]
OptionalOut = Annotated[Path | None, Parameter(name=["--out", "-o"])]
Switch = Annotated[bool, Parameter(negative="")]
"""Off unless named; there is no --no- to it."""
Quiet = Annotated[bool, Parameter(name=["--quiet", "-q"], negative="", help="Print nothing but errors.")]
Device = Annotated[str, Parameter(help="auto, cpu, cuda, cuda:1, mps.")]
"""As `uptake.training.devices.resolve_device` reads it."""
