"""Channels on disk, and the directory swap that makes a preparation all or nothing."""

from __future__ import annotations

import csv
import errno
import hashlib
import io
import json
import math
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, time
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from sm_launch.errors import LaunchError, UserInputError
from sm_launch.job.data import OutputFormat

MANIFEST = "manifest.json"
REJECTED = "rejected.jsonl"
REJECTED_PARTS = "rejected"
"""Directory in place of it where several machines prepared the data."""
DATA_CARD = "data_card.html"
CREATED_BY = "sm-launch data prepare"
_OURS = frozenset({MANIFEST, REJECTED, REJECTED_PARTS, DATA_CARD, "train", "validation", "test"})

# One for all: json.dumps makes a new encoder on each call that has options.
_STRICT = json.JSONEncoder(ensure_ascii=False, allow_nan=False)
_ENCODER = json.JSONEncoder(ensure_ascii=False, default=str)
_quoted = json.encoder.encode_basestring  # what the encoder does with a text, without the rest


def json_line(value: Any) -> str:
    """One line of JSON; lone surrogates (undecodable bytes) come out as valid escapes."""
    try:
        return _STRICT.encode(value) + "\n"
    except (TypeError, ValueError):  # a date, a decimal or NaN, which JSON does not have
        return _ENCODER.encode(_plain(value)) + "\n"


