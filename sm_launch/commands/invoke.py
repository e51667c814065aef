"""`sm-launch invoke`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from sm_launch.commands.options import target_option
from sm_launch.config import Target, resolve_target
from sm_launch.errors import UserInputError
from sm_launch.sessions import open_session

CONTENT_TYPES = {
    ".json": "application/json",
    ".jsonl": "application/jsonlines",
    ".csv": "text/csv",
    ".txt": "text/plain",
}


@click.command()
@click.argument("endpoint")
@click.option("--text", help='Send {"inputs": TEXT}.')
@click.option(
    "--file",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Send a file; its ending names the content type. `-` reads standard input.",
)
@click.option("--content-type", help="Content type of the body.")
@click.option("--accept", default="application/json", show_default=True, help="Wanted answer type.")
@target_option
def invoke(
    endpoint: str,
    text: str | None,
    file: Path | None,
    content_type: str | None,
    accept: str,
    target: Target | None,
) -> None:
    """Send one request to an endpoint and print its answer.

    Without --text or --file the body is read from standard input.
    """
    body, guessed = _body(text, file)
    session = open_session(resolve_target(None, target))
    reply = session.invoke_endpoint(
        EndpointName=endpoint, Body=body, ContentType=content_type or guessed, Accept=accept
    )
    click.echo(reply["Body"].read().decode("utf-8", errors="replace"))


def _body(text: str | None, file: Path | None) -> tuple[bytes, str]:
    if text is not None and file is not None:
        raise UserInputError("give --text or --file, not both", field="--text")
    if text is not None:
        return json.dumps({"inputs": text}).encode(), "application/json"
    if file is None or str(file) == "-":
        return sys.stdin.buffer.read(), "application/json"
    try:
        return file.read_bytes(), CONTENT_TYPES.get(file.suffix, "application/json")
    except OSError as error:
        raise UserInputError(
            f"cannot be read: {error.strerror}", field="--file", value=str(file)
        ) from None
