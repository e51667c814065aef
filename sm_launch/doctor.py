"""Is everything there that training and serving need? Each check ends in a fix, none raises."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from sm_launch.aws_errors import explain
from sm_launch.config import JobConfig

State = Literal["ok", "warning", "problem"]
COMMAND_TIMEOUT_SECONDS = 10
_ECR = re.compile(r"(?P<account>\d{12})\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.amazonaws\.com(\.cn)?/"
                  r"(?P<repository>[^:@]+)([:@](?P<tag>.+))?")  # fmt: skip


@dataclass(frozen=True)
class Check:
    """One finding.

    Attributes:
        name: what was looked at.
        state: `warning` hinders some targets only, `problem` hinders the wanted one.
        detail: what was found.
        fix: what to do; empty where nothing is to be done.
    """

    name: str
    state: State
    detail: str
    fix: str = ""


Clients = Callable[[str, str | None], Any]


def examine(config: JobConfig | None, *, wants_aws: bool, clients: Clients) -> Iterator[Check]:
    """Every check, one after the other.

    Args:
        config: the job, where there is one.
        wants_aws: the job is to run on SageMaker, so that what AWS lacks is a problem.
        clients: makes a client of an AWS service.
    """
    yield _python()
    yield _programs()
    yield _docker()
    yield _gpu()
    missing: State = "problem" if wants_aws else "warning"
    region = config.aws.region if config else None
    credentials = _credentials(region, clients, missing)
    yield credentials
    if credentials.state != "ok" or config is None:
        return
    for check in (_bucket, _roles, _images, _quota):
        yield from _careful(check, config, clients, missing)


def _careful(
    check: Callable[[JobConfig, Clients, State], Iterator[Check]],
    config: JobConfig,
    clients: Clients,
    missing: State,
) -> Iterator[Check]:
    """A check that AWS refuses is a finding too."""
    try:
        yield from check(config, clients, missing)
    except Exception as error:
        explained = explain(error)
        if explained is None:
            raise
        name = check.__name__.strip("_")
        yield Check(name, "warning", explained.message, explained.fix or "ask for the permission")


def _python() -> Check:
    return Check("python", "ok", ".".join(str(part) for part in sys.version_info[:3]))


def _programs() -> Check:
    beside = os.path.dirname(sys.executable) + os.pathsep + os.environ.get("PATH", "")  # noqa: PTH120
    missing = [name for name in ("train", "serve") if shutil.which(name, path=beside) is None]
    if missing:
        fix = "run `make setup`: only the target process needs them"
        return Check("process target", "warning", f"not installed: {', '.join(missing)}", fix)
    return Check("process target", "ok", "train and serve are installed")


def _docker() -> Check:
    if shutil.which("docker") is None:
        fix = "install Docker; only the target docker and building images need it"
        return Check("docker", "warning", "the docker command is not installed", fix)
    version, error = _output("docker", "version", "--format", "{{.Server.Version}}")
    if error:
        fix = "start the Docker Engine, and join the group docker (sudo usermod -aG docker $USER)"
        return Check("docker", "warning", error, fix)
    return Check("docker", "ok", f"engine {version}")


def _gpu() -> Check:
    if shutil.which("nvidia-smi") is None:
        fix = "none needed: local targets use the CPU, SageMaker has GPUs"
        return Check("gpu", "warning", "no NVIDIA driver here", fix)
    found, error = _output("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader")
    if error or not found:
        return Check("gpu", "warning", error or "no GPU", "reinstall the NVIDIA driver")
    return Check("gpu", "ok", found.replace("\n", "; "))


def _output(*command: str) -> tuple[str, str]:
    """Standard output, and the last line of standard error if the command failed."""
    try:
        finished = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=COMMAND_TIMEOUT_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return "", str(error)
    lines = finished.stderr.strip().splitlines() or [f"exit code {finished.returncode}"]
    return finished.stdout.strip(), lines[-1] if finished.returncode else ""


def _credentials(region: str | None, clients: Clients, missing: State) -> Check:
    try:
        identity = clients("sts", region).get_caller_identity()
    except Exception as error:
        explained = explain(error)
        if explained is None:
            raise
        return Check("credentials", missing, explained.message, explained.fix or "aws configure")
    here = clients("sts", region).meta.region_name
    return Check("credentials", "ok", f"{identity['Arn']} in {here}")


def _bucket(config: JobConfig, clients: Clients, missing: State) -> Iterator[Check]:
    from sm_launch.buckets import bucket_of

    client = clients("s3", config.aws.region)
    bucket = bucket_of(config, client)
    try:
        client.head_bucket(Bucket=bucket)
    except client.exceptions.ClientError as error:
        status = error.response["Error"]["Code"]
        detail = f"{bucket}: " + ("may not be read" if status == "403" else "does not exist")
        fix = "run `sm-launch setup`, or correct aws.bucket in job.yaml"
        yield Check("bucket", missing, detail, fix)
        return
    here = str(client.meta.region_name)
    place = client.get_bucket_location(Bucket=bucket).get("LocationConstraint") or "us-east-1"
    if place != here:
        fix = f"take a bucket in {here}: SageMaker reads only buckets of its own region"
        yield Check("bucket", missing, f"{bucket} is in {place}, the jobs run in {here}", fix)
        return
    yield Check("bucket", "ok", f"s3://{bucket}/{config.aws.prefix}")


def _roles(config: JobConfig, clients: Clients, missing: State) -> Iterator[Check]:
    named = {
        "aws.training_role": config.aws.training_role,
        "aws.hosting_role": config.aws.hosting_role or config.aws.training_role,
    }
    client = clients("iam", config.aws.region)
    for key, arn in named.items():
        if not arn:
            fix = "run `sm-launch setup` and copy what it prints into job.yaml"
            yield Check(key, missing, "not set", fix)
            continue
        try:
            role = client.get_role(RoleName=arn.rsplit("/", 1)[-1])["Role"]
        except client.exceptions.NoSuchEntityException:
            yield Check(key, missing, f"{arn} does not exist", "run `sm-launch setup`")
            continue
        if "sagemaker.amazonaws.com" not in str(role["AssumeRolePolicyDocument"]):
            fix = "let the service sagemaker.amazonaws.com assume the role (its trust policy)"
            yield Check(key, missing, f"{arn} does not trust SageMaker", fix)
            continue
        yield Check(key, "ok", arn)


def _images(config: JobConfig, clients: Clients, missing: State) -> Iterator[Check]:
    images = (("training.image", config.training.image), ("endpoint.image", config.endpoint.image))
    for key, image in images:
        if not image:
            fix = "run `make build push` and put the URI that it prints into job.yaml"
            yield Check(key, missing, "not set", fix)
            continue
        found = _ECR.fullmatch(image)
        if not found:
            fix = "SageMaker pulls from ECR: `make push`, then name the ECR URI"
            yield Check(key, missing, f"{image} is not an ECR image", fix)
            continue
        tag = found["tag"] or "latest"
        kind = "imageDigest" if tag.startswith("sha256:") else "imageTag"
        client = clients("ecr", found["region"])
        try:
            client.describe_images(
                registryId=found["account"],
                repositoryName=found["repository"],
                imageIds=[{kind: tag}],
            )
        except (
            client.exceptions.ImageNotFoundException,
            client.exceptions.RepositoryNotFoundException,
        ):
            yield Check(key, missing, f"{image} does not exist", "run `make build push`")
            continue
        yield Check(key, "ok", image)


def _quota(config: JobConfig, clients: Clients, missing: State) -> Iterator[Check]:
    training, endpoint = config.training, config.endpoint
    kind = "spot training job" if training.spot else "training job"
    wanted = {f"{training.instances.type} for {kind} usage": training.instances.count}
    if not endpoint.serverless:
        wanted[f"{endpoint.instances.type} for endpoint usage"] = endpoint.instances.count
    client = clients("service-quotas", config.aws.region)
    pages = client.get_paginator("list_service_quotas").paginate(ServiceCode="sagemaker")
    quotas = {item["QuotaName"]: item["Value"] for page in pages for item in page["Quotas"]}
    for name, count in wanted.items():
        value = quotas.get(name)
        if value is None:
            yield Check("quota", "warning", f"{name}: unknown", "check the instance type's name")
        elif value < count:
            fix = f"ask for {count} in the console: Service Quotas, Amazon SageMaker, {name!r}"
            yield Check("quota", missing, f"{name}: {value:.0f}, needed {count}", fix)
        else:
            yield Check("quota", "ok", f"{name}: {value:.0f}")
