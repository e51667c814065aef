"""Wire formats as pure functions, with examples and with generated input."""

import codecs
import contextlib
import json
import re
from encodings.aliases import aliases

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sm_serve.errors import BadRequest, NotAcceptable, ServeError, UnsupportedMediaType
from sm_serve.handlers.openai import route_attribute
from sm_serve.protocol import Delta
from sm_serve.schemas import documents, media, openai, openai_writer
from sm_serve.schemas import invocation as wire
from sm_serve.schemas.constraints import read_constraint
from sm_serve.schemas.field_table import CHAT
from sm_serve.schemas.fields import Values
from sm_serve.schemas.generation import read_options

TYPES = [media.JSON, media.JSON_LINES, media.CSV, media.TEXT, "image/png"]
OPENAI_FIELDS = [
    "messages",
    "prompt",
    "n",
    "stop",
    "seed",
    "temperature",
    "max_tokens",
    "stream",
    "tools",
    "x",
]
PARAMETERS = [
    "temperature",
    "top_p",
    "top_k",
    "seed",
    "stop",
    "details",
    "max_new_tokens",
    "do_sample",
    "x",
]
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(st.binary(), st.sampled_from(TYPES), st.sampled_from(["utf-8", "latin-1", "utf-16"]))
def test_any_body_is_parsed_or_refused_properly(body, kind, charset):
    try:
        invocation = wire.parse_invocation(body, media.MediaType(kind, charset))
    except ServeError as error:
        assert 400 <= error.status < 500
        assert error.message
    else:
        assert invocation.calls
        assert all(call.inputs for call in invocation.calls)


@pytest.mark.slow
@given(JSON_VALUES)
def test_any_json_value_is_a_call_or_a_bad_request(value):
    try:
        call = wire.parse_call(value)
    except BadRequest:
        return
    assert isinstance(call.inputs, list)
    assert isinstance(call.parameters, dict)


@pytest.mark.slow
@given(
    st.dictionaries(st.sampled_from(OPENAI_FIELDS), JSON_VALUES),
    st.sampled_from([openai.CHAT, openai.COMPLETIONS]),
)
def test_any_openai_body_is_parsed_or_refused(body, route):
    try:
        job = openai.parse_generation(route, body)
    except BadRequest:
        return
    assert job.requests


@pytest.mark.slow
@given(st.dictionaries(st.sampled_from(PARAMETERS), JSON_VALUES))
def test_any_parameters_are_read_or_refused(parameters):
    try:
        sampling = read_options(parameters).sampling
    except BadRequest as error:
        assert "parameters." in error.message
        return
    assert 0 <= sampling.temperature <= 100
    assert 0 < sampling.top_p <= 1


@given(st.text())
def test_any_header_is_understood_or_refused(header):
    with contextlib.suppress(UnsupportedMediaType):
        media.parse_media_type(header)
    with contextlib.suppress(NotAcceptable):
        assert media.choose_accept(header, wire.OFFERED, media.JSON) in wire.OFFERED
    with contextlib.suppress(BadRequest):
        assert route_attribute(header) in (None, *openai.ROUTES)


@given(st.lists(st.text(min_size=1).filter(lambda t: "\x00" not in t), min_size=1))
def test_csv_rows_come_back_as_texts(texts):
    import csv
    import io

    stream = io.StringIO(newline="")
    csv.writer(stream).writerows([["text"], *([text] for text in texts)])
    assert documents.parse_csv(stream.getvalue()).value == texts


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("application/json", ("application/json", "utf-8")),
        ('Application/JSON; Charset="UTF-8"', ("application/json", "utf-8")),
        ("text/csv; header=present; charset=iso-8859-1", ("text/csv", "latin-1")),
        ("application/x-ndjson", ("application/jsonlines", "utf-8")),
        (None, ("application/json", "utf-8")),
    ],
)
def test_content_types(header, expected):
    media_type = media.parse_media_type(header)
    assert (media_type.type, media_type.charset) == expected


@pytest.mark.slow
@pytest.mark.parametrize("charset", sorted({*aliases, *aliases.values(), "utf-8-sig", "x" * 9999}))
def test_a_charset_is_on_the_list_or_refused_with_it(charset):
    """Of all that Python knows: what is taken means what Python means by it."""
    try:
        encoding = media.parse_media_type(f"text/plain; charset={charset}").charset
    except UnsupportedMediaType as error:
        assert "use one of utf-8, utf-8-sig, utf-16" in error.message
        assert len(error.message) < 500
        assert charset[0] == "x" or codec(charset) not in map(codec, media.CHARSETS)
    else:
        assert encoding in media.CHARSETS
        assert codec(encoding) == codec(charset)


