"""The commands as Python functions, under the same names: `from sm_launch import train, deploy`.

Each takes a job.yaml's path (or a loaded `JobConfig`), returns what the command prints with
`--json` as objects, and raises `sm_launch.errors.LaunchError` where the command would fail.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sm_launch.config import JobConfig, Target, load_config, resolve_target
from sm_launch.errors import UserInputError

if TYPE_CHECKING:
    from sm_launch.data.inspection import FileReport
    from sm_launch.data.report import PreparationReport
    from sm_launch.evaluation import Comparison, EvaluationResult

Job = JobConfig | str | os.PathLike[str]
DEFAULT_JOB = "job.yaml"


def load(job: Job = DEFAULT_JOB, overrides: Sequence[str] = ()) -> JobConfig:
    """Read and check a job.yaml.

    Args:
        job: its path; a `JobConfig` comes back as it is.
        overrides: `key=value`, as --set takes them.

    Raises:
        UserInputError: naming the key, its value and the fix.
    """
    if isinstance(job, JobConfig):
        if overrides:
            raise UserInputError(
                "overrides need the path of a job.yaml", field="overrides", value=list(overrides)
            )
        return job
    return load_config(Path(job), tuple(overrides))


def prepare(job: Job = DEFAULT_JOB, *, overrides: Sequence[str] = ()) -> PreparationReport:
    """Clean and split the raw data into channels: `sm-launch data prepare`."""
    from sm_launch.data import prepare as run
    from sm_launch.preparing import data_section

    config = load(job, overrides)
    return run(data_section(config), config.prepared_path, base_directory=config.directory)


def validate(job: Job = DEFAULT_JOB, *, overrides: Sequence[str] = ()) -> PreparationReport:
    """What `prepare` would do, without writing: `sm-launch data validate`."""
    from sm_launch.data import validate as run
    from sm_launch.preparing import data_section

    config = load(job, overrides)
    return run(data_section(config), config.prepared_path, base_directory=config.directory)


def inspect(job: Job = DEFAULT_JOB, *, overrides: Sequence[str] = ()) -> list[FileReport]:
    """What the raw files hold: `sm-launch data inspect`."""
    from sm_launch.data import inspect as run
    from sm_launch.preparing import data_section

    config = load(job, overrides)
    return run(data_section(config), base_directory=config.directory)


def upload(
    job: Job = DEFAULT_JOB, *, overrides: Sequence[str] = (), dry_run: bool = False
) -> dict[str, str]:
    """Send the prepared channels to S3; channel name to URI: `sm-launch data upload`."""
    from sm_launch.buckets import s3_stage
    from sm_launch.data.upload import upload as send

    config = load(job, overrides)
    return send(s3_stage(config, upload=not dry_run), config.prepared_path)


def train(
    job: Job = DEFAULT_JOB,
    *,
    target: Target | None = None,
    overrides: Sequence[str] = (),
    wait: bool = True,
) -> dict[str, Any]:
    """Run a training job; its DescribeTrainingJob answer: `sm-launch train`.

    Args:
        job: path of job.yaml, or a loaded one.
        target: process, docker or sagemaker; default: job.yaml's.
        overrides: `key=value`, as --set takes them.
        wait: until the job has ended; else return as soon as it runs.

    Raises:
        LaunchError: the job failed; the message holds the reason and the last log lines.
    """
    from sm_launch import requests, training
    from sm_launch.estimate import require_cost
    from sm_launch.workplace import open_workplace

    place = open_workplace(load(job, overrides), target)
    image, role = place.training_image, place.training_role
    if place.target == "sagemaker":
        require_cost(place.config, place.config.training.max_cost_usd)
        for words in training.check_request(place.config, image=image, role=role):
            warnings.warn(words, stacklevel=2)
    for words in training.data_warnings(place.config):
        warnings.warn(words, stacklevel=2)
    name = requests.unique_name(place.config.name)
    session = place.session()
    request = training.build_request(
        place.config,
        place.stage(),
        name=name,
        image=image,
        role=role,
    )
    session.create_training_job(**request)
    if wait:
        return training.wait(session, name, lambda seen: None)
    return session.describe_training_job(TrainingJobName=name)


def deploy(
    job: Job = DEFAULT_JOB,
    *,
    target: Target | None = None,
    overrides: Sequence[str] = (),
    training_job: str | None = None,
    model_data: str | None = None,
    name: str | None = None,
) -> dict[str, Any]:
    """Put a model behind an endpoint and wait; its DescribeEndpoint answer: `sm-launch deploy`.

    Args:
        job: path of job.yaml, or a loaded one.
        target: process, docker or sagemaker; default: job.yaml's.
        overrides: `key=value`, as --set takes them.
        training_job: whose model; default: the newest that completed.
        model_data: an artefact instead: a path, file:// or s3:// URI.
        name: of the endpoint; default: job.yaml's.

    Raises:
        LaunchError: the endpoint failed; what was made for it is gone again.
    """
    from sm_launch.commands.deploy import carry_out, plan
    from sm_launch.workplace import open_workplace

    place = open_workplace(load(job, overrides), target)
    return carry_out(place, plan(place, job=training_job, model_data=model_data, name=name))


def invoke(
    endpoint: str,
    payload: Any,
    *,
    target: Target | None = None,
    content_type: str | None = None,
    accept: str = "application/json",
) -> Any:
    """Send one request and return its answer: `sm-launch invoke`.

    Args:
        endpoint: its name.
        payload: bytes go as they are, a text becomes {"inputs": text}, anything else JSON.
        target: where the endpoint is.
        content_type: of the payload; default: application/json.
        accept: wanted content type; a JSON answer comes back decoded, anything else as text.
    """
    from sm_launch.sessions import open_session

    if isinstance(payload, str):
        payload = {"inputs": payload}
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    reply = open_session(resolve_target(None, target)).invoke_endpoint(
        EndpointName=endpoint,
        Body=body,
        ContentType=content_type or "application/json",
        Accept=accept,
    )
    text = reply["Body"].read().decode("utf-8", errors="replace")
    return json.loads(text) if str(reply.get("ContentType", accept)).startswith(
        "application/json"
    ) else text  # fmt: skip


def evaluate(
    job: Job = DEFAULT_JOB,
    *,
    target: Target | None = None,
    overrides: Sequence[str] = (),
    endpoint: str | None = None,
    model_data: str | None = None,
    transform_output: str | None = None,
    data: str | None = None,
    slices: Sequence[str] = (),
    output: Path | None = None,
    fail_under: Mapping[str, float] | None = None,
    fail_over: Mapping[str, float] | None = None,
) -> EvaluationResult:
    """Measure a model on held-out data and write the report: `sm-launch evaluate`.

    Args:
        job: path of job.yaml, or a loaded one.
        target: where the endpoint is; default: job.yaml's.
        overrides: `key=value`, as --set takes them.
        endpoint: an endpoint; default: job.yaml's.
        model_data: or an artefact on this machine, served meanwhile.
        transform_output: or what a batch transform job wrote.
        data: held-out rows; default: the test channel.
        slices: columns whose every value gets metrics of its own.
        output: directory of the report; default: WORK_DIR/NAME/report.
        fail_under: gates besides those of job.yaml.
        fail_over: gates from above.

    Raises:
        QualityGateError: a gate was missed; the report is written.
        EvaluationFailedError: too many rows failed.
    """
    from sm_launch import evaluating, evaluation
    from sm_launch.workplace import open_workplace

    config = load(job, overrides)
    request = evaluating.Request(
        endpoint=endpoint,
        model_data=model_data,
        transform_output=transform_output,
        data=data,
        slices=slices,
        output=output,
        fail_under=fail_under or {},
        fail_over=fail_over or {},
    )
    done = evaluating.run(lambda: open_workplace(config, target), config, request)
    evaluation.require_gates(done.gates)
    return done.result


def weights(
    endpoint: str,
    weights: Mapping[str, float] | None = None,
    *,
    instances: Mapping[str, int] | None = None,
    target: Target | None = None,
) -> list[dict[str, Any]]:
    """Share an endpoint's traffic out anew and wait: `sm-launch weights`.

    Args:
        endpoint: its name.
        weights: variant to weight; those that are not named keep theirs.
        instances: variant to number of instances, on SageMaker.
        target: where the endpoint is.

    Returns:
        `variant`, `weight`, `share` and `instances` of every variant, as they are now.

    Raises:
        UserInputError: there is no such variant, or nothing would get any traffic.
    """
    from sm_launch import traffic
    from sm_launch.sessions import open_session

    settled = resolve_target(None, target)
    if instances and settled != "sagemaker":
        raise UserInputError(
            "a variant has one server here", field="instances", value=dict(instances)
        )
    described = traffic.change(open_session(settled), endpoint, weights or {}, instances)
    return traffic.shares(described)


def compare(
    first: str | os.PathLike[str],
    second: str | os.PathLike[str],
    *,
    job: Job = DEFAULT_JOB,
    target: Target | None = None,
    overrides: Sequence[str] = (),
    data: str | None = None,
    output: Path = Path("comparison"),
    min_shared: float = 0.8,
) -> Comparison:
    """Compare two models on the same rows: `sm-launch compare`.

    Args:
        first: directory of an evaluation's report, its predictions.jsonl, or an endpoint's name.
        second: likewise.
        job: path of job.yaml, needed for endpoints only.
        target: where the endpoints are.
        overrides: `key=value`, as --set takes them.
        data: held-out rows for endpoints.
        output: directory of comparison.html.
        min_shared: share of the rows (0 to 1) that both models must have answered.
    """
    from sm_launch import comparing
    from sm_launch.workplace import open_workplace

    found, _ = comparing.run(
        (str(first), str(second)),
        lambda: open_workplace(load(job, overrides), target),
        data=data,
        output=output,
        min_shared=min_shared,
    )
    return found


def stop(*jobs: str, target: Target | None = None) -> None:
    """Ask training jobs to stop, and return at once: `sm-launch stop --no-wait`."""
    from sm_launch.sessions import open_session

    session = open_session(resolve_target(None, target))
    for name in jobs:
        session.stop_training_job(TrainingJobName=name)


def delete(*endpoints: str, target: Target | None = None) -> list[str]:
    """Delete endpoints with their configurations and models, unasked: `sm-launch delete --yes`.

    Returns:
        What was deleted, a line each.
    """
    from sm_launch.commands.delete import delete_endpoint
    from sm_launch.sessions import open_session

    settled = resolve_target(None, target)
    session = open_session(settled)
    for name in endpoints:
        session.describe_endpoint(EndpointName=name)  # an unknown name fails before anything goes
    return [line for name in endpoints for line in delete_endpoint(session, name, settled, None)]
