"""What moto cannot do, with the shapes of the service model: sweeps that run for a while, and
endpoints that fail to start."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

from sm_launch.errors import LaunchError, UserInputError
from sm_launch.hosting import traffic
from sm_launch.hosting.deployment import Deployment, deploy
from sm_launch.job.limits import TAG_KEY
from sm_launch.jobs import tuning as sweeps
from sm_launch.sessions.aws import AwsSession

NOW = datetime(2030, 1, 1, tzinfo=UTC)
ARN = "arn:aws:sagemaker:eu-central-1:123456789012:"
TUNING = {"HyperParameterTuningJobName": "mine"}


def client_of(service: str) -> tuple[Any, Stubber]:
    client: Any = boto3.client(
        service, region_name="eu-central-1", aws_access_key_id="x", aws_secret_access_key="x"
    )
    stub = Stubber(client)
    stub.activate()
    return client, stub


class Account:
    """SageMaker and CloudWatch's logs, stubbed, with a session over both."""

    def __init__(self) -> None:
        sagemaker, self.look = client_of("sagemaker")
        logs, self.log = client_of("logs")
        self.session = AwsSession(
            clients=lambda service, _: logs if service == "logs" else sagemaker,
            sleep=lambda _: None,
        )
        self.session.seconds_between_looks = 0.0

    def line(self, text: str) -> None:
        streams = {"logStreams": [{"logStreamName": "one/algo-1-1"}]}
        event = {"timestamp": 1, "message": text}
        self.log.add_response("describe_log_streams", streams)
        for events in ([event], []):
            answer = {"events": events, "nextForwardToken": "f/1"}
            self.log.add_response("get_log_events", answer)

    def tuning(self, status: str, **more: Any) -> None:
        answer = {
            **TUNING,
            "HyperParameterTuningJobArn": f"{ARN}hyper-parameter-tuning-job/mine",
            "HyperParameterTuningJobConfig": {
                "Strategy": "Bayesian",
                "HyperParameterTuningJobObjective": {
                    "Type": "Minimize",
                    "MetricName": "eval:loss",
                },
                "ResourceLimits": {"MaxParallelTrainingJobs": 1, "MaxNumberOfTrainingJobs": 3},
            },
            "HyperParameterTuningJobStatus": status,
            "CreationTime": NOW,
            "TrainingJobStatusCounters": {},
            "ObjectiveStatusCounters": {},
            **more,
        }
        self.look.add_response("describe_hyper_parameter_tuning_job", answer, TUNING)

    def trials(self, *trials: dict[str, Any], token: str = "", more: str = "") -> None:
        asked: dict[str, Any] = {
            **TUNING, "MaxResults": 100, "SortBy": "CreationTime", "SortOrder": "Ascending",
        }  # fmt: skip
        if token:
            asked["NextToken"] = token
        answer: dict[str, Any] = {"TrainingJobSummaries": list(trials)}
        if more:
            answer["NextToken"] = more
        self.look.add_response("list_training_jobs_for_hyper_parameter_tuning_job", answer, asked)


def trial(name: str, rate: str, loss: float | None = None, **more: Any) -> dict[str, Any]:
    summary = {
        "TrainingJobName": name,
        "TrainingJobArn": f"{ARN}training-job/{name}",
        "CreationTime": NOW,
        "TrainingJobStatus": "InProgress" if loss is None else "Completed",
        "TunedHyperParameters": {"learning_rate": rate},
        **more,
    }
    if loss is not None:
        metric = {"MetricName": "eval:loss", "Value": loss}
        summary["FinalHyperParameterTuningJobObjectiveMetric"] = metric
    return summary


