"""Images in chat messages: data: URLs, bounded before anything decodes them."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Sequence
from typing import Any

from sm_serve.errors import BadRequest

KIND = "image_url"
MAX_URL = 16 * 1024 * 1024
"""Characters; a whole body of a real-time endpoint has fewer."""


def read_image(part: dict[str, Any], where: str) -> dict[str, Any]:
    """A part of type image_url, as vLLM and OpenAI have it. Raises BadRequest."""
    value = part.get(KIND)
    url = value.get("url") if isinstance(value, dict) else value
    if set(part) - {"type", KIND} or (isinstance(value, dict) and set(value) - {"url", "detail"}):
        raise BadRequest(f'{where}: give {{"type": "{KIND}", "{KIND}": {{"url": "data:…"}}}}')
    if isinstance(value, dict) and value.get("detail") not in (None, "auto"):
        raise BadRequest(f"{where}.{KIND}.detail={value['detail']!r} is not offered: leave it out")
    if not isinstance(url, str) or not url.startswith("data:image/"):
        shown = url.partition(":")[0][:20] if isinstance(url, str) else type(url).__name__
        raise BadRequest(
            f"{where}.{KIND}.url is of the scheme {shown!r}: nothing is fetched for clients, send"
            " the image itself as data:image/png;base64,…"
        )
    head, comma, data = url.partition(",")
    if not comma or not head.endswith(";base64") or len(url) > MAX_URL:
        raise BadRequest(
            f"{where}.{KIND}.url: give data:image/TYPE;base64,… of {MAX_URL} characters at most"
        )
    try:
        base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadRequest(f"{where}.{KIND}.url holds no base64: {error}") from error
    return {"type": KIND, KIND: {"url": url}}


def images_in(prompt: Any) -> Iterator[tuple[str, str]]:
    """The place and the URL of each image of chat messages."""
    for index, message in enumerate(prompt if isinstance(prompt, Sequence) else ()):
        content = message.get("content") if isinstance(message, dict) else None
        for number, part in enumerate(content if isinstance(content, list) else ()):
            if part.get("type") == KIND:
                yield f"messages[{index}].content[{number}]", part[KIND]["url"]
