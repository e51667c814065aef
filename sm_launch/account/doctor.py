"""Is everything there that training and serving need? Each check ends in a fix, none raises."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import partial

from sm_launch.account.checks import Check, Clients, State
from sm_launch.account.doctor_aws import examine_account
from sm_launch.aws.clients import make_client
from sm_launch.aws.errors import explained
from sm_launch.job.config import JobConfig
from sm_launch.target.context import JobContext

COMMAND_TIMEOUT_SECONDS = 10


def examine_job(context: JobContext, *, wants_aws: bool) -> Iterator[Check]:
    """Every check of the job and the place that it names, one after the other.

    Args:
        context: the job, or none where there is no job.yaml.
        wants_aws: the job is to run on SageMaker, so that what AWS lacks is a problem.
    """
    config = context.config
    # A doctor should not keep anybody waiting.
    clients = partial(make_client, attempts=2, owners=config.aws.bucket_owners)
    known = None if context.any_job else config
    return examine(known, wants_aws=wants_aws, clients=clients, region=context.region)


def examine(
    config: JobConfig | None, *, wants_aws: bool, clients: Clients, region: str | None = None
) -> Iterator[Check]:
    """Every check, one after the other.

    Args:
        config: the job, where there is one.
        wants_aws: the job is to run on SageMaker, so that what AWS lacks is a problem.
        clients: makes a client of an AWS service.
        region: where to look; None takes what the AWS configuration says.
    """
    yield _python()
    yield _programs()
    yield _docker()
    yield _gpu()
    missing: State = "problem" if wants_aws else "warning"
    credentials = _credentials(region, clients, missing)
    yield credentials
    if config is None:
        fix = "run `sm-launch init`, or name one with -c"
        detail = "none here: bucket, roles, images and quotas cannot be looked at"
        yield Check("job.yaml", "warning", detail, fix)
    elif credentials.state == "ok":
        yield from examine_account(config, clients, missing)


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
    gpus, error = _output("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader")
    if error or not gpus:
        return Check("gpu", "warning", error or "no GPU", "reinstall the NVIDIA driver")
    return Check("gpu", "ok", gpus.replace("\n", "; "))


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
        known = explained(error)
        return Check("credentials", missing, known.message, known.fix or "aws configure")
    here = clients("sts", region).meta.region_name
    return Check("credentials", "ok", f"{identity['Arn']} in {here}")
