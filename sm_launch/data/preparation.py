"""What a preparation does with rows, wherever they are: clean, decide, write, report.

Rows themselves are never looked at here, only what the first pass tells of them: keys, labels,
lengths. So the files may be on one machine or on several, and the result is the same.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Protocol

from sm_launch.data import quarantine, write
from sm_launch.data.assign import Collected, Decision, decide, find_gaps
from sm_launch.data.data_card import render_data_card
from sm_launch.data.dedupe import KEPT, MISSING, VERDICTS
from sm_launch.data.labels import as_list, names_in, tidy
from sm_launch.data.notes import notes, taken_for_missing
from sm_launch.data.passes import Summary, Verdict
from sm_launch.data.report import InputReport, PreparationReport, SplitReport, describe_split
from sm_launch.data.rows import RowCleaner
from sm_launch.data.settle import Settled, settle
from sm_launch.data.shard import Encoding
from sm_launch.data.sources import Source
from sm_launch.data.split import NO_SPLIT, SPLITS
from sm_launch.errors import UserInputError
from sm_launch.job.data import DataConfig


@dataclass(frozen=True)
class Written:
    """What the second pass has written.

    Attributes:
        channels: name of each channel that has rows to its files, relative to the output, each
            with its sha256; in the order of the rows.
        inputs: name of each source to its sha256.
        parts: whether a channel is a directory of parts, and not one file.
    """

    channels: dict[str, dict[str, str]]
    inputs: dict[str, str]
    parts: bool = False


class Rows(Protocol):
    """Where the raw rows are, which never are in memory all at once."""

    @property
    def sources(self) -> Sequence[Source]:
        """All files, in the order that decides which of equal rows is the first."""

    def columns(self) -> list[str]:
        """The columns of all splits."""

    def clean(self, cleaner: RowCleaner) -> list[Summary]:
        """First pass: clean all rows; what is compared of them, in order."""

    def write(self, verdicts: Verdicts, encoding: Encoding) -> Written:
        """Second pass: write channels and rejected rows."""

    def write_rejected(self, verdicts: Verdicts, encoding: Encoding) -> Path:
        """Write the rejected rows next to the output, because nothing else will be written."""

    def finish(self, files: Mapping[str, str]) -> None:
        """Write these files beside the channels: now all is complete."""


def complete(config: DataConfig, rows: Rows, output: Path, *, started: float) -> PreparationReport:
    """Clean rows, decide where each goes, and write them.

    Args:
        config: the `data` section.
        rows: the raw rows.
        output: as reports name it.
        started: when that was, as `time.monotonic` counts.

    Raises:
        UserInputError: the configuration or the data is at fault.
    """
    cleaner = RowCleaner(config, rows.columns())
    summaries = rows.clean(cleaner)
    _check_filled(rows.sources, summaries)
    quarantine.check_one_form(config, summaries)
    settled = _settle(config, cleaner, rows.sources, summaries)
    late = Counter({"missing_label": int(find_gaps(summaries, settled).sum())})
    quarantine.check(
        config, summaries, +late, partial(_reject_only, rows, cleaner, summaries, settled)
    )
    collected = Collected.of(summaries, cleaner.allowed_labels, settled, named=cleaner.names_labels)
    decision = decide(collected, config)
    respelt = {s: final for s, final in settled.final.items() if final and s != final}
    verdicts = Verdicts.of(summaries, decision, respelt)
    written = rows.write(verdicts, _encoding(cleaner, summaries))
    outcome = _Outcome(config, cleaner, rows.sources, summaries, settled, collected, decision)
    report = outcome.report(written, output, started)
    manifest = report.manifest(config)
    text = json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"
    rows.finish({write.MANIFEST: text, write.DATA_CARD: render_data_card(manifest)})
    return report


def _check_filled(sources: Sequence[Source], summaries: Sequence[Summary]) -> None:
    filled = {summary.split for summary in summaries if summary.rows}
    for source in sources:
        if source.split not in filled:
            raise UserInputError(
                "the file has no rows",
                field=f"data.{source.split}",
                value=source.location,
                fix="give a file with rows; a file without a header needs data.header: false",
            )


def _settle(
    config: DataConfig,
    cleaner: RowCleaner,
    sources: Sequence[Source],
    summaries: Sequence[Summary],
) -> Settled:
    """Decide on spellings and missing values, now that the whole label column is known."""
    rows_of = Counter(label for summary in summaries for label in summary.labels)
    counts: Counter[str] = Counter()
    for label, rows in rows_of.items():
        counts.update(dict.fromkeys(names_in(label), rows))
    declared = cleaner.allowed_labels is not None or not cleaner.names_labels
    settled = settle(counts, config, declared=declared)
    _check_header(config, sources, summaries, counts)
    missing = frozenset(settled.missing)
    for summary in summaries:
        doubtful = summary.doubtful
        summary.doubtful = {label: doubtful[label] for label in doubtful.keys() & missing}
    return settled


def _check_header(
    config: DataConfig,
    sources: Sequence[Source],
    summaries: Sequence[Summary],
    labels: Counter[str],
) -> None:
    """A header that is a row: where columns are given by index nothing else shows it."""
    column = config.columns.label
    given = "header" in config.model_fields_set
    if given or not isinstance(column, int) or not config.header:
        return
    seen = {tidy(label).casefold() for label in labels}
    for source in sources:
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


def _encoding(cleaner: RowCleaner, summaries: Sequence[Summary]) -> Encoding:
    schemas = [summary.schema for summary in summaries if summary.schema is not None]
    return Encoding(cleaner.output_names, cleaner.output_format, write.common_schema(schemas))


def _reject_only(
    rows: Rows, cleaner: RowCleaner, summaries: Sequence[Summary], settled: Settled
) -> Path:
    """Write the bad rows alone; says where."""
    import numpy as np

    gaps = find_gaps(summaries, settled)
    verdicts = np.where(gaps, MISSING, KEPT).astype(np.int8)
    nothing = Decision(np.full(len(gaps), NO_SPLIT, dtype=np.int8), verdicts)
    return rows.write_rejected(Verdicts.of(summaries, nothing, {}), _encoding(cleaner, summaries))


@dataclass(frozen=True)
class Verdicts:
    """What becomes of the rows of each spilled chunk, made when it is asked for.

    Attributes:
        summaries: of the first pass.
        decision: on all rows.
        spelling: label to the spelling that it has in the channels.
        starts: place of each chunk's first row among all rows.
    """

    summaries: Sequence[Summary]
    decision: Decision
    spelling: dict[str, str]
    starts: Sequence[int]

    @classmethod
    def of(
        cls, summaries: Sequence[Summary], decision: Decision, spelling: dict[str, str]
    ) -> Verdicts:
        """For all chunks of the first pass."""
        starts = accumulate((len(summary.keys) for summary in summaries), initial=0)
        return cls(summaries, decision, spelling, list(starts))

    def __iter__(self) -> Iterator[Verdict]:
        return map(self._verdict, range(len(self.summaries)))

    def by_source(self) -> dict[str, Sequence[int]]:
        """Name of each source to the places of its chunks."""
        places: dict[str, list[int]] = {}
        for at, summary in enumerate(self.summaries):
            places.setdefault(summary.source, []).append(at)
        return dict(places)

    def at(self, places: Sequence[int]) -> list[Verdict]:
        """Those of some chunks."""
        return [self._verdict(at) for at in places]

    def _verdict(self, at: int) -> Verdict:
        start, end = self.starts[at], self.starts[at + 1]
        verdicts = self.decision.verdicts[start:end]
        reasons = {at: VERDICTS[int(verdicts[at])] for at in verdicts.nonzero()[0].tolist()}
        splits = self.decision.splits[start:end].tolist()
        return Verdict(self.summaries[at].path, splits, reasons, self.spelling)


@dataclass(frozen=True)
class _Outcome:
    """All that a report tells."""

    config: DataConfig
    cleaner: RowCleaner
    sources: Sequence[Source]
    summaries: Sequence[Summary]
    settled: Settled
    collected: Collected
    decision: Decision

    def report(self, written: Written, output: Path, started: float) -> PreparationReport:
        splits = {
            name: self._split(name, files, output, parts=written.parts)
            for name, files in written.channels.items()
        }
        return PreparationReport(
            output=output,
            inputs=self._inputs(written),
            splits=splits,
            rejected=self._rejected(),
            labels=self.collected.names,
            taken_for_missing=taken_for_missing(self.summaries, self.settled),
            notes=notes(self.config, self.cleaner, self.summaries, self.settled, splits),
            seconds=time.monotonic() - started,
        )

    def _split(self, name: str, files: dict[str, str], output: Path, *, parts: bool) -> SplitReport:
        inside = self.decision.splits == SPLITS.index(name)
        path, sha256 = next(iter(files.items()))
        return describe_split(
            path=output / (name if parts else path),
            sha256=write.sha256_of_parts(files) if parts else sha256,
            parts=files if parts else {},
            labels=self.collected.labels[inside],
            names=self.collected.names,
            members=self.collected.members,
            characters=self.collected.characters[inside],
        )

    def _inputs(self, written: Written) -> dict[str, InputReport]:
        rows: Counter[str] = Counter()
        for summary in self.summaries:
            rows[summary.source] += summary.rows
        return {
            source.name: InputReport(
                location=source.location,
                bytes=source.bytes,
                sha256=written.inputs[source.name],
                rows=rows[source.name],
            )
            for source in self.sources
        }

    def _rejected(self) -> dict[str, int]:
        reasons: Counter[str] = sum((each.reasons for each in self.summaries), Counter())
        for verdict, (reason, _) in VERDICTS.items():
            reasons[reason] += int((self.decision.verdicts == verdict).sum())
        return {reason: count for reason, count in reasons.most_common() if count}
