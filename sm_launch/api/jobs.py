"""Jobs that run and end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sm_launch.api.opening import DEFAULT_JOB, Job, find_place, open_job, open_meant
from sm_launch.job.config import Target

if TYPE_CHECKING:
    from sm_launch.evaluation.job.optimizing import Optimized
    from sm_launch.job.estimate import Estimate
    from sm_launch.jobs.reproduction import Outcome
    from sm_launch.jobs.tuning import SweepResult


def train(
    job: Job = DEFAULT_JOB,
    *,
    target: Target | None = None,
    region: str | None = None,
    overrides: Sequence[str] = (),
    resume: str | None = None,
    max_cost: float | None = None,
    wait: bool = True,
) -> dict[str, Any] | list[dict[str, Any]]:
    """Run a training job; its DescribeTrainingJob answer: `sm-launch train`.

    In a notebook the cell shows the job while it runs: status, step, loss curve, last log lines.

    Args:
        resume: a training job that has ended, to go on from its checkpoints.
        max_cost: refuse what could cost more US dollars; default: job.yaml's limit.

    Returns:
        With `matrix` in job.yaml a list: name, status, values, metrics and model of each job.

    Raises:
        LaunchError: the job failed; the message holds the reason and the last log lines.
    """
    from sm_launch.jobs import attempts, live, matrix

    context = open_job(job, overrides, target, region)
    if context.config.matrix:
        jobs = matrix.prepare(context, resume=resume, max_cost=max_cost)
        matrix.run(context, jobs, follow=wait)
        matrix.require_completed(jobs)
        return [each.as_dict() for each in jobs]
    plan = attempts.plan(context, resume=resume, max_cost=max_cost)
    if wait:
        return attempts.run(plan, lambda where, name: live.wait(where.session, name))
    attempts.warn_detached(context)
    name = attempts.start(plan)
    return plan.context.session.describe_training_job(TrainingJobName=name)


def reproduce(
    training_job: str,
    *,
    job: Job | None = None,
    target: Target | None = None,
    region: str | None = None,
    anyway: bool = False,
    tolerance: float = 0.0,
    max_cost: float | None = None,
) -> Outcome:
    """Run a past training job again: do weights and metrics agree? `sm-launch reproduce`.

    Args:
        training_job: its name.
        anyway: although its data, code or image has changed.
        tolerance: by how much metrics may differ, on another machine; 0: bit for bit.
        max_cost: refuse what could cost more US dollars; default: job.yaml's limit.

    Raises:
        UserInputError: something has changed since; each thing is named.
        LaunchError: another model came out.
    """
    from sm_launch.jobs import live, reproduction

    context = find_place(job, target, region)
    planned = reproduction.prepare(context, training_job, anyway=anyway, max_cost=max_cost)
    live.wait(context.session, reproduction.start(context, planned))
    outcome = reproduction.finish(context, planned, tolerance=tolerance)
    outcome.require()
    return outcome


def optimize(
    job: Job = DEFAULT_JOB,
    *,
    target: Target | None = None,
    region: str | None = None,
    overrides: Sequence[str] = (),
    training_job: str | None = None,
    model_data: str | None = None,
    max_cost: float | None = None,
    wait: bool = True,
) -> Optimized | dict[str, Any]:
    """Make a trained model smaller and faster, as good as before: `sm-launch optimize`.

    Args:
        training_job: whose model; default: the newest that completed.
        model_data: an artefact instead.
        max_cost: refuse what could cost more US dollars; default: job.yaml's limit.

    Returns:
        Without `wait` DescribeTrainingJob's answer.

    Raises:
        LaunchError: the job failed, as it does where the model would be worse than allowed.
    """
    from sm_launch.evaluation.job import optimizing
    from sm_launch.jobs import training

    context = open_job(job, overrides, target, region)
    former, request = optimizing.prepare(context, training_job, model_data, max_cost=max_cost)
    name = training.start(context, request)
    if wait:
        return optimizing.wait(context, name, former)
    return context.session.describe_training_job(TrainingJobName=name)


def sweep(
    job: Job = DEFAULT_JOB,
    *,
    target: Target | None = None,
    region: str | None = None,
    overrides: Sequence[str] = (),
    max_cost: float | None = None,
    wait: bool = True,
) -> SweepResult | dict[str, Any]:
    """Search for the best hyperparameters; trials, best first: `sm-launch sweep`.

    Takes `max_cost` as `train` does, and raises its errors.

    Returns:
        Without `wait` DescribeHyperParameterTuningJob's answer.
    """
    from sm_launch.jobs import tuning

    context = open_job(job, overrides, target, region)
    name = tuning.start(context, tuning.prepare(context, max_cost=max_cost))
    if wait:
        return tuning.wait(context.session, name)
    return context.session.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)


def transform(
    source: str,
    job: Job = DEFAULT_JOB,
    *,
    target: Target | None = None,
    region: str | None = None,
    overrides: Sequence[str] = (),
    output: str | None = None,
    content_type: str | None = None,
    training_job: str | None = None,
    model_data: str | None = None,
    wait: bool = True,
) -> dict[str, Any]:
    """Run a model over files; DescribeTransformJob's answer: `sm-launch transform`.

    Args:
        source: a file, a directory or an s3:// URI; every file x gets an answer x.out.
        output: where answers go; default: below the job's own.
        content_type: of the input; default: by the files' ending.
        training_job: whose model; default: the newest that completed.
        model_data: an artefact instead.
        wait: until the job has ended, and then forget its model; else return as soon as it runs.

    Raises:
        LaunchError: the job failed.
    """
    from sm_launch.hosting import transforms

    context = open_job(job, overrides, target, region)
    planned = transforms.prepare(
        context,
        source,
        output=output,
        content_type=content_type,
        job=training_job,
        model_data=model_data,
    )
    name = transforms.start(context, planned)
    if wait:
        return transforms.finish(context.session, name)
    return context.session.describe_transform_job(TransformJobName=name)


def stop(
    *jobs: str,
    job: Job | None = None,
    target: Target | None = None,
    region: str | None = None,
    wait: bool = False,
) -> list[dict[str, str]]:
    """Ask jobs of any kind, sweeps and pipelines to stop: `sm-launch stop --no-wait`.

    Args:
        jobs: their names; default: all of job.yaml that still runs.

    Returns:
        `kind`, `name` and `status` of each.

    Raises:
        LaunchError: there is no job of a name; nothing is stopped then.
    """
    from sm_launch.jobs import stopping

    context = open_meant(jobs, job, target, region)
    return [each.as_dict() for each in stopping.stop(context, jobs, wait=wait)]


def estimate(
    job: Job = DEFAULT_JOB,
    *,
    region: str | None = None,
    overrides: Sequence[str] = (),
    model: str | None = None,
    method: str | None = None,
    instance_type: str | None = None,
    parameters: float | None = None,
    hosted_on: Sequence[str] = (),
) -> Estimate:
    """Memory, instance type and price of a training: `sm-launch estimate`.

    Args:
        model: in place of job.yaml's; no job.yaml is needed then.
        method: in place of job.yaml's.
        instance_type: likewise.
        parameters: size of the model, where neither its files nor its name tell.
        hosted_on: instance types to price a million requests on; default: job.yaml's.
    """
    from sm_launch.target import estimating

    asked = estimating.Asked(model, method, instance_type, parameters)
    chosen = (*overrides, *asked.overrides)
    context = (
        open_job(job, chosen, None, region)
        if asked.needs_job
        else find_place(job, None, region, chosen)
    )
    return estimating.estimate(context, parameters, hosted_on)
