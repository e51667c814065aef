"""A tracking server is asked before anything is loaded; what it does not take is said once."""

from __future__ import annotations

import json
import logging
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from sm_train.config import parse_config
from sm_train.errors import UserError
from sm_train.settings.tracking_server import Losses, check_server

pytestmark = pytest.mark.slow  # imports MLflow's client
CONFIG = parse_config({"method": "sft", "report_to": "mlflow"})


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """What a server answers with, one after the other."""
    statuses: list[int] = []

    class Server(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status = statuses.pop(0)
            missing = {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "none"}
            body = json.dumps(missing).encode() if status == 404 else b"You are not authenticated."
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.server_port}")
    yield statuses
    server.shutdown()
    server.server_close()


def test_a_server_that_answers_leaves_nothing_in_the_log(
    answers: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    answers.append(404)  # there is no such experiment yet
    logging.getLogger("mlflow").addHandler(caplog.handler)
    check_server(CONFIG)
    assert answers == []
    assert caplog.records == []


def test_a_server_that_refuses_is_told_with_what_to_set(answers: list[int]) -> None:
    answers.append(401)
    with pytest.raises(UserError, match=r"(?s)MLFLOW_TRACKING_URI.*401.*MLFLOW_TRACKING_USERNAME"):
        check_server(CONFIG)


def test_a_server_that_is_down_is_told_before_torch_is_imported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(UserError, match="begins no run there"):
        check_server(CONFIG)
    check_server(parse_config({"method": "sft", "report_to": "none"}))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "file:///tmp/runs")
    check_server(CONFIG)  # a place of files is made when it is needed


def test_what_is_lost_is_said_once_and_counted(capfd: pytest.CaptureFixture[str]) -> None:
    losses, logger = Losses(), logging.getLogger("test_losses")
    logger.addFilter(losses)
    losses.tell()
    for number in range(3):
        logger.error("no %d", number)
    losses.tell()
    told = capfd.readouterr().out
    assert told.count("no 0") == 1
    assert "no 1" not in told
    assert "did not take 3 batches" in told
