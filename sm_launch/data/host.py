"""One machine's part of a preparation on several: what the first machine asks of it."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sm_launch.data import write
from sm_launch.data.passes import Summary, Verdict
from sm_launch.data.rows import RowCleaner
from sm_launch.data.shard import Encoding, Shard, column_names, write_files
from sm_launch.data.sources import Listed, Source, list_files, local_path, sources_of
from sm_launch.data.workers import Workers, choose
from sm_launch.job.data import DataConfig
from sm_launch.progress import ProgressBar

Listing = dict[str, list[Listed] | None]
"""Split to the files of its location; None where this machine has nothing of it. A location that
is a file is listed without a name."""


@dataclass(frozen=True)
class WrittenPart:
    """What became of one source.

    Attributes:
        channels: name of each channel that it has rows of to its file and that one's sha256.
        sha256: of the source.
    """

    channels: dict[str, tuple[str, str]]
    sha256: str


class Host:
    """The files that are here, and the part of the output that is made of them.

    Args:
        config: the `data` section, with paths of this machine.
        output: directory of the preparation; it gets its content when all machines are done.
        base_directory: what relative paths are relative to, on this machine.
    """

    def __init__(self, config: DataConfig, output: Path, base_directory: Path = Path()) -> None:
        self._config = config
        self._output = base_directory / output
        self._base = base_directory
        self._stack = ExitStack()
        self._sources: dict[str, Source] = {}

    def call(self, method: str, *arguments: Any) -> Any:
        """Call one of the methods below.

        Raises:
            LaunchError: what is wrong with the files, the configuration or the disk.
        """
        try:
            return getattr(self, method)(*arguments)
        except OSError as error:
            explained = write.disk_error(error, self._output)
            if explained is None:
                raise
            raise explained from error

    def listing(self) -> Listing:
        """What of each location is here."""
        return {split: self._listed(split) for split in self._config.sources}

    def _listed(self, split: str) -> list[Listed] | None:
        path = self._path(split)
        if path.is_dir():
            return list_files(self._config, split, path)
        return [Listed("", path.stat().st_size)] if path.is_file() else None

    def _path(self, split: str) -> Path:
        location = self._config.sources[split]
        return local_path(location, field=f"data.{split}", base=self._base, fetch=Path)

    def locate(self, files: Sequence[tuple[str, str]]) -> list[list[Source]]:
        """Open the files that this machine is to prepare.

        Args:
            files: the split and the name of each.

        Returns:
            The sources of each: one, or the tables of an archive.
        """
        write.check_replaceable(self._output)
        enter = self._stack.enter_context
        scratch = Path(enter(tempfile.TemporaryDirectory(prefix="sm-launch-data-")))
        of_files = [
            sources_of(self._config, split, self._path(split), name, scratch)
            for split, name in files
        ]
        self._sources = {source.name: source for sources in of_files for source in sources}
        self._directory = enter(write.replacing(self._output))
        size = sum(source.bytes for source in self._sources.values())
        workers = enter(Workers(choose(self._config.workers, size)))
        self._shard = Shard(self._config, self._directory, workers, ProgressBar())
        return of_files

    def columns(self, name: str) -> list[str]:
        """The columns of a source."""
        return column_names(self._sources[name], self._config)

    def clean(self, name: str, cleaner: RowCleaner) -> list[Summary]:
        """First pass over a source; its rows stay here."""
        return list(self._shard.clean([self._sources[name]], cleaner))

    def write(
        self, name: str, verdicts: Sequence[Verdict], encoding: Encoding, suffix: str
    ) -> WrittenPart:
        """Second pass over a source: its part of the channels and of the rejected rows."""
        encoded = self._shard.encode(verdicts, encoding)
        paths = write_files(encoded, self._directory, encoding, suffix)
        channels = {
            split: (path.relative_to(self._directory).as_posix(), write.sha256(path))
            for split, path in paths.items()
        }
        return WrittenPart(channels, write.sha256(self._sources[name].path))

    def write_rejected(
        self, name: str, verdicts: Sequence[Verdict], encoding: Encoding, suffix: str
    ) -> None:
        """Write the rejected rows of a source next to the output."""
        directory = rejected_only(self._output)
        directory.mkdir(exist_ok=True)
        path = directory / f"{write.REJECTED_PARTS}{suffix}.jsonl"
        with path.open("wb") as file:
            for encoded in self._shard.encode(verdicts, encoding):
                file.write(encoded.rejected)

    def finish(self, files: Mapping[str, str]) -> None:
        """Put the output in its place, with these files beside the channels."""
        write.write_beside(self._directory, files)
        self._stack.close()

    def abandon(self) -> None:
        """Leave the output as it was."""
        abandoned = RuntimeError("abandoned")
        self._stack.__exit__(RuntimeError, abandoned, None)


def rejected_only(output: Path) -> Path:
    """Where rejected rows are when nothing else was written."""
    return output.with_name(f"{output.name}.rejected")
