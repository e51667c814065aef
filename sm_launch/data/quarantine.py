"""Bad rows are never dropped in silence: when there are too many, the preparation fails."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sm_launch.data.passes import Summary
from sm_launch.errors import UserInputError
from sm_launch.job.data import DataConfig

_SHOWN_REASONS = 3
_SHOWN_CHARACTERS = 160


def check(
    config: DataConfig,
    summaries: Sequence[Summary],
    late: Counter[str],
    write_rejected: Callable[[], Path],
) -> None:
    """Fail where too many rows are bad, or any is where none may be.

    Duplicates are no fault of a row and do not count.

    Args:
        config: gives the limits.
        summaries: of the first pass.
        late: bad rows that only the whole column showed, by reason.
        write_rejected: writes the rejected rows next to the output, and says where.

    Raises:
        UserInputError: with the most frequent reasons, an example of each, and the file.
    """
    reasons: Counter[str] = sum((summary.reasons for summary in summaries), Counter(late))
    rows = sum(summary.rows for summary in summaries)
    bad = reasons.total()
    missing = {reason for reason in reasons if reason.startswith("missing_")}
    must_stop = config.missing.policy == "fail" and missing
    if not must_stop and bad < rows and bad <= rows * config.max_rejected_share:
        return
    path = write_rejected()
    examples: dict[str, dict[str, Any]] = {}
    for summary in summaries:
        doubtful = next(iter(summary.doubtful.values()), None)
        examples = summary.examples | examples
        if doubtful:
            examples.setdefault("missing_label", doubtful)
    field, what = "data.max_rejected_share", "are bad"
    value: object = config.max_rejected_share
    if must_stop:
        field, value, what = "data.missing.policy", "fail", "are bad, some for a missing value"
    lines = [_line(reason, count, examples[reason]) for reason, count in reasons.most_common()]
    more = len(lines) - _SHOWN_REASONS
    shown = lines[:_SHOWN_REASONS] + ([f"  and {more} more reason(s)"] if more > 0 else [])
    raise UserInputError(
        "\n".join([f"{bad} of {rows} rows ({bad / rows:.1%}) {what}", *shown]) + "\n ",
        field=field,
        value=value,
        fix=f"see every bad row in {path}; correct the data or the `data` section, "
        "or raise data.max_rejected_share",
    )


def check_one_form(config: DataConfig, summaries: Sequence[Summary]) -> None:
    """Fail where some rows are texts and others messages: no training would take them together.

    Raises:
        UserInputError: with how many rows are which.
    """
    forms: Counter[str] = sum((summary.forms for summary in summaries), Counter())
    if len(forms) < 2:
        return
    counts = " and ".join(f"{count} rows of {form}" for form, count in forms.most_common())
    raise UserInputError(
        f"mixes {counts}: the method {config.task} learns one form",
        field="data.input" if config.input else "data.train",
        value=config.input or config.train,
        fix='write all rows as messages ([{"role": "user", "content": …}], '
        '[{"role": "assistant", "content": …}]) or all as texts, in files of their own',
    )


def _line(reason: str, count: int, example: dict[str, Any]) -> str:
    raw = str(example["raw"])
    short = raw if len(raw) <= _SHOWN_CHARACTERS else raw[:_SHOWN_CHARACTERS] + "…"
    place = f"row {example['row']} of {example['file']}"
    return f"  {reason}: {count}, e.g. {place}: {example['detail']}; raw: {short}"
