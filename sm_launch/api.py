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

from sm_launch.config import JobConfig, Target, load_config
from sm_launch.errors import UserInputError

if TYPE_CHECKING:
    from sm_launch.data.inspection import FileReport
    from sm_launch.data.report import PreparationReport
    from sm_launch.evaluation import Comparison, EvaluationResult
    from sm_launch.workplace import Workplace

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
    from sm_launch.preparing import data_section, fetching

    config = load(job, overrides)
    section, directory = data_section(config), config.directory
    with fetching(config) as fetch:
        return run(section, config.prepared_path, base_directory=directory, fetch=fetch)


def validate(job: Job = DEFAULT_JOB, *, overrides: Sequence[str] = ()) -> PreparationReport:
    """What `prepare` would do, without writing: `sm-launch data validate`."""
    from sm_launch.data import validate as run
    from sm_launch.preparing import data_section, fetching

    config = load(job, overrides)
    section, directory = data_section(config), config.directory
    with fetching(config) as fetch:
        return run(section, config.prepared_path, base_directory=directory, fetch=fetch)


def inspect(job: Job = DEFAULT_JOB, *, overrides: Sequence[str] = ()) -> list[FileReport]:
    """What the raw files hold: `sm-launch data inspect`."""
    from sm_launch.data import inspect as run
    from sm_launch.preparing import data_section, fetching

    config = load(job, overrides)
    with fetching(config) as fetch:
        return run(data_section(config), base_directory=config.directory, fetch=fetch)


def preview(job: Job = DEFAULT_JOB, *, overrides: Sequence[str] = (), rows: int = 3) -> list[str]:
    """Rows of each channel as the model sees them, as lines: `sm-launch data preview`."""
    from sm_launch.previewing import preview as run

    return run(load(job, overrides), rows)


def upload(
    job: Job = DEFAULT_JOB,
    *,
    region: str | None = None,
    overrides: Sequence[str] = (),
    dry_run: bool = False,
) -> dict[str, str]:
    """Send the prepared channels to S3; channel name to URI: `sm-launch data upload`."""
    from sm_launch.buckets import s3_stage
    from sm_launch.data.upload import upload as send
    from sm_launch.workplace import open_workplace

    config = open_workplace(load(job, overrides), "sagemaker", region).config
    return send(s3_stage(config, upload=not dry_run), config.prepared_path)


def train(
    job: Job = DEFAULT_JOB,
    *,
    target: Target | None = None,
    region: str | None = None,
    overrides: Sequence[str] = (),
    resume: str | None = None,
    wait: bool = True,
) -> dict[str, Any] | list[dict[str, Any]]:
    """Run a training job; its DescribeTrainingJob answer: `sm-launch train`.

    Args:
        job: path of job.yaml, or a loaded one.
        target: process, docker or sagemaker; default: job.yaml's.
        region: of AWS; default: job.yaml's.
        overrides: `key=value`, as --set takes them.
        resume: a training job that has ended, to go on from its checkpoints.
        wait: until the job has ended; else return as soon as it runs.

    Returns:
        With `matrix` in job.yaml a list: name, status, values, metrics and model of each job.

    Raises:
        LaunchError: the job failed; the message holds the reason and the last log lines.
    """
    from sm_launch import matrix, requests, training
    from sm_launch.estimate import require_cost
    from sm_launch.workplace import open_workplace

    place = open_workplace(load(job, overrides), target, region)
    if place.config.matrix:
        matrix.refuse_resuming(resume)
        return _train_matrix(place, wait=wait)
    if place.target == "sagemaker":
        require_cost(place.config, place.config.training.max_cost_usd)
        _warn_of_request(place, place.config)
    for words in training.data_warnings(place.config):
        warnings.warn(words, stacklevel=2)
    name, session = requests.unique_name(place.config.name), place.session()
    kept = training.checkpoints_of(session, resume) if resume else None
    request = training.request_of(place, place.stage(), name, checkpoints=kept)
    session.create_training_job(**request)
    if wait:
        return training.wait(session, name, lambda seen: None)
    return session.describe_training_job(TrainingJobName=name)


