"""Between the passes: every row's split or the reason why it has none, from keys and labels."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sm_launch.data import dedupe, near, split
from sm_launch.data.chunks import short_list
from sm_launch.data.dedupe import CONFLICT, KEPT, LEAK, MISSING, NEAR, SURPLUS
from sm_launch.data.passes import Summary
from sm_launch.data.settle import Settled
from sm_launch.errors import UserInputError
from sm_launch.job.data import DataConfig

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

UNLABELLED = "(none)"
_MOST_FRACTIONS = 10
"""Half stars make nine classes; a score has many more values."""


@dataclass(frozen=True)
class Collected:
    """All usable rows of all files, in order, as columns of numbers."""

    names: list[str]
    """Label names; empty for tasks without labels."""
    labels: NDArray[np.int32]
    """Codes: an index into `names`, or 0."""
    keys: NDArray[np.uint64]
    groups: NDArray[np.uint64]
    times: NDArray[np.float64]
    characters: NDArray[np.int32]
    signatures: NDArray[np.uint16]
    given: NDArray[np.int8]
    """Split of the row's file; NO_SPLIT where the file is to be split."""
    gaps: NDArray[np.bool_]
    """Rows whose label means missing."""

    @classmethod
    def of(
        cls, summaries: Sequence[Summary], allowed: Sequence[str] | None, settled: Settled
    ) -> Collected:
        """Join the summaries of the first pass, with the labels as they were settled."""
        import numpy as np

        final = settled.final
        present = {label for label in final.values() if label is not None}
        names = sorted(present) if allowed is None else [n for n in allowed if n in present]
        codes = {name: code for code, name in enumerate(names)}
        given = [_given_split(summary.split) for summary in summaries]
        sizes = [len(summary.keys) for summary in summaries]
        return cls(
            names=names,
            labels=np.fromiter(
                (
                    codes.get(final.get(label or "") or "", 0)
                    for summary in summaries
                    for label in summary.labels
                ),
                dtype=np.int32,
            ),
            keys=np.concatenate([summary.keys for summary in summaries]),
            groups=np.concatenate([summary.groups for summary in summaries]),
            times=np.concatenate([summary.times for summary in summaries]),
            characters=np.concatenate([summary.characters for summary in summaries]),
            signatures=np.concatenate([s.signatures for s in summaries if len(s.keys)]),
            given=np.repeat(np.array(given, dtype=np.int8), sizes),
            gaps=find_gaps(summaries, settled),
        )

    def take(self, rows: NDArray[np.int64]) -> Collected:
        """Only these rows."""
        return Collected(
            self.names,
            self.labels[rows],
            self.keys[rows],
            self.groups[rows],
            self.times[rows],
            self.characters[rows],
            self.signatures[rows],
            self.given[rows],
            self.gaps[rows],
        )


def find_gaps(summaries: Sequence[Summary], settled: Settled) -> NDArray[np.bool_]:
    """Mark the rows of the first pass whose label means missing."""
    import numpy as np

    missing = frozenset(settled.missing)
    if not missing:
        return np.zeros(sum(len(summary.keys) for summary in summaries), dtype=np.bool_)
    return np.fromiter(
        (label in missing for summary in summaries for label in summary.labels), dtype=np.bool_
    )


def _given_split(name: str) -> int:
    return split.SPLITS.index(name) if name in split.SPLITS else split.NO_SPLIT


@dataclass(frozen=True)
class Decision:
    """What becomes of each usable row."""

    splits: NDArray[np.int8]
    """Index into SPLITS; NO_SPLIT: rejected."""
    verdicts: NDArray[np.int8]
    """A key of VERDICTS where rejected, KEPT elsewhere."""


def decide(rows: Collected, config: DataConfig) -> Decision:
    """Remove duplicates, split, and remove what would leak.

    Ready validation and test files keep all their rows: they are somebody's benchmark. Training
    rows that also stand there go.

    Raises:
        UserInputError: the labels do not allow this split.
    """
    import numpy as np

    _check_labels(rows, config)
    splits = rows.given.copy()
    verdicts = np.zeros(len(splits), dtype=np.int8)
    _reject(rows.gaps, splits, verdicts, MISSING)
    fixed = (splits == split.VALIDATION) | (splits == split.TEST)
    pool = np.flatnonzero(~fixed & ~rows.gaps)
    # Leaks first: a row that goes anyway must not win against its duplicates.
    splits[pool] = split.TRAIN
    _reject(dedupe.leaks(rows.keys, splits), splits, verdicts, LEAK)
    pool = pool[verdicts[pool] == KEPT]
    judged = dedupe.judge(rows.keys[pool], rows.labels[pool], config.duplicates)
    _check_conflicts(judged, config)
    verdicts[pool] = judged
    splits[pool[judged != KEPT]] = split.NO_SPLIT
    pool = pool[judged == KEPT]
    if config.duplicates.near is not None:
        _reject_near(rows, np.flatnonzero(fixed), pool, config.duplicates.near, splits, verdicts)
        pool = pool[verdicts[pool] == KEPT]
    splits[pool] = _assign(rows.take(pool), config)
    _reject(dedupe.leaks(rows.keys, splits), splits, verdicts, LEAK)
    if config.split.group is not None:
        _reject(dedupe.leaks(rows.groups, splits), splits, verdicts, LEAK)
    if config.balance is not None:
        surplus = split.surplus(rows.keys, rows.labels, splits, config.balance, config.split.seed)
        _reject(surplus, splits, verdicts, SURPLUS)
    _check_splits(rows, splits)
    return Decision(splits, verdicts)


