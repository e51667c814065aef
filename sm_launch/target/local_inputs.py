"""Inputs on S3 for local targets: copied to this machine when a request names them, once a version.

Copies are kept by ETag: an object that has not changed is not fetched again, one that has gets a
place of its own, so that a job that still runs keeps what it has.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from sm_launch.aws.uris import split_s3
from sm_launch.errors import LaunchError, UserInputError
from sm_launch.job.naming import Request
from sm_launch.progress import progress
from sm_launch.sessions import state_directory
from sm_launch.sessions.protocol import Session

_STARTS = (
    "create_training_job",
    "create_hyper_parameter_tuning_job",
    "create_model",
    "create_transform_job",
)
_INPUTS = ("InputDataConfig", "PrimaryContainer", "Containers", "TransformInput")
_CHUNK = 1 << 20
_AT_A_TIME = 8
"""Objects that are fetched beside each other: small ones wait for the network, not for the disk."""
_TRIES = 3
"""How often a prefix is listed anew that changed while it was read."""
_CHANGED = frozenset({"PreconditionFailed", "412", "NoSuchKey", "404"})


def cache_directory() -> Path:
    """Where the copies are; nothing but disk is lost when it is deleted."""
    return state_directory() / "s3"


class LocalInputs:
    """A local session whose requests may name inputs on S3.

    Args:
        session: takes the requests, with `file://` in place of `s3://`.
        store: makes the client of S3, when it is needed.
        notify: gets what the user is told.
    """

    def __init__(
        self, session: Session, store: Callable[[], Any], notify: Callable[[str], None]
    ) -> None:
        self._session = session
        self._store = store
        self._notify = notify

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._session, name)
        if name not in _STARTS:
            return attribute
        return lambda **request: attribute(**self._localised(request))

    def _localised(self, request: Request) -> Request:
        cache = S3Cache(self._store, cache_directory(), self._notify)
        return cast("Request", _replaced(request, cache.uri, inside=False))


def with_local_inputs(
    session: Session, store: Callable[[], Any], notify: Callable[[str], None]
) -> Session:
    """The same session, which takes inputs on S3 too."""
    return cast("Session", LocalInputs(session, store, notify))


def _replaced(value: Any, uri: Callable[[str], str], *, inside: bool) -> Any:
    """A request with each s3:// URI of an input replaced; outputs stay as they are."""
    if isinstance(value, dict):
        return {
            key: _replaced(each, uri, inside=inside or key in _INPUTS)
            for key, each in value.items()
        }
    if isinstance(value, list):
        return [_replaced(each, uri, inside=inside) for each in value]
    if inside and isinstance(value, str) and value.startswith("s3://"):
        return uri(value)
    return value


@dataclass(frozen=True)
class _Object:
    key: str
    name: str
    etag: str
    size: int


