"""Parquet and Arrow files: record batches become chunks."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from sm_launch.data.chunks import ROWS_PER_CHUNK, Chunk
from sm_launch.data.class_ids import Reader, features_in, readers
from sm_launch.data.sources import Source
from sm_launch.errors import UserInputError
from sm_launch.job.data import DataConfig


def read_parquet(source: Source, config: DataConfig) -> Iterator[Chunk]:
    """The rows of a Parquet file.

    Raises:
        UserInputError: it is damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    size = source.path.stat().st_size
    try:
        with pq.ParquetFile(source.path) as file:
            rows = max(file.metadata.num_rows, 1)
            batches = file.iter_batches(batch_size=ROWS_PER_CHUNK)
            schema = file.schema_arrow
            ids = readers(features_in(schema.metadata), config)
            yield Chunk(source.split, schema.names)
            yield from _chunks(source, batches, lambda number: size * number // rows, ids)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _damaged("a Parquet", source, error) from error


def read_arrow(source: Source, config: DataConfig) -> Iterator[Chunk]:
    """An Arrow file as `Dataset.save_to_disk` writes them: a stream; or Arrow's own file format.

    Raises:
        UserInputError: it is damaged.
    """
    import pyarrow as pa

    try:
        with pa.memory_map(str(source.path)) as mapped:
            schema, whole = _opened(mapped)
            ids = readers(_features_beside(source) or features_in(schema.metadata), config)
            batches = (
                batch.slice(start, ROWS_PER_CHUNK)
                for batch in whole
                for start in range(0, batch.num_rows, ROWS_PER_CHUNK)
            )
            yield from _chunks(source, batches, lambda _: mapped.tell(), ids)
            yield Chunk(source.split, [], bytes_read=source.path.stat().st_size)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _damaged("an Arrow", source, error) from error


def _chunks(
    source: Source,
    batches: Iterable[Any],
    bytes_read: Callable[[int], int],
    ids: Mapping[str, Reader],
) -> Iterator[Chunk]:
    """A chunk for each record batch.

    Args:
        source: where they are from.
        batches: none larger than a chunk may be.
        bytes_read: from the number of rows so far to the bytes of the file that they took.
        ids: how columns with class ids are read.
    """
    number = 0
    for batch in batches:
        names = batch.schema.names
        columns = [
            _read(_values(column), ids.get(name))
            for name, column in zip(names, batch.columns, strict=True)
        ]
        rows: list[Sequence[Any]] = list(zip(*columns, strict=True))
        numbers = list(range(number + 1, number + len(rows) + 1))
        number += len(rows)
        yield Chunk(source.split, names, rows, numbers, bytes_read=bytes_read(number))


def _values(column: Any) -> list[Any]:
    """Python's values; text that its writer marked as bytes is text, where it is UTF-8."""
    import pyarrow as pa

    kind = column.type
    if pa.types.is_timestamp(kind) and kind.unit == "ns":
        column = column.cast(pa.timestamp("us", kind.tz), safe=False)
    elif pa.types.is_duration(kind) and kind.unit == "ns":
        column = column.cast(pa.duration("us"), safe=False)
    elif pa.types.is_time64(kind) and kind.unit == "ns":
        column = column.cast(pa.time64("us"), safe=False)
    values: list[Any] = column.to_pylist(maps_as_pydicts="lossy")
    return [_text(value) if isinstance(value, bytes) else value for value in values]


def _text(value: bytes) -> str | bytes:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value


def _damaged(kind: str, source: Source, error: Exception) -> UserInputError:
    return UserInputError(
        f"not {kind} file, or a damaged one: {error}",
        field=f"data.{source.split}",
        value=source.location,
        fix="check the file, or set data.format",
    )


def _opened(mapped: Any) -> tuple[Any, Iterable[Any]]:
    """Schema and record batches of either format."""
    import pyarrow as pa

    try:
        stream = pa.ipc.open_stream(mapped)
    except pa.ArrowInvalid:
        mapped.seek(0)
        file = pa.ipc.open_file(mapped)
        return file.schema, (file.get_batch(at) for at in range(file.num_record_batches))
    return stream.schema, stream


def _features_beside(source: Source) -> dict[str, Any]:
    """What dataset_info.json beside the file knows of its columns."""
    info = source.path.parent / "dataset_info.json"
    try:
        features = json.loads(info.read_text(encoding="utf-8")).get("features", {})
    except (OSError, ValueError, AttributeError):
        return {}
    return features if isinstance(features, dict) else {}


def _read(values: list[Any], reader: Reader | None) -> list[Any]:
    return values if reader is None else list(map(reader, values))
