"""Images in chat messages: what is read, and what is refused before anything is decoded."""

import base64
import re
from types import SimpleNamespace

import pytest

from sm_serve.engines.generators.base import TextGenerator
from sm_serve.errors import BadRequest
from sm_serve.protocol import GenerationRequest
from sm_serve.schemas import images
from sm_serve.schemas.openai import read_messages

PNG = "data:image/png;base64," + base64.b64encode(b"\x89PNG").decode()


def message(*parts):
    return [{"role": "user", "content": list(parts)}]


def image(url=PNG, **more):
    return {"type": "image_url", "image_url": {"url": url, **more}}


def test_texts_and_images_keep_their_order_and_texts_alone_become_one():
    text = {"type": "text", "text": "what is "}
    (parsed,) = read_messages(message(text, image(detail="auto"), {"text": "this?"}))
    assert parsed["content"] == [text, image(), {"type": "text", "text": "this?"}]
    assert list(images.images_in([parsed])) == [("messages[0].content[1]", PNG)]
    (parsed,) = read_messages(message(text, {"type": "text", "text": "this?"}))
    assert parsed["content"] == "what is this?"


@pytest.mark.parametrize(
    ("part", "said"),
    [
        (image("http://169.254.169.254/latest"), "scheme 'http': nothing is fetched"),
        (image("https://example.com/a.png"), "scheme 'https'"),
        (image("file:///etc/passwd"), "scheme 'file'"),
        (image("data:text/html;base64,AAAA"), "scheme 'data'"),
        (image("data:image/png,AAAA"), "base64"),
        (image("data:image/png;base64,A*A"), "no base64"),
        (image(PNG, detail="high"), "detail='high'"),
        (image(PNG, size=3), "give"),
        ({"type": "image_url", "image_url": 7}, "int"),
        ({"type": "input_audio", "input_audio": {}}, "'input_audio'"),
    ],
)
def test_what_is_no_image_of_ours_is_refused_at_its_place(part, said):
    with pytest.raises(BadRequest, match=re.escape(said)) as refused:
        read_messages(message({"type": "text", "text": "a"}, part))
    assert "messages[0].content" in refused.value.message


def test_an_engine_of_text_names_the_image():
    request = GenerationRequest(read_messages(message(image())))
    with pytest.raises(BadRequest, match=r"messages\[0\]\.content\[0\] is an image"):
        TextGenerator.check_images(SimpleNamespace(), request)
