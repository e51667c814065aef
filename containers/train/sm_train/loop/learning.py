"""What a job learns from, counted before its first step: rows that teach nothing are set aside."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from sm_train.data.cache import map_processes
from sm_train.data.channels import set_aside
from sm_train.data.cleaning import check_share
from sm_train.errors import UserError
from sm_train.job import Job
from sm_train.log import print_line
from sm_train.loop.streams import streamed
from sm_train.loop.token_columns import COUNTED, NOTHING_LEFT, token_columns
from sm_train.modelling.preview import print_preview
from sm_train.modelling.sequences import check_row_tools, setting
from sm_train.rows import SPLITS

_IMAGE = 50  # rows of text that take as long as one with an image


@dataclass(frozen=True)
class Cut:
    """How many rows of a channel max_length cut, for methods that learn no tokens."""

    rows: int
    cut: int


@dataclass(frozen=True)
class Counts:
    """What the rows of one channel come to as tokens."""

    rows: int
    set_aside: int  # rows that would have taught nothing
    cut: int  # rows that max_length cut
    cut_tokens: int
    tokens: int
    learnt: int
    differ: int  # rows in which the prompt's end depends on the answer

    def line(self, split: str, max_length: Any) -> str:
        """What the log says of a channel."""
        share = 100 * self.learnt / max(self.tokens, 1)
        text = (
            f"channel {split}: {self.rows} rows, {self.tokens} tokens, "
            f"{self.learnt} of them learnt ({share:.1f}%)"
        )
        if self.cut:
            text += f"; {self.cut} rows cut at max_length {max_length} ({self.cut_tokens} tokens)"
        if self.differ:
            text += (
                f"; in {self.differ} rows the end of the prompt has other tokens when the answer "
                "follows, and counts as a part of it"
            )
        if self.set_aside:
            text += (
                f"; {self.set_aside} without a learnt token set aside in output/data/rejected.jsonl"
            )
        return text


def learnable(job: Job, tokenizer: Any, arguments: Any) -> tuple[Job, dict[str, Any]]:
    """The job with the rows that teach something, and their tokens by split (None: no channel).

    The tokens are those that TRL's trainer of the method takes, where it takes any (SFT, DPO,
    reward): each row is tokenised once. KTO's, CPO's and ORPO's trainers of TRL 1.16 tokenise in
    the middle of what they make of the rows (unpairing and mismatched answers; text, not tokens,
    rendered by the template) and look for no tokens of ours, so that theirs are made a second time.

    Prints the share of learnt tokens and a few rows. Raises UserError when a channel has no row to
    learn from, or more useless ones than max_rejected_share allows.
    """
    tokens: dict[str, Any] = {}
    evaluated = job.data.test is not None and job.data.test is job.data.validation
    for split in SPLITS[:2] if evaluated else SPLITS:
        with arguments.main_process_first(desc=f"counting the tokens of {split}"):
            tokens[split] = _counted(job, split, tokenizer)
        if tokens[split] is not None:
            job, tokens[split] = _kept(job, split, tokens[split])
        if job.has_images and tokens[split] is not None:
            tokens[split] = job.dataset(split)  # whose tokens are made when a batch is
    if job.data.stream is not None:
        columns = partial(token_columns, config=job.config, tokenizer=tokenizer)
        tokens["train"] = streamed(job, columns)
    if evaluated:  # the test channel stands for the validation channel too
        tokens["test"] = tokens["validation"]
        job = replace(job, data=replace(job.data, test=job.data.validation))
    print_preview(job, tokenizer)
    return job, tokens


def _counted(job: Job, split: str, tokenizer: Any) -> Any:
    """The rows of a split as tokens, with what was cut and why a row teaches nothing."""
    dataset = job.dataset(split)
    if dataset is None:
        return None
    return dataset.map(
        token_columns,
        fn_kwargs={"config": job.config, "tokenizer": tokenizer},
        remove_columns=dataset.column_names,
        num_proc=map_processes(len(dataset) * (_IMAGE if job.has_images else 1)),
    )


def check_prompts_shown(job: Job, tokenizer: Any) -> None:
    """For methods that sample their answers: refuse prompts that the template shows in part.

    Prints a few of them. Raises UserError naming the row.
    """
    for split in SPLITS:
        for number, row in enumerate(job.data.split(split) or (), 1):
            try:
                check_row_tools(row, tokenizer)
            except ValueError as error:
                raise UserError(f"row {number}: {error}", field=f"channel {split}") from error
    print_preview(job, tokenizer)


def _kept(job: Job, split: str, tokens: Any) -> tuple[Job, Any]:
    """Without the rows that teach nothing, which are recorded."""
    reasons: Sequence[str] = tokens["reason"]
    good = [place for place, reason in enumerate(reasons) if not reason]
    bad = [(place, reason) for place, reason in enumerate(reasons) if reason]
    if not good:
        _refuse(job, split, reasons)
    if bad:
        data = set_aside(job.data, split, bad, job.paths if job.is_main else None)
        check_share(
            f"channel {split}",
            len(good),
            Counter({"earlier": job.data.rejected.get(split, 0)}) + Counter(r for _, r in bad),
            job.config.job.max_rejected_share,
        )
        job, tokens = replace(job, data=data), tokens.select(good)
    counts = Counts(
        rows=len(good),
        set_aside=len(bad),
        cut=sum(1 for cut in tokens["cut"] if cut),
        cut_tokens=sum(tokens["cut"]),
        tokens=sum(tokens["tokens"]),
        learnt=sum(tokens["learnt"]),
        differ=sum(tokens["differs"]),
    )
    if job.is_main:
        print_line(counts.line(shown_name(job, split), setting(job.config, "max_length")))
    job = replace(job, learning={**job.learning, split: counts})
    return job, tokens.remove_columns([*COUNTED, "reason"])


def counted_cuts(job: Job, datasets: dict[str, Any], limit: int | None) -> Job:
    """The job with the counts of rows that were cut, from the column `cut`; prints them."""
    for split, dataset in datasets.items():
        if dataset is None:
            continue
        cut = Cut(len(dataset), sum(dataset["cut"]))
        job = replace(job, learning={**job.learning, split: cut})
        if cut.cut and job.is_main:
            name = shown_name(job, split)
            print_line(f"channel {name}: {cut.cut} of {cut.rows} rows cut at max_length {limit}")
    return job


def shown_name(job: Job, split: str) -> str:
    """Of a channel, where its rows are counted: of a stream, only the first ones are."""
    return f"{split} (its first rows)" if split == "train" and job.data.stream else split


def _refuse(job: Job, split: str, reasons: Sequence[str]) -> None:
    limit = setting(job.config, "max_length")
    if all(reason == NOTHING_LEFT or "max_length" in reason for reason in reasons):
        raise UserError(
            f"no row of the {split} channel is left: each is as long, or its prompt alone is",
            field="max_length",
            value=limit,
            fix="raise max_length, or shorten the prompts",
        )
    causes = "; ".join(f"{n} × {reason}" for reason, n in Counter(reasons).most_common(3))
    raise UserError(
        f"there is nothing to learn in any of its {len(reasons)} rows: {causes}",
        field=f"channel {split}",
        fix="see how the rows look to the model with python -m sm_train.preview",
    )
