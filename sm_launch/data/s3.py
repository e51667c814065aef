"""Raw data that lies in S3: copied to the local disk, once, before it is read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from sm_launch.aws.errors import explained
from sm_launch.data.sources import Fetch
from sm_launch.errors import LaunchError, UserInputError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


def fetcher(client: S3Client, directory: Path) -> Fetch:
    """A `fetch` for `prepare`.

    Args:
        client: boto3's S3 client.
        directory: where the copies go; the caller removes it.
    """

    def fetch(uri: str) -> Path:
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError

        parts = urlsplit(uri)
        bucket, key = parts.netloc, parts.path.lstrip("/")
        if not bucket:
            raise UserInputError(
                "names no bucket", field="data", value=uri, fix="give s3://bucket/key"
            )
        try:
            if key and not key.endswith("/"):
                return _object(client, bucket, key, directory) or _prefix(
                    client, bucket, f"{key}/", directory, uri
                )
            return _prefix(client, bucket, key, directory, uri)
        except ClientError as error:
            raise _explain(error.response["Error"].get("Code", ""), uri, error) from error
        except (BotoCoreError, Boto3Error) as error:
            raise LaunchError(
                f"cannot be fetched: {error}",
                field="data",
                value=uri,
                fix="check the AWS credentials, the region and the network",
            ) from error

    return fetch


def _object(client: S3Client, bucket: str, key: str, directory: Path) -> Path | None:
    """The copy of one object; None where there is no object of this key."""
    from botocore.exceptions import ClientError

    path = directory / bucket / key
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        client.download_file(bucket, key, str(path))
    except ClientError as error:
        if error.response["Error"].get("Code") in ("404", "NoSuchKey"):
            return None
        raise
    return path


def _prefix(client: S3Client, bucket: str, prefix: str, directory: Path, uri: str) -> Path:
    """A directory with copies of all objects below `prefix`."""
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    keys = [item["Key"] for page in pages for item in page.get("Contents", [])]
    wanted = [key for key in keys if not key.endswith("/")]
    if not wanted:
        raise UserInputError(
            "no such object in S3, and nothing below it",
            field="data",
            value=uri,
            fix="correct bucket and key",
        )
    root = directory / bucket / prefix
    for key in wanted:
        path = (directory / bucket / key).resolve()
        if not path.is_relative_to(root.resolve()):
            raise LaunchError("an object's key leads out of its prefix", field="data", value=key)
        path.parent.mkdir(parents=True, exist_ok=True)
        if _object(client, bucket, key, directory) is None:
            raise LaunchError(
                "went away while its prefix was read",
                field="data",
                value=f"s3://{bucket}/{key}",
                fix="run it again once nobody writes there any more",
            )
    return root


def _explain(code: str, uri: str, error: Exception) -> LaunchError:
    if code in ("404", "NoSuchKey", "NoSuchBucket"):
        return UserInputError(
            "no such object in S3", field="data", value=uri, fix="correct bucket and key"
        )
    if code in ("403", "AccessDenied"):
        return LaunchError(
            "access denied",
            field="data",
            value=uri,
            fix="allow s3:GetObject on it, or its KMS key; copy what its requesters pay for",
        )
    fix = explained(error).fix
    return LaunchError(f"cannot be fetched: {error}", field="data", value=uri, fix=fix)
