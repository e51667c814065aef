"""What of a past training job's inputs is not as it was."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sm_launch.aws.clients import make_client
from sm_launch.aws.uris import split_s3
from sm_launch.images.engine import inspect
from sm_launch.job import limits
from sm_launch.jobs.records import Record, code_digest, digest
from sm_launch.target.context import JobContext
from sm_launch.target.staging import local_path


@dataclass(frozen=True)
class Difference:
    """Something that is not as it was.

    Attributes:
        what: in words.
        before: what the job had.
        now: what it would have, or has had this time.
    """

    what: str
    before: str
    now: str

    def __str__(self) -> str:
        return f"{self.what}: {_shown(self.before)}, now {_shown(self.now)}"


def _shown(value: str) -> str:
    return value[: len("sha256:") + 12] if value.startswith("sha256:") else value


def changes_since(
    context: JobContext, description: Mapping[str, Any], record: Record
) -> Iterator[Difference]:
    """What a training job had and its reproduction would not, as far as this machine can see.

    Local data is compared by content. Objects on S3 and images are looked at for anything newer
    than the job; what is left is compared once the reproduction has written its own record.
    """
    for channel in description.get("InputDataConfig", []):
        source = channel["DataSource"].get("S3DataSource")
        if source is not None:
            yield from _changed_channel(context, description, record, channel, source["S3Uri"])
    image = str(description.get("AlgorithmSpecification", {}).get("TrainingImage", ""))
    if context.on_aws:
        yield from _pushed_since(context, image, description["CreationTime"])
    elif context.target == "docker":
        yield from _built_since(image, description["CreationTime"])
    else:
        yield from _installed_since(record)


def _changed_channel(
    context: JobContext,
    description: Mapping[str, Any],
    record: Record,
    channel: Mapping[str, Any],
    uri: str,
) -> Iterator[Difference]:
    name = str(channel["ChannelName"])
    if uri.startswith("s3://"):
        yield from _written_since(context, name, uri, description["CreationTime"])
        return
    path = local_path(uri)
    if not path.exists():
        yield Difference(f"channel {name}", f"at {path}", "gone")
        return
    before = record["data"].get(name)
    if before is None and name == "model" and (path / "config.json").is_file():
        before = record["model"]
    if before is None or not str(before).startswith("sha256:"):
        return  # an archive or an adapter, which the container unpacks: compared afterwards
    now = digest(path, streamed=channel.get("InputMode") == "FastFile")
    if now != before:
        yield Difference(f"channel {name} ({path})", str(before), now)


def _written_since(
    context: JobContext, channel: str, uri: str, created: Any
) -> Iterator[Difference]:
    bucket, prefix = split_s3(uri)
    pages = context.clients("s3").get_paginator("list_objects_v2")
    objects = [
        item
        for page in pages.paginate(Bucket=bucket, Prefix=prefix)
        for item in page.get("Contents", [])
    ]
    if not objects:
        yield Difference(f"channel {channel}", f"at {uri}", "gone")
    for item in objects:
        if item["LastModified"].replace(microsecond=0) > created:
            place = f"s3://{bucket}/{item['Key']}"
            yield Difference(
                f"channel {channel} ({place})", f"read at {created:%Y-%m-%d %H:%M:%S}",
                f"written at {item['LastModified']:%Y-%m-%d %H:%M:%S}",
            )  # fmt: skip


def _pushed_since(context: JobContext, image: str, created: Any) -> Iterator[Difference]:
    """A tag may have moved since; a digest cannot."""
    named = limits.ECR_IMAGE.fullmatch(image)
    if named is None or named["digest"]:
        return
    ecr = make_client("ecr", named["region"])
    try:
        (detail,) = ecr.describe_images(
            registryId=named["account"],
            repositoryName=named["name"],
            imageIds=[{"imageTag": named["tag"] or "latest"}],
        )["imageDetails"]
    except (ecr.exceptions.ImageNotFoundException, ecr.exceptions.RepositoryNotFoundException):
        yield Difference("image", image, "gone")
        return
    if detail["imagePushedAt"] > created:
        pushed = f"{detail['imageDigest']} of {detail['imagePushedAt']:%Y-%m-%d %H:%M:%S}"
        yield Difference(f"image {image}", f"of before {created:%Y-%m-%d %H:%M:%S}", pushed)


def _built_since(image: str, created: Any) -> Iterator[Difference]:
    told = inspect(image).get("Created")
    if told is None:
        yield Difference("image", image, "gone")
        return
    built = datetime.fromisoformat(re.sub(r"\.\d+", "", told).replace("Z", "+00:00"))
    if built > created:
        yield Difference(
            f"image {image}", f"of before {created:%Y-%m-%d %H:%M:%S}", f"built at {built}"
        )


def _installed_since(record: Record) -> Iterator[Difference]:
    """What this machine has, where the training runs as a process of it."""
    spec = find_spec("sm_train")
    if spec is None or not spec.submodule_search_locations:
        return
    now = code_digest(Path(next(iter(spec.submodule_search_locations))))
    if now != record["code"]:
        yield Difference("code of sm_train", str(record["code"]), now)
    for name, before in record["versions"].items():
        if name != "python" and (installed := _version(name)) != before:
            yield Difference(f"library {name}", str(before), installed)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
