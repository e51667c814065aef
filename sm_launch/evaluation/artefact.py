"""What a model artefact says of itself: how it is asked, its labels, what training measured."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from sm_launch.aws.uris import split_s3
from sm_launch.job.hub_models import SCHEME, HubModel
from sm_launch.target.staging import local_path

CONFIG, RESULTS = "config.json", "eval_results.json"
MOST_READ = 512 * 1024**2
"""Bytes of a compressed archive in S3 that are read in search of these two files."""


@dataclass(frozen=True)
class Artefact:
    """The two small files of a model directory."""

    config: Mapping[str, Any] = field(default_factory=dict)
    results: Mapping[str, Any] = field(default_factory=dict)

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes in the order of their ids."""
        named = self.config.get("id2label")
        if not isinstance(named, Mapping):
            return ()
        try:
            return tuple(str(named[key]) for key in sorted(named, key=int))
        except ValueError:
            return ()

    def asked(self, task: str) -> tuple[dict[str, Any], dict[str, str]]:
        """Parameters by the pipeline's names, and the column of each input and of the answer.

        Training writes them into config.json (`task_specific_params`).
        """
        told = self.config.get("task_specific_params")
        own = told.get(task) if isinstance(told, Mapping) else None
        if not isinstance(own, Mapping):
            return {}, {}
        columns = own.get("columns")
        columns = columns if isinstance(columns, Mapping) else {}
        parameters = {key: value for key, value in own.items() if key != "columns"}
        return parameters, {str(name): str(column) for name, column in columns.items()}


def read_artefact(uri: str, clients: Callable[[str], Any] | None = None) -> Artefact | None:
    """The artefact behind a path, a file:// or an s3:// URI; None where it holds no config.json.

    Args:
        uri: a model directory or prefix, an archive of one, or hf://OWNER/NAME[@REVISION].
        clients: makes clients of AWS services; default: by boto3's configuration.

    Raises:
        OSError, EOFError, tarfile.TarError, zlib.error: it cannot be read.
    """
    if not uri:  # nothing says what the endpoint serves
        return None
    if uri.startswith(SCHEME):
        artefact = _from_hub(HubModel.of(uri, "model"))
    elif uri.startswith("s3://"):
        artefact = _from_s3(uri, clients)
    else:
        artefact = _from_path(local_path(uri))
    if CONFIG not in artefact:
        return None
    return Artefact(artefact[CONFIG], artefact.get(RESULTS, {}))


def _from_path(path: Path) -> dict[str, dict[str, Any]]:
    if path.is_dir():
        texts = ((name, path / name) for name in (CONFIG, RESULTS))
        return {name: _object(file.read_bytes()) for name, file in texts if file.is_file()}
    with tarfile.open(path) as archive:
        return _from_members(archive)


def _from_hub(model: HubModel) -> dict[str, dict[str, Any]]:
    """The base model's own config.json; what training measured, it cannot have."""
    try:
        from huggingface_hub import hf_hub_download
    except ImportError as error:
        raise OSError("it needs pip install 'sm-launch[hub]'") from error
    try:
        path = hf_hub_download(model.repository, CONFIG, revision=model.revision or None)
    except Exception as error:  # the library's own, those of its HTTP client
        raise OSError(str(error).strip().partition("\n")[0][:200]) from error
    return {CONFIG: _object(Path(path).read_bytes())}


def _from_members(archive: tarfile.TarFile) -> dict[str, dict[str, Any]]:
    """Reads no further than it must: the weights behind them are long."""
    documents: dict[str, dict[str, Any]] = {}
    for member in archive:
        name = member.name.removeprefix("./")
        if name in (CONFIG, RESULTS) and (stream := archive.extractfile(member)):
            documents[name] = _object(stream.read())
        if len(documents) == 2:
            break
    return documents


def _from_s3(uri: str, clients: Callable[[str], Any] | None) -> dict[str, dict[str, Any]]:
    from botocore.exceptions import BotoCoreError, ClientError

    from sm_launch.aws.clients import make_client

    bucket, key = split_s3(uri)
    client = (clients or make_client)("s3")
    try:
        if key.endswith((".tar.gz", ".tgz", ".tar")):
            body = client.get_object(Bucket=bucket, Key=key)["Body"]
            with _stream(body) as archive:
                return _from_members(archive)
        objects = {}
        for name in (CONFIG, RESULTS):
            try:
                answer = client.get_object(Bucket=bucket, Key=f"{key.rstrip('/')}/{name}")
            except client.exceptions.NoSuchKey:
                continue
            objects[name] = _object(answer["Body"].read())
        return objects
    except (BotoCoreError, ClientError) as error:
        raise OSError(str(error)) from error


@contextmanager
def _stream(body: Any) -> Iterator[tarfile.TarFile]:
    try:
        bounded: Any = _Bounded(body)
        with tarfile.open(fileobj=bounded, mode="r|*") as archive:
            yield archive
    finally:
        body.close()


class _Bounded:
    """A download that ends after MOST_READ bytes."""

    def __init__(self, body: IO[bytes]) -> None:
        self._body = body
        self._left = MOST_READ

    def read(self, size: int) -> bytes:
        if self._left <= 0:
            raise OSError(f"{CONFIG} is not within the first {MOST_READ} bytes of the archive")
        self._left -= size
        return self._body.read(size)


def _object(content: bytes) -> dict[str, Any]:
    try:
        value = json.loads(content)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
