"""Raw data that lies in S3: copied to the local disk, once, before it is read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

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
        if not bucket or not key or key.endswith("/"):
            raise UserInputError(
                "is not an object", field="data", value=uri, fix="name one file: s3://bucket/key"
            )
        path = directory / bucket / key
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            client.download_file(bucket, key, str(path))
        except ClientError as error:
            raise _explain(error.response["Error"].get("Code", ""), uri, error) from error
        except (BotoCoreError, Boto3Error) as error:
            raise LaunchError(
                f"cannot be fetched: {error}",
                field="data",
                value=uri,
                fix="check the AWS credentials, the region and the network",
            ) from error
        return path

    return fetch


def _explain(code: str, uri: str, error: Exception) -> LaunchError:
    if code in ("404", "NoSuchKey", "NoSuchBucket"):
        return UserInputError(
            "no such object in S3", field="data", value=uri, fix="correct bucket and key"
        )
    if code in ("403", "AccessDenied"):
        return LaunchError(
            "access denied", field="data", value=uri, fix="allow s3:GetObject on it, or its KMS key"
        )
    return LaunchError(f"cannot be fetched: {error}", field="data", value=uri)
