"""Where the rows come from: a location in job.yaml becomes a local file and its format."""

from __future__ import annotations

import codecs
import json
import re
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import get_args
from urllib.parse import unquote, urlsplit

from sm_launch.data import aligned, beir, folders
from sm_launch.data.dialect import dialect
from sm_launch.data.unpack import is_hidden, plain_name, unpacked
from sm_launch.errors import UserInputError
from sm_launch.job.data import DataConfig, InputFormat
from sm_launch.job.tasks import TASKS, Task

Fetch = Callable[[str], Path]
"""Copies an s3:// or hf:// file to the local disk and says where it lies."""

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
    ".conll": "conll",
    ".bio": "conll",
    ".iob": "conll",
    ".iob2": "conll",
}
_PLAIN_TEXT: dict[Task, InputFormat] = {
    "text": "text", "sft": "text", "token-classification": "conll"
}  # fmt: skip
"""What a .txt file is to a task; to others it must be a table by another name."""
_BINARY = ("parquet", "arrow")
SPLIT_NAMES = {
    "train": "train", "training": "train", "validation": "validation", "valid": "validation",
    "val": "validation", "dev": "validation", "test": "test", "testing": "test",
}  # fmt: skip
"""What people call the splits, in names of files and folders."""
_SPLIT_LIST = "dataset_dict.json"
"""What `DatasetDict.save_to_disk` writes beside a directory for each split."""
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # begins as UTF-16's does
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_BINARY_FORMATS = {
    b"PAR1": "Parquet: set data.format: parquet",
    b"\x1f\x8b": "compressed by gzip, and damaged",
    b"\xd0\xcf\x11\xe0": "a spreadsheet of Excel: export it as CSV",
    b"ARROW1": "Arrow: set data.format: arrow",
}
_CONTROL_CHARACTERS = frozenset(map(chr, range(32))) - set("\t\n\r\f\x1b") | {"\x7f"}
_SAMPLE_BYTES = 8192
_MOST_CONTROL_CHARACTERS = 0.05
"""Share of a text file; compressed or random bytes have about 0.1."""
_ENCODING_SAMPLE_BYTES = 1 << 18
_LONG_RUN, _MOST_LONG_RUNS = 3, 0.3
"""Western text has accents one by one; in Cyrillic or Chinese whole words are high bytes."""
_FEW_CONTROL_CHARACTERS = 10
"""In a small file a few stray ones are a large share."""


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
    skip: int = 0
    """Lines before the table."""
    bytes: int = 0
    """Size of the file, unpacked."""


@dataclass(frozen=True)
class Listed:
    """A file of a directory."""

    name: str
    """Relative to the directory, with slashes."""
    bytes: int


def locate(config: DataConfig, *, base: Path, fetch: Fetch, scratch: Path) -> list[Source]:
    """Find every file of `config`, and unpack what is compressed.

    Args:
        config: names the files.
        base: directory that relative paths are relative to.
        fetch: brings s3:// and hf:// files here.
        scratch: directory for what is unpacked; the caller removes it.

    Raises:
        UserInputError: a file is missing, empty, unreadable or of an unknown format.
    """
    sources = []
    check_siblings_are_here(config)
    for split, location in config.sources.items():
        path = local_path(location, field=f"data.{split}", base=base, fetch=fetch)
        names = [""]
        if path.is_dir():
            names = choose_files(config, split, list_files(config, split, path))
        for name in names:
            sources += sources_of(config, split, path, name, scratch)
    check_filled(config, sources)
    return sources


def check_siblings_are_here(config: DataConfig) -> None:
    """Refuse formats of which a file means others beside it, where only that file is fetched.

    Raises:
        UserInputError: naming the location.
    """
    for split, location in config.sources.items():
        if config.format in (aligned.FORMAT, beir.FORMAT) and "://" in location:
            raise UserInputError(
                f"with data.format {config.format} the files beside it are read, too, and one that "
                "is elsewhere is fetched alone",
                field=f"data.{split}",
                value=location,
                fix="copy its directory to this machine (`aws s3 sync`), and name the file there",
            )


