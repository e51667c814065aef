"""What a preparation did that its user may not expect, said once and with counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from sm_launch.data.chunks import short_list
from sm_launch.data.passes import Summary
from sm_launch.data.report import SplitReport
from sm_launch.data.rows import RowCleaner
from sm_launch.data.settle import Settled
from sm_launch.data.spelling import near_spellings
from sm_launch.job.data import DataConfig
from sm_launch.job.tasks import MULTI_LABEL

_FEW_TEST_ROWS = 30
_MOST_GRADES = 20


def taken_for_missing(summaries: Sequence[Summary], settled: Settled) -> dict[str, dict[str, int]]:
    """Column to the words that were taken for a missing value, the most frequent first."""
    taken: Counter[tuple[str, str]] = sum((summary.taken for summary in summaries), Counter())
    for word, rows in settled.gaps.items():
        taken["label", word] += rows
    counts: dict[str, dict[str, int]] = {}
    for (column, word), rows in sorted(taken.items(), key=lambda item: (-item[1], item[0])):
        counts.setdefault(column, {})[word] = rows
    return counts


def notes(
    config: DataConfig,
    cleaner: RowCleaner,
    summaries: Sequence[Summary],
    settled: Settled,
    splits: Mapping[str, SplitReport],
) -> list[str]:
    """The sentences of the report."""
    labels: Counter[str] = sum((Counter(split.labels) for split in splits.values()), Counter())
    return [
        *_spellings(settled),
        *(f"{spellings}; data.label_map makes them one" for spellings in near_spellings(labels)),
        *_classes(settled),
        *_unread(cleaner, summaries),
        *_unread_parts(summaries),
        *_mended(summaries),
        *_small_test(splits),
        *(_label_sets(summaries, splits) if config.task == MULTI_LABEL else ()),
        *(() if cleaner.names_labels else _numbers(summaries)),
    ]


def _spellings(settled: Settled) -> list[str]:
    return [
        f"label {label!r} is also spelt "
        + ", ".join(f"{other!r} ({rows} rows)" for other, rows in sorted(others.items()))
        for label, others in settled.merged.items()
    ]


def _classes(settled: Settled) -> list[str]:
    return [
        f"label {label!r} ({rows} rows) is read as a class; where it means missing, set "
        f"data.missing.values to a list with it"
        for label, rows in settled.classes.items()
    ]


def _unread(cleaner: RowCleaner, summaries: Sequence[Summary]) -> list[str]:
    names = dict.fromkeys(name for summary in summaries for name in summary.names)
    read = cleaner.read_columns
    at = {name: index for index, name in enumerate(names)}
    heads = {str(column).split(".")[0] for column in read}
    unread = [n for n in names if n and n not in heads and n not in read and at[n] not in read]
    if not unread:
        return []
    return [f"columns that are not read: {short_list(unread)} (data.columns.keep carries them)"]


def _unread_parts(summaries: Sequence[Summary]) -> list[str]:
    rows = {name: n for summary in summaries for name, n in summary.unread.items()}
    shown = ", ".join(f"{name} ({n} rows)" for name, n in rows.items())
    return [f"parts of no split, which are not read: {shown}"] if rows else []


def _mended(summaries: Sequence[Summary]) -> list[str]:
    lines = sum(summary.mended for summary in summaries)
    return [f"{lines} line(s) are not UTF-8 and were read as cp1252"] if lines else []


def _label_sets(summaries: Sequence[Summary], splits: Mapping[str, SplitReport]) -> list[str]:
    """Rows without a label, and labels too rare to stand in every split."""
    bare = sum(label == () for summary in summaries for label in summary.labels)
    notes = [f"{bare} row(s) have no label"] if bare else []
    for name, split in splits.items():
        rare = [label for label, rows in split.labels.items() if not rows]
        if rare:
            notes.append(f"labels without a row in the {name} channel: {short_list(rare)}")
    return notes


def _numbers(summaries: Sequence[Summary]) -> list[str]:
    """How the numbers to predict are spread; of grades how many rows have each."""
    labels = Counter(label for summary in summaries for label in summary.labels)
    rows = Counter({float(label): n for label, n in labels.items() if isinstance(label, str)})
    if not rows:
        return []
    mean = sum(number * n for number, n in rows.items()) / rows.total()
    note = f"the label is a number from {min(rows):g} to {max(rows):g}, on average {mean:.4g}"
    if len(rows) > _MOST_GRADES:
        return [note]
    shown = ", ".join(f"{number:g} ({n} rows)" for number, n in sorted(rows.items()))
    return [f"{note}: {shown}"]


def _small_test(splits: Mapping[str, SplitReport]) -> list[str]:
    test = splits.get("test")
    if test is None or test.rows >= _FEW_TEST_ROWS:
        return []
    return [f"the test channel has {test.rows} row(s): too few to tell two models apart"]
