"""Raw rows of this machine to channels, all or nothing."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from sm_launch.data import hub, write
from sm_launch.data.passes import Encoded, Summary
from sm_launch.data.preparation import Verdicts, Written, complete
from sm_launch.data.report import PreparationReport
from sm_launch.data.rows import RowCleaner
from sm_launch.data.shard import Encoding, Shard, column_names, first_of_each_split, write_files
from sm_launch.data.sources import Fetch, Source, locate
from sm_launch.data.workers import Workers, choose
from sm_launch.job.data import DataConfig
from sm_launch.progress import ProgressBar, StartProgress
from sm_launch.progress import progress as terminal_progress


def prepare(
    config: DataConfig,
    output: Path,
    *,
    progress: StartProgress = terminal_progress,
    base_directory: Path | None = None,
    fetch: Fetch | None = None,
) -> PreparationReport:
    """Clean and split raw data into the channels that training reads.

    Args:
        config: the `data` section of job.yaml.
        output: directory of the channels, manifest.json and rejected.jsonl. It is replaced as a
            whole when all went well, and untouched otherwise.
        progress: shows how far it is.
        base_directory: what relative paths in `config` are relative to; default: here.
        fetch: copies an s3:// or hf:// file here; default: as its library is configured.

    Raises:
        UserInputError: the configuration or the data is at fault.
        LaunchError: the output cannot be written.
    """
    return _prepare(
        config, output, progress, base_directory, fetch, keep=True, title="Preparing data"
    )


def validate(
    config: DataConfig,
    output: Path,
    *,
    progress: StartProgress = terminal_progress,
    base_directory: Path | None = None,
    fetch: Fetch | None = None,
) -> PreparationReport:
    """Do all that `prepare` does, and keep nothing: what it would say, it says.

    Takes the arguments of `prepare` and raises its errors. Where too many rows are bad they are
    left next to `output`, as `prepare` leaves them.
    """
    return _prepare(
        config, output, progress, base_directory, fetch, keep=False, title="Checking data"
    )


def _prepare(
    config: DataConfig,
    output: Path,
    progress: StartProgress,
    base_directory: Path | None,
    fetch: Fetch | None,
    *,
    keep: bool,
    title: str,
) -> PreparationReport:
    started = time.monotonic()
    write.check_replaceable(output)
    with ExitStack() as stack:
        fetch = fetch or partial(fetch_by_default, stack)
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="sm-launch-data-"))
        base = base_directory or Path.cwd()
        sources = locate(config, base=base, fetch=fetch, scratch=Path(scratch))
        size = sum(source.bytes for source in sources)
        fresh = stack.enter_context(write.replacing(output, keep=keep))
        workers = stack.enter_context(Workers(choose(config.workers, size)))
        bar = stack.enter_context(progress(title, 2 * size))
        shard = Shard(config, fresh, workers, bar)
        rows = _RowsHere(config, sources, shard, fresh, output, bar)
        return complete(config, rows, output, started=started)


def fetch_by_default(
    stack: ExitStack, uri: str, clients: Callable[[str], Any] | None = None
) -> Path:
    """Copy an s3:// or hf:// file; `stack` removes the copy. Default: boto3's own configuration."""
    directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sm-launch-data-")))
    if uri.startswith(hub.SCHEME):
        return hub.fetch(uri, directory)
    from sm_launch.aws.clients import make_client
    from sm_launch.data.s3 import fetcher

    client = clients("s3") if clients else make_client("s3", ours=())
    return fetcher(client, directory)(uri)


class _RowsHere:
    """Files of this machine."""

    def __init__(
        self,
        config: DataConfig,
        sources: Sequence[Source],
        shard: Shard,
        directory: Path,
        output: Path,
        bar: ProgressBar,
    ) -> None:
        self.sources = sources
        self._config = config
        self._shard = shard
        self._directory = directory
        self._output = output
        self._bar = bar

    def columns(self) -> list[str]:
        return columns(self.sources, self._config)

    def clean(self, cleaner: RowCleaner) -> list[Summary]:
        return list(self._shard.clean(self.sources, cleaner))

    def write(self, verdicts: Verdicts, encoding: Encoding) -> Written:
        encoded = self._encode(verdicts, encoding)
        paths = write_files(encoded, self._directory, encoding)
        channels = {
            name: {path.relative_to(self._directory).as_posix(): write.sha256(path)}
            for name, path in paths.items()
        }
        return Written(channels, {each.name: write.sha256(each.path) for each in self.sources})

    def _encode(self, verdicts: Verdicts, encoding: Encoding) -> Iterator[Encoded]:
        step = sum(source.bytes for source in self.sources) / len(verdicts.summaries)
        for encoded in self._shard.encode(verdicts, encoding):
            self._bar.advance(step)
            yield encoded

    def write_rejected(self, verdicts: Verdicts, encoding: Encoding) -> Path:
        path = self._output.with_name(f"{self._output.name}.rejected.jsonl")
        with path.open("wb") as file:
            for encoded in self._encode(verdicts, encoding):
                file.write(encoded.rejected)
        return path

    def finish(self, files: Mapping[str, str]) -> None:
        write.write_beside(self._directory, files)


def columns(sources: Sequence[Source], config: DataConfig) -> list[str]:
    """The columns of all splits, from the beginning of the first file of each."""
    names: dict[str, None] = {}
    for source in first_of_each_split(sources):
        names |= dict.fromkeys(column_names(source, config))
    return list(names)