def sources_of(
    config: DataConfig, split: str, path: Path, name: str, scratch: Path
) -> list[Source]:
    """What one file holds: itself, or a source for each table of an archive.

    Args:
        config: names the location.
        split: `input`, or the split that the location is.
        path: where the location is here.
        name: of a file in it; empty where the location is a file.
        scratch: directory for what is unpacked.

    Raises:
        UserInputError: the file is empty, unreadable or of an unknown format.
    """
    location = config.sources[split]
    if config.format == folders.FORMAT:
        return [_folder(config, split, path / name, name, scratch)]
    if config.format == beir.FORMAT:
        return [_judgements(config, split, path, scratch)]
    if config.format == aligned.FORMAT:
        target, field = scratch / split / "aligned.jsonl", f"data.{split}"
        rows = aligned.written_rows(path / name, target, config.encoding, field)
        return [_lines_of(split, location, rows)]
    if not name:
        return _sources(config, split, location, path, split, scratch)
    place = f"{location.rstrip('/')}/{name}"
    return _sources(config, split, place, path / name, f"{split}/{name}", scratch)


def _folder(config: DataConfig, split: str, path: Path, name: str, scratch: Path) -> Source:
    """The files of a class, as lines of JSON."""
    location = config.sources[split]
    if not path.is_dir() or not name:
        raise UserInputError(
            "is no directory with a folder of texts for each class",
            field=f"data.{split}",
            value=location,
            fix="name the directory above the folders, or leave out data.format",
        )
    rows = folders.written_rows(path, config.encoding, scratch / split / f"{name}.jsonl")
    size = rows.stat().st_size
    place = f"{location.rstrip('/')}/{name}"
    return Source(split, place, rows, "jsonl", ",", "utf-8", f"{split}/{name}", bytes=size)


def _judgements(config: DataConfig, split: str, path: Path, scratch: Path) -> Source:
    """The rows of BEIR's judgements, as lines of JSON."""
    location, task = config.sources[split], TASKS[config.task]
    graded = task.rows == "ranked"
    if not graded and config.task != "embedding":
        raise UserInputError(
            f"holds queries and documents, which {config.task} does not learn from",
            field="data.format",
            value=config.format,
            fix="use training.method reranking or embedding",
        )
    place = scratch / split / "judged.jsonl"
    rows = beir.written_rows(path, place, graded=graded, field=f"data.{split}")
    return _lines_of(split, location, rows)


def _lines_of(split: str, location: str, rows: Path) -> Source:
    """What was written from several files as lines of JSON."""
    return Source(split, location, rows, "jsonl", ",", "utf-8", split, bytes=rows.stat().st_size)


def check_filled(config: DataConfig, sources: Sequence[Source]) -> None:
    """Refuse a location without any file that has content."""
    for split, location in config.sources.items():
        if not any(source.split == split for source in sources):
            raise UserInputError(
                "all its files are empty",
                field=f"data.{split}",
                value=location,
                fix="give files with rows",
            )


def _sources(
    config: DataConfig, split: str, location: str, path: Path, name: str, scratch: Path
) -> list[Source]:
    """One, or one for each member of an archive, all of one format."""
    field = f"data.{split}"
    _check_readable(path, field=field, location=location)
    files = list(unpacked(path, location, scratch, field=field, location=location))
    if len(files) == 1 and not zipfile.is_zipfile(path):
        return [_source(config, split, location, files[0][1], name, plain_name(location))]
    members = {inside: file for inside, file in files if is_data(inside)}
    formats = {_SUFFIXES[_suffix(inside)] for inside in members}
    if config.format is not None and len(formats) > 1:
        formats = {config.format}
        members = {n: f for n, f in members.items() if _SUFFIXES[_suffix(n)] == config.format}
    if not members or len(formats) > 1:
        there = ", ".join(inside.removeprefix(f"{location}/") for inside, _ in files) or "nothing"
        raise UserInputError(
            f"this archive has {'files of several formats' if members else 'no data file'}",
            field=field,
            value=location,
            fix=f"pack one table, or set data.format; there is: {there}",
        )
    _check_splits([inside.removeprefix(f"{location}/") for inside in members], field, location)
    return [
        _source(config, split, inside, file, f"{name}{inside.removeprefix(location)}", inside)
        for inside, file in sorted(members.items())
        if file.stat().st_size
    ]


