"""boto3 clients, made one way: adaptive retries, bounded waits, and AWS_ENDPOINT_URL honoured."""

from __future__ import annotations

from typing import Any

# Botocore's adaptive mode slows down when the service throttles; ten tries last about a minute.
MAX_ATTEMPTS = 10
CONNECT_TIMEOUT_SECONDS = 10
# An endpoint answers within 60 s; a little more, so that its own error arrives and not ours.
READ_TIMEOUT_SECONDS = 75


def make_client(service: str, region: str | None = None, *, attempts: int = MAX_ATTEMPTS) -> Any:
    """A client of an AWS service.

    Args:
        service: boto3's name of it.
        region: None takes what the AWS configuration says.
        attempts: how often a call is tried in all.

    Raises:
        botocore.exceptions.NoRegionError: nothing names a region.
    """
    import boto3
    from botocore.config import Config

    config = Config(
        retries={"mode": "adaptive", "total_max_attempts": attempts},
        connect_timeout=CONNECT_TIMEOUT_SECONDS,
        read_timeout=READ_TIMEOUT_SECONDS,
        user_agent_extra="sm-launch",
    )
    session: Any = boto3.session.Session(region_name=region)
    return session.client(service, config=config)


def account_id(region: str | None = None) -> str:
    """The account that the credentials belong to."""
    return str(make_client("sts", region).get_caller_identity()["Account"])


def default_bucket(region: str, account: str) -> str:
    """The bucket that the SageMaker SDK takes where none is named."""
    return f"sagemaker-{region}-{account}"
