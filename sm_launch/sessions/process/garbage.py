"""Removing what is over: job directories, and the models that no endpoint runs."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from sm_launch.sessions.errors import ServiceError
from sm_launch.sessions.process import store
from sm_launch.sessions.process.async_runtime import AsyncRuntime
from sm_launch.sessions.process.base import Response
from sm_launch.sessions.process.hosting_run import PENDING_UPDATE
from sm_launch.sessions.process.runs import POLL_SECONDS
from sm_launch.sessions.process.store import Record, State
from sm_launch.sessions.process.tags import Tags, tags_of
from sm_launch.sessions.process.transform import TransformJobs
from sm_launch.sessions.process.tuning import TuningJobs

_OVER = frozenset({"Completed", "Failed", "Stopped"})
# A supervisor writes the last status and then has only its own end before it.
_SUPERVISOR_SECONDS = 5


@dataclass(frozen=True)
class Garbage:
    """Something that is over and takes room.

    Attributes:
        kind: "training-jobs", "transform-jobs", "tuning-jobs", "endpoints", "endpoint-configs" or
            "models".
        name: the resource's name.
        age: time since it ended, or since it was made where it has no end.
        size: bytes on disk; what is linked from elsewhere does not count.
    """

    kind: str
    name: str
    age: timedelta
    size: int


class GarbageCollection(TuningJobs, TransformJobs, AsyncRuntime, Tags):
    """Deletion of single jobs, and of everything that is old."""

    def delete_training_job(self, **request: Any) -> Response:
        """Remove a finished job's directory; its artefacts under S3OutputPath stay."""
        operation = "DeleteTrainingJob"
        self._validator.check(operation, request)
        record, state = self._job(request["TrainingJobName"], operation)
        _remove_finished(record, state["TrainingJobStatus"], operation)
        return {}

    def delete_hyper_parameter_tuning_job(self, **request: Any) -> Response:
        """Remove a finished tuning job; its training jobs stay."""
        operation = "DeleteHyperParameterTuningJob"
        self._validator.check(operation, request)
        record, state = self._tuning_job(request["HyperParameterTuningJobName"], operation)
        _remove_finished(record, state["HyperParameterTuningJobStatus"], operation)
        return {}

    def collect_garbage(
        self, older_than: timedelta, *, dry_run: bool, tags: dict[str, str] | None = None
    ) -> list[Garbage]:
        """Remove finished jobs, failed endpoints, and configurations and models that none runs.

        Artefacts under S3OutputPath, checkpoints and running things are never touched.

        Args:
            older_than: only what ended (or was made, where it has no end) longer ago.
            dry_run: only tell.
            tags: only what bears all of these.

        Returns:
            What was removed, or would be.
        """

        def chosen(candidates: Iterable[tuple[Record, float]]) -> list[tuple[Record, float]]:
            latest = time.time() - older_than.total_seconds()
            return [
                (record, ended)
                for record, ended in candidates
                if ended <= latest and (tags or {}).items() <= tags_of(record).items()
            ]

        endpoints = chosen(self._over(store.ENDPOINTS, self._find_endpoint))
        configs = chosen(self._configs_without(endpoints))
        found = [
            *chosen(self._over(store.TUNING_JOBS, self._find_tuning_job)),
            *chosen(self._over(store.TRAINING_JOBS, self._find_job)),
            *chosen(self._over(store.TRANSFORM_JOBS, self._find_transform_job)),
            *endpoints,
            *configs,
            *chosen(self._models_without(configs)),
        ]
        collected = [(record, _garbage(record, ended)) for record, ended in found]
        return [garbage for record, garbage in collected if dry_run or _remove(record)]

    def _configs_without(self, gone: list[tuple[Record, float]]) -> list[tuple[Record, float]]:
        """Configurations that no endpoint runs once some endpoints are gone."""
        used = {
            name
            for record in _left(self._store.records(store.ENDPOINTS), gone)
            for name in _configs_of(record)
        }
        return _unused(self._store.records(store.ENDPOINT_CONFIGS), used)

    def _models_without(self, gone: list[tuple[Record, float]]) -> list[tuple[Record, float]]:
        """Models that no configuration names once some configurations are gone."""
        used = {
            variant["ModelName"]
            for record in _left(self._store.records(store.ENDPOINT_CONFIGS), gone)
            for variant in record.read("request")["request"]["ProductionVariants"]
        }
        return _unused(self._store.records(store.MODELS), used)

    def _over(
        self, kind: str, find: Callable[[str], tuple[Record, State] | None]
    ) -> Iterator[tuple[Record, float]]:
        for record in self._store.records(kind):
            found = find(record.name)
            if found and _status(found[1]) in _OVER:
                yield record, _ended(found[1])


def _configs_of(endpoint: Record) -> list[str]:
    """The configuration that an endpoint runs, and the one that it is being moved to."""
    names = [endpoint.read("state")["EndpointConfigName"]]
    if endpoint.has(PENDING_UPDATE):
        names.append(endpoint.read(PENDING_UPDATE)["state"]["EndpointConfigName"])
    return names


def _left(records: list[Record], gone: list[tuple[Record, float]]) -> list[Record]:
    names = {record.name for record, _ in gone}
    return [record for record in records if record.name not in names]


def _unused(records: list[Record], used: set[str]) -> list[tuple[Record, float]]:
    return [
        (record, record.read("state")["CreationTime"])
        for record in records
        if record.name not in used
    ]


def _status(state: State) -> str:
    status: str = next(value for key, value in state.items() if key.endswith("Status"))
    return status


def _ended(state: State) -> float:
    times = [value for key, value in state.items() if key.endswith("Time")]
    return float(max(times))


def _garbage(record: Record, ended: float) -> Garbage:
    age = timedelta(seconds=max(0.0, time.time() - ended))
    files = (Path(parent) / name for parent, _, names in os.walk(record.path) for name in names)
    size = sum(file.lstat().st_size for file in files)
    return Garbage(record.path.parent.name, record.name, age, size)


def _remove_finished(record: Record, status: str, operation: str) -> None:
    if status not in _OVER or not _remove(record):
        raise ServiceError(
            f"{record.name} is in status {status}: stop it and wait for its end first", operation
        )


def _remove(record: Record) -> bool:
    """Remove a record; False if its supervisor, which should be about to end, does not."""
    deadline = time.monotonic() + _SUPERVISOR_SECONDS
    while (lock := record.lock()) is None:
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    try:
        record.remove()
    finally:
        os.close(lock)
    return True