def _source(
    config: DataConfig, split: str, location: str, path: Path, name: str, file_name: str
) -> Source:
    field = f"data.{split}"
    _check_readable(path, field=field, location=location)
    file_format = config.format or _format_of(file_name, location, field, config.task)
    encoding, size = config.encoding or "", path.stat().st_size
    source = Source(split, location, path, file_format, ",", encoding, name, bytes=size)
    if file_format in _BINARY:
        return source
    encoding = config.encoding or _sniff_encoding(path, field=field, location=location)
    source = replace(source, encoding=encoding)
    _check_text(path, encoding, file_format, field=field, location=location)
    if file_format not in ("csv", "tsv"):
        return source
    default = "\t" if file_format == "tsv" else ","
    detected = dialect(path, encoding, config, default, location)
    return replace(source, delimiter=detected.delimiter, skip=detected.skip)


def _suffix(name: str) -> str:
    return Path(plain_name(name)).suffix.lower()


def is_data(name: str) -> bool:
    """Whether a file of this name holds rows, compressed or not."""
    return _suffix(name) in _SUFFIXES


def _check_splits(names: Sequence[str], field: str, location: str) -> None:
    """Refuse to mix what its owner has split already."""
    splits: dict[str, str] = {}
    for name in names:
        parts = re.split(r"[^a-z]+", name.lower())
        for word, split in SPLIT_NAMES.items():
            if word in parts:
                splits.setdefault(split, _named_part(name, word))
    if len(splits) < 2:
        return
    raise UserInputError(
        "holds splits that somebody made: " + ", ".join(splits.values()),
        field=field,
        value=location,
        fix="name each: "
        + ", ".join(f"data.{s}: {location.rstrip('/')}/{name}" for s, name in splits.items()),
    )


def _named_part(name: str, word: str) -> str:
    """A file's folder that has the word in its name, or else the file itself."""
    parts = PurePosixPath(name).parts
    at = next(i for i, part in enumerate(parts) if word in re.split(r"[^a-z]+", part.lower()))
    return "/".join(parts[: at + 1])


def list_files(config: DataConfig, split: str, directory: Path) -> list[Listed]:
    """All files of a directory.

    Raises:
        UserInputError: it is a data set that its owner has split.
    """
    splits = directory / _SPLIT_LIST
    location = config.sources[split]
    if splits.is_file():
        names = json.loads(splits.read_text(encoding="utf-8")).get("splits", [])
        raise UserInputError(
            f"this data set is split already, into {', '.join(names)}",
            field=f"data.{split}",
            value=location,
            fix=f"name its splits: data.train: {location.rstrip('/')}/train, and data.validation "
            "and data.test likewise",
        )
    files = (path for path in directory.rglob("*") if path.is_file())
    return [Listed(path.relative_to(directory).as_posix(), path.stat().st_size) for path in files]


def choose_files(config: DataConfig, split: str, listing: Sequence[Listed]) -> list[str]:
    """Names of a directory's data files, all of one format, in the order of their names.

    Raises:
        UserInputError: there is none, or they are of several formats or splits.
    """
    field, location, file_format = f"data.{split}", config.sources[split], config.format
    names = [each.name for each in listing]
    if file_format == folders.FORMAT or _needs_folders(config, names):
        _check_splits(names, field, location)
        if file_format is None:
            raise UserInputError(
                "this directory has a folder of texts for each class",
                field=field,
                value=location,
                fix="set data.format: folders (a text a file, its folder's name the label)",
            )
        return folders.class_folders(names)
    sizes = {PurePosixPath(each.name): each.bytes for each in listing}
    readable = sorted(path for path in sizes if is_data(path.name) or path.suffix == ".zip")
    visible = [path for path in readable if not is_hidden(path.as_posix())]
    if PurePosixPath("state.json") in sizes:  # `Dataset.save_to_disk`: the rest describes it
        visible = [p for p in visible if p.suffix == ".arrow"]
    if file_format is not None:
        visible = [p for p in visible if _SUFFIXES.get(_suffix(p.name)) == file_format] or visible
    formats = {_SUFFIXES.get(_suffix(p.name), "zip") for p in visible}
    other = sorted({path.suffix or path.name for path in sizes})[:5]
    unread = f"nothing that can be read ({', '.join(other)})" if other else "nothing"
    there = ", ".join(sorted(formats)) or unread
    if not visible or (len(formats) > 1 and file_format is None):
        if {"corpus.jsonl", "queries.jsonl"} <= set(names):
            raise _is_beir(field, location, names)
        raise UserInputError(
            f"this directory has {'no data file' if not visible else 'files of several formats'}",
            field=field,
            value=location,
            fix=f"name a file, a directory of one format, or set data.format; there is: {there}",
        )
    _check_splits([path.as_posix() for path in visible], field, location)
    return [path.as_posix() for path in visible if sizes[path]]