def codec(name):
    with contextlib.suppress(LookupError):  # not on this platform
        return codecs.lookup(name).name


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, "application/json"),
        ("*/*", "application/json"),
        ("text/csv", "text/csv"),
        ("text/*", "text/csv"),
        ("text/csv;q=0.1, application/jsonlines", "application/jsonlines"),
        ("application/json;q=0, text/csv", "text/csv"),
        ("image/png, */*;q=0.1", "application/json"),
    ],
)
def test_accept_headers(header, expected):
    assert media.choose_accept(header, wire.OFFERED, media.JSON) == expected


def test_deep_nesting_has_a_bound_but_wide_bodies_do_not():
    assert len(documents.parse_json(json.dumps([["a"]] * 10_000))) == 10_000
    with pytest.raises(BadRequest, match="64 levels"):
        documents.parse_json("[" * 65 + "]" * 65)


def test_results_keep_the_shape_of_their_calls():
    one = wire.parse_call({"inputs": "a"})
    many = wire.parse_call({"inputs": ["a", "b"]})
    assert wire.write_results([one], [[1]], media.JSON) == b"[1]"
    assert wire.write_results([one, many], [[1], [2, 3]], media.JSON) == b"[1,[2,3]]"
    assert wire.write_results([one, many], [[1], [2, 3]], media.JSON_LINES) == b"1\n[2,3]\n"
    assert wire.write_results([many], [[2, 3]], media.JSON_LINES) == b"2\n3\n"
    row = {"label": "a,b", "score": 0.5}
    assert wire.write_results([one], [[row]], media.CSV) == b'"a,b",0.5\n'
    with pytest.raises(NotAcceptable):
        wire.write_results([one], [[{"a": {}}]], media.CSV)


@pytest.mark.parametrize(
    ("parameters", "greedy", "temperature"),
    [
        ({}, True, 0),
        ({"temperature": 0.5}, False, 0.5),
        ({"temperature": 0.5, "do_sample": False}, True, 0),
        ({"do_sample": True}, False, 1),
        ({"top_k": 1, "do_sample": True}, True, 1),
        ({"temperature": 0}, True, 0),
    ],
)
def test_when_sampling_is_on(parameters, greedy, temperature):
    sampling = read_options(parameters).sampling
    assert (sampling.greedy, sampling.temperature) == (greedy, temperature)


SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}


@pytest.mark.parametrize(
    ("body", "kind", "value"),
    [
        ({"response_format": {"type": "text"}}, None, None),
        ({"response_format": {"type": "json_object"}}, "json_schema", '{"type": "object"}'),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": SCHEMA}}},
            "json_schema",
            json.dumps(SCHEMA),
        ),
        ({"guided_json": json.dumps(SCHEMA)}, "json_schema", json.dumps(SCHEMA)),
        ({"guided_regex": "a+"}, "regex", "a+"),
        ({"structured_outputs": {"choice": ["a", "b"]}}, "choice", '["a", "b"]'),
        ({"structured_outputs": {"grammar": 'start: "a"'}}, "grammar", 'start: "a"'),
    ],
)
def test_constraints_are_read_in_each_dialect(body, kind, value):
    constraint = read_constraint(Values(CHAT, body))
    assert (constraint and constraint.kind) == kind
    assert (constraint and constraint.value) == value


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"response_format": {"type": "xml"}}, "response_format.type='xml'"),
        ({"response_format": {"type": "json_schema"}}, "json_schema.schema is missing"),
        ({"guided_json": "{"}, "guided_json"),
        ({"guided_regex": ""}, "guided_regex"),
        ({"guided_choice": []}, "guided_choice"),
        ({"guided_regex": "a", "guided_choice": ["a"]}, "cannot hold at once"),
        ({"structured_outputs": {"xml": "a"}}, "structured_outputs.xml is unknown"),
    ],
)
def test_wrong_constraints_are_named(body, message):
    with pytest.raises(BadRequest, match=re.escape(message)):
        read_constraint(Values(CHAT, body))


