"""Secrets by reference: found when a container starts, never written down."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

from sm_launch.errors import UserInputError
from sm_launch.redaction import redact
from sm_launch.sessions.aws import AwsSession
from sm_launch.sessions.process.environment import base_environment
from sm_launch.sessions.references import inherited, require, resolve

VALUE = "hf_" + "aB3" * 10


def clients_with(secret: str) -> Any:
    client: Any = boto3.client(
        "secretsmanager", region_name="eu-central-1", aws_access_key_id="x",
        aws_secret_access_key="x",
    )  # fmt: skip
    stub = Stubber(client)
    stub.add_response("get_secret_value", {"SecretString": secret}, {"SecretId": "hub"})
    stub.activate()
    return lambda service, region: client


def test_variables_and_secrets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MY_TOKEN", VALUE)
    given = {"HF_TOKEN": "env:MY_TOKEN", "LR": "1e-4"}
    assert resolve(given) == {"HF_TOKEN": VALUE, "LR": "1e-4"}
    assert base_environment(tmp_path, given)["HF_TOKEN"] == VALUE
    assert resolve({"A": "secret:hub"}, None, clients_with(VALUE)) == {"A": VALUE}
    keyed = clients_with(json.dumps({"token": VALUE}))
    assert resolve({"A": "secret:hub#token"}, None, keyed) == {"A": VALUE}
    with pytest.raises(UserInputError, match="no JSON object with the key 'token'"):
        resolve({"A": "secret:hub#token"}, None, clients_with("plain"))
    monkeypatch.setenv("HF_TOKEN", "resolved-before")
    assert inherited(given) == {"HF_TOKEN": "resolved-before", "LR": "1e-4"}


def test_a_missing_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MY_TOKEN", raising=False)
    with pytest.raises(UserInputError, match=r"export MY_TOKEN,") as caught:
        require({"HF_TOKEN": "env:MY_TOKEN"})
    said = str(caught.value)
    assert "HF_TOKEN is to come from the variable MY_TOKEN" in said
    assert redact(said) == said  # no part of the message is taken for a token


class Recorder:
    """Takes the place of boto3's client: what would be sent."""

    def __init__(self) -> None:
        self.sent: dict[str, Any] = {}

    def create_model(self, **request: Any) -> dict[str, Any]:
        self.sent = request
        return {}


def test_only_what_is_sent_holds_the_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", VALUE)
    recorder = Recorder()
    request = {"PrimaryContainer": {"Image": "i", "Environment": {"HF_TOKEN": "env:MY_TOKEN"}}}
    AwsSession(clients=lambda *_: recorder).create_model(**request)
    assert recorder.sent["PrimaryContainer"]["Environment"] == {"HF_TOKEN": VALUE}
    assert request["PrimaryContainer"]["Environment"] == {"HF_TOKEN": "env:MY_TOKEN"}


def test_references_are_shown_and_values_are_not() -> None:
    shown = redact('"HF_TOKEN": "env:MY_TOKEN", "GITHUB_TOKEN": "abc def", "MAX_TOKENS": "128"')
    assert shown == (
        '"HF_TOKEN": "env:MY_TOKEN", "GITHUB_TOKEN": "[redacted]", "MAX_TOKENS": "128"'
    )
