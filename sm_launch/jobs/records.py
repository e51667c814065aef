"""What a training left beside its model: `training_record.json`, and how it differs from another's.

sm_train.loop.record writes it: inputs and code by their content, weights by digest, metrics.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sm_launch.aws.uris import split_s3
from sm_launch.errors import LaunchError
from sm_launch.target.staging import local_path

RECORD = "training_record.json"
_VERSION = 1
# Of a file that is streamed, the container reads both ends only: sm_train.loop.fingerprint.
_END_BYTES = 1 << 20

Record = Mapping[str, Any]


def read_record(description: Mapping[str, Any], clients: Callable[[str], Any]) -> Record:
    """The record of a completed training job.

    Args:
        description: DescribeTrainingJob's answer.
        clients: makes clients of AWS services.

    Raises:
        LaunchError: it left none.
    """
    name = str(description["TrainingJobName"])
    place = f"{description['OutputDataConfig']['S3OutputPath'].rstrip('/')}/{name}/output"
    read = _read_s3 if place.startswith("s3://") else _read_local
    content = read(place, clients)
    if content is None:
        raise LaunchError(
            f"left no {RECORD}, by which it could be run again: it ran a script of its own, "
            "optimized a model, or was trained by an older version",
            field="JOB",
            value=name,
            fix="name a job that `sm-launch train` of this version has run",
        )
    record: Record = json.loads(content)
    if record.get("version") != _VERSION:
        raise LaunchError(
            f"has a record of the layout {record.get('version')}, and this version reads "
            f"{_VERSION}",
            field="JOB",
            value=name,
            fix="use the version of sm-launch that trained it",
        )
    return record


def _read_local(place: str, _: Callable[[str], Any]) -> bytes | None:
    output = local_path(place)
    plain, archive = output / "data" / RECORD, output / "output.tar.gz"
    if plain.is_file():
        return plain.read_bytes()
    return _member(archive.read_bytes()) if archive.is_file() else None


def _read_s3(place: str, clients: Callable[[str], Any]) -> bytes | None:
    client = clients("s3")
    for name, unpack in ((f"data/{RECORD}", _as_it_is), ("output.tar.gz", _member)):
        bucket, key = split_s3(f"{place}/{name}")
        try:
            body = client.get_object(Bucket=bucket, Key=key)["Body"].read()
        except client.exceptions.NoSuchKey:
            continue
        return unpack(body)
    return None


def _as_it_is(content: bytes) -> bytes | None:
    return content


def _member(archive: bytes) -> bytes | None:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for member in tar:
            if Path(member.name).name == RECORD and (stream := tar.extractfile(member)):
                return stream.read()
    return None


def digest(source: Path, pattern: str = "*", *, streamed: bool = False) -> str:
    """Of a channel's names and contents, as sm_train.loop.digests makes it.

    Args:
        source: a directory, or one file.
        pattern: of the names that count in a directory.
        streamed: the job reads it in FastFile mode.
    """
    root = source if source.is_dir() else source.parent
    files = sorted(p for p in source.rglob(pattern) if p.is_file()) if source.is_dir() else [source]
    whole = hashlib.sha256()
    for path in files:
        content = _file_digest(path, streamed=streamed)
        line = f"{path.relative_to(root).as_posix()}\0{content}\n"
        whole.update(line.encode("utf-8", "replace"))
    return f"sha256:{whole.hexdigest()}"


def _file_digest(path: Path, *, streamed: bool) -> str:
    with path.open("rb") as file:
        if not streamed:
            return hashlib.file_digest(file, "sha256").hexdigest()
        size = path.stat().st_size
        ends = hashlib.sha256(str(size).encode())
        for start in (0, max(0, size - _END_BYTES)):
            file.seek(start)
            ends.update(file.read(_END_BYTES))
        return ends.hexdigest()


def code_digest(package: Path) -> str:
    """Of a package's source, as sm_train.loop.record makes it."""
    return digest(package, "*.py")
