"""Raw rows to channels, all or nothing: `prepare` reads top to bottom as the steps it takes."""

from __future__ import annotations

import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from sm_launch.data import hub, quarantine, write
from sm_launch.data.assign import Collected, Decision, decide, find_gaps
from sm_launch.data.data_card import render_data_card
from sm_launch.data.dedupe import KEPT, MISSING, VERDICTS
from sm_launch.data.labels import as_list, names_in, tidy
from sm_launch.data.notes import notes, taken_for_missing
from sm_launch.data.passes import Encoded, Job, Summary, Verdict, clean_chunk, encode_chunk
from sm_launch.data.read import read
from sm_launch.data.report import InputReport, PreparationReport, SplitReport, describe_split
from sm_launch.data.rows import RowCleaner
from sm_launch.data.settle import Settled, settle
from sm_launch.data.sources import Fetch, Source, locate
from sm_launch.data.split import NO_SPLIT, SPLITS
from sm_launch.data.workers import Workers, choose
from sm_launch.errors import UserInputError
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
        size = sum(source.path.stat().st_size for source in sources)
        fresh = stack.enter_context(write.replacing(output, keep=keep))
        workers = stack.enter_context(Workers(choose(config.workers, size)))
        bar = stack.enter_context(progress(title, 2 * size))
        cleaner = RowCleaner(config, columns(sources, config))
        run = _Run(config, cleaner, sources, fresh, workers, bar)
        summaries = run.first_pass()
        quarantine.check_one_form(config, summaries)
        settled = run.settle(summaries)
        late = Counter({"missing_label": int(find_gaps(summaries, settled).sum())})
        quarantine.check(
            config, summaries, +late, output, partial(run.write_rejected_only, summaries, settled)
        )
        collected = Collected.of(
            summaries, cleaner.allowed_labels, settled, named=cleaner.names_labels
        )
        decision = decide(collected, config)
        paths = run.second_pass(summaries, decision, settled)
        report = _report(run, summaries, settled, collected, decision, paths, output, started)
        manifest = report.manifest(config)
        text = json.dumps(manifest, indent=2, ensure_ascii=False)
        (fresh / write.MANIFEST).write_text(text + "\n", encoding="utf-8")
        (fresh / write.DATA_CARD).write_text(render_data_card(manifest), encoding="utf-8")
    return report


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
                    self.cleaner.check_columns(
                        chunk.names, source.location, is_table=source.format in ("csv", "tsv")
                    )
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

    def settle(self, summaries: Sequence[Summary]) -> Settled:
        """Decide on spellings and missing words, now that the whole label column is known."""
        rows_of = Counter(label for summary in summaries for label in summary.labels)
        counts: Counter[str] = Counter()
        for label, rows in rows_of.items():
            counts.update(dict.fromkeys(names_in(label), rows))
        declared = self.cleaner.allowed_labels is not None or not self.cleaner.names_labels
        settled = settle(counts, self.config, declared=declared)
        self._check_header(summaries, counts)
        missing = frozenset(settled.missing)
        for summary in summaries:
            doubtful = summary.doubtful
            summary.doubtful = {label: doubtful[label] for label in doubtful.keys() & missing}
        return settled

    def _check_header(self, summaries: Sequence[Summary], labels: Counter[str]) -> None:
        """A header that is a row: where columns are given by index nothing else shows it."""
        column = self.config.columns.label
        given = "header" in self.config.model_fields_set
        if given or not isinstance(column, int) or not self.config.header:
            return
        seen = {tidy(label).casefold() for label in labels}
        for source in self.sources:
            names = next((s.names for s in summaries if s.source == source.name and s.names), [])
            if source.format not in ("csv", "tsv"):
                continue
            cell = as_list(names[column]) or [names[column]]
            if {tidy(str(part)).casefold() for part in cell} & seen:
                raise UserInputError(
                    f"the first row of {source.location} looks like data: {names[column]!r} is a "
                    "label of other rows",
                    field="data.header",
                    value=True,
                    fix="set data.header: false; or true, where this is a header",
                )

    def second_pass(
        self, summaries: Sequence[Summary], decision: Decision, settled: Settled
    ) -> dict[str, Path]:
        """Write channels and rejected.jsonl.

        Returns:
            Name to file of each channel that has rows.
        """
        paths: dict[str, Path] = {}
        writers: dict[int, write.ChannelWriter] = {}
        names, output_format = self.cleaner.output_names, self.config.output_format
        with ExitStack() as stack:
            rejected = stack.enter_context((self.directory / write.REJECTED).open("wb"))
            for encoded in self._encode(summaries, decision, settled):
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

    def _encode(
        self, summaries: Sequence[Summary], decision: Decision, settled: Settled
    ) -> Iterator[Encoded]:
        function = partial(
            encode_chunk,
            names=self.cleaner.output_names,
            output_format=self.config.output_format,
            schema=write.common_schema([s.schema for s in summaries if s.schema is not None]),
        )
        respelt = {s: final for s, final in settled.final.items() if final and s != final}
        step = sum(source.path.stat().st_size for source in self.sources) / len(summaries)
        for encoded in self.workers.map(function, _verdicts(summaries, decision, respelt)):
            self.bar.advance(step)
            yield encoded

    def write_rejected_only(
        self, summaries: Sequence[Summary], settled: Settled, path: Path
    ) -> None:
        """Write the bad rows to `path`, because nothing else will be written."""
        import numpy as np

        gaps = find_gaps(summaries, settled)
        verdicts = np.where(gaps, MISSING, KEPT).astype(np.int8)
        nothing = Decision(np.full(len(gaps), NO_SPLIT, dtype=np.int8), verdicts)
        with path.open("wb") as file:
            for encoded in self._encode(summaries, nothing, settled):
                file.write(encoded.rejected)


def columns(sources: Sequence[Source], config: DataConfig) -> list[str]:
    """The columns of all splits, from the beginning of the first file of each."""
    first = {source.split: source for source in reversed(sources)}
    names: dict[str, None] = {}
    for source in reversed(first.values()):
        chunk = next((chunk for chunk in read(source, config) if chunk.names), None)
        names |= dict.fromkeys(chunk.names if chunk is not None else ())
    return list(names)


def _verdicts(
    summaries: Sequence[Summary], decision: Decision, spelling: dict[str, str]
) -> Iterator[Verdict]:
    start = 0
    for summary in summaries:
        end = start + len(summary.keys)
        verdicts = decision.verdicts[start:end]
        reasons = {at: VERDICTS[int(verdicts[at])] for at in verdicts.nonzero()[0].tolist()}
        yield Verdict(summary.path, decision.splits[start:end].tolist(), reasons, spelling)
        start = end


def _report(
    run: _Run,
    summaries: Sequence[Summary],
    settled: Settled,
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
            members=collected.members,
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
        taken_for_missing=taken_for_missing(summaries, settled),
        notes=notes(run.config, run.cleaner, summaries, settled, splits),
        seconds=time.monotonic() - started,
    )
