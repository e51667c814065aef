"""Endpoints: made, asked, measured, watched, deleted."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sm_launch.api.opening import DEFAULT_JOB, Job, find_place, open_job, open_meant
from sm_launch.errors import UserInputError
from sm_launch.job.config import Target

if TYPE_CHECKING:
    from sm_launch.evaluation import Comparison, EvaluationResult
    from sm_launch.hosting.chat import Conversation
    from sm_launch.monitoring.sources import Monitored


def deploy(
    job: Job = DEFAULT_JOB,
    *,
    target: Target | None = None,
    region: str | None = None,
    overrides: Sequence[str] = (),
    training_job: str | None = None,
    model_data: str | None = None,
    registered: str | bool = False,
    name: str | None = None,
    adopt: bool = False,
) -> dict[str, Any]:
    """Put a model behind an endpoint and wait; its DescribeEndpoint answer: `sm-launch deploy`.

    Args:
        training_job: whose model; default: endpoint.model, else the newest that completed.
        model_data: an artefact instead: a path, file://, s3:// or hf:// URI.
        registered: the newest approved version of a model package group instead: its name, or True
            for job.yaml's.
        name: of the endpoint; default: job.yaml's.

    Raises:
        LaunchError: the endpoint failed, and what was made for it is gone again; or it is somebody
            else's.
    """
    from sm_launch.hosting import deployment

    context = open_job(job, overrides, target, region)
    group = "" if registered is True else registered or None
    planned = deployment.prepare(
        context, job=training_job, model_data=model_data, registered=group, name=name
    )
    return deployment.start(context, planned, adopt=adopt)


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

    Returns:
        `variant`, `weight`, `share` and `instances` of every variant, as they are now.

    Raises:
        UserInputError: there is no such variant, or nothing would get any traffic.
    """
    from sm_launch.hosting import traffic

    context = find_place(job, target, region)
    return traffic.share(context, endpoint, weights or {}, instances or {}, adopt=adopt)


def invoke(
    endpoint: str,
    payload: Any,
    *,
    job: Job | None = None,
    target: Target | None = None,
    region: str | None = None,
    content_type: str | None = None,
    accept: str = "application/json",
    variant: str | None = None,
    component: str | None = None,
    stream: bool = False,
    queued: bool = False,
    timeout: float = 900.0,
) -> Any:
    """Send one request and return its answer: `sm-launch invoke`.

    Args:
        endpoint: its name.
        payload: bytes go as they are, a text becomes {"inputs": text}, anything else JSON.
        content_type: of the payload; default: application/json.
        accept: wanted content type; a JSON answer comes back decoded, anything else as text.
        variant: the production variant that is asked; default: by weight.
        component: the inference component that is asked.
        stream: return an iterator over the generated text as it comes.
        queued: the endpoint is asynchronous (`--async`): wait for its answer.
        timeout: seconds to wait for it at most.
    """
    from sm_launch.hosting import invocation, streaming

    if stream and queued:
        raise UserInputError("give stream or queued, not both", field="stream")
    if isinstance(payload, str):
        payload = {"inputs": payload, **({"stream": True} if stream else {})}
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    sent = invocation.Invocation(
        endpoint, body, content_type or invocation.JSON, variant, component
    )
    context = find_place(job, target, region)
    if stream:
        return streaming.texts(invocation.stream(context, sent))
    if queued:
        answer = invocation.invoke_queued(context, sent, accept, timeout)
    else:
        answer = invocation.invoke(context, sent, accept)
    decodes = answer.content_type.startswith(invocation.JSON)
    return json.loads(answer.text) if decodes else answer.text


