"""What a model answers while it is trained: a few answers of each evaluation, for the log, the file
`samples.jsonl` in output/data, and the model card."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sm_train.log import print_line

SAMPLES = "samples.jsonl"
_LOGGED, _KEPT, _SHOWN = 2, 10, 120  # answers in the log and in the file; characters in the log


@dataclass(frozen=True)
class Sample:
    """An answer, what was asked, and what was expected or how it was rewarded."""

    prompt: str
    answer: str
    expected: str | None = None
    reward: float | None = None

    @property
    def line(self) -> str:
        """For the log."""
        told = f" for {_short(self.expected)}" if self.expected is not None else ""
        worth = f", reward {self.reward:.4g}" if self.reward is not None else ""
        return f"{_short(self.answer)}{told}{worth}"


def _short(text: str) -> str:
    return repr(text[:_SHOWN] + "…" * (len(text) > _SHOWN))


def show_samples(folder: Path, step: int, split: str, samples: Sequence[Sample]) -> None:
    """The first answers of an evaluation into the log and the file.

    Args:
        folder: output/data.
        step: of training.
        split: what the metrics are called by, such as eval or eval_code.
        samples: the answers.
    """
    log_samples(split, samples)
    # A resumed run evaluates again what came after its checkpoint.
    kept = [
        row
        for row in read_samples(folder)
        if row["step"] < step or (row["step"] == step and row["split"] != split)
    ]
    kept += [{"step": step, "split": split, **asdict(sample)} for sample in samples[:_KEPT]]
    folder.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept)
    (folder / SAMPLES).write_text(text, encoding="utf-8", errors="backslashreplace")


def log_samples(split: str, samples: Sequence[Sample]) -> None:
    """The first of them into the log."""
    for number, sample in enumerate(samples[:_LOGGED], 1):
        print_line(f"{split} sample {number}: {sample.line}")


def read_samples(folder: Path) -> list[dict[str, Any]]:
    """The rows of the file; [] where there is none, and without a line that a kill cut short."""
    path = folder / SAMPLES
    if not path.is_file():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows


def last_samples(folder: Path) -> list[str]:
    """Lines of Markdown for the model card: the answers of the last evaluation of all rows."""
    rows = read_samples(folder)
    if not rows:
        return []
    last = [row for row in rows if row["step"] == rows[-1]["step"]]
    chosen = [row for row in last if row["split"] == last[-1]["split"]][:_LOGGED]
    lines = ["## Answers", "", f"Of the evaluation of step {last[-1]['step']}.", ""]
    for row in chosen:
        lines += [f"- {_quoted(row['prompt'])}", f"  - answered: {_quoted(row['answer'])}"]
        if row["expected"] is not None:
            lines.append(f"  - expected: {_quoted(row['expected'])}")
    return [*lines, ""]


def _quoted(text: str) -> str:
    return f"`{_short(text).replace('`', chr(39))}`"
