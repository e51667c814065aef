"""`sm-launch invoke`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from sm_launch.commands.options import JobOptions, echo_json, job_options, json_option
from sm_launch.errors import UserInputError
from sm_launch.hosting import invocation, streaming
from sm_launch.hosting.invocation import CONTENT_TYPES, Invocation


@click.command()
@click.argument("endpoint")
@click.option("--text", help='Send {"inputs": TEXT}.')
@click.option(
    "--inputs",
    metavar="JSON",
    help='Send {"inputs": JSON}, of what is no single text: \'{"text": …, "text_pair": …}\', '
    '\'{"question": …, "context": …}\', a list of them.',
)
@click.option(
    "--file",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Send a file; its ending names the content type. `-` reads standard input.",
)
@click.option(
    "--parameters",
    metavar="JSON",
    help="With --text or --inputs, such as '{\"max_new_tokens\": 50}'.",
)
@click.option("--content-type", help="Content type of the body.")
@click.option("--accept", default="application/json", show_default=True, help="Wanted answer type.")
@click.option("--stream", is_flag=True, help="Print generated text as it comes.")
@click.option("--raw", is_flag=True, help="With --stream: print the events as they are.")
@click.option("--variant", help="Ask this production variant. Default: by weight.")
@click.option("--component", help="Ask this inference component, such as ENDPOINT-ADAPTER.")
@click.option("--async", "asynchronous", is_flag=True, help="The endpoint is asynchronous: wait.")
@click.option(
    "--timeout", type=float, default=900.0, show_default=True, help="With --async, in seconds."
)
@job_options
@json_option
def invoke(
    endpoint: str,
    text: str | None,
    inputs: str | None,
    file: Path | None,
    parameters: str | None,
    content_type: str | None,
    accept: str,
    stream: bool,
    raw: bool,
    variant: str | None,
    component: str | None,
    asynchronous: bool,
    timeout: float,
    options: JobOptions,
    as_json: bool,
) -> None:
    """Send one request to an endpoint and print its answer.

    Without --text, --inputs or --file the body is read from standard input.
    """
    if stream and asynchronous:
        raise UserInputError("give --stream or --async, not both", field="--stream")
    body, guessed = _body(text, inputs, file, parameters, stream=stream)
    content_type = content_type or guessed
    context = options.find()
    sent = Invocation(endpoint, body, content_type, variant, component)
    if stream:
        _stream(invocation.stream(context, sent), endpoint, raw=raw, as_json=as_json)
        return
    if asynchronous:
        answer = invocation.invoke_queued(context, sent, accept, timeout)
    else:
        answer = invocation.invoke(context, sent, accept)
    if as_json:
        echo_json({"endpoint": endpoint, "answer": _decoded(answer.text)})
    else:
        click.echo(answer.text)


def _decoded(answer: str) -> Any:
    """A JSON answer as what it says; anything else as text."""
    try:
        return json.loads(answer)
    except ValueError:
        return answer


def _stream(pieces: Iterator[bytes], endpoint: str, *, raw: bool, as_json: bool) -> None:
    if as_json:
        echo_json({"endpoint": endpoint, "answer": "".join(streaming.texts(pieces))})
        return
    if raw:
        for piece in pieces:
            click.echo(piece.decode("utf-8", "replace"), nl=False)
        return
    for text in streaming.texts(pieces):
        click.echo(streaming.harmless(text), nl=False)
    click.echo()


def _body(
    text: str | None,
    inputs: str | None,
    file: Path | None,
    parameters: str | None,
    *,
    stream: bool,
) -> tuple[bytes, str]:
    given = {"--text": text, "--inputs": inputs, "--file": file}
    several = [name for name, value in given.items() if value is not None]
    if len(several) > 1:
        raise UserInputError(f"give {' or '.join(several)}, not both", field=several[0])
    if parameters is not None and text is None and inputs is None:
        raise UserInputError("goes with --text", field="--parameters", value=parameters)
    if text is not None or inputs is not None:
        asked = text if inputs is None else _parsed(inputs, "--inputs")
        document: dict[str, Any] = {"inputs": asked}
        if parameters is not None:
            document["parameters"] = _parsed_object(parameters, "--parameters")
        if stream:
            document["stream"] = True
        return json.dumps(document).encode(), "application/json"
    if file is None or str(file) == "-":
        return sys.stdin.buffer.read(), "application/json"
    try:
        return file.read_bytes(), CONTENT_TYPES.get(file.suffix, "application/json")
    except OSError as error:
        raise UserInputError(
            f"cannot be read: {error.strerror}", field="--file", value=str(file)
        ) from None


def _parsed(text: str, field: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise UserInputError(f"is not JSON: {error}", field=field, value=text) from None


def _parsed_object(text: str, field: str) -> dict[str, Any]:
    parsed = _parsed(text, field)
    if not isinstance(parsed, dict):
        raise UserInputError("must be a JSON object", field=field, value=text)
    return parsed
