"""Between the passes: every row's split or the reason why it has none, from keys and labels."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sm_launch.data import dedupe, label_sets, near, split
from sm_launch.data.chunks import short_list
from sm_launch.data.dedupe import CONFLICT, KEPT, LEAK, MISSING, NEAR, SURPLUS
from sm_launch.data.labels import Label, names_in
from sm_launch.data.passes import Summary
from sm_launch.data.settle import Settled
from sm_launch.errors import UserInputError
from sm_launch.job.data import DataConfig
from sm_launch.job.tasks import MULTI_LABEL, TASKS

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
    members: NDArray[np.bool_]
    """Of each code, which of the names it stands for: one, or a set of several."""
    labels: NDArray[np.int32]
    """Codes: a row of `members` each."""
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
        cls,
        summaries: Sequence[Summary],
        allowed: Sequence[str] | None,
        settled: Settled,
        *,
        named: bool = True,
    ) -> Collected:
        """Join the summaries of the first pass, with the labels as they were settled.

        Numbers to predict (not `named`) have codes, by which conflicts are seen, but no names.
        """
        import numpy as np

        final = settled.final
        present = {label for label in final.values() if named and label is not None}
        names = sorted(present) if allowed is None else [n for n in allowed if n in present]
        codes = _codes(summaries, final, names)
        given = [_given_split(summary.split) for summary in summaries]
        sizes = [len(summary.keys) for summary in summaries]
        return cls(
            names=names,
            members=_members(codes, names),
            labels=np.fromiter(
                (codes.of[label] for summary in summaries for label in summary.labels),
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
            self.members,
            self.labels[rows],
            self.keys[rows],
            self.groups[rows],
            self.times[rows],
            self.characters[rows],
            self.signatures[rows],
            self.given[rows],
            self.gaps[rows],
        )


@dataclass(frozen=True)
class _Codes:
    """Labels of rows as numbers: the places of `sets`, whose items are places of the names."""

    sets: list[tuple[int, ...]]
    of: dict[Label | None, int]


def _codes(
    summaries: Sequence[Summary], final: Mapping[str, str | None], names: Sequence[str]
) -> _Codes:
    places = {name: at for at, name in enumerate(names)}
    distinct = {label for summary in summaries for label in summary.labels}
    if not names:
        ordered = sorted(distinct, key=repr)
        return _Codes([()] * len(ordered), {label: at for at, label in enumerate(ordered)})
    members_of = {
        label: tuple(sorted({places[name] for n in names_in(label) if (name := final.get(n))}))
        for label in distinct
    }
    several = any(isinstance(label, tuple) for label in distinct)
    each: set[tuple[int, ...]] = {(at,) for at in range(len(names))}
    sets = sorted(set(members_of.values()) if several else each)
    codes = {members: code for code, members in enumerate(sets)}
    # Rows whose label means missing have a code too: they are rejected, and counted nowhere.
    return _Codes(sets, {label: codes.get(members, 0) for label, members in members_of.items()})


def _members(codes: _Codes, names: Sequence[str]) -> NDArray[np.bool_]:
    import numpy as np

    table = np.zeros((max(len(codes.sets), 1), len(names)), dtype=np.bool_)
    for code, members in enumerate(codes.sets):
        table[code, list(members)] = True
    return table


def find_gaps(summaries: Sequence[Summary], settled: Settled) -> NDArray[np.bool_]:
    """Mark the rows of the first pass whose label means missing."""
    import numpy as np

    missing = frozenset(settled.missing)
    if not missing:
        return np.zeros(sum(len(summary.keys) for summary in summaries), dtype=np.bool_)
    distinct = {label for summary in summaries for label in summary.labels}
    gaps = {label for label in distinct if not missing.isdisjoint(names_in(label))}
    return np.fromiter(
        (label in gaps for summary in summaries for label in summary.labels), dtype=np.bool_
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
        counted = label_sets.with_none(pool.members)
        return split.by_group(pool.groups, pool.labels, shares, wanted.seed, counted)
    if wanted.time is not None:
        return split.by_time(pool.keys, pool.times, shares)
    if config.task == MULTI_LABEL and wanted.stratify:
        return label_sets.by_labels(pool.keys, pool.labels, pool.members, shares, wanted.seed)
    strata = pool.labels if pool.names else pool.labels * 0
    return split.by_label(pool.keys, strata, pool.names or [UNLABELLED], shares, wanted)


def _check_labels(rows: Collected, config: DataConfig) -> None:
    if TASKS[config.task].rows != "labelled":
        return
    files = ", ".join(config.sources.values())
    absent = sorted(set(config.labels or ()) - set(rows.names))
    if absent and config.task != "regression":
        raise UserInputError(
            "no row has this label",
            field="data.labels",
            value=absent[0],
            fix=f"remove it or map a raw label to it; the data has: {short_list(rows.names)}",
        )
    if len(set(rows.labels[~rows.gaps].tolist())) < 2:
        raise UserInputError(
            f"all {len(rows.keys)} usable rows of {files} have the same label; "
            "a classifier needs at least two",
            field="data.columns.label",
            value=", ".join(rows.names) or None,
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

    def present(part: int) -> NDArray[np.bool_]:
        inside: NDArray[np.bool_] = rows.members[np.unique(rows.labels[splits == part])]
        return np.asarray(inside.any(axis=0))

    if not (splits == split.TRAIN).any():
        raise UserInputError(
            "no row is left to train on",
            field="data.train",
            fix="see whether the training rows all stand in validation or test too",
        )
    for part in (split.VALIDATION, split.TEST):
        unseen = np.flatnonzero(present(part) & ~present(split.TRAIN))
        if len(unseen):
            raise UserInputError(
                f"the {split.SPLITS[part]} split has a label that no training row has",
                field=f"data.{split.SPLITS[part]}",
                value=rows.names[unseen[0]],
                fix="add training rows of that label, or map it to another in data.label_map",
            )
