"""Images for vLLM: its own readers put them into messages and decode them."""

from __future__ import annotations

import base64
import io
from typing import Any

from sm_serve.errors import BadPrompt
from sm_serve.schemas.images import images_in

MAX_PIXELS = 40_000_000
"""Of all images of a request: a few bytes can say that they are a picture of any size."""


def check_sizes(prompt: Any) -> None:
    """Refuses what is no picture, and pictures too large to be unpacked. Raises BadPrompt."""
    from PIL import Image

    total = 0
    for where, url in images_in(prompt):
        try:
            with Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) as picture:
                total += picture.width * picture.height
        except Exception as error:  # whatever a file can make Pillow raise
            raise BadPrompt(
                f"{where} is no picture that can be read ({type(error).__name__}): send PNG or JPEG"
            ) from error
        if total > MAX_PIXELS:
            raise BadPrompt(
                f"{where}: the request's pictures have over {MAX_PIXELS} pixels: send smaller ones"
            )


def read_chat(
    model_config: Any, tokenizer: Any, messages: Any, tools: Any
) -> tuple[list[dict[str, Any]], Any]:
    """Messages with the model's own placeholders for a chat template, and the pictures for vLLM.

    Raises BadPrompt for what vLLM refuses, such as more pictures than the model takes.
    """
    from vllm.renderers.chat_utils import parse_chat_messages
    from vllm.renderers.hf import resolve_chat_template_content_format

    check_sizes(messages)
    form = resolve_chat_template_content_format(
        chat_template=None,
        tools=tools,
        given_format="auto",
        tokenizer=tokenizer,
        model_config=model_config,
    )
    try:
        conversation, pictures, _ = parse_chat_messages(messages, model_config, form)
    except Exception as error:  # vLLM's, Pillow's, those of the model's own reader
        raise BadPrompt(f"the model does not take these pictures: {str(error)[:300]}") from error
    return [dict(message) for message in conversation], pictures
