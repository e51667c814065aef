"""Where things are: names in job.yaml become the URIs that a target can read.

Local targets get `file://` URIs. For SageMaker a local file or directory is uploaded once, under
a key that holds its content's hash, so that the same data is never sent twice.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlparse

from sm_launch.progress import progress


class ObjectStore(Protocol):
    """The S3 client methods that uploading needs."""

    def upload_file(
        self,
        Filename: str,  # noqa: N803
        Bucket: str,  # noqa: N803
        Key: str,  # noqa: N803
        ExtraArgs: dict[str, str] | None = None,  # noqa: N803
    ) -> None:
        """Send one file."""

    def head_object(self, *, Bucket: str, Key: str) -> object:  # noqa: N803
        """Raise when there is no such object."""


def local_path(location: str) -> Path:
    """The path that a file:// URI names, or a path as it is."""
    if not location.startswith("file://"):
        return Path(location)
    return Path(unquote(urlparse(location).path))


def location_of(uri: str) -> str:
    """A URI as a stage takes it: what is on this machine by its path."""
    return uri if uri.startswith("s3://") else str(local_path(uri))


class LocalStage:
    """Local targets read files where they are."""

    def __init__(self, work_path: Path) -> None:
        self._work_path = work_path

    def channel(self, name: str, location: str) -> str:
        # An s3:// URI is fetched when the job starts (`target.local_inputs`).
        return location if location.startswith("s3://") else Path(location).as_uri()

    def checkpoints(self, directory: Path, job: str) -> str:
        """Where a job keeps its checkpoints, below the directory that job.yaml names."""
        own = directory / job
        own.mkdir(parents=True, exist_ok=True)
        return own.as_uri()

    def output(self, area: str) -> str:
        directory = self._work_path / area
        directory.mkdir(parents=True, exist_ok=True)
        return directory.as_uri()


class S3Stage:
    """SageMaker reads S3: local files are uploaded, s3:// URIs are passed through.

    Args:
        store: boto3's S3 client.
        bucket: where the files go.
        prefix: key prefix inside the bucket.
        job: name of the job, a folder below the prefix.
        kms_key: encrypts what is uploaded; None leaves it to the bucket's default.
        upload: False only names the URIs.
    """

    def __init__(
        self,
        store: ObjectStore,
        bucket: str,
        prefix: str,
        job: str,
        *,
        kms_key: str | None = None,
        upload: bool = True,
    ) -> None:
        self._store = store
        self._bucket = bucket
        self._send = upload
        self._encryption = (
            {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": kms_key} if kms_key else None
        )
        self._prefix = f"{prefix.strip('/')}/{job}"

    def channel(self, name: str, location: str) -> str:
        if location.startswith("s3://"):
            return location
        path = Path(location)
        files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
        key = f"{self._prefix}/input/{name}/{_digest(path, files)}"
        if self._send:
            self._upload_all(name, path, files, key)
        return f"s3://{self._bucket}/{key}/"

    def _upload_all(self, name: str, path: Path, files: list[Path], key: str) -> None:
        with progress(f"Uploading {name}", total=len(files)) as bar:
            for file in files:
                relative = file.name if file == path else file.relative_to(path).as_posix()
                self._upload(file, f"{key}/{relative}")
                bar.advance()

    def checkpoints(self, directory: Path, job: str) -> str:
        """SageMaker keeps none in a directory of this machine: they go below the job's prefix."""
        return self.output(f"checkpoints/{job}")

    def output(self, area: str) -> str:
        return f"s3://{self._bucket}/{self._prefix}/{area}"

    def _upload(self, file: Path, key: str) -> None:
        if not self._exists(key):
            self._store.upload_file(str(file), self._bucket, key, self._encryption)

    def _exists(self, key: str) -> bool:
        from botocore.exceptions import ClientError

        try:
            self._store.head_object(Bucket=self._bucket, Key=key)
        except ClientError as error:
            if error.response["Error"]["Code"] in {"404", "NoSuchKey", "NotFound"}:
                return False
            raise
        return True


Stage = LocalStage | S3Stage


def _digest(root: Path, files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(str(file.relative_to(root.parent)).encode())
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()[:16]
