"""boto3 clients, made one way: adaptive retries, bounded waits, and AWS_ENDPOINT_URL honoured."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any, Literal, Protocol

# Botocore's adaptive mode slows down when the service throttles; ten tries last about a minute.
MAX_ATTEMPTS = 10
CONNECT_TIMEOUT_SECONDS = 10
# An endpoint answers within 60 s; a little more, so that its own error arrives and not ours.
READ_TIMEOUT_SECONDS = 75
# Requests under way at a time, in an evaluation's load; botocore would keep ten connections open.
MAX_CONNECTIONS = 256


_LOG = logging.getLogger("sm_launch.aws")


class Aws(Protocol):
    """What job.yaml says of the account that is asked."""

    region: str | None
    bucket: str | None
    bucket_owners: dict[str, str]
    s3_endpoint_url: str | None


def clients_for(aws: Aws) -> Callable[[str], Any]:
    """What makes the clients of a job: its region, and the owners of its buckets."""
    return partial(
        make_client,
        region=aws.region,
        owners=aws.bucket_owners,
        s3_endpoint_url=aws.s3_endpoint_url,
    )


def raw_data_clients(aws: Aws) -> Callable[[str], Any]:
    """As `clients_for`, to read data of any owner, such as public ones.

    Only of aws.bucket and of those that aws.bucket_owners names the owner is known.
    """
    ours = () if aws.bucket is None else (aws.bucket,)
    return partial(
        make_client,
        region=aws.region,
        owners=aws.bucket_owners,
        ours=ours,
        s3_endpoint_url=aws.s3_endpoint_url,
    )


def make_client(
    service: str,
    region: str | None = None,
    *,
    attempts: int = MAX_ATTEMPTS,
    owners: Mapping[str, str] | None = None,
    ours: Collection[str] | None = None,
    s3_endpoint_url: str | None = None,
) -> Any:
    """A client of an AWS service.

    Args:
        service: boto3's name of it.
        region: None takes what the AWS configuration says.
        attempts: how often a call is tried in all; once: at the caller's pace, too.
        owners: bucket to account, where that is not the account of the credentials.
        ours: the buckets of that account; None: all that `owners` does not name.
        s3_endpoint_url: of an S3-compatible store in place of AWS's; it knows no accounts, so
            that no owner is named to it.

    Raises:
        botocore.exceptions.NoRegionError: nothing names a region.
    """
    import boto3
    from botocore.config import Config

    if service == "s3" and s3_endpoint_url:
        return _other_store(region, attempts, s3_endpoint_url)
    mode: Literal["adaptive", "standard"] = "adaptive" if attempts > 1 else "standard"
    config = Config(
        retries={"mode": mode, "total_max_attempts": attempts},
        connect_timeout=CONNECT_TIMEOUT_SECONDS,
        read_timeout=READ_TIMEOUT_SECONDS,
        max_pool_connections=MAX_CONNECTIONS,
        user_agent_extra="sm-launch",
    )
    session: Any = boto3.session.Session(region_name=region)
    client = session.client(service, config=config)
    client.meta.events.register("after-call", _log_call)
    client.meta.events.register("after-call-error", _log_failure)
    if service == "s3":
        _expect_owners(client, region, owners or {}, ours)
    return client


def _other_store(region: str | None, attempts: int, url: str) -> Any:
    """S3's protocol as other stores have it: buckets in paths, no newer checksums, any region."""
    import boto3
    from botocore.config import Config

    config = Config(
        retries={"mode": "adaptive", "total_max_attempts": attempts},
        connect_timeout=CONNECT_TIMEOUT_SECONDS,
        read_timeout=READ_TIMEOUT_SECONDS,
        s3={"addressing_style": "path"},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        user_agent_extra="sm-launch",
    )
    session: Any = boto3.session.Session(region_name=region)
    place = session.region_name or "us-east-1"
    return session.client("s3", region_name=place, endpoint_url=url, config=config)


def _log_call(http_response: Any, parsed: Any, model: Any, **_: Any) -> None:
    """What `--verbose` shows of a call: no values of it, which may be secret."""
    answered = parsed.get("ResponseMetadata", {}) if isinstance(parsed, dict) else {}
    tries = answered.get("RetryAttempts", 0)
    failure = parsed.get("Error", {}).get("Code", "") if isinstance(parsed, dict) else ""
    _LOG.debug(
        "%s.%s: %s%s%s, request %s",
        model.service_model.service_name,
        model.name,
        http_response.status_code,
        f" {failure}" if failure else "",
        f" after {tries} retries" if tries else "",
        answered.get("RequestId", "-"),
    )


def _log_failure(exception: Exception, event_name: str, **_: Any) -> None:
    _LOG.debug("%s: %s", event_name.removeprefix("after-call-error."), type(exception).__name__)


def _expect_owners(
    client: Any, region: str | None, owners: Mapping[str, str], ours: Collection[str] | None
) -> None:
    """Every call says whose the bucket must be: a deleted one's name is free for anybody to take.

    S3 answers 403 to a call whose ExpectedBucketOwner is not the owner.
    """
    own: list[str] = []

    def add(params: dict[str, Any], model: Any, **_: Any) -> None:
        members = model.input_shape.members if model.input_shape else {}
        if "ExpectedBucketOwner" not in members or "ExpectedBucketOwner" in params:
            return
        bucket = params.get("Bucket", "")
        owner = owners.get(bucket)
        if owner is None and ours is not None and bucket not in ours:
            return
        if owner is None:
            own[:] = own or [account_id(region)]
            owner = own[0]
        params["ExpectedBucketOwner"] = owner

    client.meta.events.register("before-parameter-build.s3", add)


def account_id(region: str | None = None) -> str:
    """The account that the credentials belong to."""
    return str(make_client("sts", region).get_caller_identity()["Account"])


def default_bucket(region: str, account: str) -> str:
    """The bucket that the SageMaker SDK takes where none is named."""
    return f"sagemaker-{region}-{account}"
