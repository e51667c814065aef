"""Predictions on disk as they come, so that an interrupted evaluation goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

from sm_launch import json_lines
from sm_launch.errors import UserInputError
from sm_launch.evaluation.example import Example
from sm_launch.evaluation.result import Prediction
from sm_launch.version import launcher_version


class PredictionStore:
    """`<path>`, and `<path>.partial` while the evaluation is under way.

    The partial file starts with a fingerprint of the rows, of what is asked and of `identity`; it
    is continued only where all are the same, else started afresh. Failed rows are not stored: they
    are tried again.

    Args:
        path: the JSON Lines file of a finished evaluation.
        identity: what answers: its content or version, not only its name.
    """

    def __init__(self, path: Path, identity: str = "") -> None:
        self.path = path
        self.partial = path.with_name(path.name + ".partial")
        self._identity = identity
        self._file: TextIO | None = None

    def resume(self, examples: Sequence[Example], asked: Mapping[str, Any]) -> list[Prediction]:
        """Opens the partial file and returns the predictions that are in it already.

        Args:
            examples: the rows.
            asked: how they are asked; see Task.identity.
        """
        header = {"fingerprint": self._fingerprint(examples, asked)}
        lines = json_lines.read_until_cut(self.partial) if self.partial.exists() else []
        kept = lines[1:] if lines[:1] == [header] else []
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

    def _fingerprint(self, examples: Iterable[Example], asked: Mapping[str, Any]) -> str:
        digest = hashlib.sha256()
        for part in (self._identity, launcher_version(), asked, *map(asdict, examples)):
            digest.update(json.dumps(part, default=str).encode() + b"\n")
        return digest.hexdigest()

    def _write(self, line: dict[str, Any]) -> None:
        if self._file is not None:
            self._file.write(json_lines.dumps(line))


def write_predictions(path: Path, predictions: Iterable[Prediction]) -> None:
    """One JSON object per prediction; an earlier file is replaced only once all are written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(path.name + ".new")
    with draft.open("w", encoding="utf-8") as file:
        for prediction in predictions:
            file.write(json_lines.dumps(asdict(prediction)))
    draft.replace(path)


def read_predictions(path: Path, *, rows: int | None = None) -> list[Prediction]:
    """The predictions of a finished evaluation.

    Args:
        path: what `write_predictions` wrote.
        rows: how many there must be, where that is known.

    Raises:
        UserInputError: no such file, not such a file, one that ends short, or another number of
            rows.
    """
    if not path.is_file():
        raise UserInputError(
            "there are no predictions here",
            field="predictions",
            value=str(path),
            fix="name the predictions.jsonl that an evaluation wrote",
        )
    try:
        predictions = [_prediction(line) for line in json_lines.read(path)]
    except (TypeError, ValueError) as error:
        raise UserInputError(
            "this is not a file of predictions", field="predictions", value=str(path)
        ) from error
    if rows is not None and len(predictions) != rows:
        raise UserInputError(
            f"holds {len(predictions)} predictions, and its evaluation has {rows}",
            field="predictions",
            value=str(path),
            fix="evaluate the model again: the file was changed or cut",
        )
    return predictions


def _prediction(line: dict[str, Any]) -> Prediction:
    return Prediction(
        **{
            **line,
            "references": tuple(line.get("references", ())),
            "vectors": tuple(line.get("vectors", ())),
        }
    )