def chat(
    endpoint: str,
    *,
    job: Job | None = None,
    target: Target | None = None,
    region: str | None = None,
    system: str = "",
    max_tokens: int = 512,
    temperature: float | None = None,
    component: str | None = None,
) -> Conversation:
    """A conversation; its `ask(text)` yields the answer piece by piece: `sm-launch chat`.

    Args:
        endpoint: its name.
        system: system message.
        max_tokens: of an answer.
        temperature: of sampling; 0 takes always the likeliest token.
        component: the inference component that is asked.
    """
    from sm_launch.hosting.chat import begin

    return begin(
        find_place(job, target, region),
        endpoint,
        system=system,
        max_tokens=max_tokens,
        temperature=temperature,
        component=component,
    )


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
    captured: str | None = None,
    labels: str | None = None,
    newest: int | None = None,
    slices: Sequence[str] = (),
    output: Path | None = None,
    fail_under: Mapping[str, float] | None = None,
    fail_over: Mapping[str, float] | None = None,
    benchmarks: Sequence[str] = (),
    benchmark_files: str | Path | None = None,
    load: bool = False,
    p99_ms: float | None = None,
) -> EvaluationResult:
    """Measure a model on held-out data and write the report: `sm-launch evaluate`.

    Args:
        endpoint: an endpoint; default: job.yaml's.
        model_data: or an artefact on this machine, served meanwhile.
        transform_output: or what a batch transform job wrote.
        data: held-out rows; default: the test channel.
        captured: or the newest requests that this endpoint has captured; measured are its own
            answers, or those of `endpoint` or `model_data` to the same requests.
        labels: what is right, by the ids of captured requests; default: what the endpoint answered.
        newest: so many captured requests; default: 1000.
        slices: columns whose every value gets metrics of its own.
        output: directory of the report; default: WORK_DIR/NAME/report.
        fail_under: gates besides those of job.yaml.
        fail_over: gates from above.
        benchmarks: tasks of lm-evaluation-harness instead; `job` stands for those of job.yaml.
        benchmark_files: a directory of task files.
        load: also find the most requests a second within a limit of latency (`result.load`).
        p99_ms: that limit, in milliseconds; default: job.yaml's `evaluation.load`.

    Raises:
        QualityGateError: a gate was missed; the report is written, and the error has its `result`.
        EvaluationFailedError: too many rows failed.
    """
    from sm_launch import evaluation
    from sm_launch.evaluation.cells import result_cell
    from sm_launch.evaluation.job.request import Request
    from sm_launch.evaluation.job.run import run

    request = Request(
        endpoint=endpoint,
        model_data=model_data,
        transform_output=transform_output,
        data=data,
        captured=captured,
        labels=labels,
        newest=newest,
        slices=slices,
        output=output,
        fail_under=fail_under or {},
        fail_over=fail_over or {},
        benchmarks=benchmarks,
        benchmark_files=Path(benchmark_files) if benchmark_files else None,
        load=load,
        p99_ms=p99_ms,
    )
    done = run(open_job(job, overrides, target, region), request)
    result = result_cell(done.result)
    evaluation.require_gates(done.gates, result)
    return result


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
        data: held-out rows for endpoints.
        output: directory of comparison.html.
        min_shared: share of the rows (0 to 1) that both models must have answered.
    """
    from sm_launch.evaluation.cells import comparison_cell
    from sm_launch.evaluation.job import compare as comparing

    comparison, _ = comparing.run(
        (str(first), str(second)),
        lambda: open_job(job, overrides, target, region),
        data=data,
        output=output,
        min_shared=min_shared,
    )
    return comparison_cell(comparison)


def monitor(
    endpoint: str | None = None,
    *,
    job: Job | None = None,
    target: Target | None = None,
    region: str | None = None,
    since: timedelta = timedelta(hours=1),
    interval: float | None = None,
    duration: float | None = None,
    drift: bool = False,
) -> Monitored:
    """What an endpoint's metrics say, once or for a while: `sm-launch monitor`.

    Args:
        endpoint: its name; default: that of the job.
        since: how far back to look, on SageMaker.
        interval: seconds between looks; default: 30 on SageMaker, 2 elsewhere.
        duration: look for so many seconds; default: once.
        drift: compare captured data with training too.
    """
    from sm_launch.monitoring import sources

    context = open_meant(endpoint, job, target, region)
    return sources.monitor(
        context,
        endpoint,
        since=since,
        interval=interval,
        duration=duration,
        once=duration is None,
        drift=drift,
    )


def alarms(
    job: Job = DEFAULT_JOB,
    *,
    target: Target | None = None,
    region: str | None = None,
    overrides: Sequence[str] = (),
    endpoint: str | None = None,
    show: bool = False,
    delete: bool = False,
) -> list[str] | list[dict[str, str]]:
    """Make the CloudWatch alarms of an endpoint; their names: `sm-launch alarms`.

    Args:
        job: path of job.yaml, or a loaded one; its `monitoring` has the limits.
        endpoint: default: job.yaml's.
        show: only return `name` and `state` of those that are there.
        delete: delete them and the dashboard; what was deleted, a line each.
    """
    from sm_launch.monitoring import alarms as endpoint_alarms

    context = open_job(job, overrides, target, region)
    context.require_aws("alarms")
    name = endpoint or context.config.endpoint_name
    if delete:
        return endpoint_alarms.remove(name, context.region)
    if show:
        return endpoint_alarms.short_states(name, context.region)
    return endpoint_alarms.put(context.config, name)


def dashboard(
    job: Job = DEFAULT_JOB,
    *,
    target: Target | None = None,
    region: str | None = None,
    overrides: Sequence[str] = (),
    endpoint: str | None = None,
) -> dict[str, Any]:
    """Make the CloudWatch dashboard of an endpoint: `sm-launch dashboard`.

    Returns:
        `name`, `url` of the console, and `messages`: what CloudWatch finds odd in it.
    """
    from sm_launch.monitoring import alarms as endpoint_alarms

    context = open_job(job, overrides, target, region)
    context.require_aws("a dashboard")
    return endpoint_alarms.put_dashboard(context.config, endpoint or context.config.endpoint_name)


def delete(
    *endpoints: str,
    job: Job | None = None,
    target: Target | None = None,
    region: str | None = None,
    adopt: bool = False,
) -> list[str]:
    """Delete endpoints with their configurations and models, unasked: `sm-launch delete --yes`.

    Args:
        endpoints: their names; default: job.yaml's.

    Returns:
        What was deleted, a line each.

    Raises:
        LaunchError: an endpoint is somebody else's, and nothing is deleted; or there is none of a
            name, and the others are gone.
    """
    from sm_launch.account import deletion

    context = open_meant(endpoints, job, target, region)
    done = deletion.delete(context, endpoints, adopt=adopt)
    context.warn(*(f"left alone: {line}" for line in done.left))
    done.require_all(context.where)
    return done.deleted