def test_a_sweep_is_followed_and_ranked() -> None:
    account = Account()
    account.tuning("InProgress")
    account.trials(trial("a", "1"))
    # Looking is patient: this one is asked for again.
    account.look.add_client_error("describe_hyper_parameter_tuning_job", "ThrottlingException")
    best = {**trial("b", "2", 0.25), "TrainingJobName": "b"}
    best.pop("FinalHyperParameterTuningJobObjectiveMetric")
    account.tuning("Completed", BestTrainingJob=best)
    account.trials(trial("a", "1", 0.5), trial("b", "2", 0.25), more="next")
    failed = trial("c", "3", TrainingJobStatus="Failed", FailureReason="no")
    account.trials(failed, token="next")
    looks: list[int] = []
    result = sweeps.wait(account.session, "mine", lambda _, trials: looks.append(len(trials)))
    assert looks == [1, 3]
    assert [each.job for each in result.trials] == ["b", "a", "c"]
    assert result.best_job == "b"
    account.look.assert_no_pending_responses()


def test_a_failed_sweep_tells_of_its_first_failed_training() -> None:
    account = Account()
    account.tuning("Failed", FailureReason="all training jobs failed")
    account.trials(trial("a", "1", TrainingJobStatus="Failed", FailureReason="exit code 1"))
    account.line("torch.OutOfMemoryError: CUDA out of memory.")
    with pytest.raises(LaunchError) as caught:
        sweeps.wait(account.session, "mine", lambda *_: None)
    for phrase in ("all training jobs failed", "exit code 1", "CUDA out of memory", "halve"):
        assert phrase in str(caught.value)


def test_an_endpoint_that_fails_to_start_is_explained_and_taken_away() -> None:
    account = Account()
    endpoint: dict[str, Any] = {
        "EndpointName": "mine", "EndpointArn": f"{ARN}endpoint/mine", "CreationTime": NOW,
        "EndpointConfigName": "mine-1", "LastModifiedTime": NOW,
    }  # fmt: skip
    account.look.add_response("list_endpoints", {"Endpoints": []})
    account.look.add_response("create_model", {"ModelArn": f"{ARN}model/mine-1"})
    account.look.add_response(
        "create_endpoint_config", {"EndpointConfigArn": f"{ARN}endpoint-config/mine-1"}
    )
    former = {**endpoint, "EndpointStatus": "Deleting"}  # its name is taken while it is there
    del former["EndpointConfigName"]
    for left in ([former], [former], []):
        account.look.add_response("list_endpoints", {"Endpoints": left})
    account.look.add_response("create_endpoint", {"EndpointArn": f"{ARN}endpoint/mine"})
    for status in ("Creating", "Creating", "Failed", "Failed"):
        reason = {"FailureReason": "did not pass the ping health check"}
        answer = {**endpoint, "EndpointStatus": status, **(reason if status == "Failed" else {})}
        account.look.add_response("describe_endpoint", answer)
    account.line("ModuleNotFoundError: No module named 'peft'")
    variant = {"VariantName": "AllTraffic", "ModelName": "mine-1"}
    account.look.add_response(
        "describe_endpoint_config",
        {
            "EndpointConfigName": "mine-1",
            "EndpointConfigArn": f"{ARN}endpoint-config/mine-1",
            "ProductionVariants": [variant],
            "CreationTime": NOW,
        },
    )
    model = {"ModelName": "mine-1", "ModelArn": f"{ARN}model/mine-1", "CreationTime": NOW,
             "ExecutionRoleArn": "arn:aws:iam::123456789012:role/hosting"}  # fmt: skip
    account.look.add_response("describe_model", model)
    for _ in range(2):  # the configuration's and the model's
        account.look.add_response("list_tags", {"Tags": [{"Key": TAG_KEY, "Value": "mine"}]})
    account.look.add_response("list_endpoints", {"Endpoints": []})
    account.look.add_response("delete_endpoint", {}, {"EndpointName": "mine"})
    account.look.add_response("delete_endpoint_config", {}, {"EndpointConfigName": "mine-1"})
    account.look.add_response("delete_model", {}, {"ModelName": "mine-1"})
    planned = Deployment(
        models=({"ModelName": "mine-1"},),
        endpoint_config={
            "EndpointConfigName": "mine-1",
            "ProductionVariants": [{"VariantName": "AllTraffic", "ModelName": "mine-1"}],
        },
        endpoint={"EndpointName": "mine", "EndpointConfigName": "mine-1"},
    )
    session: Any = account.session
    with pytest.raises(LaunchError) as caught:
        deploy(session, planned)
    assert "ping health check" in str(caught.value)
    assert "No module named 'peft'" in str(caught.value)
    assert "a Python package is missing" in str(caught.value)  # the log tells more than the status
    account.look.assert_no_pending_responses()