@pytest.mark.parametrize("grammar", [{"type": {}, "value": "a"}, {"type": "json"}, [], "a"])
def test_wrong_grammars_are_named(grammar):
    with pytest.raises(BadRequest, match=r"parameters\.grammar"):
        read_options({"grammar": grammar})


@pytest.mark.parametrize("biases", [{"x": 1}, {"1": 101}, {"1": True}, {"-1": 1}, [1], "1"])
def test_wrong_biases_are_named(biases):
    with pytest.raises(BadRequest, match=r"parameters\.logit_bias="):
        read_options({"logit_bias": biases})


def test_usage_counts_each_prompt_once():
    job = openai.parse_generation(openai.CHAT, {"messages": [{"role": "user"}], "n": 2})
    answer = Delta("x", finish_reason="stop", prompt_tokens=7, completion_tokens=3)
    whole = openai_writer.Writer(job, "m", "id").whole([answer, answer])
    assert whole["usage"] == {"prompt_tokens": 7, "completion_tokens": 6, "total_tokens": 13}


def test_long_answers_are_the_same_json():
    vectors = [[n / 7, -0.0, 1e-30] for n in range(300)]
    entities = [{"word": "é", "score": 0.5, "more": [None, True]} for _ in range(200)]
    for value in (
        vectors,
        entities,
        [entities, [], "a"],
        {"object": "list", "data": vectors, 'quo"te': 1},
        [[]] * 200,
        list(range(500)),
        [],
        {},
    ):
        whole = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
        assert wire.dump(value) == whole


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\nb\n", ["a", "b"]),
        ("inputs\na\n", ["a"]),
        ('"I loved it, really"\n', ["I loved it, really"]),
        ("question,context\nq,c\n", [{"question": "q", "context": "c"}]),
        ("Text_pair , TEXT\nb,a\n", [{"text_pair": "b", "text": "a"}]),
        ("a,b\nc,d\n", "row 1 has 2 columns"),
        ("a\nb\nc,d\n", "row 3 has 2 columns"),
        ("id,text\n1,a\n", "CSV column 'id' is unknown"),
        ("text,text\na,b\n", "there twice"),
        ("text,label\na,b\n", "CSV column 'label'"),
        ("question,context\nq\n", "row 2 has 1 columns"),
    ],
)
def test_csv_is_read_by_its_header_or_refused(text, expected):
    if isinstance(expected, list):
        assert documents.parse_csv(text).value == expected
    else:
        with pytest.raises(BadRequest, match=re.escape(expected)):
            documents.parse_csv(text)


@pytest.mark.parametrize(
    "body",
    [
        {"response_format": {"type": "json", "value": SCHEMA}},
        {"response_format": {"type": "json_object", "value": SCHEMA}},
        {"response_format": {"type": "json_object", "schema": SCHEMA}},
        {"response_format": {"type": "json_schema", "value": {"schema": SCHEMA, "name": "x"}}},
        {"response_format": {"type": "json_schema", "schema": SCHEMA, "name": "x"}},
        {"response_format": {"type": "json_schema",
                             "json_schema": {"name": "x", "strict": True, "schema": SCHEMA}}},
        {"grammar": {"type": "json", "value": SCHEMA}},
        {"guided_json": SCHEMA},
        {"structured_outputs": {"json": SCHEMA}},
    ],
)  # fmt: skip
def test_every_spelling_of_a_schema_means_the_same(body):
    for reader in (
        lambda: read_constraint(Values(CHAT, body)),
        lambda: read_options(body).sampling.constraint,
    ):
        constraint = reader()
        assert (constraint.kind, constraint.value) == ("json_schema", json.dumps(SCHEMA))


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ({"type": "json_schema", "json_schema": {"schema": SCHEMA, "x": 1}}, "json_schema.x"),
        ({"type": "json_schema", "json_schema": {"schema": SCHEMA}, "value": 1}, "value"),
        ({"type": "text", "value": "a"}, "response_format.type='text'"),
        ({"type": "regex"}, "response_format"),
        ({"type": "structural_tag", "structures": []}, "'structural_tag'"),
    ],
)
def test_what_a_format_holds_beside_is_refused(value, named):
    with pytest.raises(BadRequest, match=re.escape(named)):
        read_constraint(Values(CHAT, {"response_format": value}))
