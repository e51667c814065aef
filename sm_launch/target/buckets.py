"""The S3 side of a job: which bucket, and the stage that uploads to it."""

from __future__ import annotations

from typing import Any

from sm_launch.aws.clients import account_id, clients_for, default_bucket
from sm_launch.aws.uris import split_s3
from sm_launch.errors import UserInputError
from sm_launch.job.config import JobConfig
from sm_launch.target.staging import S3Stage


def bucket_of(config: JobConfig, client: Any) -> str:
    """The bucket that job.yaml names, else the SDK's default one of account and region."""
    if config.aws.bucket:
        return config.aws.bucket
    region = str(client.meta.region_name)
    return default_bucket(region, account_id(region))


def s3_stage(config: JobConfig, *, upload: bool = True) -> S3Stage:
    """Where a job's files go on S3.

    Args:
        config: names bucket, prefix, region and KMS key.
        upload: False names the URIs without sending anything (`--dry-run`).

    Raises:
        UserInputError: the bucket does not exist, or is not ours.
    """
    client = clients_for(config.aws)("s3")
    bucket = bucket_of(config, client)
    if upload:
        _require(client, bucket)
    return S3Stage(
        client, bucket, config.aws.prefix, config.name, kms_key=config.aws.kms_key, upload=upload
    )


def _require(client: Any, bucket: str) -> None:
    from botocore.exceptions import ClientError

    try:
        client.head_bucket(Bucket=bucket)
    except ClientError as error:
        code = error.response["Error"]["Code"]
        problems = {
            "404": "there is no such bucket",
            "403": "the bucket may not be read, or belongs to another account",
        }
        if code not in problems:
            raise
        raise UserInputError(
            problems[code],
            field="aws.bucket",
            value=bucket,
            fix="run `sm-launch setup` to make one, correct aws.bucket in job.yaml, ask for "
            "s3:ListBucket on it, or name its account in aws.bucket_owners",
        ) from None


def size_of(uri: str, config: JobConfig) -> int | None:
    """Bytes below an s3:// URI; None where it cannot be read (the launcher need not be able to)."""
    from botocore.exceptions import ClientError

    bucket, prefix = split_s3(uri)
    pages = clients_for(config.aws)("s3").get_paginator("list_objects_v2")
    try:
        sizes = [
            item["Size"]
            for page in pages.paginate(Bucket=bucket, Prefix=prefix)
            for item in page.get("Contents", [])
        ]
    except ClientError:
        return None
    return sum(sizes) if sizes else None
