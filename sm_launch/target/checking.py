"""Requests are held against what AWS takes before anything is uploaded or made."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from sm_launch.aws.errors import DENIED, explained
from sm_launch.aws.service_model import partition_of
from sm_launch.aws.uris import DIRECTORY_BUCKET, split_s3
from sm_launch.errors import UserInputError
from sm_launch.job.config import JobConfig
from sm_launch.job.passthrough import Passthrough
from sm_launch.sessions.references import is_reference
from sm_launch.sessions.validation import Broken
from sm_launch.target.reach import Need, Roles, needs
from sm_launch.target.refusals import (
    ENDPOINT_CONFIG,
    KEYS,
    MODEL,
    OUR_IMAGES,
    PROCESSING,
    TRAINING,
    TRANSFORM,
    Facts,
    Refusal,
    Request,
    broken,
    machines,
    members,
    value_at,
)

_STRUCTURES = {
    TRAINING: "ResourceConfig",
    PROCESSING: "ProcessingClusterConfig",
    TRANSFORM: "TransformResources",
    ENDPOINT_CONFIG: "ProductionVariant",
}
"""Which structure of the service model names the instances of an operation."""


def refuse_secrets(config: JobConfig, holder: str) -> None:
    """Refuse what keeps a request to send it later, where a variable of it names a secret.

    Raises:
        UserInputError: naming the variables.
    """
    secret = [name for name, value in config.training.environment.items() if is_reference(value)]
    if secret:
        raise UserInputError(
            f"{', '.join(secret)}: {holder} would have to hold the secret itself",
            field="training.environment",
            fix="leave it out, and have the training's role read the secret",
        )


def check(
    calls: Iterable[tuple[str, Request]],
    region: str | None,
    given: Passthrough,
    roles: Roles | None = None,
) -> list[str]:
    """Hold requests against the rules, and against the service model's own limits.

    Args:
        calls: operation and request of each.
        region: of the job, where it is known.
        given: the fields of the requests that job.yaml gives by SageMaker's names.
        roles: reads the policies of the requests' roles.

    Returns:
        Warnings: instance types that the installed botocore does not know, though AWS may, and
        roles that cannot be looked at.

    Raises:
        UserInputError: AWS would refuse; each value is named with why, and what to do.
        RequestError: it has not the shape that the service model demands.
    """
    from sm_launch.sessions.validation import RequestValidator

    validator = RequestValidator("sagemaker", enums=False)
    calls = list(calls)
    facts = facts_of(calls, region)
    refusals = {
        _key(operation, refusal.path, given, request): refusal
        for operation, request in calls
        for refusal in broken(operation, request, facts)
    }
    if refusals:
        raise _refused(refusals)
    for operation, request in calls:
        validator.check_shape(operation, dict(request))
    refusals = {
        _key(operation, each.path, given, request): _outside(each)
        for operation, request in calls
        for each in validator.broken(operation, dict(request))
    }
    if refusals:
        raise _refused(refusals)
    unreached = _out_of_reach(calls, given, roles) if roles else []
    return unreached + list(
        dict.fromkeys(line for call in calls for line in _unknown(*call, facts))
    )


def facts_of(calls: Iterable[tuple[str, Request]], region: str | None) -> Facts:
    """What these requests, which belong together, are held against."""
    from sm_launch.sessions.validation import RequestValidator

    calls = list(calls)
    validator = RequestValidator("sagemaker", enums=False)
    types = {
        operation: frozenset(validator.values(structure, "InstanceType"))
        for operation, structure in _STRUCTURES.items()
    }
    return Facts(
        region=region,
        types=types,
        partition=partition_of(region) if region else None,
        ours=any(
            OUR_IMAGES.search(text)
            for _, request in calls
            for path, text in members(request)
            if path.rpartition(".")[2] in ("TrainingImage", "ImageUri", "Image")
        ),
        archive_for=next(filter(None, (_archive_for(*call) for call in calls)), ""),
    )


def _archive_for(operation: str, request: Request) -> str:
    if operation == TRANSFORM:
        return "batch transform"
    serverless = any("ServerlessConfig" in each for each in request.get("ProductionVariants", []))
    return "a serverless endpoint" if serverless else ""


def _out_of_reach(calls: list[tuple[str, Request]], given: Passthrough, roles: Roles) -> list[str]:
    """Refuse places on S3 that a role of `setup` may not reach; a warning where nobody can tell.

    Raises:
        UserInputError: naming each place, and the grant.
    """
    from botocore.exceptions import ClientError

    wanted = list(needs(calls))
    try:
        forbidden = [need for need in wanted if roles.forbids(need)]
    except ClientError as error:
        if error.response["Error"]["Code"] not in DENIED:
            raise
        told = explained(error).message
        return [f"whether the role may reach each place on S3 cannot be told: {told}; "
                "`sm-launch setup` brings the launcher's policy up to date"]  # fmt: skip
    if forbidden:
        raise _refused({
            _key_of_place(need, given): Refusal(
                need.path, need.uri, f"{need.role} may not {_VERBS[need.action]} there",
                _grant(need),
            )
            for need in reversed(forbidden)  # of reading and writing the latter, which has both
        })  # fmt: skip
    return []


def _key_of_place(need: Need, given: Passthrough) -> str:
    if need.operation == MODEL and need.call:
        return f"endpoint.variants.{need.call - 1}.model_data"
    return _key(need.operation, need.path, given)


_VERBS = {"s3:GetObject": "read", "s3:PutObject": "write"}


def _grant(need: Need) -> str:
    bucket, key = split_s3(need.uri)
    if bucket.endswith(DIRECTORY_BUCKET):
        return "attach a policy with s3express:CreateSession on that bucket to the role"
    folder = key.rstrip("/")
    if "." in folder.rpartition("/")[2]:  # a file
        folder = folder.rpartition("/")[0]
    option = "--read" if need.action == "s3:GetObject" else "--write"
    where = f"s3://{bucket}/{folder}".rstrip("/")
    return (f"run `sm-launch setup {option} {where}`, or attach a policy of your own to the role; "
            "or name a place below aws.bucket and aws.prefix")  # fmt: skip


def _outside(broken: Broken) -> Refusal:
    """A value outside the service model's limits; a long one by its size."""
    value, size = broken.value, len(broken.value) if hasattr(broken.value, "__len__") else 0
    if isinstance(value, dict | list):
        value = f"{size} entries"
    elif size > _SHOWN:
        value = f"{value[:_SHOWN]}… ({size} characters)"
    limit, of = broken.limit, "" if isinstance(broken.value, int | float) else "entries"
    if isinstance(broken.value, str):
        of = "characters"
    problem = f"{broken.problem[:1].lower()}{broken.problem[1:]}".removeprefix("member ")
    fix = f"{limit} {of}".strip() if limit else "correct it by that pattern"
    return Refusal(broken.path, value, f"{problem}, says SageMaker's service model", fix)


