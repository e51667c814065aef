"""The SageMaker Hugging Face format: `inputs` and `parameters`, alone or one a line or row."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sm_serve.errors import BadRequest, EngineError, NotAcceptable, ServeError
from sm_serve.schemas import documents, media
from sm_serve.schemas.documents import Document
from sm_serve.schemas.field_table import CALL, OPTIONS
from sm_serve.schemas.fields import Values
from sm_serve.schemas.media import MediaType

OFFERED = (media.JSON, media.JSON_LINES, media.CSV)
VALUE_CHARACTERS = 20
LONG = 100
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
CALL_KEYS = {field.name for field in CALL}


@dataclass(frozen=True, slots=True)
class Call:
    """One `inputs`, with its parameters. `single` tells a lone input from a list of one.

    A line of JSON Lines knows its number, and what is wrong with it. `names` are what the client
    calls the inputs, where they do not stand in `inputs`.
    """

    inputs: list[Any]
    parameters: dict[str, Any] = field(default_factory=dict)
    single: bool = True
    stream: bool = False
    line: int = 1
    fault: BadRequest | None = None
    names: Sequence[str] = ()

    def name(self, index: int) -> str:
        """Where the client finds an input, for messages."""
        if self.names:
            return self.names[index]
        return "inputs" if self.single else f"inputs[{index}]"


@dataclass(frozen=True, slots=True)
class Invocation:
    """What a body asks for: one call, or one a line; and the type to answer with by default."""

    calls: list[Call]
    mirror: str


def parse_invocation(body: bytes, content: MediaType) -> Invocation:
    """Reads a body of any supported content type, of which every line must be right.

    Raises BadRequest or UnsupportedMediaType.
    """
    invocation = read_invocation(documents.read(body, content, sys.maxsize), content)
    for call in invocation.calls:
        if call.fault is not None:
            raise call.fault
    return invocation


def read_invocation(document: Document, content: MediaType) -> Invocation:
    """What a document asks for. Of JSON Lines each line has faults of its own."""
    if content.type == media.JSON_LINES:
        calls = [
            _read_line(number, value, document.faults.get(number))
            for number, value in zip(document.lines, document.value, strict=True)
        ]
        return Invocation(calls, media.JSON_LINES)
    if content.type == media.CSV:
        rows = [f"row {number}" for number in document.lines]
        return Invocation([Call(list(document.value), single=False, names=rows)], media.CSV)
    return Invocation([parse_call(document.value)], media.JSON)


def _read_line(number: int, value: Any, fault: tuple[str, str] | None) -> Call:
    try:
        if fault is not None:
            raise BadRequest(fault[0], code=fault[1])
        return replace(parse_call(value, f"line {number}: "), line=number)
    except BadRequest as error:
        return Call([None], line=number, fault=error)


def parse_call(value: Any, where: str = "") -> Call:
    """A call out of a JSON value: {"inputs": ...}, {"text": ...}, a bare text or a list."""
    parameters: dict[str, Any] = {}
    stream = False
    if isinstance(value, dict):
        if "inputs" in value and (extra := sorted(set(value) - CALL_KEYS)):
            raise BadRequest(
                f"{where}{extra[0]!r} is unknown beside inputs: put it into parameters"
            )
        around = {name: inner for name, inner in value.items() if name in CALL_KEYS}
        fields = Values(CALL, around, where)
        Values(OPTIONS, fields.get("options", {}), f"{where}options.")
        # An object without `inputs` is the input itself: a question, a pair of texts.
        itself = {name: inner for name, inner in value.items() if name not in CALL_KEYS}
        inputs: Any = value.get("inputs", itself)
        parameters, stream = dict(fields.get("parameters", {})), fields.flag("stream")
        if inputs == {}:
            raise BadRequest(f"{where}inputs is missing: give a text or a list of texts")
    elif isinstance(value, str | list):
        inputs = value
    else:
        raise BadRequest(
            f'{where}expected {{"inputs": ...}}, a text or a list, not {json.dumps(value)[:40]}'
        )
    if inputs is None:
        raise BadRequest(f"{where}inputs is null: give a text or a list of texts")
    single = not isinstance(inputs, list) or is_messages(inputs)
    items = [inputs] if single else inputs
    if not items:
        raise BadRequest(f"{where}inputs is an empty list: give at least one input")
    return Call(items, parameters, single, stream)


def is_messages(value: Any) -> bool:
    """Whether a value is a list of chat messages."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(item, dict) and "role" in item for item in value)
    )