def _reject(
    which: NDArray[np.bool_], splits: NDArray[np.int8], verdicts: NDArray[np.int8], verdict: int
) -> None:
    verdicts[which] = verdict
    splits[which] = split.NO_SPLIT


def _reject_near(
    rows: Collected,
    fixed: NDArray[np.int64],
    pool: NDArray[np.int64],
    threshold: float,
    splits: NDArray[np.int8],
    verdicts: NDArray[np.int8],
) -> None:
    """Reject rows of `pool` that nearly equal an earlier one, or one of a ready split."""
    import numpy as np

    order = np.concatenate([fixed, pool])
    earlier = near.mark(rows.signatures[order], rows.labels[order], threshold)[len(fixed) :]
    verdicts[pool[earlier >= len(fixed)]] = NEAR
    verdicts[pool[(earlier >= 0) & (earlier < len(fixed))]] = LEAK
    splits[pool[earlier >= 0]] = split.NO_SPLIT


def _assign(pool: Collected, config: DataConfig) -> NDArray[np.int8]:
    """Splits of the rows that came in the file to split, or in the training file."""
    wanted = config.split
    validation = 0.0 if config.validation else wanted.validation
    test = 0.0 if config.test else wanted.test
    shares = (1 - validation - test, validation, test)
    if wanted.group is not None:
        return split.by_group(pool.groups, pool.labels, shares, wanted.seed)
    if wanted.time is not None:
        return split.by_time(pool.keys, pool.times, shares)
    return split.by_label(pool.keys, pool.labels, pool.names or [UNLABELLED], shares, wanted)


def _check_labels(rows: Collected, config: DataConfig) -> None:
    if config.task != "text-classification":
        return
    files = ", ".join(config.sources.values())
    absent = sorted(set(config.labels or ()) - set(rows.names))
    if absent:
        raise UserInputError(
            "no row has this label",
            field="data.labels",
            value=absent[0],
            fix=f"remove it or map a raw label to it; the data has: {short_list(rows.names)}",
        )
    if len(rows.names) < 2:
        raise UserInputError(
            f"all {len(rows.keys)} usable rows of {files} have the same label; "
            "a classifier needs at least two",
            field="data.columns.label",
            value=rows.names[0] if rows.names else None,
            fix="check data.columns.label and data.label_map, or add rows of another label",
        )
    _check_classes(rows, config, files)


def _check_classes(rows: Collected, config: DataConfig, files: str) -> None:
    """Refuse a column of numbers or of texts that is taken for the label."""
    numbers = sum(_is_fraction(name) for name in rows.names)
    if not config.labels and numbers > max(_MOST_FRACTIONS, len(rows.names) // 2):
        raise UserInputError(
            f"{numbers} of {len(rows.names)} labels of {files} are fractions: this looks like a "
            "number to predict, not like classes",
            field="data.columns.label",
            value=config.columns.label,
            fix="set training.hyperparameters.problem_type: regression, name the column that holds "
            "the class, or declare the classes in data.labels",
        )
    if len(rows.names) > max(50, len(rows.keys) // 4):
        raise UserInputError(
            f"{len(rows.names)} different labels in {len(rows.keys)} rows of {files}: this looks "
            "like text",
            field="data.columns.label",
            value=config.columns.label,
            fix="name the column that holds the label",
        )


def _is_fraction(label: str) -> bool:
    return re.fullmatch(r"-?\d+[.,]\d+(e-?\d+)?", label, re.IGNORECASE) is not None


def _check_conflicts(judged: NDArray[np.int8], config: DataConfig) -> None:
    conflicts = int((judged == CONFLICT).sum())
    if conflicts and config.duplicates.conflicting == "fail":
        raise UserInputError(
            f"{conflicts} row(s) have equal texts but different labels",
            field="data.duplicates.conflicting",
            value="fail",
            fix="correct the labels, or choose majority, drop or first",
        )


def _check_splits(rows: Collected, splits: NDArray[np.int8]) -> None:
    import numpy as np

    trained = set(np.unique(rows.labels[splits == split.TRAIN]).tolist())
    if not trained:
        raise UserInputError(
            "no row is left to train on",
            field="data.train",
            fix="see whether the training rows all stand in validation or test too",
        )
    for part in (split.VALIDATION, split.TEST):
        unseen = sorted(set(np.unique(rows.labels[splits == part]).tolist()) - trained)
        if unseen:
            raise UserInputError(
                f"the {split.SPLITS[part]} split has a label that no training row has",
                field=f"data.{split.SPLITS[part]}",
                value=rows.names[unseen[0]],
                fix="add training rows of that label, or map it to another in data.label_map",
            )
