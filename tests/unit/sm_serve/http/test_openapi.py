"""The document and the application have the same routes."""

import re

import pytest

from sm_serve.config import Settings
from sm_serve.http import openapi
from sm_serve.http.server import build_app
from sm_serve.protocol import Task
from sm_serve.service import Service


def routes(settings):
    """Methods and paths that the application answers."""
    application = build_app(Service(settings))._app
    return {
        (method, re.sub(r":\w+\}", "}", route.path))
        for route in application.routes
        for method in route.methods - {"HEAD"}
    }


def told(task, settings):
    """Those of the document."""
    paths = openapi.build_document(task, settings)["paths"]
    return {(method.upper(), path) for path, methods in paths.items() for method in methods}


def test_every_route_stands_in_the_document_of_a_task_that_answers_it_and_no_other():
    documents = {task: told(task, Settings()) for task in Task}
    assert set().union(*documents.values()) == routes(Settings())
    assert ("POST", "/v1/chat/completions") in documents[Task.TEXT_GENERATION]
    assert ("POST", "/rerank") in documents[Task.TEXT_CLASSIFICATION]
    assert ("POST", "/rerank") not in documents[Task.TEXT_GENERATION]
    assert ("POST", "/v1/chat/completions") not in documents[Task.FILL_MASK]


@pytest.mark.parametrize("task", list(Task))
def test_a_multi_model_servers_document_tells_no_route_that_is_not_there(task):
    settings = Settings(multi_model=True)
    assert told(task, settings) <= routes(settings)
    assert {path for _, path in told(task, settings) if path.startswith("/models")}


@pytest.mark.parametrize("task", list(Task))
def test_the_document_is_openapi(task):
    """What tools check: every operation has answers, every path parameter is declared."""
    for path, methods in openapi.build_document(task, Settings())["paths"].items():
        for operation in methods.values():
            assert operation["summary"]
            assert "200" in operation["responses"]
            declared = {each["name"] for each in operation.get("parameters", [])}
            assert set(re.findall(r"\{(\w+)\}", path)) <= declared
