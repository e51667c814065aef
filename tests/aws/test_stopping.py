"""`stop` and what it meets: one command for whatever of a project runs."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fault_proxy import Proxy

from sm_launch import cli
from sm_launch.account.overview import overview
from sm_launch.aws.clients import make_client
from sm_launch.job.config import load_config
from sm_launch.target.context import DEFAULT_JOB, open_context

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("calls")]

ARN = "arn:aws:sagemaker:eu-central-1:123456789012"
EXECUTION = f"{ARN}:pipeline/mine/execution/abc"
TAGS = [{"Key": "sm-launch:job", "Value": "mine"}]
STAMP = "20261130-081500-123"


def process(name: str, tags: list[dict[str, str]] = TAGS) -> None:
    cluster = {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 10}
    make_client("sagemaker").create_processing_job(
        ProcessingJobName=name,
        ProcessingResources={"ClusterConfig": cluster},
        AppSpecification={"ImageUri": "123456789012.dkr.ecr.eu-central-1.amazonaws.com/x:1"},
        RoleArn="arn:aws:iam::123456789012:role/TrainingRole",
        Tags=tags,
    )


def running(proxy: Proxy, name: str, times: int) -> None:
    """Moto's processing jobs are over at once; this one runs for so many looks."""
    described = {"ProcessingJobName": name, "ProcessingJobStatus": "InProgress",
                 "ProcessingJobArn": f"{ARN}:processing-job/{name}"}  # fmt: skip
    proxy.inject("DescribeProcessingJob", answer=described, times=times)


def stopped(capsys: pytest.CaptureFixture[str]) -> list[tuple[str, str, str]]:
    return [(each["kind"], each["name"], each["status"])
            for each in json.loads(capsys.readouterr().out)]  # fmt: skip


def test_a_processing_job_is_stopped_by_its_name(
    proxy: Proxy, capsys: pytest.CaptureFixture[str]
) -> None:
    process("theirs")
    running(proxy, "theirs", times=2)
    assert cli.run(["stop", "theirs", "--json"]) == 0
    assert stopped(capsys) == [("processing job", "theirs", "Stopped")]
    assert proxy.count("StopProcessingJob") == 1
    # What is over is told with its end, and not stopped again.
    assert cli.run(["stop", "theirs", "--no-wait", "--json"]) == 0
    assert stopped(capsys) == [("processing job", "theirs", "Stopped")]
    assert proxy.count("StopProcessingJob") == 1


def test_a_pipeline_is_stopped_by_what_runs_of_it(
    proxy: Proxy, capsys: pytest.CaptureFixture[str]
) -> None:
    def executions(*status: str) -> None:
        proxy.faults.clear()
        listed = [{"PipelineExecutionArn": EXECUTION, "PipelineExecutionStatus": each}
                  for each in status]  # fmt: skip
        proxy.inject("ListPipelineExecutions", answer={"PipelineExecutionSummaries": listed})

    executions("Executing")
    described: dict[str, Any] = {"PipelineExecutionArn": EXECUTION}
    proxy.inject("DescribePipelineExecution", times=1,
                 answer={**described, "PipelineExecutionStatus": "Executing"})  # fmt: skip
    proxy.inject("DescribePipelineExecution",
                 answer={**described, "PipelineExecutionStatus": "Stopped"})  # fmt: skip
    proxy.inject("StopPipelineExecution", answer=described)
    assert cli.run(["stop", "mine", "--json"]) == 0
    assert stopped(capsys) == [("pipeline execution", EXECUTION, "Stopped")]
    assert proxy.count("StopPipelineExecution") == 1
    executions("Succeeded", "Failed")
    proxy.inject("DescribePipelineExecution",
                 answer={**described, "PipelineExecutionStatus": "Succeeded"})  # fmt: skip
    assert cli.run(["stop", "mine", "--json"]) == 0
    assert stopped(capsys) == [("pipeline execution", EXECUTION, "Succeeded")]
    assert proxy.count("StopPipelineExecution") == 1