_SHOWN = 60


def _key(operation: str, path: str, given: Passthrough, request: Request | None = None) -> str:
    """Where job.yaml says what a request says at a path."""
    entry = re.match(r"(InputDataConfig|Tags)\.\d+", path)
    if request and entry and not any(entry[1] in getattr(given, name) for name in given.OPERATIONS):
        if entry[1] == "Tags":
            return f"aws.tags.{value_at(request, f'{entry[0]}.Key')}"
        return f"training.channels.{value_at(request, f'{entry[0]}.ChannelName')}"
    section = next((name for name, known in given.OPERATIONS.items() if known == operation), None)
    if section is None:
        return _own_key(operation, path)
    # Entries of a list have other places there than in the request.
    head, *rest = re.split(r"\.\d+\.", path)
    value = value_at(getattr(given, section), head)
    entries = value if isinstance(value, list) else [value]
    if any(value_at(each, ".".join(rest)) if rest else each is not None for each in entries):
        return f"sagemaker.{section}.{path}"
    return _own_key(operation, path)


def _own_key(operation: str, path: str) -> str:
    """By the longest part of the path that has a key."""
    path, _, of_map = path.partition(" ")  # `Environment key`
    parts = path.split(".")
    for end in range(len(parts), 0, -1):
        if key := KEYS.get(".".join([operation, *parts[:end]])):
            return " ".join(filter(None, (".".join([key, *parts[end:]]), of_map)))
    return f"{operation}.{path}"


def _refused(refusals: Mapping[str, Refusal]) -> UserInputError:
    if len(refusals) == 1:
        ((key, refusal),) = refusals.items()
        return UserInputError(refusal.message, field=key, value=refusal.value, fix=refusal.fix)
    lines = [f"  {key}: {r.message} (got {r.value!r}); {r.fix}" for key, r in refusals.items()]
    return UserInputError(f"SageMaker would refuse {len(lines)} values:\n" + "\n".join(lines))


def _unknown(operation: str, request: Request, facts: Facts) -> Iterator[str]:
    if operation not in facts.types:
        return
    for path, machine in machines(operation, request):
        kind = machine.get("InstanceType")
        if kind is not None and kind not in facts.types[operation]:
            key = KEYS.get(f"{operation}.{path}.InstanceType", path)
            yield f"{key}: the installed botocore does not know {kind}"
