"""Captured requests and training rows, as far as drift looks at them: input lengths and labels."""

from __future__ import annotations

import base64
import csv
import io
import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from sm_launch import json_lines
from sm_launch.aws.uris import split_s3
from sm_launch.errors import UserInputError
from sm_launch.monitoring.drift import Drift, compare_labels, compare_lengths, count_labels
from sm_launch.target.context import JobContext
from sm_launch.target.data_sets import channels_of
from sm_launch.target.staging import local_path

# So many rows of each side are enough for any bin.
MOST_ROWS = 50_000
# The newest files of captured data; an hour has one or a few of a writer.
MOST_FILES = 500
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


def drifts(context: JobContext, endpoint: str) -> list[Drift]:
    """What an endpoint captured, held against the training set of the job.

    Raises:
        UserInputError: the endpoint captures nothing.
    """
    from sm_launch.evaluation import read_rows

    config = context.config
    described = context.session.describe_endpoint(EndpointName=endpoint)
    settings = described.get("DataCaptureConfig")
    if not settings:
        raise UserInputError(
            "the endpoint keeps no requests to compare",
            field="endpoint.data_capture",
            fix="add endpoint.data_capture: {percentage: 20} and deploy again",
        )
    named = config.training.channels
    channels = [config.path(named[name]) for name in channels_of(named, "train")]
    channels = channels or [config.prepared_path / "train"]
    each = [read_rows(channel, limit=MOST_ROWS // len(channels)) for channel in channels]
    training = read_training(itertools.chain.from_iterable(each))
    seen = Sample()
    for variant in described["ProductionVariants"]:
        root = settings["DestinationS3Uri"].rstrip("/")
        location = f"{root}/{endpoint}/{variant['VariantName']}"
        captured = read_captured(captured_lines(location, context.clients))
        seen.lengths += captured.lengths
        seen.labels.update(captured.labels)
    return compare(training, seen, config.monitoring.drift_threshold)


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
            inputs = list(_inputs(_documents(data.get("endpointInput"))))
            labels = list(_labels(_documents(data.get("endpointOutput"))))
        except (json.JSONDecodeError, KeyError, TypeError, AttributeError):
            continue
        # With top_k one input has several labels, best first.
        sample.add(inputs, labels[: max(len(inputs), 1)])
    return sample


def _documents(side: dict[str, Any] | None) -> list[Any]:
    """A captured body as JSON documents; text that is none stays text."""
    if not side:
        return []
    text = str(side.get("data", ""))
    if side.get("encoding") == "BASE64":
        try:
            text = base64.b64decode(text).decode("utf-8")
        except ValueError:
            return []
    kind = str(side.get("observedContentType", "")).split(";")[0].strip().lower()
    if kind == "text/csv" or side.get("encoding") == "CSV":
        rows = [row[0] for row in csv.reader(io.StringIO(text)) if row]
        return [row for row in rows if row not in {"text", "inputs", "label"}]
    if "json" not in kind:
        return [text]
    try:
        return [json.loads(text)]
    except json.JSONDecodeError:
        return [parsed for line in json_lines.split(text) for parsed in _json_or_nothing(line)]


def _json_or_nothing(line: str) -> list[Any]:
    try:
        return [json.loads(line)]
    except json.JSONDecodeError:
        return []


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


def captured_lines(location: str, clients: Callable[[str], Any]) -> Iterator[str]:
    """Lines of the newest captured files below a URI, newest file first.

    Args:
        location: `<DestinationS3Uri>/<endpoint>/<variant>`, s3:// or file://.
        clients: makes a client of an AWS service.
    """
    if location.startswith("file://"):
        root = local_path(location)
        files = sorted(root.rglob("*.jsonl"), reverse=True)[:MOST_FILES]
        for file in files:
            yield from (line.text for line in json_lines.lines(file))
        return
    bucket, prefix = split_s3(location)
    client = clients("s3")
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{prefix}/")
    keys = [item["Key"] for page in pages for item in page.get("Contents", [])]
    for key in sorted((key for key in keys if key.endswith(".jsonl")), reverse=True)[:MOST_FILES]:
        body = client.get_object(Bucket=bucket, Key=key)["Body"]
        yield from (line.decode("utf-8", "replace") for line in body.iter_lines())
