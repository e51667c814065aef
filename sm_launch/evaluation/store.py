"""Predictions on disk as they come, so that an interrupted evaluation goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

from sm_launch.errors import UserInputError
from sm_launch.evaluation.examples import Example
from sm_launch.evaluation.result import Prediction


class PredictionStore:
    """`<path>`, and `<path>.partial` while the evaluation is under way.

    The partial file starts with a fingerprint of the rows and of `identity`; it is continued only
    where both are the same, else started afresh. Failed rows are not stored: they are tried again.

    Args:
        path: the JSON Lines file of a finished evaluation.
        identity: what answers, e.g. the endpoint's name and creation time.
    """

    def __init__(self, path: Path, identity: str = "") -> None:
        self.path = path
        self.partial = path.with_name(path.name + ".partial")
        self._identity = identity
        self._file: TextIO | None = None

    def resume(self, examples: Sequence[Example]) -> list[Prediction]:
        """Opens the partial file and returns the predictions that are in it already."""
        header = {"fingerprint": self._fingerprint(examples)}
        found = _read_lines(self.partial) if self.partial.exists() else []
        kept = found[1:] if found[:1] == [header] else []
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # Written anew rather than appended to: the last line may have been cut off.
        self._file = self.partial.open("w", encoding="utf-8")
        for line in (header, *kept):
            self._write(line)
        self._file.flush()
        return [_prediction(line) for line in kept]

    def append(self, predictions: Iterable[Prediction]) -> None:
        for prediction in predictions:
            self._write(asdict(prediction))
        if self._file is not None:
            self._file.flush()

    def close(self) -> None:
        """Closes the partial file and leaves it for the next run."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def finish(self, predictions: Iterable[Prediction]) -> None:
        """Replaces the partial file by the finished one, in the order of the rows."""
        self.close()
        write_predictions(self.path, predictions)
        self.partial.unlink(missing_ok=True)

    def _fingerprint(self, examples: Iterable[Example]) -> str:
        digest = hashlib.sha256(self._identity.encode())
        for example in examples:
            digest.update(json.dumps(_identity(example), default=str).encode())
        return digest.hexdigest()

    def _write(self, line: dict[str, Any]) -> None:
        if self._file is not None:
            self._file.write(json.dumps(line, ensure_ascii=False) + "\n")


def write_predictions(path: Path, predictions: Iterable[Prediction]) -> None:
    """One JSON object per prediction; an earlier file is replaced only once all are written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(path.name + ".new")
    with draft.open("w", encoding="utf-8") as file:
        for prediction in predictions:
            file.write(json.dumps(asdict(prediction), ensure_ascii=False) + "\n")
    draft.replace(path)


def read_predictions(path: Path) -> list[Prediction]:
    """The predictions of a finished evaluation.

    Raises:
        UserInputError: no such file, or not written by `write_predictions`.
    """
    if not path.is_file():
        raise UserInputError(
            "there are no predictions here",
            field="predictions",
            value=str(path),
            fix="name the predictions.jsonl that an evaluation wrote",
        )
    try:
        return [_prediction(line) for line in _read_lines(path)]
    except TypeError as error:
        raise UserInputError(
            "this is not a file of predictions", field="predictions", value=str(path)
        ) from error


def _identity(example: Example) -> list[Any]:
    return [
        example.index,
        example.text,
        example.gold,
        example.payload,
        list(example.slices.items()),
    ]


def _prediction(line: dict[str, Any]) -> Prediction:
    return Prediction(**{**line, "references": tuple(line.get("references", ()))})


def _read_lines(path: Path) -> list[dict[str, Any]]:
    """The JSON objects of a file, up to a line that was cut off by an interruption."""
    lines = []
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            break
        if not isinstance(line, dict):
            break
        lines.append(line)
    return lines
