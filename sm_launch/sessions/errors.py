"""Errors that are botocore's to a program and the launcher's to a user."""

from __future__ import annotations

from botocore.exceptions import ClientError, ParamValidationError

from sm_launch.errors import LaunchError, UserInputError

VALIDATION = "ValidationException"
RESOURCE_IN_USE = "ResourceInUse"


class ServiceError(ClientError, LaunchError):
    """What the service would have answered: a `ClientError` with code, message and HTTP status."""

    def __init__(
        self,
        message: str,
        operation: str,
        *,
        code: str = VALIDATION,
        status: int = 400,
        details: dict[str, object] | None = None,
    ) -> None:
        response = {
            "Error": {"Code": code, "Message": message},
            "ResponseMetadata": {"HTTPStatusCode": status},
            **(details or {}),
        }
        super().__init__(response, operation)  # type: ignore[arg-type]


class RequestError(ParamValidationError, UserInputError):
    """The request has not the shape that the service model demands; nothing was started."""

    def __init__(self, report: str) -> None:
        ParamValidationError.__init__(self, report=report)
        UserInputError.__init__(self, str(self))


class ModelError(ClientError):
    """The model answered with an error, or not at all; the endpoint itself is there.

    It is no LaunchError: whoever sends many requests counts it as one failed answer.
    """

    def __init__(self, operation: str, variant: str, status: int, text: str) -> None:
        side = "client" if 400 <= status < 500 else "server"
        message = f'Received {side} error ({status}) from {variant} with message "{text}".'
        response = {
            "Error": {"Code": "ModelError", "Message": message},
            "ResponseMetadata": {"HTTPStatusCode": 424},
            "OriginalStatusCode": status,
            "OriginalMessage": text,
        }
        super().__init__(response, operation)  # type: ignore[arg-type]
