"""Tuning jobs: real training jobs, started, compared and stopped by a supervisor."""

import pytest
from botocore.exceptions import ClientError

from .conftest import processes_below, wait_for

pytestmark = pytest.mark.slow


@pytest.fixture
def tuning_request(training_request, tmp_path):
    def request(name="sweep", ranges=None, limits=None, config=None, **static):
        definition = training_request(name, **static)
        for key in ("TrainingJobName", "Tags"):
            definition.pop(key)
        definition["StaticHyperParameters"] = definition.pop("HyperParameters")
        return {
            "HyperParameterTuningJobName": name,
            "HyperParameterTuningJobConfig": {
                "Strategy": "Grid",
                "HyperParameterTuningJobObjective": {
                    "Type": "Maximize",
                    "MetricName": "eval:accuracy",
                },
                "ResourceLimits": {"MaxParallelTrainingJobs": 2, **(limits or {})},
                "ParameterRanges": ranges
                or {
                    "CategoricalParameterRanges": [
                        {"Name": "score", "Values": ["0.6", "0.9", "0.7"]}
                    ]
                },
                **(config or {}),
            },
            "TrainingJobDefinition": definition,
        }

    return request


def describe(session, name="sweep"):
    return session.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)


def finished(session, name="sweep"):
    final = {"Completed", "Failed", "Stopped"}
    wait_for(lambda: describe(session, name)["HyperParameterTuningJobStatus"] in final, 60)
    return describe(session, name)


def trials(session, **query):
    answer = session.list_training_jobs_for_hyper_parameter_tuning_job(
        HyperParameterTuningJobName="sweep", **query
    )
    return answer["TrainingJobSummaries"]


def test_a_grid_finds_the_best(session, tuning_request, tmp_path):
    request = tuning_request(learning_rate="1e-4")
    definition = request["TrainingJobDefinition"]
    definition["CheckpointConfig"] = {"S3Uri": (tmp_path / "checkpoints").as_uri()}
    session.create_hyper_parameter_tuning_job(**request)
    description = finished(session)
    assert description["HyperParameterTuningJobStatus"] == "Completed"
    assert description["TrainingJobStatusCounters"]["Completed"] == 3
    assert description["ObjectiveStatusCounters"] == {"Succeeded": 3, "Pending": 0, "Failed": 0}
    assert "trials" not in description
    best = description["BestTrainingJob"]
    assert best["TunedHyperParameters"] == {"score": "0.9"}
    assert best["FinalHyperParameterTuningJobObjectiveMetric"]["Value"] == 0.9

    job = session.describe_training_job(TrainingJobName=best["TrainingJobName"])
    assert job["TuningJobArn"] == description["HyperParameterTuningJobArn"]
    assert job["HyperParameters"] == {
        "learning_rate": "1e-4",
        "score": "0.9",
        "_tuning_objective_metric": "eval:accuracy",
    }
    by_value = trials(session, SortBy="FinalObjectiveMetricValue", SortOrder="Ascending")
    assert [trial["TunedHyperParameters"]["score"] for trial in by_value] == ["0.6", "0.7", "0.9"]
    assert all(trial["CreationTime"].year > 2000 for trial in by_value)
    names = [trial["TrainingJobName"] for trial in trials(session, SortBy="Name")]
    assert names == sorted(names, reverse=True)
    assert len(list((tmp_path / "checkpoints").iterdir())) == 3
    listed = session.list_hyper_parameter_tuning_jobs(StatusEquals="Completed")
    assert listed["HyperParameterTuningJobSummaries"][0]["Strategy"] == "Grid"


def test_a_target_ends_the_search(session, tuning_request):
    request = tuning_request(
        ranges={"IntegerParameterRanges": [{"Name": "score", "MinValue": "1", "MaxValue": "900"}]},
        limits={"MaxParallelTrainingJobs": 1, "MaxNumberOfTrainingJobs": 50},
        config={
            "Strategy": "Random",
            "RandomSeed": 1,
            "TuningJobCompletionCriteria": {"TargetObjectiveMetricValue": 1.0},
        },
    )
    session.create_hyper_parameter_tuning_job(**request)
    assert finished(session)["HyperParameterTuningJobStatus"] == "Completed"
    assert len(trials(session)) == 1


def test_failing_trials_fail_the_job_with_their_reason(session, tuning_request):
    request = tuning_request(failure_file="UserError: no such column 'label'")
    session.create_hyper_parameter_tuning_job(**request)
    description = finished(session)
    assert description["HyperParameterTuningJobStatus"] == "Failed"
    assert "no such column 'label'" in description["FailureReason"]
    assert description["TrainingJobStatusCounters"]["NonRetryableError"] == 3


def test_stopping_stops_the_trials(session, tuning_request):
    session.create_hyper_parameter_tuning_job(**tuning_request(seconds=60))
    wait_for(lambda: len(processes_below(session._store.home)) >= 2)
    session.stop_hyper_parameter_tuning_job(HyperParameterTuningJobName="sweep")
    description = finished(session)
    assert description["HyperParameterTuningJobStatus"] == "Stopped"
    assert description["TrainingJobStatusCounters"]["Stopped"] == 2
    assert processes_below(session._store.home) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"Strategy": "Bayesian"}, "Random or Grid, not Bayesian"),
        ({"TrainingJobEarlyStoppingType": "Auto"}, "TrainingJobEarlyStoppingType Off"),
        (
            {"HyperParameterTuningJobObjective": {"Type": "Minimize", "MetricName": "f1"}},
            "'f1' is none of the MetricDefinitions",
        ),
    ],
)
def test_refusals(session, tuning_request, change, message):
    with pytest.raises(ClientError, match=message):
        session.create_hyper_parameter_tuning_job(**tuning_request(config=change))


def test_what_is_wrong_with_every_trial_is_said_at_once(session, tuning_request):
    request = tuning_request()
    source = request["TrainingJobDefinition"]["InputDataConfig"][0]["DataSource"]["S3DataSource"]
    source["S3Uri"] = "file:///nowhere"
    with pytest.raises(ClientError, match="No S3 objects found"):
        session.create_hyper_parameter_tuning_job(**request)
    with pytest.raises(ClientError, match="both in StaticHyperParameters and in ParameterRanges"):
        session.create_hyper_parameter_tuning_job(**tuning_request(score="0.5"))
    assert session.list_hyper_parameter_tuning_jobs()["HyperParameterTuningJobSummaries"] == []
