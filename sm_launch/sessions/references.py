"""Secrets by reference: job.yaml and requests name where a value is, never the value itself.

`env:NAME` is a variable of the launcher's environment, `secret:ID` a secret of AWS Secrets Manager,
`secret:ID#KEY` one key of a JSON secret. They are looked up when a container is started, so that
no file and no `--dry-run` holds them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from typing import Any

from sm_launch.errors import UserInputError

ENVIRONMENT, SECRET = "env:", "secret:"
Clients = Callable[[str, str | None], Any]


def is_reference(value: str) -> bool:
    """Whether a value says where the real one is."""
    return value.startswith((ENVIRONMENT, SECRET))


def require(environment: Mapping[str, str]) -> None:
    """Refuse a job whose references lead nowhere, before anything starts.

    Raises:
        UserInputError: a variable is not set.
    """
    for name, value in environment.items():
        if value.startswith(ENVIRONMENT):
            _variable(name, value)


def resolve(
    environment: Mapping[str, str], region: str | None = None, clients: Clients | None = None
) -> dict[str, str]:
    """The environment with every reference replaced by what it names.

    Args:
        environment: variable to value or reference.
        region: of Secrets Manager; None takes what the AWS configuration says.
        clients: makes a client of an AWS service.

    Raises:
        UserInputError: a variable is not set, or a secret has no such key.
    """
    return {name: _value(name, value, region, clients) for name, value in environment.items()}


def resolve_request(request: Any, region: str | None, clients: Clients) -> Any:
    """The same for every `Environment` inside a request."""
    if isinstance(request, list):
        return [resolve_request(item, region, clients) for item in request]
    if not isinstance(request, dict):
        return request
    return {
        key: resolve(value, region, clients)
        if key == "Environment"
        else resolve_request(value, region, clients)
        for key, value in request.items()
    }


def inherited(environment: Mapping[str, str]) -> dict[str, str]:
    """The same where this process got the variables already resolved, under their own names."""
    return {
        name: os.environ.get(name, value) if is_reference(value) else value
        for name, value in environment.items()
    }


def _value(name: str, value: str, region: str | None, clients: Clients | None) -> str:
    if value.startswith(ENVIRONMENT):
        return _variable(name, value)
    if value.startswith(SECRET):
        return _secret(name, value.removeprefix(SECRET), region, clients)
    return value


def _variable(name: str, value: str) -> str:
    variable = value.removeprefix(ENVIRONMENT)
    content = os.environ.get(variable)
    if not content:
        raise UserInputError(
            f"{name} is to come from the variable {variable}, which is not set here",
            field="environment",  # `NAME_TOKEN: text` would be masked, as a secret is
            value=value,
            fix=f"export {variable}, or name a secret: secret:ID",
        )
    return content


def _secret(name: str, identity: str, region: str | None, clients: Clients | None) -> str:
    if clients is None:
        from sm_launch.aws.clients import make_client

        clients = make_client
    secret, _, key = identity.partition("#")
    client = clients("secretsmanager", region)
    text = str(client.get_secret_value(SecretId=secret)["SecretString"])
    if not key:
        return text
    try:
        return str(json.loads(text)[key])
    except (json.JSONDecodeError, KeyError, TypeError):
        raise UserInputError(
            f"{name} is to come from the secret {secret}, which is no JSON object with the key "
            f"{key!r}",
            field="environment",
            fix="correct the part behind #, or leave it out where the secret is plain text",
        ) from None