def _plain(value: Any) -> Any:
    """A value in JSON's own types: NaN is null, a time is ISO 8601, a decimal a number if exact."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    if isinstance(value, Decimal):
        return float(value) if Decimal(repr(float(value))) == value else str(value)
    return value.isoformat() if isinstance(value, date | time) else value


def encode_text(text: str) -> bytes:
    """UTF-8 in which a lone surrogate becomes the JSON escape of itself."""
    return text.encode("utf-8", "backslashreplace")


def encode_rows(
    rows: Sequence[Sequence[Any]],
    names: Sequence[str],
    output_format: OutputFormat,
    schema: Any = None,
) -> bytes:
    """Rows in the bytes of a channel file, without any header.

    Parquet cannot be written by concatenation, so its rows travel as an Arrow stream.
    """
    if output_format == "jsonl":
        return encode_text("".join(_json_lines(rows, names)))
    if output_format == "csv":
        buffer = io.StringIO()
        csv.writer(buffer, lineterminator="\n").writerows([map(_csv_cell, row) for row in rows])
        return encode_text(buffer.getvalue())
    return _encode_arrow(rows, names, schema)


def _csv_cell(value: Any) -> Any:
    """Lists and objects as JSON, which is what reads them back."""
    return _ENCODER.encode(_plain(value)) if isinstance(value, list | dict | tuple) else value


def _json_lines(rows: Sequence[Sequence[Any]], names: Sequence[str]) -> Iterator[str]:
    """`json_line` of each row; rows of nothing but text take a quarter of the time."""
    keys = [f"{_quoted(name)}: " for name in names]
    for row in rows:
        if all(type(value) is str for value in row):
            cells = ", ".join([key + _quoted(cell) for key, cell in zip(keys, row, strict=True)])
            yield f"{{{cells}}}\n"
        else:
            yield json_line(dict(zip(names, row, strict=True)))


def arrow_schema(rows: Sequence[Sequence[Any]], names: Sequence[str]) -> Any:
    """The Arrow types of these rows, or in words why a column has none."""
    import pyarrow as pa

    fields = []
    for at, name in enumerate(names):
        try:
            fields.append(pa.field(name, pa.array([row[at] for row in rows]).type))
        except (pa.ArrowException, UnicodeError, OverflowError) as error:
            return f"{name}: {error}"
    return pa.schema(fields)


def common_schema(schemas: Sequence[Any]) -> Any:
    """One schema for the rows of all chunks; None without any.

    Raises:
        UserInputError: values of a column are of types that no Parquet column can hold together.
    """
    if not schemas:
        return None
    import pyarrow as pa

    problem = next((schema for schema in schemas if isinstance(schema, str)), None)
    try:
        if problem is None:
            return pa.unify_schemas(schemas, promote_options="permissive")
    except pa.ArrowException as error:
        problem = str(error)
    raise UserInputError(
        f"a column holds values that no Parquet column can hold together ({problem})",
        field="data.output_format",
        value="parquet",
        fix="set data.output_format: jsonl, or leave the column out of data.columns.keep",
    )


def _encode_arrow(rows: Sequence[Sequence[Any]], names: Sequence[str], schema: Any) -> bytes:
    import pyarrow as pa

    columns = {name: [row[at] for row in rows] for at, name in enumerate(names)}
    table = pa.table(columns, schema=schema)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return bytes(sink.getvalue())


class ChannelWriter:
    """One file of one channel: `<directory>/<split>/<split><suffix>.<format>`.

    Args:
        directory: of all channels.
        split: name of the channel.
        names: columns.
        output_format: of the file.
        suffix: which part of the channel it is; empty where it is the whole.
    """

    def __init__(
        self,
        directory: Path,
        split: str,
        names: Sequence[str],
        output_format: OutputFormat,
        suffix: str = "",
    ) -> None:
        self.path = directory / split / f"{split}{suffix}.{output_format}"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._names = names
        self._format = output_format
        self._parquet: Any = None
        self._file: BinaryIO = self.path.open("wb")
        if output_format == "csv":
            self._file.write(encode_rows([names], names, "csv"))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._parquet is not None:
            self._parquet.close()
        self._file.close()

    def write(self, encoded: bytes) -> None:
        """Append what `encode_rows` gave."""
        if self._format != "parquet":
            self._file.write(encoded)
            return
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pa.ipc.open_stream(encoded).read_all()
        if self._parquet is None:
            self._parquet = pq.ParquetWriter(self._file, table.schema)
        self._parquet.write_table(table)


def part_suffix(at: int, count: int) -> str:
    """What the name of part `at` of `count` ends with: in the order of names parts are in order."""
    digits = max(5, len(str(count)))
    return f"-{at:0{digits}}-of-{count:0{digits}}"


def rejected_path(directory: Path, suffix: str = "") -> Path:
    """The file of rejected rows, or one part of it."""
    return (
        directory / REJECTED_PARTS / f"{REJECTED_PARTS}{suffix}.jsonl"
        if suffix
        else directory / REJECTED
    )


def write_beside(directory: Path, files: Mapping[str, str]) -> None:
    """Write texts by the names of their files beside the channels."""
    for name, text in files.items():
        (directory / name).write_text(text, encoding="utf-8")


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_parts(parts: Mapping[str, str]) -> str:
    """Hex digest of a channel in parts: that of the lines that `sha256sum` writes of them."""
    lines = "".join(f"{digest}  {name}\n" for name, digest in parts.items())
    return hashlib.sha256(lines.encode()).hexdigest()


def check_replaceable(output: Path) -> None:
    """Refuse a directory that holds anything but an earlier preparation.

    Raises:
        UserInputError: naming what is in the way.
    """
    if not output.exists():
        return
    if not output.is_dir():
        raise UserInputError("is a file", field="output", value=str(output), fix="name a directory")
    strangers = sorted(path.name for path in output.iterdir() if path.name not in _OURS)
    if strangers:
        raise UserInputError(
            f"holds files that `data prepare` did not write: {', '.join(strangers[:5])}",
            field="output",
            value=str(output),
            fix="name a new or empty directory",
        )


@contextmanager
def replacing(output: Path, *, keep: bool = True) -> Iterator[Path]:
    """A temporary directory next to `output` that takes its place when all went well.

    On any exception, Ctrl-C included, it vanishes and `output` stays as it was; without `keep`
    always.

    Raises:
        LaunchError: the disk is full.
    """
    output = output.resolve()
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=f".{output.name}-", dir=output.parent))
        fresh.chmod(0o755)  # mkdtemp makes it private; a container's user must be able to read
        try:
            yield fresh
            if keep:
                _swap(fresh, output)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    except OSError as error:
        explained = disk_error(error, output)
        if explained is None:
            raise
        raise explained from error


def disk_error(error: OSError, output: Path) -> LaunchError | None:
    """What a failure to write means; None where it is something else."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        free = shutil.disk_usage(output.parent).free // 2**20
        return LaunchError(
            f"no space left on the disk ({free} MiB free); nothing was changed",
            field="output",
            value=str(output),
            fix="free about three times the size of the input, or choose another disk",
        )
    if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
        return LaunchError(
            f"cannot be written: {error.strerror}",
            field="output",
            value=str(output),
            fix="choose a directory that you may write to",
        )
    return None


def _swap(fresh: Path, output: Path) -> None:
    old = Path(tempfile.mkdtemp(prefix=f".{output.name}-old-", dir=output.parent))
    try:
        if output.exists():
            output.replace(old / "kept")
        try:
            fresh.replace(output)
        except BaseException:
            if (old / "kept").exists():
                (old / "kept").replace(output)
            raise
    finally:
        shutil.rmtree(old, ignore_errors=True)
