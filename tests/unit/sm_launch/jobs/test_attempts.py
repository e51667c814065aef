"""Trying again: for causes that pass, as often as allowed, from the checkpoints where there are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from sm_launch.errors import LaunchError
from sm_launch.job import costs
from sm_launch.job.config import load_config
from sm_launch.job.instances import bundled_prices
from sm_launch.jobs import attempts
from sm_launch.target.context import JobContext, open_context

CAPACITY = "CapacityError: Unable to provision requested ML compute capacity."
INTERNAL = "InternalServerError: We encountered an internal error. Please try again."
OURS = "AlgorithmError: field max_length: must be at least 1, exit code: 1"


@pytest.mark.parametrize(
    ("reason", "kind"),
    [(CAPACITY, "capacity"), (INTERNAL, "passing"), (OURS, None), ("", None),
     ("AlgorithmError: NCCL error: unhandled system error", "passing"),
     ("AlgorithmError: exit code: 143", "passing"),
     ("AlgorithmError: CUDA error: uncorrectable ECC error encountered", "passing"),
     ("AlgorithmError: CUDA out of memory, exit code: 1", None)],
)  # fmt: skip
def test_which_failures_pass(reason: str, kind: str | None) -> None:
    assert attempts.kind_of({"TrainingJobStatus": "Failed", "FailureReason": reason}) == kind


def test_interrupted_jobs_are_told_from_stopped_ones() -> None:
    stopped = {"TrainingJobStatus": "Stopped", "SecondaryStatus": "MaxWaitTimeExceeded"}
    assert attempts.kind_of(stopped) == "capacity"
    assert attempts.kind_of({**stopped, "SecondaryStatus": "Stopped"}) is None


class Scripted:
    """Jobs that end as they are told to."""

    def __init__(self, *reasons: str, checkpoints: Path | None = None) -> None:
        self.reasons, self.checkpoints = list(reasons), checkpoints
        self.asked: list[dict[str, Any]] = []

    def create_training_job(self, **request: Any) -> None:
        self.asked.append(request)

    def describe_training_job(self, TrainingJobName: str) -> dict[str, Any]:
        reason = self.reasons[min(len(self.asked), len(self.reasons)) - 1]
        place = self.checkpoints and {"S3Uri": self.checkpoints.as_uri()}
        kept = {"CheckpointConfig": place} if place else {}
        status = {"TrainingJobStatus": "Failed", "FailureReason": reason} if reason else {
            "TrainingJobStatus": "Completed"}  # fmt: skip
        return {"TrainingJobName": TrainingJobName, **status, **kept}

    def follow(self, context: JobContext, name: str) -> dict[str, Any]:
        description = self.describe_training_job(name)
        if description["TrainingJobStatus"] == "Failed":
            raise LaunchError(description["FailureReason"])
        return description


def planned(
    session: Scripted, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, **training: Any
) -> attempts.Plan:
    (tmp_path / "train.jsonl").write_text('{"text": "a", "label": "b"}\n' * 4)
    document = {"name": "mine", "training": {
        "model": "org/m", "channels": {"train": "train.jsonl"}, **training}}  # fmt: skip
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(document))
    monkeypatch.setattr(JobContext, "session", session)
    config = load_config(tmp_path / "job.yaml")
    context = open_context(config, "process", None, lambda *_, **__: None)
    plan = attempts.plan(context)
    plan.sleep = lambda seconds: None
    return plan


def test_a_job_is_restarted_as_often_as_allowed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    session = Scripted(INTERNAL, INTERNAL, "")
    plan = planned(session, monkeypatch, tmp_path, restarts=2)
    assert attempts.run(plan, session.follow)["TrainingJobStatus"] == "Completed"
    assert len({each["TrainingJobName"] for each in session.asked}) == 3
    session = Scripted(INTERNAL)
    plan = planned(session, monkeypatch, tmp_path, restarts=2)
    with pytest.raises(LaunchError, match="internal error"):
        attempts.run(plan, session.follow)
    assert len(session.asked) == 3


def test_what_would_fail_again_is_not_restarted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    session = Scripted(OURS)
    with pytest.raises(LaunchError, match="max_length"):
        attempts.run(planned(session, monkeypatch, tmp_path, restarts=5), session.follow)
    assert len(session.asked) == 1


def test_a_restart_goes_on_from_checkpoints(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    session = Scripted(INTERNAL, "", checkpoints=tmp_path / "c")
    (tmp_path / "c" / "checkpoint-5").mkdir(parents=True)
    plan = planned(session, monkeypatch, tmp_path, restarts=1, checkpoints="kept")
    attempts.run(plan, session.follow)
    first, second = (each["CheckpointConfig"]["S3Uri"] for each in session.asked)
    assert second == (tmp_path / "c").as_uri() != first


def test_a_restart_before_the_first_checkpoint_begins_anew(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "c").mkdir()
    session = Scripted(INTERNAL, "", checkpoints=tmp_path / "c")
    plan = planned(session, monkeypatch, tmp_path, restarts=1, checkpoints="kept")
    attempts.run(plan, session.follow)
    assert (tmp_path / "c").as_uri() != session.asked[1]["CheckpointConfig"]["S3Uri"]


def test_every_try_counts_against_the_limit(tmp_path: Path) -> None:
    training = {"restarts": 2, "max_runtime_seconds": 3600, "instances": {"type": "ml.g5.xlarge"}}
    (tmp_path / "job.yaml").write_text(yaml.safe_dump({"name": "mine", "training": training}))
    priced = costs.cost(load_config(tmp_path / "job.yaml"), bundled_prices())
    assert priced and priced.dollars == pytest.approx(3 * 1.408)