def _train_matrix(place: Workplace, *, wait: bool) -> list[dict[str, Any]]:
    from sm_launch import matrix
    from sm_launch.estimate import require_cost_of_all

    assert place.config.matrix is not None, "the caller looks"
    jobs = matrix.expand(place.config)
    if place.target == "sagemaker":
        configs = [job.config for job in jobs]
        for config in configs:
            _warn_of_request(place, config)
        require_cost_of_all(configs, place.config.training.max_cost_usd)
    built = matrix.requests_of(place, place.stage(), jobs)
    matrix.run(
        place.session(),
        jobs,
        lambda job: built[job.name],
        place.config.matrix.max_parallel_jobs,
        lambda job: None,
        follow=wait,
    )
    matrix.require_completed(jobs)
    return [job.as_dict() for job in jobs]


def _warn_of_request(place: Workplace, config: JobConfig) -> None:
    from sm_launch import training

    image, role = place.training_image, place.training_role
    for words in training.check_request(config, image=image, role=role):
        warnings.warn(words, stacklevel=3)


def deploy(
    job: Job = DEFAULT_JOB,
    *,
    target: Target | None = None,
    region: str | None = None,
    overrides: Sequence[str] = (),
    training_job: str | None = None,
    model_data: str | None = None,
    name: str | None = None,
    adopt: bool = False,
) -> dict[str, Any]:
    """Put a model behind an endpoint and wait; its DescribeEndpoint answer: `sm-launch deploy`.

    Args:
        job: path of job.yaml, or a loaded one.
        target: process, docker or sagemaker; default: job.yaml's.
        region: of AWS; default: job.yaml's.
        overrides: `key=value`, as --set takes them.
        training_job: whose model; default: endpoint.model, else the newest that completed.
        model_data: an artefact instead: a path, file://, s3:// or hf:// URI.
        name: of the endpoint; default: job.yaml's.
        adopt: update an endpoint of that name although it is not this job's, and take it over.

    Raises:
        LaunchError: the endpoint failed, and what was made for it is gone again; or it is somebody
            else's.
    """
    from sm_launch.commands.deploy import carry_out, plan
    from sm_launch.workplace import open_workplace

    place = open_workplace(load(job, overrides), target, region)
    planned = plan(place, job=training_job, model_data=model_data, name=name)
    for words in planned.warnings:
        warnings.warn(words, stacklevel=2)
    return carry_out(place, planned, adopt=adopt)


def _place_of(job: Job | None, target: Target | None, region: str | None) -> Workplace:
    """Where a thing is that is called by its name: what the job says, if there is one."""
    from sm_launch.workplace import find_workplace, open_workplace

    if isinstance(job, JobConfig):
        return open_workplace(job, target, region)
    return find_workplace(Path(job or DEFAULT_JOB), (), target, region)


def invoke(
    endpoint: str,
    payload: Any,
    *,
    job: Job | None = None,
    target: Target | None = None,
    region: str | None = None,
    content_type: str | None = None,
    accept: str = "application/json",
) -> Any:
    """Send one request and return its answer: `sm-launch invoke`.

    Args:
        endpoint: its name.
        payload: bytes go as they are, a text becomes {"inputs": text}, anything else JSON.
        job: whose target and region to take; default: job.yaml's, if there is one.
        target: where the endpoint is.
        region: likewise.
        content_type: of the payload; default: application/json.
        accept: wanted content type; a JSON answer comes back decoded, anything else as text.
    """
    if isinstance(payload, str):
        payload = {"inputs": payload}
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    reply = (
        _place_of(job, target, region)
        .session()
        .invoke_endpoint(
            EndpointName=endpoint,
            Body=body,
            ContentType=content_type or "application/json",
            Accept=accept,
        )
    )
    text = reply["Body"].read().decode("utf-8", errors="replace")
    return json.loads(text) if str(reply.get("ContentType", accept)).startswith(
        "application/json"
    ) else text  # fmt: skip