def test_without_names_all_of_the_project_that_runs_is_stopped(
    proxy: Proxy, capsys: pytest.CaptureFixture[str]
) -> None:
    foreign = [{"Key": "sm-launch:job", "Value": "mine-too"}]
    process(f"mine-{STAMP}")
    process(f"mine-too-{STAMP}", foreign)
    arn = f"{ARN}:processing-job"
    listed = [
        {"ProcessingJobName": name, "ProcessingJobArn": f"{arn}/{name}",
         "ProcessingJobStatus": "InProgress", "CreationTime": 1}
        for name in (f"mine-{STAMP}", f"mine-too-{STAMP}")
    ]  # fmt: skip
    proxy.inject("ListProcessingJobs", answer={"ProcessingJobSummaries": listed})
    running(proxy, f"mine-{STAMP}", times=1)
    assert cli.run(["stop", "--json"]) == 0
    assert stopped(capsys) == [("processing job", f"mine-{STAMP}", "Stopped")]
    proxy.faults.clear()
    assert cli.run(["stop"]) == 0
    assert "nothing of mine runs" in capsys.readouterr().err


def test_what_does_not_end_by_itself_is_said_with_its_own_command(
    proxy: Proxy, capsys: pytest.CaptureFixture[str]
) -> None:
    role = "arn:aws:iam::123456789012:role/SchedulerRole"
    make_client("scheduler").create_schedule(
        Name="nightly", ScheduleExpression="rate(7 days)", FlexibleTimeWindow={"Mode": "OFF"},
        Target={"Arn": "arn:aws:scheduler:::aws-sdk:sagemaker:createTrainingJob", "RoleArn": role},
    )  # fmt: skip
    make_client("scheduler").create_schedule(
        Name="backup", ScheduleExpression="rate(7 days)", FlexibleTimeWindow={"Mode": "OFF"},
        Target={"Arn": "arn:aws:lambda:eu-central-1:123456789012:function:x", "RoleArn": role},
    )  # fmt: skip
    deploy = ["deploy", "--model-data", "s3://my-bucket/sm-launch/mine/jobs/j/model.tar.gz"]
    assert cli.run(deploy) == 0
    for name, command in (("mine", "sm-launch delete mine"), ("nightly", "schedule --off"),
                          ("nobody", "sm-launch list")):  # fmt: skip
        assert cli.run(["stop", name]) == 1
        assert command in capsys.readouterr().err
    process("far")
    assert cli.run(["list"]) == 0
    told = capsys.readouterr().out
    assert "Schedules (1)" in told and "nightly" in told  # others of the account are none of ours
    assert "Processing jobs (1)" in told
    proxy.inject("GET /schedules", "AccessDeniedException", status=403)
    assert cli.run(["list"]) == 0
    told = capsys.readouterr()
    assert "Schedules are left out" in told.err
    assert "Processing jobs (1)" in told.out


def test_a_project_is_shown_with_what_bears_a_shorter_or_another_name(proxy: Proxy) -> None:
    """A sweep has 32 characters: of a long name the beginning is left."""
    names = {"sm-launch:job": "customer-reviews"}, {"sm-launch:job": "customer-revenue"}
    for index, tags in enumerate(names):
        process(f"customer-rev-20261130-081500-00{index}-001-abcdef",
                [{"Key": key, "Value": value} for key, value in tags.items()])  # fmt: skip
    deploy = ["deploy", "--model-data", "s3://my-bucket/sm-launch/mine/jobs/j/model.tar.gz"]
    assert cli.run([*deploy, "--set", "endpoint.name=answers"]) == 0
    config = load_config(DEFAULT_JOB, ("name=customer-reviews", "endpoint.name=answers"))
    shown = {item.name: item.kind for item in overview(open_context(config))}
    assert shown == {
        "customer-rev-20261130-081500-000-001-abcdef": "processing job",
        "answers": "endpoint",
    }
