"""`sm-launch init`."""

from __future__ import annotations

import csv
import json
from importlib.resources import files
from pathlib import Path

import click

from sm_launch.commands.options import echo_json, json_option
from sm_launch.errors import UserInputError

# Column names that people give to texts and labels, best guess first.
TEXT_NAMES = ("text", "review", "sentence", "content", "body", "comment", "message", "tweet")
LABEL_NAMES = ("label", "sentiment", "class", "category", "target", "intent")


@click.command()
@click.option("--name", default="my-job", show_default=True, help="Name of the job.")
@click.option(
    "--data",
    "data_path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Your raw data; a CSV or TSV's header is read to guess the columns.",
)
@click.option("--model", default="distilbert-base-uncased", show_default=True, help="Base model.")
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
    name: str, data_path: Path | None, model: str, output: Path, force: bool, as_json: bool
) -> None:
    """Write a commented job.yaml."""
    if output.exists() and not force:
        raise UserInputError(
            "is there already",
            field="--output",
            value=str(output),
            fix="give another name with --output, or overwrite it with --force",
        )
    text_column, label_column = _guess_columns(data_path) if data_path else ("text", "label")
    values = {
        "NAME": name,
        "INPUT": _quoted(str(data_path or "data.csv")),
        "TEXT": _quoted(text_column),
        "LABEL": _quoted(label_column),
        "MODEL": _quoted(model),
    }
    template = files("sm_launch.commands") / "job_template.yaml"
    text = template.read_text(encoding="utf-8")
    for key, value in values.items():
        text = text.replace(f"@{key}@", value)
    output.write_text(text, encoding="utf-8")
    if as_json:
        echo_json({"path": output, "columns": {"text": text_column, "label": label_column}})
        return
    click.echo(f"wrote {output}")
    click.echo("  next: name your data and columns in it, then `sm-launch data prepare`")


def _guess_columns(path: Path) -> tuple[str, str]:
    try:
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as stream:
            delimiter = "\t" if path.suffix == ".tsv" else ","
            header = next(csv.reader(stream, delimiter=delimiter), [])
    except OSError as error:
        raise UserInputError(
            f"cannot be read: {error.strerror}", field="--data", value=str(path)
        ) from None
    if path.suffix not in {".csv", ".tsv"}:
        return "text", "label"
    return _first_match(header, TEXT_NAMES, "text"), _first_match(header, LABEL_NAMES, "label")


def _first_match(header: list[str], names: tuple[str, ...], default: str) -> str:
    by_lower = {column.strip().lower(): column for column in header}
    return next((by_lower[name] for name in names if name in by_lower), default)


def _quoted(value: str) -> str:
    """The value as YAML: plain where that is safe, else a JSON string, which YAML reads too."""
    plain = value.replace("-", "").replace("_", "").replace(".", "").replace("/", "")
    return value if plain.isalnum() and not plain.isdigit() else json.dumps(value)
