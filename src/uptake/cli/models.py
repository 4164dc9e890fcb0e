"""uptake models"""

from __future__ import annotations

import json
from dataclasses import asdict

from uptake.cli.console import say, table
from uptake.zoo.cards import DEFAULT_MODEL, read_card, shipped_bundles


def models(*, json_output: bool = False) -> None:
    """List the models that come with the package. Loads no weights.

    Parameters
    ----------
    json_output
        Print the whole cards as JSON instead.
    """
    cards = [read_card(folder) for folder in shipped_bundles()]
    if json_output:
        say(json.dumps([asdict(card) for card in cards], indent=1, sort_keys=True, ensure_ascii=False))
        return
    if not cards:
        say("No model comes with this installation; give -m the folder of a bundle.")
        return
    rows = [
        {
            "name": card.name + (" *" if card.name == DEFAULT_MODEL else ""),
            "method": card.method,
            "input": "PET" + (" + CT" if "ct" in card.needs else " (+ CT)" if "ct" in card.accepts else ""),
            "licence": card.licence,
            "summary": card.summary,
        }
        for card in cards
    ]
    table(rows, {"name": "model", "method": "method", "input": "input", "licence": "licence", "summary": "what it is"})
    say(f"\n  * taken when no model is named. More: uptake info {DEFAULT_MODEL}")
