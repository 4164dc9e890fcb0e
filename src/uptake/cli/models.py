"""uptake models"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from cyclopts import App

from uptake.cli.console import progress, say, table
from uptake.cli.options import OptionalOut, Quiet, Switch
from uptake.zoo.cards import DEFAULT_MODEL, fetched_bundles, read_card, shipped_bundles
from uptake.zoo.records import RECORDS, find_record

models = App(name="models", help="List the models that are here; `models get` fetches published ones.")


@models.default
def show(*, json_output: bool = False) -> None:
    """List the models that come with the package and those that were fetched. Loads no weights.

    Parameters
    ----------
    json_output
        Print the whole cards as JSON instead.
    """
    cards = [read_card(folder) for folder in (*shipped_bundles(), *fetched_bundles())]
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
    missing = [name for name in RECORDS if name not in {card.name for card in cards}]
    if missing:
        say(f"  Published weights that can be fetched: uptake models get {', '.join(missing)}")


@models.command
def get(
    name: str,
    /,
    *,
    out: OptionalOut = None,
    file: Path | None = None,
    url: str | None = None,
    half: Switch = False,
    quiet: Quiet = False,
) -> None:
    """Fetch published weights by their DOI, check them, and keep them as a bundle. The only verb that uses the network.

    A download that breaks off goes on where it stopped when the same command is given again.

    Parameters
    ----------
    name
        lesiontracer.
    out
        Bundle folder; by default in the user's model folder (UPTAKE_MODELS), where -m NAME finds it.
    file
        The archive, already fetched: no network is used.
    url
        A mirror to fetch it from.
    half
        Store float16: half the size.
    """
    record = find_record(name)
    if not quiet:
        say(f"{record.name}: doi:{record.doi}, about {record.size_gb:g} GB, licence {record.licence}")
        if record.note:
            say(f"  {record.note}")
        say(f"  {record.cite}")
    from uptake.workflows.get_model import get_model

    with progress("fetching", quiet=quiet) as on_bytes:
        found = get_model(name, out=out, file=file, url=url, half=half, on_bytes=on_bytes)
    if not quiet:
        for note in found.notes[:-1]:
            say(f"  note: {note}")
        say(
            f"\nBundle: {found.bundle}\nUse it:  uptake segment STUDY -o OUT -m {name if out is None else found.bundle}"
        )
