"""Whatever the format, an error says where the client finds the input that is at fault."""

import asyncio
import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sm_serve.config import Settings
from sm_serve.errors import BadInput, BadPrompt, BadRequest, naming, placing
from sm_serve.handlers.answer import Incoming
from sm_serve.handlers.engine import EngineHandler
from sm_serve.handlers.reading import Reader
from sm_serve.http import client_routes
from sm_serve.protocol import UNTOLD, Delta, Task
from sm_serve.schemas import documents, media
from sm_serve.schemas.media import MediaType

BAD = "sour"


class Model:
    """What all engines have."""

    def __init__(self, task):
        self.task = task

    def health(self):
        return None

    def stats(self):
        return {}

    def close(self):
        """Nothing to close."""


class Encoder(Model):
    """An engine that refuses one text, by its place among those that it was given."""

    async def predict(self, inputs, parameters):
        for index, item in enumerate(inputs):
            if BAD in json.dumps(item):
                raise BadInput(index, " is bad")
        return [[1.0, 0.0] for _ in inputs]


class Writer(Model):
    """A language model that refuses one prompt. It knows no place: it gets one at a time."""

    defaults = UNTOLD
    chat_template = ""

    async def generate(self, request):
        if BAD in json.dumps(request.prompt):
            raise BadPrompt("the prompt is bad")
        yield Delta("x", finish_reason="stop", prompt_tokens=1, completion_tokens=1)


CLASSES, VECTORS = Encoder(Task.TEXT_CLASSIFICATION), Encoder(Task.EMBEDDING)
TEXTS = Writer(Task.TEXT_GENERATION)
ZERO_SHOT = {"candidate_labels": ["a", "b"]}
SENTENCES = {"source_sentence": "a", "sentences": ["b", BAD]}


def refusal(engine, body, kind=media.JSON, asked=None):
    """The message with which a body is refused, read as the server reads it."""

    async def answer():
        reader = Reader(2**20, 1000)
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        request = Incoming(content, {"content-type": kind}, reader=reader)
        handler = EngineHandler(engine, Settings())
        with pytest.raises(BadRequest) as raised:
            await (asked(handler, request) if asked else handler.invoke(request))
        return raised.value.message

    return asyncio.run(answer())


@pytest.mark.parametrize("engine", [CLASSES, VECTORS, TEXTS], ids=lambda engine: engine.task.value)
@pytest.mark.parametrize(
    ("body", "kind", "place"),
    [
        ({"inputs": BAD}, media.JSON, "inputs"),
        (BAD.join('""').encode(), media.JSON, "inputs"),
        ({"inputs": ["a", "b", BAD]}, media.JSON, "inputs[2]"),
        (["a", BAD], media.JSON, "inputs[1]"),
        (BAD.encode(), media.TEXT, "inputs"),
        (b"a\nb\nsour\n", media.CSV, "row 3"),
        (b"text\na\n\nsour\n", media.CSV, "row 4"),
        (b"\n\n" + json.dumps({"inputs": ["a", BAD]}).encode(), media.JSON_LINES,
         "line 3: inputs[1]"),
    ],
)  # fmt: skip
def test_every_format_has_its_own_words_for_a_place(engine, body, kind, place):
    told = ": the prompt is bad" if engine is TEXTS else " is bad"
    assert refusal(engine, body, kind) == place + told


@pytest.mark.parametrize(
    ("engine", "body", "asked", "place"),
    [
        (VECTORS, {"input": BAD}, None, "input"),
        (VECTORS, {"input": ["a", BAD]}, None, "input[1]"),
        (VECTORS, {"inputs": ["a", BAD]}, client_routes.embed, "inputs[1]"),
        (VECTORS, {"inputs": [{**SENTENCES, "sentences": ["a"]}, SENTENCES]}, None,
         "inputs[1].sentences[1]"),
        (VECTORS, {"inputs": {**SENTENCES, "source_sentence": BAD}}, None,
         "inputs.source_sentence"),
        (VECTORS, {"query": "a", "texts": ["b", BAD]}, client_routes.rerank, "texts[1]"),
        (VECTORS, {"text_1": BAD, "text_2": ["a", BAD]}, client_routes.score, "text_1"),
        (CLASSES, {"inputs": ["a", BAD], "parameters": ZERO_SHOT}, None, "inputs[1]"),
        (CLASSES, {"query": "a", "documents": ["b", BAD]}, client_routes.rerank,
         "query with documents[1]"),
        (CLASSES, {"text_1": "a", "text_2": ["b", BAD]}, client_routes.score,
         "text_1 with text_2[1]"),
        (CLASSES, {"text_1": ["a"], "text_2": ["b", BAD]}, client_routes.score,
         "text_1[0] with text_2[1]"),
        (TEXTS, {"prompt": BAD}, None, "prompt"),
        (TEXTS, {"prompt": ["a", "b", BAD], "n": 3}, None, "prompt[2]"),
        (TEXTS, {"prompt": [BAD, "a"], "stream": True}, None, "prompt[0]"),
        (TEXTS, {"messages": [{"role": "user", "content": BAD}]}, None, "messages"),
        (TEXTS, {"inputs": BAD, "stream": True}, None, "inputs"),
        (TEXTS, {"inputs": BAD}, client_routes.generate, "inputs"),
    ],
)  # fmt: skip
def test_every_route_tells_the_place_by_its_own_field(engine, body, asked, place):
    told = ": the prompt is bad" if engine is TEXTS else " is bad"
    assert refusal(engine, body, asked=asked) == place + told


@pytest.mark.parametrize(
    ("body", "place"),
    [({"input": ["a", ""]}, "input[1]"), ({"input": ["a", [1]]}, "input[1]"),
     ({"input": [[1], [2], "a"]}, "input[2]"), ({"input": ""}, "input")],
)  # fmt: skip
def test_a_wrong_input_of_embeddings_is_told_by_its_place(body, place):
    assert refusal(VECTORS, body).startswith(f"{place}: give a")


@given(
    st.lists(st.text(st.characters(codec="ascii", exclude_characters="\r\0")), max_size=6),
    st.booleans(),
)
def test_rows_are_counted_as_the_client_counts_them(before, header):
    """With the header and blank rows, and a text of several lines as one row."""
    stream = io.StringIO(newline="")
    stream.write("text\n" if header else "")
    rows = csv.writer(stream, lineterminator="\n", quoting=csv.QUOTE_ALL)
    for text in before:
        if not text:
            stream.write("\n")
        else:
            rows.writerow([f"a {text}"])
    rows.writerow([BAD])
    document = documents.read(stream.getvalue().encode(), MediaType(media.CSV), 100)
    assert document.value[-1] == BAD
    assert document.lines[-1] == len(before) + header + 1
    assert len(document.lines) == len(document.value)


def test_places_and_codes_come_through_all_layers():
    with (
        pytest.raises(BadRequest, match=r"^row 7\.part is bad$") as raised,
        naming(lambda index: f"row {index}"),
        placing(lambda index: (index + 4, ".part")),
    ):
        raise BadInput(3, " is bad", code="mine")
    assert raised.value.code == "mine"
