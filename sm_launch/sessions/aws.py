"""SageMaker itself: boto3's clients under the session's names, and logs from CloudWatch.

Looking at a job must survive what a long night brings: throttling, lost connections, log streams
that do not exist yet. Looking is therefore patient; creating and deleting fail as boto3 fails.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cached_property, partial
from typing import Any

from sm_launch.aws.clients import make_client
from sm_launch.aws.errors import is_missing, is_passing
from sm_launch.aws.uris import split_s3
from sm_launch.errors import LaunchError
from sm_launch.sessions.aws_logs import read_group
from sm_launch.sessions.references import resolve_request

TRAINING_LOGS = "/aws/sagemaker/TrainingJobs"
TRANSFORM_LOGS = "/aws/sagemaker/TransformJobs"
ENDPOINT_LOGS = "/aws/sagemaker/Endpoints"
COMPONENT_LOGS = "/aws/sagemaker/InferenceComponents"

# DescribeTrainingJob and GetLogEvents are throttled per account: every few seconds is enough.
SECONDS_BETWEEN_LOOKS = 5.0
# CloudWatch shows a line some seconds after it was written.
LOG_LAG_SECONDS = 5.0
# How long looking goes on without an answer before it gives up.
PATIENCE_SECONDS = 600.0
_WITH_ENVIRONMENT = frozenset(
    {"create_training_job", "create_hyper_parameter_tuning_job", "create_model"}
)
_LOOKS = ("describe_", "list_")
_RUNTIME = frozenset(
    {"invoke_endpoint", "invoke_endpoint_with_response_stream", "invoke_endpoint_async"}
)


class AwsSession:
    """boto3's SageMaker client, with the runtime client's invocations and CloudWatch's logs.

    Args:
        region: None takes what the AWS configuration says.
        clients: makes a client of a service; tests give stubbed ones.
        sleep: waits between two tries.
    """

    seconds_between_looks: float = SECONDS_BETWEEN_LOOKS
    log_lag_seconds: float = LOG_LAG_SECONDS
    local = None  # see Session

    def __init__(
        self,
        region: str | None = None,
        *,
        clients: Callable[..., Any] = make_client,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._region = region
        self._make = clients
        self._sleep = sleep

    def once(self) -> AwsSession:
        """The same, whose calls are sent once each, and at the caller's pace: to put load on."""
        return AwsSession(self._region, clients=partial(self._make, attempts=1))

    @cached_property
    def _sagemaker(self) -> Any:
        return self._make("sagemaker", self._region)

    @cached_property
    def _runtime(self) -> Any:
        return self._make("sagemaker-runtime", self._region)

    @cached_property
    def _logs(self) -> Any:
        return self._make("logs", self._region)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        method = getattr(self._runtime if name in _RUNTIME else self._sagemaker, name)
        if name in _WITH_ENVIRONMENT:
            return lambda **request: method(**resolve_request(request, self._region, self._make))
        return self._patient(method) if name.startswith(_LOOKS) else method

    def training_log_lines(self, name: str, cursor: Any = None) -> tuple[list[str], Any]:
        """New lines of a training job's log, and where to go on.

        Raises:
            LaunchError: there is no such job.
        """
        lines, cursor_after = self._read(TRAINING_LOGS, f"{name}/", cursor)
        if not lines and cursor is None:
            self._require("describe_training_job", "training job", TrainingJobName=name)
        return lines, cursor_after

    def transform_log_lines(self, name: str, cursor: Any = None) -> tuple[list[str], Any]:
        """New lines of a batch transform job's log, and where to go on.

        Raises:
            LaunchError: there is no such job.
        """
        lines, cursor_after = self._read(TRANSFORM_LOGS, f"{name}/", cursor)
        if not lines and cursor is None:
            self._require("describe_transform_job", "transform job", TransformJobName=name)
        return lines, cursor_after

    def endpoint_log_lines(self, name: str, cursor: Any = None) -> tuple[list[str], Any]:
        """New lines of an endpoint's log, and where to go on.

        The log outlives the endpoint: that of a deleted one can still be read.

        Raises:
            LaunchError: there is neither such an endpoint nor a log of it.
        """
        lines, cursor_after = self._read(f"{ENDPOINT_LOGS}/{name}", "", cursor)
        if not lines and cursor is None:
            self._require("describe_endpoint", "endpoint", EndpointName=name)
        return lines, cursor_after

    def component_log_lines(self, name: str, cursor: Any = None) -> tuple[list[str], Any]:
        """New lines of an inference component's log, and where to go on."""
        return self._read(f"{COMPONENT_LOGS}/{name}", "", cursor)

    def has_objects(self, uri: str) -> bool | None:
        """Whether anything in S3 begins with that URI; None where nobody may look."""
        from botocore.exceptions import ClientError

        bucket, key = split_s3(uri)
        try:
            listed = self._make("s3", self._region).list_objects_v2(
                Bucket=bucket, Prefix=key, MaxKeys=1
            )
        except ClientError:
            return None
        return bool(listed.get("KeyCount"))

    def _read(self, group: str, prefix: str, cursor: Any) -> tuple[list[str], Any]:
        if cursor is not None:
            return read_group(self._logs, group, prefix, cursor)
        # An empty first look says that there is no log: it must not come of a throttled service.
        look = self._patient(partial(read_group, self._logs, group, prefix, None, later=False))
        page: tuple[list[str], Any] = look()
        return page

    def _require(self, method: str, kind: str, **request: str) -> None:
        from botocore.exceptions import ClientError

        try:
            getattr(self, method)(**request)
        except ClientError as error:
            if is_missing(error):
                raise LaunchError(
                    f"there is no such {kind}, nor a log of it",
                    value=next(iter(request.values())),
                    fix="check the name and the region with `sm-launch list`",
                ) from error
            raise

    def _patient(self, method: Callable[..., Any]) -> Callable[..., Any]:
        """The method, tried again while the service cannot be reached or says: slower."""

        def call(**request: Any) -> Any:
            deadline = time.monotonic() + PATIENCE_SECONDS
            pause = 1.0
            while True:
                try:
                    return method(**request)
                except Exception as error:
                    if not is_passing(error) or time.monotonic() >= deadline:
                        raise
                self._sleep(pause)
                pause = min(2 * pause, 30.0)

        return call