def evaluate(
    job: Job = DEFAULT_JOB,
    *,
    target: Target | None = None,
    region: str | None = None,
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
        region: likewise.
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

    place = open_workplace(load(job, overrides), target, region)
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
    done = evaluating.run(lambda: place, place.config, request)
    evaluation.require_gates(done.gates)
    return done.result


def weights(
    endpoint: str,
    weights: Mapping[str, float] | None = None,
    *,
    instances: Mapping[str, int] | None = None,
    job: Job | None = None,
    target: Target | None = None,
    region: str | None = None,
    adopt: bool = False,
) -> list[dict[str, Any]]:
    """Share an endpoint's traffic out anew and wait: `sm-launch weights`.

    Args:
        endpoint: its name.
        weights: variant to weight; those that are not named keep theirs.
        instances: variant to number of instances, on SageMaker.
        job: whose target and region to take; default: job.yaml's, if there is one.
        target: where the endpoint is.
        region: likewise.
        adopt: change and take over an endpoint that is not this job's.

    Returns:
        `variant`, `weight`, `share` and `instances` of every variant, as they are now.

    Raises:
        UserInputError: there is no such variant, or nothing would get any traffic.
    """
    from sm_launch import endpoints, traffic

    place = _place_of(job, target, region)
    if instances and place.target != "sagemaker":
        raise UserInputError(
            "a variant has one server here", field="instances", value=dict(instances)
        )
    if weights or instances:
        endpoints.require_own(place, endpoint, adopt=adopt)
    described = traffic.change(place.session(), endpoint, weights or {}, instances)
    return traffic.shares(described)


def compare(
    first: str | os.PathLike[str],
    second: str | os.PathLike[str],
    *,
    job: Job = DEFAULT_JOB,
    target: Target | None = None,
    region: str | None = None,
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
        region: likewise.
        overrides: `key=value`, as --set takes them.
        data: held-out rows for endpoints.
        output: directory of comparison.html.
        min_shared: share of the rows (0 to 1) that both models must have answered.
    """
    from sm_launch import comparing
    from sm_launch.workplace import open_workplace

    found, _ = comparing.run(
        (str(first), str(second)),
        lambda: open_workplace(load(job, overrides), target, region),
        data=data,
        output=output,
        min_shared=min_shared,
    )
    return found


def stop(
    *jobs: str,
    job: Job | None = None,
    target: Target | None = None,
    region: str | None = None,
) -> None:
    """Ask training jobs to stop, and return at once: `sm-launch stop --no-wait`.

    Args:
        jobs: their names.
        job: whose target and region to take; default: job.yaml's, if there is one.
        target: where they run.
        region: likewise.
    """
    session = _place_of(job, target, region).session()
    for name in jobs:
        session.stop_training_job(TrainingJobName=name)


def delete(
    *endpoints: str,
    job: Job | None = None,
    target: Target | None = None,
    region: str | None = None,
    adopt: bool = False,
) -> list[str]:
    """Delete endpoints with their configurations and models, unasked: `sm-launch delete --yes`.

    Args:
        endpoints: their names.
        job: whose target and region to take; default: job.yaml's, if there is one.
        target: where they are.
        region: likewise.
        adopt: delete also what is not this job's.

    Returns:
        What was deleted, a line each.

    Raises:
        LaunchError: an endpoint is somebody else's; nothing is deleted then.
    """
    from sm_launch.commands.delete import delete_endpoint
    from sm_launch.endpoints import require_own

    place = _place_of(job, target, region)
    for name in endpoints:  # an unknown or foreign one fails before anything goes
        require_own(place, name, adopt=adopt)
    deletions = [delete_endpoint(place, name, adopt=adopt) for name in endpoints]
    for line in (line for deletion in deletions for line in deletion.left):
        warnings.warn(f"left alone: {line}", stacklevel=2)
    return [line for deletion in deletions for line in deletion.done]
