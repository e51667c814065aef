"""What an endpoint's data capture has kept: requests and answers, newest files first.

The form is that of SageMaker's "Data capture" (Model Monitor): JSON lines below
`<DestinationS3Uri>/<endpoint>/<variant>/<yyyy>/<mm>/<dd>/<hh>/`.
"""

from __future__ import annotations

import base64
import csv
import heapq
import io
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from sm_launch import json_lines
from sm_launch.aws.uris import split_s3
from sm_launch.errors import UserInputError
from sm_launch.target.context import JobContext
from sm_launch.target.staging import local_path

MOST_FILES = 500
"""The newest files of captured data; an hour has one or a few of a writer."""
_HEADERS = {"text", "inputs", "label"}


@dataclass(frozen=True)
class Exchange:
    """One request and its answer.

    Attributes:
        ids: by which its ground truth is found: the caller's InferenceId, and the event's own.
        time: when it was answered, as ISO 8601 in UTC.
        asked: the documents of the request's body: one, or a line each.
        answered: likewise of the answer's.
    """

    ids: tuple[str, ...]
    time: str
    asked: list[Any]
    answered: list[Any]


def places(context: JobContext, endpoint: str) -> list[str]:
    """Where an endpoint's captured data lie: a URI for each variant.

    Raises:
        UserInputError: it captures nothing.
    """
    described = context.session.describe_endpoint(EndpointName=endpoint)
    settings = described.get("DataCaptureConfig")
    if not settings:
        raise UserInputError(
            "the endpoint keeps no requests to compare",
            field="endpoint.data_capture",
            fix="add endpoint.data_capture: {percentage: 20} and deploy again",
        )
    root = settings["DestinationS3Uri"].rstrip("/")
    return [f"{root}/{endpoint}/{v['VariantName']}" for v in described["ProductionVariants"]]


def newest(context: JobContext, endpoint: str, count: int) -> tuple[list[Exchange], int]:
    """The newest exchanges of all variants, newest first.

    Returns:
        They, and how many lines among them were none.

    Raises:
        UserInputError: the endpoint captures nothing.
    """
    kept: list[Exchange] = []
    broken = 0
    for place in places(context, endpoint):
        lines = islice(captured_lines(place, context.clients, newest_first=True), count)
        for exchange in map(read_exchange, lines):
            broken += exchange is None
            kept += [exchange] if exchange else []
    return heapq.nlargest(count, kept, key=lambda each: each.time), broken


def read_exchange(line: str) -> Exchange | None:
    """A captured line; None for one that is broken, or lacks the request or the answer."""
    try:
        event = json.loads(line)
        data, told = event["captureData"], event.get("eventMetadata", {})
        asked, answered = (documents(data.get(f"endpoint{side}")) for side in ("Input", "Output"))
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError):
        return None
    ids = tuple(str(told[key]) for key in ("inferenceId", "eventId") if told.get(key))
    if not asked or not answered:
        return None
    return Exchange(ids, str(told.get("inferenceTime", "")), asked, answered)


def documents(side: dict[str, Any] | None) -> list[Any]:
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
        return [row for row in rows if row not in _HEADERS]
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


def captured_lines(
    location: str, clients: Callable[[str], Any], *, newest_first: bool = False
) -> Iterator[str]:
    """Lines of the newest captured files below a URI, newest file first.

    Args:
        location: `<DestinationS3Uri>/<endpoint>/<variant>`, s3:// or file://.
        clients: makes a client of an AWS service.
        newest_first: the lines of a file from its end; else as they stand.
    """
    for lines in _files(location, clients):
        yield from reversed(list(lines)) if newest_first else lines


def _files(location: str, clients: Callable[[str], Any]) -> Iterator[Iterable[str]]:
    if location.startswith("file://"):
        files = sorted(local_path(location).rglob("*.jsonl"), reverse=True)[:MOST_FILES]
        for file in files:
            yield (line.text for line in json_lines.lines(file))
        return
    bucket, prefix = split_s3(location)
    client = clients("s3")
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{prefix}/")
    keys = [item["Key"] for page in pages for item in page.get("Contents", [])]
    for key in sorted((key for key in keys if key.endswith(".jsonl")), reverse=True)[:MOST_FILES]:
        body = client.get_object(Bucket=bucket, Key=key)["Body"]
        yield (line.decode("utf-8", "replace") for line in body.iter_lines())