def choose_output(accept: str | None, invocation: Invocation, default: str | None) -> str:
    """The content type to answer with: what Accept asks, else as the input came."""
    return media.choose_accept(accept, OFFERED, default or invocation.mirror)


def isolate(calls: Sequence[Call], results: Sequence[Any], kind: str) -> list[Any]:
    """Results of lines, where a failed one has an error in its place.

    Raises the first failure where all lines have one and where the type has no place for one; and
    that of a server that stops, say: the same lines are then worth sending again.
    """
    failures = [result for result in results if isinstance(result, ServeError)]
    grave = [each for each in failures if each.status > EngineError.status or each.status == 429]
    if failures and (len(failures) == len(results) or kind == media.CSV or grave):
        raise (grave or failures)[0]
    return [
        [result.body()] * (1 if call.single else len(call.inputs))
        if isinstance(result, ServeError)
        else result
        for call, result in zip(calls, results, strict=True)
    ]


def write_results(calls: Sequence[Call], results: Sequence[list[Any]], kind: str) -> bytes:
    """The answer's body; `results` holds a list for each call."""
    if kind == media.JSON:
        if len(calls) == 1:
            return dump(lone(calls[0], results[0]))
        return dump([unwrap(call, result) for call, result in zip(calls, results, strict=True)])
    if kind == media.JSON_LINES:
        if len(calls) == 1 and not calls[0].single:
            lines: list[Any] = list(results[0])
        else:
            lines = [unwrap(c, r) for c, r in zip(calls, results, strict=True)]
        return b"".join(dump(line) + b"\n" for line in lines)
    rows = [to_row(item) for result in results for item in result]
    stream = io.StringIO(newline="")
    csv.writer(stream, lineterminator="\n").writerows(rows)
    return stream.getvalue().encode()


def unwrap(call: Call, result: list[Any]) -> Any:
    """A lone input's result stands alone."""
    return result[0] if call.single else result


def lone(call: Call, results: list[Any]) -> Any:
    """A call's results as Hugging Face's pipelines give them, which undo some lists of one.

    What one input gives a list of (labels, entities, answers, texts) stands alone, and so does the
    result of an object (a question, a pair of texts). A text's one label or text stays in a list.
    Of a filled mask a list of one is undone as well.
    """
    if len(results) == 1 and _is_filled(results[0]):
        return results[0]
    if not call.single:
        return results
    result, given = results[0], call.inputs[0]
    if "candidate_labels" in call.parameters or (
        isinstance(given, dict) and "source_sentence" in given
    ):
        return result
    if isinstance(result, list) and all(isinstance(part, dict) for part in result):
        all_scores = call.parameters.get("return_all_scores") and "top_k" not in call.parameters
        return results if all_scores and isinstance(given, str) else result
    return result if isinstance(result, dict) and isinstance(given, dict) else results


def _is_filled(result: Any) -> bool:
    """Whether a result is what may stand in a mask, or in several."""
    while isinstance(result, list) and result:
        result = result[0]
    return isinstance(result, dict) and "token_str" in result


def to_row(item: Any) -> list[Any]:
    """The CSV row of one result. NotAcceptable where it has no tabular form."""
    if isinstance(item, dict):
        if any(isinstance(value, dict | list) for value in item.values()):
            raise NotAcceptable("this result has no CSV form: accept application/json")
        return list(item.values())
    if isinstance(item, list):
        row: list[Any] = []
        for part in item:
            row.extend(to_row(part) if isinstance(part, dict | list) else [part])
        return row
    return [item]


def weight(results: Sequence[list[Any]]) -> int:
    """About how many characters the results will have as JSON."""
    return sum(
        len(result) * (len(result[0]) if isinstance(result[0], list) else 1) * VALUE_CHARACTERS
        for result in results
        if result
    )


def dump(value: Any) -> bytes:
    """Compact JSON in UTF-8. EngineError where a number is none that JSON has (NaN, infinity).

    A long list is written item by item: json itself would let no other thread run meanwhile.
    """
    if isinstance(value, list) and len(value) > LONG and isinstance(value[0], list | dict):
        return b"[" + b",".join(map(dump, value)) + b"]"
    if isinstance(value, dict) and any(
        isinstance(v, list) and len(v) > LONG for v in value.values()
    ):
        return b"{" + b",".join(dump(k) + b":" + dump(v) for k, v in value.items()) + b"}"
    try:
        text = _ENCODER.encode(value)
    except ValueError as error:
        raise EngineError(
            "the model gave no number (NaN or infinity): its weights are damaged, or its precision"
            " too low"
        ) from error
    return text.encode()
