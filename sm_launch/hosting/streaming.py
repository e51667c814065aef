"""Streamed answers: pieces of bytes as they come become server-sent events, and those text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from sm_launch.errors import LaunchError

DONE = "[DONE]"
# A model's text must not move the cursor or colour the terminal.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def chunks(body: Iterable[dict[str, Any]]) -> Iterator[bytes]:
    """The bytes of InvokeEndpointWithResponseStream's events.

    Raises:
        LaunchError: the model's stream broke off; the message holds its own words.
    """
    for event in body:
        if "PayloadPart" in event:
            yield event["PayloadPart"]["Bytes"]
            continue
        for name, detail in event.items():
            message = detail.get("Message", "") if isinstance(detail, dict) else detail
            raise LaunchError(
                f"the answer broke off: {name} {message}".rstrip(),
                fix="ask again; `sm-launch logs` shows what the server says",
            )


def lines(pieces: Iterable[bytes]) -> Iterator[str]:
    """Whole lines, wherever the pieces were cut; the last one needs no line end."""
    rest = b""
    for piece in pieces:
        *whole, rest = (rest + piece).split(b"\n")
        for line in whole:
            yield line.decode("utf-8", "replace").rstrip("\r")
    if rest:
        yield rest.decode("utf-8", "replace")


def texts(pieces: Iterable[bytes]) -> Iterator[str]:
    """The generated text, piece by piece, out of any stream that the serving image writes.

    Server-sent events and JSON Lines of the OpenAI and the Hugging Face form; anything else is
    given on as it is, line by line.

    Raises:
        LaunchError: the stream holds an error in place of text.
    """
    for line in lines(pieces):
        data = line.removeprefix("data:").strip()
        if not data or data == DONE or line.startswith((":", "event:", "id:", "retry:")):
            continue
        try:
            event = json.loads(data)
        except json.JSONDecodeError:
            yield data + "\n"
            continue
        text = _text_of(event)
        if text is None:
            yield data + "\n"
        elif text:
            yield text


def harmless(text: str) -> str:
    """The text without control characters other than tab and line feed."""
    return _CONTROL.sub("", text)


def _text_of(event: Any) -> str | None:
    """The new text of one event; empty where it has none, None where its form is unknown."""
    if not isinstance(event, dict):
        return None
    if "error" in event:
        error = event["error"]
        message = error.get("message", error) if isinstance(error, dict) else error
        raise LaunchError(f"the model answered with an error: {message}")
    if "choices" in event:
        first = (event["choices"] or [{}])[0]
        return str(first.get("delta", {}).get("content") or first.get("text") or "")
    if "token" in event:
        token = event["token"]
        return "" if token.get("special") else str(token.get("text", ""))
    return None