def described(status: str, *variants: tuple[str, float, int], **more: Any) -> dict[str, Any]:
    return {
        "EndpointName": "mine",
        "EndpointArn": f"{ARN}endpoint/mine",
        "EndpointStatus": status,
        "CreationTime": NOW,
        "LastModifiedTime": NOW,
        "ProductionVariants": [
            {"VariantName": name, "CurrentWeight": weight, "CurrentInstanceCount": count}
            for name, weight, count in variants
        ],
        **more,
    }


def test_weights_move_once_the_instances_are_there() -> None:
    account = Account()
    looks = iter(
        [
            described("InService", ("old", 1, 4), ("new", 0, 1)),
            described("InService", ("old", 1, 4), ("new", 0, 1)),  # not yet aware of the change
            described("Updating", ("old", 1, 4), ("new", 0, 1)),
            described("InService", ("old", 1, 4), ("new", 0, 3)),
            described("Updating", ("old", 1, 4), ("new", 0, 3)),
            described("InService", ("old", 0.1, 4), ("new", 0.9000000357627869, 3)),
            described("InService", ("old", 0.1, 1), ("new", 0.9000000357627869, 3)),
        ]
    )

    def look(times: int) -> None:
        for _ in range(times):
            account.look.add_response("describe_endpoint", next(looks), {"EndpointName": "mine"})

    def update(*wanted: dict[str, Any]) -> None:
        answer = {"EndpointArn": f"{ARN}endpoint/mine"}
        asked = {"EndpointName": "mine", "DesiredWeightsAndCapacities": list(wanted)}
        account.look.add_response("update_endpoint_weights_and_capacities", answer, asked)

    look(1)
    update({"VariantName": "new", "DesiredInstanceCount": 3})
    look(3)
    update(
        {"VariantName": "old", "DesiredWeight": 0.1}, {"VariantName": "new", "DesiredWeight": 0.9}
    )
    look(2)
    update({"VariantName": "old", "DesiredInstanceCount": 1})
    look(1)
    session: Any = account.session
    told = traffic.change(session, "mine", {"old": 0.1, "new": 0.9}, {"old": 1, "new": 3})
    assert [round(each["share"], 6) for each in traffic.shares(told)] == [0.1, 0.9]
    account.look.assert_no_pending_responses()


def test_weights_that_were_not_taken_are_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traffic, "PATIENCE_SECONDS", 0.0)
    account = Account()
    account.look.add_response("describe_endpoint", described("InService", ("a", 1, 1), ("b", 1, 1)))
    account.look.add_response(
        "update_endpoint_weights_and_capacities", {"EndpointArn": f"{ARN}endpoint/mine"}
    )
    reason = "Unable to provision requested ML compute capacity due to InsufficientInstanceCapacity"
    after = described("InService", ("a", 1, 1), ("b", 1, 1), FailureReason=reason)
    account.look.add_response("describe_endpoint", after)
    account.line("INFO ready")
    session: Any = account.session
    with pytest.raises(LaunchError, match=r"did not take the change .*weights a 1, b 1") as caught:
        traffic.change(session, "mine", {}, {"b": 5})
    assert "AWS has no such instance free" in str(caught.value)


def test_a_serverless_variant_has_no_instances() -> None:
    serverless = described("InService", ("a", 1, 0))
    serverless["ProductionVariants"][0]["CurrentServerlessConfig"] = {"MemorySizeInMB": 1024}
    with pytest.raises(UserInputError, match="is serverless"):
        traffic.build_requests(serverless, {}, {"a": 2})
