"""Raw rows to channels, all or nothing: `prepare` reads top to bottom as the steps it takes."""

from __future__ import annotations

import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from sm_launch.data import quarantine, write
from sm_launch.data.assign import Collected, Decision, decide
from sm_launch.data.config import DataConfig
from sm_launch.data.dedupe import VERDICTS
from sm_launch.data.passes import Encoded, Job, Summary, Verdict, clean_chunk, encode_chunk
from sm_launch.data.read import read
from sm_launch.data.report import InputReport, PreparationReport, SplitReport, describe_split
from sm_launch.data.rows import RowCleaner
from sm_launch.data.sources import Fetch, Source, locate
from sm_launch.data.split import NO_SPLIT, SPLITS
from sm_launch.data.workers import Workers, choose
from sm_launch.errors import UserInputError
from sm_launch.progress import ProgressBar
from sm_launch.progress import progress as terminal_progress
from sm_launch.report.data_card import render_data_card

Progress = Callable[..., AbstractContextManager[ProgressBar]]


def prepare(
    config: DataConfig,
    output: Path,
    *,
    progress: Progress = terminal_progress,
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
        fetch: copies an s3:// object to the local disk; default: with boto3's own configuration.

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
    progress: Progress = terminal_progress,
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
    progress: Progress,
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
        sources = locate(config, base=base_directory or Path.cwd(), fetch=fetch)
        size = sum(source.path.stat().st_size for source in sources)
        fresh = stack.enter_context(write.replacing(output, keep=keep))
        workers = stack.enter_context(Workers(choose(config.workers, size)))
        bar = stack.enter_context(progress(title, total=2 * size))
        run = _Run(config, RowCleaner(config), sources, fresh, workers, bar)
        summaries = run.first_pass()
        quarantine.check(config, summaries, output, run.write_rejected_only)
        collected = Collected.of(summaries, run.cleaner.allowed_labels)
        decision = decide(collected, config)
        paths = run.second_pass(summaries, decision)
        report = _report(run, summaries, collected, decision, paths, output, started)
        manifest = report.manifest(config)
        text = json.dumps(manifest, indent=2, ensure_ascii=False)
        (fresh / write.MANIFEST).write_text(text + "\n", encoding="utf-8")
        (fresh / write.DATA_CARD).write_text(render_data_card(manifest), encoding="utf-8")
    return report


def fetch_by_default(
    stack: ExitStack, uri: str, clients: Callable[[str], Any] | None = None
) -> Path:
    """Copy an s3:// object; `stack` removes the copy. Default: boto3's own configuration."""
    from sm_launch.aws_clients import make_client
    from sm_launch.data.s3 import fetcher

    directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="sm-launch-data-"))
    return fetcher((clients or make_client)("s3"), Path(directory))(uri)


@dataclass(frozen=True)
class _Run:
    """What both passes need."""

    config: DataConfig
    cleaner: RowCleaner
    sources: Sequence[Source]
    directory: Path
    workers: Workers
    bar: ProgressBar

    def _jobs(self) -> Iterator[Job]:
        number = 0
        for source in self.sources:
            checked = False
            for chunk in read(source, self.config):
                chunk.source = source.name
                if chunk.names and not checked:
                    self.cleaner.check_columns(chunk.names)
                    checked = True
                yield Job(chunk, source.location, self.directory / f".spill-{number}")
                number += 1

    def first_pass(self) -> list[Summary]:
        """Clean all rows; leaves spilled chunks in the directory."""
        function = partial(clean_chunk, cleaner=self.cleaner)
        summaries, before = [], {source.name: 0 for source in self.sources}
        for summary in self.workers.map(function, self._jobs()):
            summaries.append(summary)
            self.bar.advance(summary.bytes_read - before[summary.source])
            before[summary.source] = summary.bytes_read
        for source in self.sources:
            if not any(summary.rows for summary in summaries if summary.split == source.split):
                raise UserInputError(
                    "the file has no rows",
                    field=f"data.{source.split}",
                    value=source.location,
                    fix="give a file with rows; a file without a header needs data.header: false",
                )
        return summaries

    def second_pass(self, summaries: Sequence[Summary], decision: Decision) -> dict[str, Path]:
        """Write channels and rejected.jsonl.

        Returns:
            Name to file of each channel that has rows.
        """
        paths: dict[str, Path] = {}
        writers: dict[int, write.ChannelWriter] = {}
        names, output_format = self.cleaner.output_names, self.config.output_format
        with ExitStack() as stack:
            rejected = stack.enter_context((self.directory / write.REJECTED).open("wb"))
            for encoded in self._encode(summaries, decision):
                rejected.write(encoded.rejected)
                for part, content in encoded.channels.items():
                    if part not in writers:
                        writer = write.ChannelWriter(
                            self.directory, SPLITS[part], names, output_format
                        )
                        writers[part] = stack.enter_context(writer)
                        paths[SPLITS[part]] = writer.path
                    writers[part].write(content)
        return {name: paths[name] for name in SPLITS if name in paths}

    def _encode(self, summaries: Sequence[Summary], decision: Decision) -> Iterator[Encoded]:
        function = partial(
            encode_chunk, names=self.cleaner.output_names, output_format=self.config.output_format
        )
        step = sum(source.path.stat().st_size for source in self.sources) / len(summaries)
        for encoded in self.workers.map(function, _verdicts(summaries, decision)):
            self.bar.advance(step)
            yield encoded

    def write_rejected_only(self, summaries: Sequence[Summary], path: Path) -> None:
        """Write what the first pass rejected to `path`, because nothing else will be written."""
        import numpy as np

        rows = sum(len(summary.keys) for summary in summaries)
        nothing = Decision(np.full(rows, NO_SPLIT, dtype=np.int8), np.zeros(rows, dtype=np.int8))
        with path.open("wb") as file:
            for encoded in self._encode(summaries, nothing):
                file.write(encoded.rejected)


def _verdicts(summaries: Sequence[Summary], decision: Decision) -> Iterator[Verdict]:
    start = 0
    for summary in summaries:
        end = start + len(summary.keys)
        verdicts = decision.verdicts[start:end]
        reasons = {at: VERDICTS[int(verdicts[at])] for at in verdicts.nonzero()[0].tolist()}
        yield Verdict(summary.path, decision.splits[start:end].tolist(), reasons)
        start = end


def _report(
    run: _Run,
    summaries: Sequence[Summary],
    collected: Collected,
    decision: Decision,
    paths: dict[str, Path],
    output: Path,
    started: float,
) -> PreparationReport:
    reasons: Counter[str] = sum((summary.reasons for summary in summaries), Counter())
    for verdict, (reason, _) in VERDICTS.items():
        reasons[reason] += int((decision.verdicts == verdict).sum())
    splits: dict[str, SplitReport] = {}
    for name, path in paths.items():
        inside = decision.splits == SPLITS.index(name)
        splits[name] = describe_split(
            path=output / path.relative_to(run.directory),
            sha256=write.sha256(path),
            labels=collected.labels[inside],
            names=collected.names,
            characters=collected.characters[inside],
        )
    inputs = {
        source.name: InputReport(
            location=source.location,
            bytes=source.path.stat().st_size,
            sha256=write.sha256(source.path),
            rows=sum(summary.rows for summary in summaries if summary.source == source.name),
        )
        for source in run.sources
    }
    return PreparationReport(
        output=output,
        inputs=inputs,
        splits=splits,
        rejected={reason: count for reason, count in reasons.most_common() if count},
        labels=collected.names,
        seconds=time.monotonic() - started,
    )
