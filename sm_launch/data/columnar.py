"""Parquet and Arrow files: record batches become chunks."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from sm_launch.data.chunks import ROWS_PER_CHUNK, Chunk
from sm_launch.data.sources import Source
from sm_launch.errors import UserInputError


def read_parquet(source: Source) -> Iterator[Chunk]:
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
            names = file.schema_arrow.names
            yield Chunk(source.split, names)
            yield from _chunks(source, batches, lambda number: size * number // rows)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _damaged("a Parquet", source, error) from error


def read_arrow(source: Source) -> Iterator[Chunk]:
    """An Arrow file as `Dataset.save_to_disk` writes them: a stream; or Arrow's own file format.

    Raises:
        UserInputError: it is damaged.
    """
    import pyarrow as pa

    labels = _class_labels(source)
    try:
        with pa.memory_map(str(source.path)) as mapped:
            batches = (
                batch.slice(start, ROWS_PER_CHUNK)
                for batch in _arrow_batches(mapped)
                for start in range(0, batch.num_rows, ROWS_PER_CHUNK)
            )
            yield from _chunks(source, batches, lambda _: mapped.tell(), labels)
            yield Chunk(source.split, [], bytes_read=source.path.stat().st_size)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _damaged("an Arrow", source, error) from error


def _chunks(
    source: Source,
    batches: Iterable[Any],
    bytes_read: Callable[[int], int],
    labels: Mapping[str, list[str]] = MappingProxyType({}),
) -> Iterator[Chunk]:
    """A chunk for each record batch.

    Args:
        source: where they are from.
        batches: none larger than a chunk may be.
        bytes_read: from the number of rows so far to the bytes of the file that they took.
        labels: column to the names that its numbers stand for.
    """
    number = 0
    for batch in batches:
        names = batch.schema.names
        columns = [
            _named(_values(column), labels.get(name))
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


def _arrow_batches(mapped: Any) -> Iterator[Any]:
    import pyarrow as pa

    try:
        stream = pa.ipc.open_stream(mapped)
    except pa.ArrowInvalid:
        mapped.seek(0)
        file = pa.ipc.open_file(mapped)
        yield from (file.get_batch(at) for at in range(file.num_record_batches))
        return
    yield from stream


def _class_labels(source: Source) -> dict[str, list[str]]:
    """Column to label names, where dataset_info.json beside the file knows them."""
    info = source.path.parent / "dataset_info.json"
    try:
        features = json.loads(info.read_text(encoding="utf-8")).get("features", {})
    except (OSError, ValueError, AttributeError):
        return {}
    return {
        name: feature["names"]
        for name, feature in features.items()
        if isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
    }


def _named(values: list[Any], names: list[str] | None) -> list[Any]:
    """Ids as the names they stand for; -1 is how `datasets` writes a missing label."""
    if names is None:
        return values
    return [names[v] if isinstance(v, int) and 0 <= v < len(names) else None for v in values]
