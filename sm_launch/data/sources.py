"""Where the rows come from: a location in job.yaml becomes a local file and its format."""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import get_args
from urllib.parse import unquote, urlsplit

from sm_launch.data.config import DataConfig, InputFormat, Task
from sm_launch.errors import UserInputError

Fetch = Callable[[str], Path]
"""Copies an s3:// object to the local disk and says where it lies."""

_SUFFIXES: dict[str, InputFormat] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".txt": "tsv",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "arrow",
}
_BINARY = ("parquet", "arrow")
_SPLIT_LIST = "dataset_dict.json"
"""What `DatasetDict.save_to_disk` writes beside a directory for each split."""
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_BINARY_FORMATS = {
    b"PAR1": "Parquet: set data.format: parquet",
    b"\x1f\x8b": "compressed by gzip: unpack it",
    b"PK\x03\x04": "a zip archive or a spreadsheet: unpack it, or export it as CSV",
}
_CONTROL_CHARACTERS = frozenset(map(chr, range(32))) - set("\t\n\r\f\x1b") | {"\x7f"}
_SAMPLE_BYTES = 8192
_MOST_CONTROL_CHARACTERS = 0.05
"""Share of a text file; compressed or random bytes have about 0.1."""


@dataclass(frozen=True)
class Source:
    """One readable, non-empty local file."""

    split: str
    """`input`, or the split that this file is."""
    location: str
    """As the user gave it."""
    path: Path
    format: InputFormat
    delimiter: str
    encoding: str
    name: str = ""
    """`split`, or `split/file` where a location has several files."""


def locate(config: DataConfig, *, base: Path, fetch: Fetch) -> list[Source]:
    """Find every file of `config`.

    Args:
        config: names the files.
        base: directory that relative paths are relative to.
        fetch: brings s3:// objects here.

    Raises:
        UserInputError: a file is missing, empty, unreadable or of an unknown format.
    """
    sources = []
    for split, location in config.sources.items():
        field = f"data.{split}"
        path = _local_path(location, field=field, base=base, fetch=fetch)
        if not path.is_dir():
            sources.append(_source(config, split, location, path, split))
            continue
        for file in _files(path, config.format, field=field, location=location):
            name = file.relative_to(path).as_posix()
            place = f"{location.rstrip('/')}/{name}"
            sources.append(_source(config, split, place, file, f"{split}/{name}"))
    return sources


def _source(config: DataConfig, split: str, location: str, path: Path, name: str) -> Source:
    field = f"data.{split}"
    _check_readable(path, field=field, location=location)
    file_format = config.format or _format_of(location, field, config.task)
    delimiter = config.delimiter or ("\t" if file_format == "tsv" else ",")
    encoding = config.encoding or _sniff_encoding(path)
    if file_format not in _BINARY:
        _check_text(path, encoding, file_format, field=field, location=location)
    return Source(split, location, path, file_format, delimiter, encoding, name)


def _files(
    directory: Path, file_format: InputFormat | None, *, field: str, location: str
) -> list[Path]:
    """The data files of a directory, all of one format, in the order of their names."""
    splits = directory / _SPLIT_LIST
    if splits.is_file():
        names = json.loads(splits.read_text(encoding="utf-8")).get("splits", [])
        raise UserInputError(
            f"this data set is split already, into {', '.join(names)}",
            field=field,
            value=location,
            fix=f"name its splits: data.train: {location.rstrip('/')}/train, and data.validation "
            "and data.test likewise",
        )
    found = sorted(p for p in directory.rglob("*") if p.suffix.lower() in _SUFFIXES)
    visible = [p for p in found if p.is_file() and not _is_hidden(p.relative_to(directory))]
    if (directory / "state.json").is_file():  # `Dataset.save_to_disk`: the rest describes it
        visible = [p for p in visible if p.suffix == ".arrow"]
    if file_format is not None:
        visible = [p for p in visible if _SUFFIXES[p.suffix.lower()] == file_format] or visible
    formats = {_SUFFIXES[p.suffix.lower()] for p in visible}
    there = ", ".join(sorted(formats)) or "nothing that can be read"
    if not visible or (len(formats) > 1 and file_format is None):
        raise UserInputError(
            f"this directory has {'no data file' if not visible else 'files of several formats'}",
            field=field,
            value=location,
            fix=f"name a file, a directory of one format, or set data.format; there is: {there}",
        )
    return [p for p in visible if p.stat().st_size]


def _is_hidden(path: Path) -> bool:
    return any(part.startswith((".", "_")) for part in path.parts)


def _local_path(location: str, *, field: str, base: Path, fetch: Fetch) -> Path:
    scheme = urlsplit(location).scheme
    if scheme == "s3":
        return fetch(location)
    if scheme == "file":
        return Path(unquote(urlsplit(location).path))
    if len(scheme) > 1:  # one letter is a Windows drive
        raise UserInputError(
            f"the scheme {scheme}:// is not supported",
            field=field,
            value=location,
            fix="give a path, a file:// or an s3:// URI",
        )
    return base / Path(location).expanduser()


def _check_readable(path: Path, *, field: str, location: str) -> None:
    if not path.exists():
        siblings = sorted(p.name for p in path.parent.glob("*") if p.suffix in _SUFFIXES)
        there = f"; {path.parent} has {', '.join(siblings[:5])}" if siblings else ""
        raise UserInputError(
            "no such file", field=field, value=location, fix=f"correct the path ({path}){there}"
        )
    if not path.is_file():
        raise UserInputError("not a file", field=field, value=location, fix="name one file in it")
    try:
        with path.open("rb") as file:
            empty = not file.read(1)
    except OSError as error:
        raise UserInputError(
            f"cannot be read: {error.strerror}",
            field=field,
            value=location,
            fix=f"check the permissions of {path}",
        ) from error
    if empty:
        raise UserInputError(
            "the file is empty", field=field, value=location, fix="give a file with rows"
        )


def _format_of(location: str, field: str, task: Task) -> InputFormat:
    suffix = Path(urlsplit(location).path or location).suffix.lower()
    if suffix not in _SUFFIXES:
        raise UserInputError(
            f"the format of a {suffix or 'suffix-less'} file is unknown",
            field=field,
            value=location,
            fix=f"set data.format to one of {', '.join(get_args(InputFormat))}",
        )
    # A column of labels cannot stand in plain text: then it must be a table by another name.
    return "text" if suffix == ".txt" and task == "text" else _SUFFIXES[suffix]


def _sniff_encoding(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(4)
    return next((name for mark, name in _BYTE_ORDER_MARKS if start.startswith(mark)), "utf-8")


def _check_text(
    path: Path, encoding: str, file_format: InputFormat, *, field: str, location: str
) -> None:
    """Refuse what no reader of text can read, before it is taken for strange column names."""
    with path.open("rb") as file:
        start = file.read(_SAMPLE_BYTES)
    try:
        text = start.decode(encoding, "replace")
    except LookupError:  # no such encoding: the reader says so
        return
    what = next((name for magic, name in _BINARY_FORMATS.items() if start.startswith(magic)), None)
    control = sum(character in _CONTROL_CHARACTERS for character in text)
    if what is None and control <= len(text) * _MOST_CONTROL_CHARACTERS:
        return
    fix = "give a text file; UTF-16 without a byte order mark needs data.encoding: utf-16-le"
    raise UserInputError(
        f"is not text, so it cannot be {file_format}",
        field=field,
        value=location,
        fix=f"it looks like {what}" if what else fix,
    )
