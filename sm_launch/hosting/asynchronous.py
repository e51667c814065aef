"""One request to an asynchronous endpoint: body and answer are objects of S3, or local files."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import Any

from sm_launch.aws.clients import make_client
from sm_launch.aws.uris import split_s3
from sm_launch.errors import LaunchError, UserInputError
from sm_launch.sessions.protocol import Session
from sm_launch.target.staging import local_path

SECONDS_BETWEEN_LOOKS = 1.0


class Objects:
    """Reads and writes s3:// and file:// URIs.

    Args:
        clients: makes a client of an AWS service.
    """

    def __init__(self, clients: Callable[[str], Any]) -> None:
        self._clients = clients
        self._client: Any = None

    def write(self, uri: str, content: bytes) -> None:
        """Make the object."""
        if uri.startswith("file://"):
            path = local_path(uri)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            return
        bucket, key = split_s3(uri)
        self._s3().put_object(Bucket=bucket, Key=key, Body=content)

    def read(self, uri: str) -> bytes | None:
        """The content; None where there is no such object (yet)."""
        if uri.startswith("file://"):
            path = local_path(uri)
            return path.read_bytes() if path.is_file() else None
        from botocore.exceptions import ClientError

        bucket, key = split_s3(uri)
        try:
            return bytes(self._s3().get_object(Bucket=bucket, Key=key)["Body"].read())
        except ClientError as error:
            # Without s3:ListBucket a missing object answers 403.
            if error.response["Error"]["Code"] in {"NoSuchKey", "404", "AccessDenied", "403"}:
                return None
            raise

    def _s3(self) -> Any:
        if self._client is None:
            self._client = self._clients("s3")
        return self._client


def invoke(
    session: Session,
    endpoint: str,
    body: bytes,
    *,
    content_type: str,
    accept: str,
    timeout: float,
    objects: Objects | None = None,
) -> bytes:
    """Send a request and wait for its answer.

    Args:
        session: where the endpoint runs.
        endpoint: its name.
        body: of the request.
        content_type: of the body.
        accept: wanted content type of the answer.
        timeout: seconds to wait at most.
        objects: where bodies are written and answers read; default: with boto3's configuration.

    Raises:
        UserInputError: the endpoint is not asynchronous.
        LaunchError: the model failed, or there was no answer in time.
    """
    objects = objects or Objects(make_client)
    described = session.describe_endpoint(EndpointName=endpoint)
    settings = described.get("AsyncInferenceConfig")
    if settings is None:
        raise UserInputError(
            "the endpoint is not asynchronous",
            field="--async",
            value=endpoint,
            fix="leave --async out, or deploy with endpoint.asynchronous: {}",
        )
    target = settings["OutputConfig"]["S3OutputPath"].rstrip("/")
    source = f"{target}-requests/{uuid.uuid4()}"
    objects.write(source, body)
    queued = session.invoke_endpoint_async(
        EndpointName=endpoint, InputLocation=source, ContentType=content_type, Accept=accept
    )
    return _wait(objects, queued, time.monotonic() + timeout, timeout)


def _wait(objects: Objects, queued: dict[str, Any], deadline: float, timeout: float) -> bytes:
    output, failure = queued["OutputLocation"], queued.get("FailureLocation")
    while time.monotonic() < deadline:
        if (answer := objects.read(output)) is not None:
            return answer
        if failure and (message := objects.read(failure)) is not None:
            raise LaunchError(f"the model failed: {message.decode('utf-8', 'replace')}")
        time.sleep(SECONDS_BETWEEN_LOOKS)
    raise LaunchError(
        f"there is no answer after {timeout:.0f} s",
        fix=f"it may still come, to {output}; an endpoint at zero instances takes minutes to start",
    )
