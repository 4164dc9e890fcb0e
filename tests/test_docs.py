"""The pages in docs/ say what the program does: commands, options, defaults, messages, columns, names and links."""

from __future__ import annotations

import ast
import inspect
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from types import CodeType
from typing import Any

import pytest

import uptake
from uptake.cli.main import VERBS, app

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))

pytestmark = pytest.mark.skipif(not PAGES, reason="the pages are not part of this copy")


def page_id(path: Path) -> str:
    return path.relative_to(DOCS).as_posix()


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def commands() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        for block in blocks(page.read_text(encoding="utf-8"), "bash"):
            for line in block.splitlines():
                if line.split()[:1] == ["uptake"]:
                    yield page_id(page), line


def section(page: str, heading: str) -> str:
    """Return the text below a heading of any level, up to the next heading."""
    text = (DOCS / page).read_text(encoding="utf-8")
    found = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#|\Z)", text, flags=re.MULTILINE | re.DOTALL)
    assert found, f"{page} has no section {heading!r}"
    return found[1]


def table_rows(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def ticked(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def slug(heading: str) -> str:
    """Return the anchor that Markdown viewers give a heading."""
    return re.sub(r"[\s]+", "-", re.sub(r"[^\w\s-]", "", heading.lower()).strip())


@pytest.mark.parametrize(("page", "line"), list(commands()))
def test_every_command_parses(page: str, line: str) -> None:
    words = shlex.split(line, comments=True)[1:]
    if words in (["--help"], ["--version"]):
        return
    assert words[0] in VERBS, f"{page}: {line}"
    if words[1:] != ["--help"]:
        app.parse_args(words, exit_on_error=False, print_error=False)


COMMANDS = {
    "pretrain": ("pretrain lesiontracer", "pretrain petct_mae"),
    "labels": ("labels map",),
    "models": ("models", "models get"),
    "simulate": tuple(f"simulate {c}" for c in ("patient", "cohort", "lowdose")),
}
"""Verbs with commands of their own, each with its table."""


@pytest.mark.parametrize("verb", [command for verb in VERBS for command in COMMANDS.get(verb, (verb,))])
def test_cli_tables_hold_every_option_with_its_default(verb: str) -> None:
    actual: dict[tuple[str, ...], str] = {}
    command = app
    for word in verb.split():
        command = command[word]
    for argument in command.assemble_argument_collection():
        hidden = {*argument.negatives} | {name for name in argument.names if name.startswith("--empty-")}
        default = argument.field_info.default
        shown = {None: "–", True: "on", False: "off", inspect.Parameter.empty: "required"}
        # 1 and 1.0 equal True, so booleans are told apart by type.
        plain = default is None or default is inspect.Parameter.empty or isinstance(default, bool)
        names = tuple(name for name in argument.names if name not in hidden)
        actual[names] = shown[default] if plain else f"`{default}`"
    documented = {tuple(ticked(name)): default for name, default, _ in table_rows(section("reference/cli.md", verb))}
    assert documented == actual


def test_every_relative_link_and_anchor_resolves() -> None:
    broken = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for target in re.findall(r"\[[^\]]*\]\(([^)\s]+)\)", text):
            if re.match(r"[a-z]+://", target):
                continue
            file, _, anchor = target.partition("#")
            other = (page.parent / file).resolve() if file else page
            if not other.is_file():
                broken.append(f"{page_id(page)}: {target}")
            elif anchor:
                headings = re.findall(r"^#+ (.+)$", other.read_text(encoding="utf-8"), flags=re.MULTILINE)
                if anchor not in {slug(heading) for heading in headings}:
                    broken.append(f"{page_id(page)}: {target}")
    assert not broken


def test_navigation_names_every_page() -> None:
    named = re.findall(r": (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert sorted(named) == sorted(page_id(page) for page in PAGES)


def source_texts() -> list[str]:
    """Return every string of the source, with an ellipsis for each value put into it."""
    texts = []
    for path in (ROOT / "src" / "uptake").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [str(v.value) if isinstance(v, ast.Constant) else "…" for v in node.values]
                texts.append("".join(parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
    return texts


def test_quoted_messages_are_those_of_the_code() -> None:
    texts = source_texts()
    rows = table_rows((DOCS / "how-to/typical-problems.md").read_text(encoding="utf-8"))
    unknown = []
    for row in rows:
        (message,) = ticked(row[0])
        pieces = [re.escape(piece) for piece in message.split("…")]
        pattern = re.compile(".*".join(pieces), flags=re.DOTALL)
        if not any(pattern.search(text) for text in texts):
            unknown.append(message)
    assert len(rows) > 30
    assert not unknown


def test_columns_and_files_are_those_of_the_code() -> None:
    from uptake.evaluation.labels import metric_names
    from uptake.quantification.assessment_tables import MEASUREMENT_COLUMNS
    from uptake.quantification.organ_tables import ORGAN_COLUMNS
    from uptake.quantification.tables import LESION_COLUMNS
    from uptake.workflows.cohort import Failure
    from uptake.workflows.evaluation_results import NO_SCORES
    from uptake.workflows.scoring import SUV_COLUMNS
    from uptake.zoo.cards import Card

    def columns(page: str, heading: str) -> list[str]:
        return [name for row in table_rows(section(page, heading)) for name in ticked(row[0])]

    assert sorted(columns("reference/outputs.md", "lesions.csv")) == sorted(LESION_COLUMNS)
    assert sorted(columns("reference/outputs.md", "measurements.csv")) == sorted(MEASUREMENT_COLUMNS)
    assert sorted(columns("reference/outputs.md", "organs.csv")) == sorted(ORGAN_COLUMNS)
    assert columns("reference/outputs.md", "scores.csv")[:3] == ["case", "patient", "label"]
    scores = [name for group in metric_names().values() for name in group]
    assert sorted(columns("reference/outputs.md", "scores.csv")) == sorted([*NO_SCORES, *scores, *SUV_COLUMNS])
    assert sorted(columns("reference/bundle.md", "card.json")) == sorted(Card.__dataclass_fields__)
    for name in Failure.__dataclass_fields__:
        assert f"| `{name}` |" in (DOCS / "reference/outputs.md").read_text(encoding="utf-8")


def test_log_columns_are_those_that_training_writes(tmp_path: Path) -> None:
    import torch
    from lightning_fabric import Fabric

    from uptake.training.loop import fit
    from uptake.training.protocol import FitSettings

    class Numbers:
        def cut(self, step: int, rank: int) -> torch.Tensor:
            return torch.ones(1, 1)

        def finished(self, cut: torch.Tensor, device: torch.device) -> torch.Tensor:
            return cut

    network = torch.nn.Linear(1, 1)
    found = fit(
        network,
        torch.optim.SGD(network.parameters(), 0.1),
        batches=Numbers(),
        training_step=lambda model, batch, step: model(batch).square().mean(),
        learning_rate=lambda step: 0.1,
        settings=FitSettings(1, epoch_steps=1),
        folder=tmp_path,
        stamp="",
        fabric=Fabric(accelerator="cpu", devices=1),
    )
    told = [name for row in table_rows(section("reference/outputs.md", "log.csv")) for name in ticked(row[0])]
    assert told == list(found.history[0])


def python_blocks() -> list[Any]:
    return [
        pytest.param(block, id=f"{page_id(page)}-{number}")
        for page in PAGES
        for number, block in enumerate(blocks(page.read_text(encoding="utf-8"), "python"))
    ]


@pytest.mark.parametrize("block", python_blocks())
def test_python_examples_compile_and_use_existing_names(block: str) -> None:
    assert isinstance(compile(block, "example", "exec"), CodeType)
    for name in re.findall(r"\buptake\.([A-Za-z_]+)[(.]", re.sub(r"^(from|import) .*$", "", block, flags=re.MULTILINE)):
        assert name in uptake.__all__
    for node in ast.walk(ast.parse(block)):
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("uptake"):
            exec(compile(ast.Module([node], []), "import", "exec"), {})


def test_python_signatures_are_those_of_the_code() -> None:
    text = (DOCS / "reference/python.md").read_text(encoding="utf-8")
    for line in re.findall(r"^uptake\.\w+\(.*\)$", section("reference/python.md", "Functions"), flags=re.MULTILINE):
        name, written = re.fullmatch(r"uptake\.(\w+)\((.*)\)", line).groups()  # type: ignore[union-attr]
        parameters = inspect.signature(getattr(uptake, name)).parameters.values()
        plain = inspect.Signature([p.replace(annotation=inspect.Parameter.empty) for p in parameters])
        assert str(plain)[1:-1].replace("'", '"') == written
    for name in uptake.__all__:
        assert f"uptake.{name}" in text
