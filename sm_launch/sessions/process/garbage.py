"""Removing what is over: job directories, and the models that no endpoint runs."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from sm_launch.job.limits import TRAINING_FINAL_STATUSES as FINAL
from sm_launch.sessions.process import store
from sm_launch.sessions.process.base import Machine
from sm_launch.sessions.process.hosting.endpoint_run import PENDING_UPDATE
from sm_launch.sessions.process.hosting.endpoints import Endpoints
from sm_launch.sessions.process.resources import Jobs, Resources, remove
from sm_launch.sessions.process.store import Record
from sm_launch.sessions.process.tags import tags_of


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


class GarbageCollection:
    """Deletion of everything that is old.

    Args:
        machine: where it is.
        endpoints: those of the machine.
        jobs: of every kind, in the order in which they go.
    """

    def __init__(self, machine: Machine, endpoints: Endpoints, *jobs: Jobs) -> None:
        self._store = machine.store
        self._endpoints = endpoints
        self._jobs = jobs

    def collect(
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

        jobs = [each for kind in self._jobs for each in chosen(_over(kind))]
        endpoints = chosen(_over(self._endpoints))
        configs = chosen(self._configs_without(endpoints))
        unused = [*jobs, *endpoints, *configs, *chosen(self._models_without(configs))]
        collected = [(record, _garbage(record, ended)) for record, ended in unused]
        return [garbage for record, garbage in collected if dry_run or remove(record)]

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


def _over(kind: Resources) -> Iterator[tuple[Record, float]]:
    for record, state in kind.all():
        if state[kind.status_key] in FINAL:
            yield record, max(value for key, value in state.items() if key.endswith("Time"))


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


def _garbage(record: Record, ended: float) -> Garbage:
    age = timedelta(seconds=max(0.0, time.time() - ended))
    files = (Path(parent) / name for parent, _, names in os.walk(record.path) for name in names)
    size = sum(file.lstat().st_size for file in files)
    return Garbage(record.path.parent.name, record.name, age, size)
