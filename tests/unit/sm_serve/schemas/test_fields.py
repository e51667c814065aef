"""Nothing is accepted and ignored: every field of every table is obeyed or refused by name."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sm_serve.errors import BadRequest
from sm_serve.handlers.engine import check_parameters
from sm_serve.protocol import Task
from sm_serve.schemas import client_fields, embeddings, encoder_fields, openai, ranking, responses
from sm_serve.schemas import field_table as table
from sm_serve.schemas import invocation as wire
from sm_serve.schemas.fields import EMPTY, Values, closed
from sm_serve.schemas.generation import read_options
from sm_serve.tasks import declared, fields_of

MESSAGES = [{"role": "user", "content": "hi"}]
READERS = {
    "generation": (table.GENERATION, {}, read_options),
    "chat": (table.CHAT, {"messages": MESSAGES}, lambda b: openai.parse_generation(openai.CHAT, b)),
    "completions": (
        table.COMPLETIONS,
        {"prompt": "hi"},
        lambda body: openai.parse_generation(openai.COMPLETIONS, body),
    ),
    "responses": (table.RESPONSES, {"input": "hi"}, responses.parse_responses),
    "embeddings": (encoder_fields.EMBEDDINGS, {"input": "hi"}, embeddings.parse_embeddings),
    "rerank": (client_fields.RERANK, {"query": "q", "documents": ["a", "b"]}, ranking.parse_rerank),
    "rerank of TEI": (
        client_fields.TEI_RERANK,
        {"query": "q", "texts": ["a", "b"]},
        ranking.parse_rerank,
    ),
    "score": (client_fields.SCORE, {"text_1": "q", "text_2": "q"}, ranking.parse_score),
    "call": (table.CALL, {"inputs": "hi"}, wire.parse_call),
}
CASES = [
    pytest.param(schema, field, id=f"{schema}-{field.name}")
    for schema, (fields, _, _) in READERS.items()
    for field in fields
]
TOGETHER = {"call": {"parameters": {"top_k": 2}, "options": {"no_such": 1}}}
"""Examples where those of the table are of the inside of another one."""


@pytest.mark.parametrize(("schema", "field"), CASES)
def test_a_field_changes_the_request_or_is_refused_by_name(schema, field):
    _, least, read = READERS[schema]
    value = TOGETHER.get(schema, {}).get(field.name, field.kind.example)
    body = {**least, field.name: value}
    try:
        parsed = read(body)
    except BadRequest as error:
        assert field.name in error.message
        return
    assert not field.refusal
    same = parsed == read(least)
    assert same == (field.label or body == least)


@pytest.mark.parametrize(("schema", "field"), CASES)
def test_what_means_off_is_taken(schema, field):
    _, least, read = READERS[schema]
    plain = read(least)
    values = (*EMPTY, *field.off) if field.refusal else (None,)
    for value in values:
        if not field.required:
            assert read({**least, field.name: value}) == plain


@pytest.mark.parametrize("task", list(declared()))
def test_an_encoders_parameters_reach_its_engine_or_are_refused_by_name(task):
    for field in fields_of(task):
        given = {field.name: field.kind.example}
        if field.refusal:
            with pytest.raises(BadRequest, match=rf"parameters\.{field.name}="):
                check_parameters(task, given)
            assert check_parameters(task, {field.name: None}) == {}
        else:
            assert check_parameters(task, given) == ({} if field.label else given)
    with pytest.raises(BadRequest, match=r"parameters\.no_such is unknown"):
        check_parameters(task, {"no_such": 1})


TABLES = {name: fields for name, (fields, _, _) in READERS.items()} | {
    str(task): each.parameters for task, each in declared().items()
}


@pytest.mark.parametrize("name", list(TABLES))
def test_a_table_names_each_field_once_and_its_example_fits_the_document(name):
    import jsonschema

    names = [field.name for field in TABLES[name]]
    assert len(set(names)) == len(names)
    for field in TABLES[name]:
        schema = closed([field])["properties"][field.name]
        assert jsonschema.Draft202012Validator(schema).is_valid(field.kind.example) == (
            not field.refusal
        )


@given(st.dictionaries(st.text(max_size=5), st.integers()), st.sampled_from(list(TABLES)))
def test_an_unknown_field_is_refused_by_name(body, name):
    known = {field.name for field in TABLES[name]}
    unknown = sorted(set(body) - known)
    try:
        Values(TABLES[name], body)
    except BadRequest as error:
        assert any(field in error.message for field in body)
    else:
        assert not unknown


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"question": "q", "context": "c", "parameters": {"top_k": 2}}, None),
        ({"text": "a", "stream": "yes"}, "stream='yes'"),
        ({"inputs": "a", "parameters": [1]}, "parameters=[1]"),
        ({"inputs": "a", "options": {"use_cache": False, "wait_for_model": True}}, None),
        ({"inputs": "a", "options": {"device": 3}}, "options.device is unknown"),
        ({"inputs": "a", "temperature": 3}, "'temperature' is unknown beside inputs"),
        ({"parameters": {}}, "inputs is missing"),
    ],
)
def test_what_stands_around_the_inputs(body, message):
    if message is None:
        call = wire.parse_call(body)
        assert "parameters" not in json.dumps(call.inputs)
        assert call.parameters == body.get("parameters", {})
    else:
        with pytest.raises(BadRequest) as refusal:
            wire.parse_call(body)
        assert message in refusal.value.message


def test_a_null_top_k_still_means_all_labels():
    assert check_parameters(Task.TEXT_CLASSIFICATION, {"top_k": None}) == {"top_k": None}