class S3Cache:
    """Copies of objects by their ETag.

    Args:
        store: makes the client of S3.
        directory: keeps the copies.
        notify: gets what the user is told.
    """

    def __init__(
        self, store: Callable[[], Any], directory: Path, notify: Callable[[str], None]
    ) -> None:
        self._store = store
        self._directory = directory
        self._notify = notify

    def uri(self, uri: str) -> str:
        """A file:// URI of the copy; a directory's ends with a slash where the other one did.

        Raises:
            UserInputError: there is nothing of that name.
            LaunchError: an object cannot be read, or changed while it was.
        """
        copy = self.path(uri).as_uri()
        return f"{copy}/" if uri.endswith("/") else copy

    def path(self, uri: str) -> Path:
        """The copy of an object, or a directory with copies of all below a prefix."""
        for _ in range(_TRIES):
            try:
                return self._path(uri)
            except _ChangedError as error:
                changed = error
                self._notify(f"{uri}: {error} changed or went away while it was read; once more")
        raise LaunchError(
            f"something writes there: {changed} changed or went away while it was read",
            field="input",
            value=uri,
            fix="wait until it is written, or name a prefix that stays as it is",
        )

    def _path(self, uri: str) -> Path:
        bucket, key = split_s3(uri)
        client = self._store()
        single = self._single(client, bucket, key)
        objects = [single] if single else list(self._below(client, bucket, key))
        if not objects:
            raise UserInputError(
                "no such object in S3, and nothing below it",
                field="input",
                value=uri,
                fix="correct bucket and key, or aws.s3_endpoint_url",
            )
        listing = json.dumps([(each.name, each.etag, each.size) for each in objects])
        version = hashlib.sha256(f"{bucket} {key.rstrip('/')} {listing}".encode()).hexdigest()[:32]
        target = self._directory / version
        if target.is_dir():
            self._notify(f"{uri}: {len(objects)} object(s) as they were fetched before")
        else:
            self._fill(client, bucket, objects, target, uri)
        return target / objects[0].name if single else target

    def _single(self, client: Any, bucket: str, key: str) -> _Object | None:
        from botocore.exceptions import ClientError

        if not key or key.endswith("/"):
            return None
        try:
            head = client.head_object(Bucket=bucket, Key=key)
        except ClientError as error:
            if error.response["Error"]["Code"] in {"404", "NoSuchKey", "NotFound"}:
                return None
            raise
        return _Object(key, Path(key).name, head["ETag"], head["ContentLength"])

    def _below(self, client: Any, bucket: str, key: str) -> Iterator[_Object]:
        prefix = f"{key.rstrip('/')}/" if key else ""
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        for item in (item for page in pages for item in page.get("Contents", [])):
            if not item["Key"].endswith("/"):
                name = item["Key"].removeprefix(prefix)
                yield _Object(item["Key"], name, item["ETag"], item["Size"])

    def _fill(
        self, client: Any, bucket: str, objects: list[_Object], target: Path, uri: str
    ) -> None:
        """All objects, or nothing: a directory under its final name is whole."""
        self._directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".", dir=self._directory) as draft:
            root = Path(draft) / "copy"
            places = _places(root, objects)
            with (
                progress(f"Fetching {uri}", total=len(objects)) as bar,
                ThreadPoolExecutor(_AT_A_TIME) as pool,
            ):
                copies = [pool.submit(self._copy, client, bucket, *each) for each in places]
                try:
                    for copy in copies:
                        copy.result()
                        bar.advance()
                except BaseException:
                    pool.shutdown(cancel_futures=True)
                    raise
            size = sum(each.size for each in objects)
            self._notify(f"{uri}: fetched {len(objects)} object(s), {size / 1e6:.1f} MB")
            try:
                os.replace(root, target)  # noqa: PTH105  (Path.replace says nothing of directories)
            except OSError:
                if not target.is_dir():  # another launcher was faster
                    raise

    def _copy(self, client: Any, bucket: str, each: _Object, path: Path) -> None:
        """The object of that very version: a link to the copy that is there, else fetched."""
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = self._directory / "objects" / _key_of(bucket, each)
        if not kept.is_file():
            kept.parent.mkdir(parents=True, exist_ok=True)
            _download(client, bucket, each, kept)
        try:
            path.hardlink_to(kept)
        except OSError:  # a file system without links
            shutil.copyfile(kept, path)


class _ChangedError(Exception):
    """An object is no longer what was listed."""


def _download(client: Any, bucket: str, each: _Object, target: Path) -> None:
    """The whole object of that version, or nothing."""
    from botocore.exceptions import ClientError

    with tempfile.NamedTemporaryFile(dir=target.parent, delete=False) as draft:
        try:
            body = client.get_object(Bucket=bucket, Key=each.key, IfMatch=each.etag)["Body"]
            for chunk in body.iter_chunks(_CHUNK):
                draft.write(chunk)
        except BaseException as error:
            Path(draft.name).unlink()
            if isinstance(error, ClientError) and error.response["Error"]["Code"] in _CHANGED:
                raise _ChangedError(each.key) from error
            raise
    Path(draft.name).chmod(0o444)  # all jobs share it
    Path(draft.name).replace(target)


def _places(root: Path, objects: list[_Object]) -> list[tuple[_Object, Path]]:
    """Where each object lies in the copy.

    Raises:
        LaunchError: a key has no such place, or the place of another one.
    """
    seen: dict[Path, str] = {}
    for each in objects:
        path = root / each.name
        if not path.resolve().is_relative_to(root.resolve()):
            raise LaunchError(
                "an object's key leads out of its prefix", field="input", value=each.key
            )
        seen.setdefault(path, each.key)
    for each in objects:
        path = root / each.name
        others = {seen[place] for place in (path, *path.parents) if place in seen} - {each.key}
        if others:
            raise LaunchError(
                f"cannot lie beside {min(others)} in files and directories",
                field="input",
                value=each.key,
                fix="delete one of both objects, or name a longer prefix",
            )
    return [(each, root / each.name) for each in objects]


def _key_of(bucket: str, each: _Object) -> str:
    named = f"{bucket} {each.key} {each.etag} {each.size}"
    return hashlib.sha256(named.encode()).hexdigest()[:32]
