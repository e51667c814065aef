"""Captured requests and training rows, as far as drift looks at them: input lengths and labels."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from sm_launch.hosting.captured import captured_lines, documents, places
from sm_launch.monitoring.drift import Drift, compare_labels, compare_lengths, count_labels
from sm_launch.target.context import JobContext
from sm_launch.target.data_sets import channels_of

# So many rows of each side are enough for any bin.
MOST_ROWS = 50_000
_TEXT_KEYS = ("text", "inputs", "prompt", "input", "question", "messages")
_LABEL_KEYS = ("label", "labels")


@dataclass
class Sample:
    """What one side looks like.

    Attributes:
        lengths: of the inputs, in characters.
        labels: label to count.
    """

    lengths: list[int] = field(default_factory=list)
    labels: Counter[str] = field(default_factory=Counter)

    def add(self, inputs: Iterable[Any], labels: Iterable[Any]) -> None:
        """Take in the inputs and labels of one request or row."""
        self.lengths += [len(text) for text in map(_plain, inputs) if text]
        self.labels.update(count_labels(labels))


def comparison(context: JobContext, endpoint: str) -> Callable[[], list[Drift]]:
    """Holds what an endpoint has captured, when it is called, against the training set of the job.

    Raises:
        UserInputError: the endpoint captures nothing.
    """
    from sm_launch.evaluation import read_rows

    config, locations = context.config, places(context, endpoint)
    named = config.training.channels
    channels = [config.path(named[name]) for name in channels_of(named, "train")]
    channels = channels or [config.prepared_path / "train"]
    each = [read_rows(channel, limit=MOST_ROWS // len(channels)) for channel in channels]
    training = read_training(itertools.chain.from_iterable(each))

    def drifts() -> list[Drift]:
        seen = Sample()
        for location in locations:
            captured = read_captured(captured_lines(location, context.clients))
            seen.lengths += captured.lengths
            seen.labels.update(captured.labels)
        return compare(training, seen, config.monitoring.drift_threshold)

    return drifts


def compare(training: Sample, captured: Sample, threshold: float) -> list[Drift]:
    """Every comparison that there is data for."""
    compared = [
        compare_lengths(training.lengths, captured.lengths, threshold),
        compare_labels(training.labels, captured.labels, threshold),
    ]
    return [drift for drift in compared if drift is not None]


def read_training(rows: Iterable[dict[str, Any]]) -> Sample:
    """Lengths and labels of training rows."""
    sample = Sample()
    for row in itertools.islice(rows, MOST_ROWS):
        text = next((row[key] for key in _TEXT_KEYS if key in row), None)
        labels = [row[key] for key in _LABEL_KEYS if isinstance(row.get(key), str)]
        sample.add([text], labels)
    return sample


def read_captured(lines: Iterable[str]) -> Sample:
    """Lengths of captured inputs and labels of the answers; broken lines are passed over."""
    sample = Sample()
    for line in itertools.islice(lines, MOST_ROWS):
        try:
            data = json.loads(line)["captureData"]
            inputs = list(_inputs(documents(data.get("endpointInput"))))
            labels = list(_labels(documents(data.get("endpointOutput"))))
        except (json.JSONDecodeError, KeyError, TypeError, AttributeError):
            continue
        # With top_k one input has several labels, best first.
        sample.add(inputs, labels[: max(len(inputs), 1)])
    return sample


def _inputs(documents: Iterable[Any]) -> Iterator[Any]:
    for document in documents:
        value = document
        if isinstance(document, dict):
            value = next((document[key] for key in _TEXT_KEYS if key in document), None)
        is_chat = isinstance(value, list) and value and isinstance(value[0], dict)
        if isinstance(value, list) and not is_chat:
            yield from value
        else:
            yield value


def _labels(documents: Iterable[Any]) -> Iterator[str]:
    """The first label of every answer: classifiers put the best one first."""
    for document in documents:
        if isinstance(document, str) and document:
            yield document
        elif isinstance(document, dict) and "label" in document:
            yield str(document["label"])
        elif isinstance(document, list):
            for item in document:
                best = item[0] if isinstance(item, list) and item else item
                if isinstance(best, dict) and "label" in best:
                    yield str(best["label"])


def _plain(value: Any) -> str:
    """The text of an input: a string, or the contents of chat messages."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "\n".join(str(each.get("content", "")) for each in value if isinstance(each, dict))
    return ""
