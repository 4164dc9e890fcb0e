"""How long after the injection was the scan? SUV of most tissues still changes then, by about 1 % per minute in FDG."""

from __future__ import annotations

from collections.abc import Mapping

from uptake.gate.findings import Finding, Light
from uptake.gate.tracers import Tracer


def uptake_time_finding(acquisition: Mapping[str, object], tracer: Tracer | None) -> Finding:
    """Return whether the uptake time is the tracer's.

    Parameters
    ----------
    acquisition : mapping
        `Case.acquisition`; ``uptake_time_min`` is used.
    tracer : Tracer or None
        From `tracers.tracer_of`.
    """
    check, title = "uptake_time", "Uptake time"
    minutes = acquisition.get("uptake_time_min")
    expected = "" if tracer is None else f"{tracer.ideal_min[0]:g} to {tracer.ideal_min[1]:g} min ({tracer.name})"
    if not isinstance(minutes, int | float) or isinstance(minutes, bool):
        return Finding(
            check, Light.GREY, title, "", expected,
            "Not known: image files carry no injection time. Scans to compare should differ by less than 10 minutes.",
        )  # fmt: skip
    measured = f"{minutes:.0f} min"
    known = None if tracer is None else tracer.name
    details: dict[str, object] = {"uptake_time_min": round(float(minutes), 2), "tracer": known}
    if tracer is None:
        sentence = "The tracer is not named, or not one whose range is known here; compare with your protocol."
        return Finding(check, Light.GREY, title, measured, expected, sentence, details)
    if tracer.ideal_min[0] <= minutes <= tracer.ideal_min[1]:
        return Finding(check, Light.GREEN, title, measured, expected, "As the guideline asks.", details)
    early = minutes < tracer.ideal_min[0]
    effect = "lower" if early else "higher"
    if tracer.accepted_min[0] <= minutes <= tracer.accepted_min[1]:
        sentence = (
            f"{'Earlier' if early else 'Later'} than the guideline asks: tumours read {effect}, blood and liver the "
            "other way. Do not compare with scans of another uptake time."
        )
        return Finding(check, Light.AMBER, title, measured, expected, sentence, details)
    sentence = (
        f"Far {'too early' if early else 'too late'} for this tracer, or a clock, a date or a time zone is wrong. "
        "Check injection time and series time."
    )
    return Finding(check, Light.RED, title, measured, expected, sentence, details)
