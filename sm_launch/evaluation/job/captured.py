"""Captured traffic as rows: what an endpoint was asked, and what is expected of the answers.

Expected is what became known later: ground truth in the form of Model Monitor ("Ingest ground truth
labels and merge them with predictions"). Without it another model's answers to the same requests
are held against the endpoint's own.
"""

from __future__ import annotations

import base64
import csv
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sm_launch import json_lines
from sm_launch.errors import UserInputError
from sm_launch.evaluation.example import missing
from sm_launch.evaluation.job import artefacts
from sm_launch.evaluation.job.asking import artefact_of, task_of
from sm_launch.evaluation.job.request import Request
from sm_launch.evaluation.task import Task, read_list
from sm_launch.evaluation.tasks.generation import TextGeneration
from sm_launch.evaluation.wire import WireError
from sm_launch.hosting import captured, endpoints
from sm_launch.hosting.captured import Exchange
from sm_launch.target.context import JobContext

NEWEST = 1000
"""So many exchanges are read where nothing is said."""
_INPUT_KEYS = ("inputs", "text", "prompt", "messages")


@dataclass(frozen=True)
class Traffic:
    """Rows made of captured requests.

    Attributes:
        rows: with the input and what is expected, under the task's columns.
        answers: what the endpoint answered to each.
        notes: what was left out, with counts.
    """

    rows: list[dict[str, Any]]
    answers: list[Any]
    notes: list[str]


def check(request: Request) -> None:
    """Raise UserInputError for a request that contradicts itself."""
    given = [n for n in ("labels", "newest") if getattr(request, n) is not None]
    if not request.captured:
        if given:
            raise UserInputError("goes with --captured alone", field=f"--{given[0]}")
        return
    others = [
        n for n in ("data", "transform_output", "slices", "benchmarks") if getattr(request, n)
    ]
    if others:
        raise UserInputError(
            f"brings its own rows: leave out {', '.join(others)}", field="--captured",
            value=request.captured,
        )  # fmt: skip
    if request.newest is not None and request.newest < 1:
        raise UserInputError("must be 1 or more", field="--newest", value=request.newest)
    another = request.endpoint or request.model_data
    if not (request.labels or another):
        raise UserInputError(
            "there is nothing to hold the captured answers against", field="--captured",
            value=request.captured,
            fix="give what is right with --labels, or another model that is asked the same with "
            "--endpoint or --model-data",
        )  # fmt: skip
    if request.load and not another:
        raise UserInputError("sends requests: name the endpoint with --endpoint", field="--load")


def traffic(context: JobContext, request: Request, fetch: Callable[[str], Path]) -> Traffic:
    """What the endpoint of a request has captured, as rows. Raises as `read` and `read_truth`."""
    name = endpoints.require_meant(context, request.captured)
    artefact, _ = artefact_of(context, artefacts.model_uri(context.session, name))
    truth, odd = read_truth(fetch(request.labels)) if request.labels else (None, 0)
    if odd:
        context.warn(f"{odd} lines of {request.labels} are no labels")
    task = task_of(context.config, [{"": None}], artefact)
    return read(context, name, task, request.newest or NEWEST, truth)


def read(
    context: JobContext, endpoint: str, task: Task, newest: int, truth: Mapping[str, Any] | None
) -> Traffic:
    """The newest exchanges of an endpoint, a row for each of their inputs.

    Args:
        context: where the endpoint is.
        endpoint: its name.
        task: what it does.
        newest: so many exchanges at most.
        truth: id to label (`read_truth`); None: the endpoint's own answers are expected.

    Raises:
        UserInputError: nothing is captured, nothing of it can be used, or answers of this task are
            no labels.
    """
    if type(task).as_label is Task.as_label:
        raise UserInputError(
            f"captured requests are not measured for the task {task.name}",
            field="--captured",
            value=endpoint,
            fix="measure held-out rows instead",
        )
    exchanges, broken = captured.newest(context, endpoint, newest)
    left_out = Counter({"line that is no whole exchange": broken})
    rows, answers = [], []
    for exchange in exchanges:
        try:
            pairs = list(_labelled(exchange, task, truth))
        except (WireError, LookupError) as reason:
            left_out[str(reason.args[0])] += 1
            continue
        rows += [row for row, _ in pairs]
        answers += [answer for _, answer in pairs]
    told = [f"{what}: {count}" for what, count in left_out.items() if count]
    if not rows:
        raise UserInputError(
            f"nothing to measure in {len(exchanges)} captured exchanges "
            f"({'; '.join(told) or 'none'})",
            field="--captured",
            value=endpoint,
            fix="give labels whose eventId is the InferenceId of a request (or its captured "
            "eventId), and wait until something is captured",
        )
    notes = [f"captured by {endpoint}: {len(rows)} rows of {len(exchanges)} exchanges"]
    notes += [f"left out of what was captured: {'; '.join(told)}"] if told else []
    if truth is None:
        notes.append(f"expected are the answers of {endpoint}: what is right is what is equal")
    return Traffic(rows, answers, notes)


