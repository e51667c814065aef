"""`sm-launch init`."""

from __future__ import annotations

import json
import os
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sm_launch import job
from sm_launch.commands import task_example
from sm_launch.commands.options import echo_json, json_option
from sm_launch.errors import UserInputError
from sm_launch.job.data import Columns
from sm_launch.job.tasks import TASKS

if TYPE_CHECKING:
    from sm_launch.data.guess import Guess

_TEACHER = "Qwen/Qwen3-1.7B"


@click.command()
@click.option("--name", help="Name of the job.  [default: my-job, or the task's]")
@click.option(
    "--task",
    help="Start from a task's example, with its data: multi-label, ner, dpo, … (a wrong name lists "
    "them all).",
)
@click.option(
    "--method",
    help="How to train: text-classification, sft, dpo, …  [default: text-classification]",
)
@click.option(
    "--data",
    "data_path",
    help="Your raw data: a file, a directory, or an hf:// or s3:// URI. Its columns are looked at.",
)
@click.option(
    "--column",
    "given",
    multiple=True,
    metavar="NAME=COLUMN",
    help="Which column of the data is the text, the label, …, where its name does not tell.",
)
@click.option(
    "--model",
    help=f"Base model.  [default: {TASKS['text-classification'].base}, or {TASKS['sft'].base} to"
    " generate text]",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("job.yaml"),
    show_default=True,
    help="Where to write.",
)
@click.option("--force", is_flag=True, help="Overwrite a file that is there already.")
@json_option
def init(
    name: str | None,
    task: str | None,
    method: str | None,
    data_path: str | None,
    given: tuple[str, ...],
    model: str | None,
    output: Path,
    force: bool,
    as_json: bool,
) -> None:
    """Write a commented job.yaml that fits a method and a file, or a task's example."""
    if output.exists() and not force:
        raise UserInputError(
            "is there already",
            field="--output",
            value=str(output),
            fix="give another name with --output, or overwrite it with --force",
        )
    if task is not None:
        _from_example(task, output, name, method, data_path, given, model, force, as_json)
        return
    method = method or "text-classification"
    guess = _guess(method, data_path, given)
    columns = guess.columns or _default_columns(method)
    values = {
        "SCHEMA": (Path(job.__file__).parent / "job.schema.json").as_uri(),
        "NAME": name or "my-job",
        "INPUT": _quoted(_from(output, data_path) if data_path else _placeholder(method)),
        "METHOD": method,
        "MODEL": _quoted(model or TASKS[method].base),
        "COLUMNS": f"  columns: {_flow(columns)}",
        "TABLE": "\n".join(_table(guess)),
        "HYPERPARAMETERS": _hyperparameters(method, guess),
        "CLASSES": "",
        "TURNS": "",
    }
    output.write_text(_render(method, values), encoding="utf-8")
    if as_json:
        echo_json({"path": output, "method": method, "columns": columns})
        return
    click.echo(f"wrote {output}")
    if data_path:
        _say_next(columns)
    else:
        click.echo("  next: name your data and columns in it, then `sm-launch data prepare`")


