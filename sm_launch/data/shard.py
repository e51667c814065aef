"""The raw files of one machine, and both passes over them, by all its cores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from sm_launch.data import write
from sm_launch.data.passes import Encoded, Job, Summary, Verdict, clean_chunk, encode_chunk
from sm_launch.data.read import read
from sm_launch.data.rows import RowCleaner
from sm_launch.data.sources import Source
from sm_launch.data.split import SPLITS
from sm_launch.data.unfold import unfolded
from sm_launch.data.workers import Workers
from sm_launch.job.data import DataConfig, OutputFormat
from sm_launch.progress import ProgressBar


@dataclass(frozen=True)
class Encoding:
    """How rows are written: the same for all of a preparation.

    Attributes:
        names: columns of the channels.
        output_format: their format.
        schema: pyarrow's of all rows, where that is Parquet.
    """

    names: list[str]
    output_format: OutputFormat
    schema: Any = None


class Shard:
    """Cleans rows, keeps them on disk between the passes, and encodes them.

    Args:
        config: the `data` section.
        directory: where cleaned chunks lie between the passes.
        workers: run the passes.
        bar: is advanced by the bytes that are read.
    """

    def __init__(
        self, config: DataConfig, directory: Path, workers: Workers, bar: ProgressBar
    ) -> None:
        self._config = config
        self._directory = directory
        self._workers = workers
        self._bar = bar
        self._numbers = count()

    def clean(self, sources: Sequence[Source], cleaner: RowCleaner) -> Iterator[Summary]:
        """First pass: clean all rows, and leave them in the directory."""
        function = partial(clean_chunk, cleaner=cleaner)
        before: Counter[str] = Counter()
        for summary in self._workers.map(function, self._jobs(sources, cleaner)):
            self._bar.advance(summary.bytes_read - before[summary.source])
            before[summary.source] = summary.bytes_read
            yield summary

    def _jobs(self, sources: Sequence[Source], cleaner: RowCleaner) -> Iterator[Job]:
        for source in sources:
            checked = False
            for raw in read(source, self._config):
                chunk = unfolded(raw, self._config)
                chunk.source = source.name
                if chunk.names and not checked:
                    cleaner.check_columns(
                        chunk.names, source.location, is_table=source.format in ("csv", "tsv")
                    )
                    checked = True
                spill = self._directory / f".spill-{next(self._numbers)}"
                yield Job(chunk, source.location, spill)

    def encode(self, verdicts: Iterable[Verdict], encoding: Encoding) -> Iterator[Encoded]:
        """Second pass: the rows of the spilled chunks, as the files have them."""
        function = partial(
            encode_chunk,
            names=encoding.names,
            output_format=encoding.output_format,
            schema=encoding.schema,
        )
        yield from self._workers.map(function, verdicts)


def write_files(
    encoded: Iterable[Encoded], directory: Path, encoding: Encoding, suffix: str = ""
) -> dict[str, Path]:
    """Write channels and rejected rows.

    Args:
        encoded: chunks, in order.
        directory: of the preparation.
        encoding: how they were encoded.
        suffix: which part of the preparation they are; empty where they are the whole.

    Returns:
        Name to file of each channel that has rows.
    """
    writers: dict[int, write.ChannelWriter] = {}
    rejected_rows = write.rejected_path(directory, suffix)
    with ExitStack() as stack:
        rejected_rows.parent.mkdir(exist_ok=True)
        rejected = stack.enter_context(rejected_rows.open("wb"))
        for chunk in encoded:
            rejected.write(chunk.rejected)
            for part, content in chunk.channels.items():
                if part not in writers:
                    writer = write.ChannelWriter(
                        directory, SPLITS[part], encoding.names, encoding.output_format, suffix
                    )
                    writers[part] = stack.enter_context(writer)
                writers[part].write(content)
    if suffix and not rejected_rows.stat().st_size:
        rejected_rows.unlink()
    return {name: writers[part].path for part, name in enumerate(SPLITS) if part in writers}


def column_names(source: Source, config: DataConfig) -> list[str]:
    """The columns of a file, from its beginning."""
    chunk = next((chunk for chunk in read(source, config) if chunk.names), None)
    return list(unfolded(chunk, config).names) if chunk is not None else []


def first_of_each_split(sources: Sequence[Source]) -> list[Source]:
    """The files that tell the columns."""
    first: dict[str, Source] = {}
    for source in sources:
        first.setdefault(source.split, source)
    return list(first.values())