def _labelled(
    exchange: Exchange, task: Task, truth: Mapping[str, Any] | None
) -> Iterator[tuple[dict[str, Any], Any]]:
    """A row and an answer for each input. Raises LookupError or WireError, with the reason."""
    inputs = [each for document in exchange.asked for each in _inputs(document)]
    answers = _answers(exchange.answered, len(inputs), task)
    if truth is None:
        labels = [task.as_label(answer) for answer in answers]
    else:
        known = [truth[each] for each in exchange.ids if each in truth]
        if not known:
            raise LookupError("exchange without a label")
        labels = _each(known[0], len(inputs))
    for given, answer, label in zip(inputs, answers, labels, strict=True):
        yield {**_row(given, task), task.label_column: label}, answer


def _inputs(document: Any) -> list[Any]:
    """The inputs of a request's body, as our server, Hugging Face's and OpenAI's have them."""
    value = document
    if isinstance(document, dict):
        value = next((document[key] for key in _INPUT_KEYS if key in document), document)
    is_chat = (
        isinstance(value, list) and value and isinstance(value[0], dict) and "role" in value[0]
    )
    return value if isinstance(value, list) and not is_chat else [value]


def _row(given: Any, task: Task) -> dict[str, Any]:
    if not isinstance(given, dict):
        return {str(task.text_column): given}
    pair = task.pair_column or "text_pair"
    ours: dict[Any, Any] = {"text": task.text_column, "text_pair": pair}
    return {str(ours.get(key, key)): value for key, value in given.items()}


def _answers(documents: list[Any], expected: int, task: Task) -> list[Any]:
    """One answer for each input. Raises WireError."""
    answers = documents
    if len(documents) == 1 and not isinstance(documents[0], str):
        body = json.dumps(_from_openai(documents[0])).encode()
        try:
            answers = read_list(body, expected, lists=task.lists)
        except WireError:
            answers = []
    if len(answers) != expected:
        raise WireError("answer that does not fit its request")
    key = "generated_text" if isinstance(task, TextGeneration) else "label"
    return [{key: each} if isinstance(each, str) else each for each in answers]


def _from_openai(document: Any) -> Any:
    if not isinstance(document, dict) or not document.get("choices"):
        return document
    first = document["choices"][0]
    text = first.get("text", first.get("message", {}).get("content"))
    return [{"generated_text": text}]


def _each(label: Any, inputs: int) -> list[Any]:
    """A label for each input of a request. Raises LookupError where the numbers differ."""
    if inputs == 1:
        return [label[0] if isinstance(label, _Cells) and len(label) == 1 else label]
    if not isinstance(label, list) or len(label) != inputs:
        raise LookupError("label that is not one for each input of its request")
    return label


class _Cells(list[str]):
    """The cells of a line of CSV: one of them alone is a label, no list."""


def read_truth(path: Path) -> tuple[dict[str, Any], int]:
    """Id to label, from a file or a folder of JSON lines, and how many lines are none.

    A line is `{"groundTruthData": {"data": "1", "encoding": "CSV"}, "eventMetadata":
    {"eventId": ID}}`, as Model Monitor takes them, or short `{"eventId": ID, "label": …}`.

    Raises:
        UserInputError: there is no such file, or no line of it is a label.
    """
    files = [path] if path.is_file() else sorted(path.rglob("*.jsonl"))
    lines = [line.text for file in files for line in json_lines.lines(file)]
    pairs = list(map(_truth, lines))
    labels = dict(pair for pair in pairs if pair is not None)
    if not labels:
        raise UserInputError(
            f"none of {len(lines)} lines in {len(files)} files is a label",
            field="--labels",
            value=str(path),
            fix='write lines such as {"eventId": "order-17", "label": "positive"}',
        )
    return labels, pairs.count(None)


def _truth(line: str) -> tuple[str, Any] | None:
    try:
        event = json.loads(line)
        if "groundTruthData" in event:
            data = event["groundTruthData"]
            return str(event["eventMetadata"]["eventId"]), _decoded(data)
        name = event.get("eventId", event.get("inferenceId"))
        return None if missing(name) or "label" not in event else (str(name), event["label"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _decoded(data: Mapping[str, Any]) -> Any:
    text, encoding = str(data["data"]), str(data.get("encoding", "CSV")).upper()
    if encoding == "JSON":
        return json.loads(text)
    if encoding == "BASE64":
        text = base64.b64decode(text).decode("utf-8")
    return _Cells(next(csv.reader([text])))