def _is_beir(field: str, location: str, names: Sequence[str]) -> UserInputError:
    tables = [name for name in sorted(names) if name.endswith(".tsv")]
    return UserInputError(
        "this directory holds BEIR's queries, corpus and judgements",
        field=field,
        value=location,
        fix="set data.format: beir, and name the judgements of each split, such as data.train: "
        + f"{location.rstrip('/')}/{next((n for n in tables if 'train' in n), 'qrels/train.tsv')}",
    )


def _needs_folders(config: DataConfig, names: Sequence[str]) -> bool:
    classes = config.format is None and config.task == "text-classification"
    return classes and folders.are_class_folders(names)


def local_path(location: str, *, field: str, base: Path, fetch: Fetch) -> Path:
    """Where a location of job.yaml is on this machine; what is elsewhere is fetched."""
    scheme = urlsplit(location).scheme
    if scheme in ("s3", "hf"):
        return fetch(location)
    if scheme == "file":
        return Path(unquote(urlsplit(location).path))
    if len(scheme) > 1:  # one letter is a Windows drive
        raise UserInputError(
            f"the scheme {scheme}:// is not supported",
            field=field,
            value=location,
            fix="give a path, a file://, s3:// or hf://datasets/ URI",
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


def _format_of(name: str, location: str, field: str, task: Task) -> InputFormat:
    suffix = Path(urlsplit(name).path or name).suffix.lower()
    if suffix not in _SUFFIXES:
        raise UserInputError(
            f"the format of a {suffix or 'suffix-less'} file is unknown",
            field=field,
            value=location,
            fix=f"set data.format to one of {', '.join(get_args(InputFormat))} (aligned: files "
            "whose lines belong together)",
        )
    return _PLAIN_TEXT.get(task, "tsv") if suffix == ".txt" else _SUFFIXES[suffix]


def _sniff_encoding(path: Path, *, field: str, location: str) -> str:
    """What a byte order mark says, else UTF-8 (whose reader takes other bytes for cp1252).

    Raises:
        UserInputError: the bytes are no UTF-8, and no western text either.
    """
    with path.open("rb") as file:
        start = file.read(_ENCODING_SAMPLE_BYTES)
    marked = next((name for mark, name in _BYTE_ORDER_MARKS if start.startswith(mark)), None)
    if marked is not None:
        return marked
    runs = [run for run in re.findall(rb"[\x80-\xff]+", start) if not _is_utf8(run)]
    long = [run for run in runs if len(run) >= _LONG_RUN]
    # A cut last character is one run at most.
    if len(long) >= 2 and len(long) > len(runs) * _MOST_LONG_RUNS:
        raise UserInputError(
            f"{location} is not UTF-8, and reads like no western encoding",
            field="data.encoding",
            fix="name its encoding, such as cp1251, shift_jis, gb18030, big5 or euc_kr",
        )
    return "utf-8"


def _is_utf8(run: bytes) -> bool:
    try:
        run.decode()
    except UnicodeDecodeError:
        return False
    return True


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
    few = control <= max(len(text) * _MOST_CONTROL_CHARACTERS, _FEW_CONTROL_CHARACTERS)
    if what is None and few:
        return
    fix = "give a text file; UTF-16 without a byte order mark needs data.encoding: utf-16-le"
    raise UserInputError(
        f"is not text, so it cannot be {file_format}",
        field=field,
        value=location,
        fix=f"it looks like {what}" if what else fix,
    )
