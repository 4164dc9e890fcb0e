"""uptake info"""

from __future__ import annotations

import platform
from pathlib import Path

import uptake
from uptake.cli.console import say
from uptake.core.errors import CheckpointError
from uptake.zoo.cards import Card, find_bundle, read_card, shipped_bundles


def info(bundle: str | None = None, /) -> None:
    """Show what a model is, wants, was trained on, scored, and must not be expected to do.

    Parameters
    ----------
    bundle
        Name of a shipped model or a bundle folder. Without it: the version of uptake and what it comes with.
    """
    if bundle is None:
        say(f"uptake {uptake.__version__}, Python {platform.python_version()}, {platform.system()}")
        say(f"Package folder: {Path(uptake.__file__).parent}")
        say("Models: " + ", ".join(folder.name for folder in shipped_bundles()))
        say(uptake.RESEARCH_USE_ONLY)
        return
    card = read_card(find_bundle(bundle))
    try:
        _show(card)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(
            f"{bundle}: the card is incomplete ({type(error).__name__}: {error}); fetch or copy the bundle again."
        ) from error


def _show(card: Card) -> None:
    say(f"{card.name}, version {card.version}" + (f": {card.summary}" if card.summary else "") + "\n")
    facts = {
        "method": f"{card.method}, preset {card.config.get('preset', '-')}",
        "input": f"needs {', '.join(card.needs)}; accepts {', '.join(card.accepts)}; PET as {card.suv}",
        "output": ", ".join(card.labels),
        "grid": f"{card.plan['orientation']}, {_numbers(card.plan['spacing_mm'])} mm (z, y, x)",
        "normalisation": "; ".join(_rule(rule) for rule in card.plan["channels"]),
        "network": f"features {_numbers(card.config['features'])}, blocks {_numbers(card.config['blocks'])}, "
        f"window {_numbers(card.config['window'])}",
        "trained on": ", ".join(f"{key}: {_plain(value)}" for key, value in card.training.items()),
        "licence": card.licence,
        "weights": "; ".join(f"{name} (SHA-256 {value[:12]}…)" for name, value in card.files.items()),
        "stored as": f"{card.stored_as}, written by uptake {card.package_version}",
    }
    width = max(map(len, facts))
    for key, value in facts.items():
        say(f"  {key:<{width}}  {value}")
    for score in card.scores:
        say(f"\n  scores: {score.get('protocol', '')} ({score.get('cases', '?')} cases)")
        for name, value in score.get("metrics", {}).items():
            say(f"    {name}: {_score(value)}")
    if card.limits:
        say("\n  limits:")
        for limit in card.limits:
            say(f"    - {limit}")
    say(f"\n{card.notice}")


def _numbers(values: object) -> str:
    return " x ".join(f"{value:g}" for value in values)  # type: ignore[attr-defined]


def _rule(rule: dict[str, object]) -> str:
    shown = ", ".join(f"{key} {value:.4g}" for key, value in rule.items() if isinstance(value, float))
    return f"{rule['name']} {rule['scheme']} ({shown})"


def _score(value: object) -> str:
    if not isinstance(value, dict):
        return str(value)
    if {"mean", "low", "high"} <= value.keys():
        middle = f", median {value['median']:.3f}" if "median" in value else ""
        return f"{value['mean']:.3f} (95 % interval {value['low']:.3f} to {value['high']:.3f}){middle}"
    parts = [f"{key} {number:.3f}" for key, number in value.items() if isinstance(number, float)]
    return ", ".join(parts) or str(value)


def _plain(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
