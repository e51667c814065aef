"""Files whose lines belong together: OPUS's pairs of languages, fairseq's train.source and .target,
tweet_eval's train_text.txt and train_labels.txt."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

from sm_launch.errors import UserInputError

FORMAT = "aligned"
_NAME = re.compile(r"(?P<shared>.*[._])(?P<column>(?!txt$)[^._]+)(?P<ending>\.txt)?")
_NOT_LINES = frozenset({"xml", "ids", "gz", "zip", "json", "jsonl", "md", "pdf"})


def files_beside(path: Path) -> dict[str, Path]:
    """A file and those whose names differ in their last part alone, by that part."""
    match = _NAME.fullmatch(path.name)
    if match is None:
        return {}
    ending = re.escape(match["ending"] or "")
    wanted = re.compile(re.escape(match["shared"]) + r"([^._]+)" + ending)
    siblings = {
        told[1]: each
        for each in sorted(path.parent.iterdir())
        if each.is_file() and (told := wanted.fullmatch(each.name)) and told[1] not in _NOT_LINES
    }
    return {match["column"]: path, **siblings}


def written_rows(path: Path, target: Path, encoding: str | None, field: str) -> Path:
    """A row for each line, whose columns are called by the last parts of the files' names.

    Args:
        path: one of the files.
        target: gets lines of JSON.
        encoding: of the files; None: UTF-8.
        field: of job.yaml, for errors.

    Raises:
        UserInputError: there is no other file, or they differ in their number of lines.
    """
    files = files_beside(path) if path.is_file() else {}
    if len(files) < 2:
        raise UserInputError(
            "has no file beside it that is called the same but for the last part of its name",
            field=field,
            value=str(path),
            fix="name one of the files whose lines belong together: train.de, beside train.en",
        )
    counts = {each.name: sum(1 for _ in _lines(each, encoding)) for each in files.values()}
    if len(set(counts.values())) > 1:
        raise UserInputError(
            "its lines do not belong to those of the files beside it: "
            + ", ".join(f"{name} has {count}" for name, count in counts.items()),
            field=field,
            value=str(path),
            fix="put the files of equal length into a directory of their own",
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("w", encoding="utf-8", errors="surrogateescape") as rows:
        for cells in zip_longest(*(_lines(each, encoding) for each in files.values())):
            rows.write(json.dumps(dict(zip(files, cells, strict=True))) + "\n")
    return target


def _lines(path: Path, encoding: str | None) -> Iterator[str]:
    """Ended by a line feed alone: U+2028 and its like are text of a line."""
    with path.open(encoding=encoding or "utf-8-sig", newline="\n", errors="replace") as file:
        yield from (line.rstrip("\r\n") for line in file)
