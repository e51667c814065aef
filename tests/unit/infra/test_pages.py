"""What the pages show works: job.yaml, command lines, Python, links, make targets."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import re
import shlex
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from sm_launch.cli import cli
from sm_launch.job.config import JobConfig
from sm_launch.job.file import apply_override, read_document
from sm_launch.job.hyperparameters import check_hyperparameters

ROOT = Path(__file__).resolve().parents[3]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "ARCHITECTURE.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "examples").glob("*/README.md")),
]
BLOCK = re.compile(r"^ *```([^\n]*)\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
OURS = {"sm_launch", "sm_train", "sm_serve"}


@dataclass(frozen=True)
class Block:
    """A code block: its page, its language, what follows the language, and its text."""

    page: Path
    language: str
    title: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}: {self.text.lstrip()[:40]!r}"


def blocks(*languages: str) -> list[Block]:
    """The blocks of these languages, or all."""
    told = []
    for page in PAGES:
        for head, text in BLOCK.findall(page.read_text(encoding="utf-8")):
            language, _, title = head.strip().partition(" ")
            if language in languages or not languages:
                told.append(Block(page, language, title, text))
    return told


def problems(check: Callable[[Any], None], cases: Iterable[Any]) -> list[str]:
    """What a check says of each case that fails it."""
    told = []
    for case in cases:
        try:
            check(case)
        except Exception as error:
            told.append(f"{case}: {error}")
    return told


@cache
def hyperparameters_of(method: str) -> set[str]:
    schema = ROOT / "containers" / "train" / "sm_train" / "schemas" / f"{method}.json"
    return set(json.loads(schema.read_text(encoding="utf-8"))["properties"])


def check_job(document: dict[str, Any]) -> None:
    """A job.yaml, or some sections of one; what a section cannot be without is filled in."""
    given = {"name": "page", **document}
    data = given.get("data")
    if isinstance(data, dict) and not {"input", "train"} & set(data):
        given["data"] = {"input": "data.csv", **data}
    job = JobConfig.model_validate(given)
    if "training" in document:
        check_hyperparameters(job.training.method, job.training.hyperparameters)
    swept = job.sweep.parameters if job.sweep else ()
    unknown = set(swept) - hyperparameters_of(job.training.method)
    if unknown:
        raise ValueError(f"sweep.parameters: {unknown}")


def command_lines(block: Block) -> Iterator[list[str]]:
    """The arguments of each command that a block shows; in a session `$ ` stands before it."""
    text = block.text.replace("\\\n", " ")
    for line in text.splitlines():
        if block.language == "console" and not line.startswith("$ "):
            continue
        lexer = shlex.shlex(line.removeprefix("$ "), posix=True, punctuation_chars="();|&<>")
        lexer.whitespace_split = True
        arguments: list[str] = []
        for word in [*lexer, ";"]:
            if set(word) <= set("();|&<>"):
                yield arguments
                arguments = []
            elif arguments or not re.fullmatch(r"\w+=.*", word):
                arguments.append(word)


def check_command(arguments: list[str]) -> None:
    """Raise where `sm-launch` does not know the command, an option or a value."""
    context = click.Context(cli, info_name="sm-launch")
    command: click.Command = cli
    rest = arguments
    while isinstance(command, click.Group):
        if rest[0].startswith("-"):
            return  # --help and --version of the group
        name, inner, rest = command.resolve_command(context, rest)
        assert inner is not None
        command, context = inner, click.Context(inner, info_name=name, parent=context)
    try:
        made = command.make_context(arguments[0], list(rest))
    except click.exceptions.Exit:
        return  # --help
    for override in made.params.get("overrides") or ():
        document: dict[str, Any] = {}
        apply_override(document, override)
        if not override.startswith("training.hyperparameters."):
            check_job(document)


def test_no_block_is_of_a_language_that_nothing_checks() -> None:
    checked = {"yaml", "console", "sh", "bash", "", "python", "json"}
    shown = {block.language for block in blocks()}
    assert shown - checked <= {"text", "dockerfile"}
    assert problems(lambda block: json.loads(block.text), blocks("json")) == []


def test_a_job_yaml_is_one(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"

    def check(block: Block) -> None:
        if block.title:  # another file, which the title names
            assert yaml.safe_load(block.text)
            return
        path.write_text(block.text)
        check_job(read_document(path))

    assert problems(check, blocks("yaml")) == []


def test_commands_have_the_options_that_are_shown() -> None:
    lines = [
        arguments[1:]
        for block in blocks("console", "sh", "bash", "")
        for arguments in command_lines(block)
        if arguments[:1] == ["sm-launch"]
    ]
    assert len(lines) > 50
    assert problems(check_command, lines) == []


def test_commands_in_sentences_have_their_options() -> None:
    wrong = []
    for page in PAGES:
        text = BLOCK.sub("", page.read_text(encoding="utf-8"))
        for line in re.findall(r"`sm-launch ([a-z][^`]*)`", text):
            command, options = find_command(" ".join(line.split()).split())
            known = {name for option in command.params for name in option.opts}
            known |= {name for option in command.params for name in option.secondary_opts}
            for option in options:
                if option not in known | {"--help", "-h"}:
                    wrong.append(f"{page.name}: sm-launch {line}: no {option}")
    assert wrong == []


def find_command(arguments: list[str]) -> tuple[click.Command, list[str]]:
    command: click.Command = cli
    while isinstance(command, click.Group) and arguments:
        name = arguments[0].split("|")[0].rstrip(",")
        inner = command.get_command(click.Context(command), name)
        assert inner is not None, f"no command {name!r}"
        command, arguments = inner, arguments[1:]
    options = (re.split(r"[=,|]", word)[0] for word in arguments if re.match(r"--?[a-z]", word))
    return command, list(options)


def test_make_targets_exist() -> None:
    known = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    told = set()
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for line in re.findall(r"^(?:\$ )?make ([^\n#&]*)|`make ([^`]*)`", text, re.MULTILINE):
            told |= {word for word in "".join(line).split() if re.fullmatch(r"[a-z][a-z-]+", word)}
    assert "demo" in told
    assert told - known == set()


def test_python_names_what_is_there() -> None:
    assert problems(check_python, blocks("python")) == []


def check_python(block: Block) -> None:
    tree = ast.parse(block.text)
    names: dict[str, Any] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and str(node.module).partition(".")[0] in OURS:
            module = importlib.import_module(str(node.module))
            for alias in node.names:
                names[alias.asname or alias.name] = getattr(module, alias.name)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            function = names.get(node.func.id)
            if inspect.isfunction(function):
                given = {keyword.arg: None for keyword in node.keywords if keyword.arg}
                inspect.signature(function).bind(*node.args, **given)


@cache
def anchors(page: Path) -> set[str]:
    """The fragments of a page's headings, as GitHub and the site make them."""
    text = BLOCK.sub("", page.read_text(encoding="utf-8"))
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    plain = (re.sub(r"[^\w\s-]", "", title.lower()).strip() for title in titles)
    return {re.sub(r"\s", "-", title) for title in plain}


def test_links_lead_somewhere() -> None:
    assert problems(check_links, PAGES) == []


def check_links(page: Path) -> None:
    text = BLOCK.sub("", page.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        name, _, fragment = target.partition("#")
        linked = (page.parent / name).resolve() if name else page
        assert linked.exists(), f"{target}: no such file"
        assert not fragment or fragment in anchors(linked), f"{target}: no such heading"


def test_every_page_is_in_the_navigation() -> None:
    told = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    listed = set(re.findall(r": (\S+\.md)$", told, re.MULTILINE))
    docs = ROOT / "docs"
    assert listed == {str(page.relative_to(docs)) for page in docs.rglob("*.md")}


def test_what_does_not_work_is_found() -> None:
    for command in ("train --epochs 3", "trian", "train --target moon", "train --set a.b=1"):
        with pytest.raises((click.UsageError, ValueError)):
            check_command(command.split())
    with pytest.raises(ValueError, match="colums"):
        check_job({"data": {"colums": {}}})
