"""Reading the rows to evaluate: a file, or a channel directory, in JSON Lines, CSV or Parquet."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

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
    for file in _data_files(local_path(source)):
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


def local_path(source: str | Path) -> Path:
    """The path that a `file://` URI or a plain path names."""
    text = str(source)
    if text.startswith("file://"):
        return Path(unquote(urlsplit(text).path))
    if "://" in text:
        raise UserInputError(
            "only local files and file:// URIs can be read here",
            field="data",
            value=text,
            fix="download the file first, or name a local copy",
        )
    return Path(text).expanduser()


def _data_files(path: Path) -> list[Path]:
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
    with path.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
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


def _read_csv(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig", newline="") as lines:
        # A short line's missing cells become None, which counts as a missing value downstream.
        for row in csv.DictReader(lines):
            yield {key: value for key, value in row.items() if key is not None}


def _read_parquet(path: Path) -> Iterator[Row]:
    import pyarrow.parquet as pq

    for batch in pq.ParquetFile(path).iter_batches():
        yield from batch.to_pylist()


READERS: dict[str, Callable[[Path], Iterator[Row]]] = {
    ".jsonl": _read_jsonl,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
}
