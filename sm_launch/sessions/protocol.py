"""What the launcher asks of a session: a subset of the SageMaker client's own methods.

boto3's SageMaker client satisfies it (with `invoke_endpoint*` taken from the runtime client), so do
the Docker and the process session. Requests and responses are SageMaker's own dicts; failures are
botocore's `ClientError` and `ParamValidationError` or subclasses of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Protocol

Response = dict[str, Any]


class Session(Protocol):
    """The methods by which training jobs and endpoints are made, watched and removed.

    Attributes:
        seconds_between_looks: how often its answers may be asked for while something is awaited.
        log_lag_seconds: until a line that was written is shown.
        local: the same session with what only this machine can tell; None where it runs on AWS.
    """

    seconds_between_looks: float
    log_lag_seconds: float

    @property
    def local(self) -> LocalSession | None: ...

    def create_training_job(self, **request: Any) -> Response:
        """Start a training job; it runs on after the call."""

    def describe_training_job(self, **request: Any) -> Response:
        """Status, transitions, artefacts and final metrics of a job."""

    def stop_training_job(self, **request: Any) -> Response:
        """SIGTERM, and SIGKILL 120 seconds later."""

    def list_training_jobs(self, **request: Any) -> Response:
        """Summaries, filtered and sorted as asked."""

    def create_hyper_parameter_tuning_job(self, **request: Any) -> Response:
        """Start a search over training jobs; it runs on after the call."""

    def describe_hyper_parameter_tuning_job(self, **request: Any) -> Response:
        """Status, counters and the best training job so far."""

    def stop_hyper_parameter_tuning_job(self, **request: Any) -> Response:
        """Stop the running training jobs and start no more."""

    def list_hyper_parameter_tuning_jobs(self, **request: Any) -> Response:
        """Summaries, filtered and sorted as asked."""

    def list_training_jobs_for_hyper_parameter_tuning_job(self, **request: Any) -> Response:
        """The trials with their values and objectives, filtered and sorted as asked."""

    def create_transform_job(self, **request: Any) -> Response:
        """Start a model over files; it runs on after the call."""

    def describe_transform_job(self, **request: Any) -> Response:
        """Status, times and failure reason of a transform job."""

    def stop_transform_job(self, **request: Any) -> Response:
        """End a transform job; files that are done keep their output."""

    def list_transform_jobs(self, **request: Any) -> Response:
        """Summaries, filtered and sorted as asked."""

    def create_model(self, **request: Any) -> Response:
        """Give a name to an artefact, an image and an environment."""

    def describe_model(self, **request: Any) -> Response:
        """The model as it was created."""

    def delete_model(self, **request: Any) -> Response:
        """Forget the name; the artefact stays."""

    def list_models(self, **request: Any) -> Response:
        """Summaries, filtered and sorted as asked."""

    def create_endpoint_config(self, **request: Any) -> Response:
        """Name the variants that an endpoint is to run."""

    def describe_endpoint_config(self, **request: Any) -> Response:
        """The configuration as it was created."""

    def delete_endpoint_config(self, **request: Any) -> Response:
        """Forget the configuration."""

    def list_endpoint_configs(self, **request: Any) -> Response:
        """Summaries, filtered and sorted as asked."""

    def create_endpoint(self, **request: Any) -> Response:
        """Start serving; returns while the endpoint is still `Creating`."""

    def describe_endpoint(self, **request: Any) -> Response:
        """Status and variants of an endpoint."""

    def delete_endpoint(self, **request: Any) -> Response:
        """Drain, stop and remove; returns while the endpoint is still `Deleting`."""

    def list_endpoints(self, **request: Any) -> Response:
        """Summaries, filtered and sorted as asked."""

    def invoke_endpoint(self, **request: Any) -> Response:
        """One request to the model; `Body` of the response is readable."""

    def invoke_endpoint_with_response_stream(self, **request: Any) -> Response:
        """One request to the model; `Body` of the response yields `PayloadPart` events."""

    def invoke_endpoint_async(self, **request: Any) -> Response:
        """One request whose body and answer are objects of the store."""

    def update_endpoint(self, **request: Any) -> Response:
        """Move an endpoint to another configuration while it goes on answering."""

    def update_endpoint_weights_and_capacities(self, **request: Any) -> Response:
        """Share the traffic of an endpoint's variants out anew."""

    def list_tags(self, **request: Any) -> Response:
        """Tags of a resource, by its ARN."""

    def add_tags(self, **request: Any) -> Response:
        """Give a resource more tags; one of the same key gets the new value."""

    def training_log_lines(self, name: str, cursor: Any = None) -> tuple[list[str], Any]:
        """The log lines of a job that are new since `cursor`, and the next cursor."""

    def has_objects(self, uri: str) -> bool | None:
        """Whether anything in S3 begins with that URI; None where nobody may look."""

    def endpoint_log_lines(self, name: str, cursor: Any = None) -> tuple[list[str], Any]:
        """The same for an endpoint."""

    def transform_log_lines(self, name: str, cursor: Any = None) -> tuple[list[str], Any]:
        """The same for a batch transform job."""


class LocalSession(Session, Protocol):
    """A session whose servers and records are on this machine."""

    def endpoint_url(self, name: str, variant: str | None = None) -> str:
        """Where the server of a variant (default: the first) itself listens."""

    def endpoint_processes(self, name: str) -> list[int]:
        """The processes of an endpoint's servers."""

    def collect_garbage(
        self, older_than: timedelta, *, dry_run: bool, tags: dict[str, str] | None = None
    ) -> Sequence[Any]:
        """Remove, or only tell, what is over and bears the tags."""