def _from_example(
    task: str,
    output: Path,
    name: str | None,
    method: str | None,
    data_path: str | None,
    given: tuple[str, ...],
    model: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """The example's job.yaml, with the user's own data or the example's beside it."""
    if method is not None or (given and data_path is None):
        raise UserInputError(
            "the example of a task has its own",
            field="--method" if method is not None else "--column",
            value=method or given[0],
            fix="leave it out, or leave out --task",
        )
    lines = {"name": f"name: {name}"} if name else {}
    if model:
        lines["  model"] = f"  model: {_quoted(model)}"
    own, columns = task_example.method(task), dict[str, Any]()
    if data_path is not None:
        guess = _guess(own, data_path, given)
        columns = guess.columns or _default_columns(own)
        lines |= _lines_of(guess, columns, _from(output, data_path))
    text = task_example.adapted(task, lines)
    written = task_example.copy_files(task, output.parent, rows=data_path is None, force=force)
    output.write_text(text, encoding="utf-8")
    written.insert(0, output)
    if as_json:
        said = {"columns": columns} if columns else {}
        echo_json({"path": output, "method": own, "files": written, **said})
        return
    click.echo(f"wrote {', '.join(map(str, written))}")
    _say_next(columns)


def _lines_of(guess: Guess, columns: dict[str, Any], location: str) -> dict[str, str]:
    """The lines of an example that another file changes; an empty one goes."""
    form = f"\n  format: {guess.format}" if guess.format else ""
    table = form if guess.header else "\n  header: false"
    table += f"\n  delimiter: {json.dumps(guess.delimiter)}" if guess.delimiter else ""
    lines = {
        "  input": f"  input: {_quoted(location)}",
        "  columns": f"  columns: {_flow(columns)}{table}",
    }
    if "completion" in columns or "text" in columns:
        lines["    assistant_only_loss"] = ""  # which is for conversations
    if "text" in columns:
        lines["  conversational"] = ""
    if {"sentence1", "negative"} & columns.keys():
        lines["  fail_under"] = "  fail_under: {}"  # the example's is of a search among pairs
    source, target = (str(columns.get(name)).rpartition(".")[0] for name in ("source", "target"))
    if source and source == target:
        lines["    source_prefix"] = ""  # two languages of a translation, which is no summary
    for key, value in guess.hyperparameters.items():
        lines[f"    {key}"] = f"    {key}: {_flow(value)}"
        if key == "answer_column":
            lines["  label_column"] = f"  label_column: {_flow(value)}"
        if key == "reward_funcs":  # no column has the right answer
            lines |= {"  label_column": "", "  answer_pattern": ""}
    return lines


def _say_next(columns: dict[str, Any]) -> None:
    if not columns:
        click.echo("  next: `sm-launch data prepare`")
        return
    click.echo(f"  columns: {_flow(columns)}")
    click.echo("  next: see whether they are right, then `sm-launch data prepare`")


def _guess(method: str, data_path: str | None, given: tuple[str, ...]) -> Guess:
    from sm_launch.data.guess import Guess, guess
    from sm_launch.job.hyperparameters import check_hyperparameters

    check_hyperparameters(method, {})  # names the methods where this one is wrong
    named: dict[str, str] = {}
    for pair in given:
        key, separator, column = pair.partition("=")
        if not separator or key not in Columns.model_fields:
            raise UserInputError(
                "must be NAME=COLUMN",
                field="--column",
                value=pair,
                fix=f"NAME is one of {', '.join(Columns.model_fields)}",
            )
        named[key] = column
    if data_path is None:
        return Guess(columns=_default_columns(method) | named if named else {})
    return guess(method, data_path, Path.cwd(), named)


def _from(output: Path, data_path: str) -> str:
    """The data's location as job.yaml's directory sees it."""
    if "://" in data_path or Path(data_path).is_absolute() or output.parent == Path():
        return data_path
    return os.path.relpath(data_path, output.parent)


def _placeholder(method: str) -> str:
    return "data.csv" if method == "text-classification" else "data.jsonl"


def _default_columns(method: str) -> dict[str, Any]:

    return {name: name for name in TASKS[method].shapes[0].required}


def _table(guess: Guess) -> list[str]:
    """The lines about CSV files: set where the file needs it, else as comments."""
    if guess.format is not None:
        return [f"  format: {guess.format}"]
    header = "  # header: true" if guess.header else "  header: false"
    if guess.delimiter is not None:
        return [header, f"  delimiter: {json.dumps(guess.delimiter)}"]
    return [header, '  # delimiter: ","']


def _hyperparameters(method: str, guess: Guess) -> str:
    values: dict[str, Any] = {"num_train_epochs": 3 if TASKS[method].encoder else 1}
    values |= guess.hyperparameters
    if method == "distillation":
        values["teacher_model_name_or_path"] = _TEACHER
    return "\n".join(f"    {key}: {_flow(value)}" for key, value in values.items())


def _render(method: str, values: dict[str, str]) -> str:
    template = files("sm_launch.commands") / "job_template.yaml"
    lines = template.read_text(encoding="utf-8").splitlines(keepends=True)
    kinds = {kind for shape in TASKS[method].shapes for kind in shape.required.values()}
    unfit = {"@CLASSES@": method != "text-classification",
             "@TURNS@": "turn" not in kinds or "{text:" in values["COLUMNS"]}  # fmt: skip
    lines = [line for line in lines if not unfit.get(line[: line.find("@", 1) + 1])]
    text = "".join(lines)
    for key, value in values.items():
        text = text.replace(f"@{key}@", value)
    return text


def _flow(value: Any) -> str:
    """A value in YAML's one-line form."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_flow, value)) + "]"
    return _quoted(value) if isinstance(value, str) else json.dumps(value)


def _quoted(value: str) -> str:
    """The value as YAML: plain where that is safe, else a JSON string, which YAML reads too."""
    plain = value.replace("-", "").replace("_", "").replace(".", "").replace("/", "")
    safe = plain.isalnum() and not plain.isdigit() and plain.lower() not in _NO_TEXTS
    return value if safe and value[0].isalnum() else json.dumps(value)


_NO_TEXTS = frozenset({"yes", "no", "on", "off", "true", "false", "null", "y", "n"})
"""What YAML takes for something other than text."""
