"""Reading the rows to evaluate: a file, or a channel directory, in JSON Lines, CSV or Parquet."""

from __future__ import annotations

import csv
import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from sm_launch import json_lines
from sm_launch.data import class_ids
from sm_launch.errors import UserInputError

Row = dict[str, Any]


def read_rows(source: str | Path, *, limit: int | None = None) -> list[Row]:
    """The rows of `source`: a path or `file://` URI of a file, or of a directory of such files.

    Args:
        source: files end in .jsonl, .csv or .parquet; a directory's files are read in the order
            of their names, other endings are ignored there.
        limit: read no more than so many rows.

    Raises:
        UserInputError: nothing there, an ending we do not read, no rows, or a line that is not
            a JSON object (named by file and line).
    """
    rows: list[Row] = []
    for file in data_files(local_path(source)):
        for row in READERS[file.suffix](file):
            if limit is not None and len(rows) >= limit:
                return rows
            rows.append(row)
    if not rows:
        raise UserInputError(
            "there are no rows to evaluate",
            field="data",
            value=str(source),
            fix="give a file with at least one row",
        )
    return rows


def fetch_any(
    location: str, *, stack: ExitStack, clients: Callable[[str], Any] | None = None
) -> Path:
    """A local path for a path, a file:// or an s3:// URI; `stack` removes what was copied."""
    if not location.startswith("s3://"):
        return local_path(location)
    from sm_launch.aws.clients import make_client
    from sm_launch.data.s3 import fetcher

    directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="sm-launch-data-"))
    client = clients("s3") if clients else make_client("s3", ours=())
    return fetcher(client, Path(directory))(location)


def local_path(source: str | Path) -> Path:
    """The path that a `file://` URI or a plain path names."""
    text = str(source)
    if text.startswith("file://"):
        return Path(unquote(urlsplit(text).path))
    if "://" in text:
        raise UserInputError(
            "only paths, file:// and s3:// URIs can be read",
            field="data",
            value=text,
            fix="name a local copy",
        )
    return Path(text).expanduser()


def data_files(path: Path) -> list[Path]:
    """The files that `read_rows` reads. Raises UserInputError where there are none."""
    if path.is_dir():
        files = sorted(p for p in path.iterdir() if p.suffix in READERS and p.is_file())
        problem = f"no {', '.join(READERS)} file in this directory"
    else:
        files = [path] if path.is_file() and path.suffix in READERS else []
        problem = (
            f"cannot read a {path.suffix or 'nameless'} file" if path.exists() else "not found"
        )
    if not files:
        raise UserInputError(
            problem,
            field="data",
            value=str(path),
            fix=f"name a file that ends in {', '.join(READERS)}, or a directory of them",
        )
    return files


def _read_jsonl(path: Path) -> Iterator[Row]:
    for number, line, _ in json_lines.lines(path):
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise _bad_line(path, number, f"not JSON: {error.msg}", line) from error
        if not isinstance(row, dict):
            raise _bad_line(path, number, "not a JSON object", line)
        yield row


def _bad_line(path: Path, number: int, what: str, line: str) -> UserInputError:
    return UserInputError(
        what,
        field=f"{path} line {number}",
        value=line.strip()[:80],
        fix='each line must be an object such as {"text": "…", "label": "…"}',
    )


def _read_json(path: Path) -> Iterator[Row]:
    """An array of objects, SQuAD's `data`, or JSON Lines under another name."""
    text = path.read_text(encoding="utf-8-sig")
    try:
        document = json.loads(text)
    except json.JSONDecodeError:
        yield from _read_jsonl(path)
        return
    if isinstance(document, dict):
        document = document.get("data", [document])
    for number, row in enumerate(document, start=1):
        if not isinstance(row, dict):
            raise _bad_line(path, number, "not a JSON object", json.dumps(row))
        yield from _questions(row) if "paragraphs" in row else [row]


def _questions(article: Row) -> Iterator[Row]:
    for paragraph in article["paragraphs"]:
        for question in paragraph.get("qas", []):
            yield {"context": paragraph.get("context"), **question}


def _read_tsv(path: Path) -> Iterator[Row]:
    return _read_csv(path, "\t")


def _read_csv(path: Path, delimiter: str = ",") -> Iterator[Row]:
    with path.open(encoding="utf-8-sig", newline="") as lines:
        # A short line's missing cells become None, which counts as a missing value downstream.
        for row in csv.DictReader(lines, delimiter=delimiter):
            yield {key: value for key, value in row.items() if key is not None}


def _read_parquet(path: Path) -> Iterator[Row]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        ids = class_ids.both(class_ids.features_in(file.schema_arrow.metadata))
        for batch in file.iter_batches():
            for row in batch.to_pylist():
                yield row | {name: read(row[name]) for name, read in ids.items() if name in row}


READERS: dict[str, Callable[[Path], Iterator[Row]]] = {
    ".jsonl": _read_jsonl,
    ".json": _read_json,
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".parquet": _read_parquet,
}
