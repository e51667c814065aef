"""One endpoint, from Creating to its removal, as hosting runs it."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from sm_launch.sessions.process.environment import OFFLINE
from sm_launch.sessions.process.hosting.async_queue import AsyncQueue
from sm_launch.sessions.process.hosting.serving_process import ServingProcess, UnhealthyError
from sm_launch.sessions.process.runs import POLL_SECONDS, Termination, shorten
from sm_launch.sessions.process.store import Record, remove_tree

_SWITCH_SECONDS = 0.2
_OPTIONAL = ("capture", "DataCaptureConfig", "AsyncInferenceConfig")
_TERMINATED = "The process that watched over this endpoint was told to end"

PENDING_UPDATE = "update"
"""Exists from UpdateEndpoint until the endpoint runs its new configuration, or the old again."""

WEIGHTS = "weights"
"""Variant to weight, where UpdateEndpointWeightsAndCapacities changed it."""


class _DeletedError(Exception):
    """The endpoint was deleted before its server was up."""


class EndpointRun:
    """Serves until the endpoint is deleted or its server dies."""

    def __init__(self, record: Record, termination: Termination) -> None:
        self._record = record
        self._termination = termination
        self._settings: dict[str, Any] = record.read("request")["settings"]
        self._deployment: dict[str, Any] = record.read("request")["deployment"]
        self._generation = 0
        self._fleet = self._new_fleet(self._deployment)
        asynchronous = self._deployment["asynchronous"] is not None
        self._queue = AsyncQueue(record, self._queue_terms) if asynchronous else None

    def run(self) -> None:
        """To the end."""
        try:
            self._fleet.bring_up(self._check_for_end)
            self._set("InService", ports=self._fleet.ports())
            self._serve()
        except UnhealthyError as error:
            self._fleet.stop(0)
            self._set("Failed", reason=str(error))
            return
        except _DeletedError:
            pass
        self._set("Deleting")
        if self._queue is not None:
            self._queue.close()
        self._fleet.stop(self._settings["endpoint_grace"])
        self._record.remove()

    def _serve(self) -> None:
        """Watch over a healthy server and do what is asked; returns when the endpoint is to end."""
        while not self._record.stop_requested:
            if self._termination.requested:
                self._fleet.stop(self._settings["endpoint_grace"])
                raise UnhealthyError(_TERMINATED)
            self._fleet.check()
            if self._record.has(PENDING_UPDATE):
                self._update(self._record.read(PENDING_UPDATE))
                self._record.discard(PENDING_UPDATE)
            if self._queue is not None:
                self._queue.pump()
            time.sleep(POLL_SECONDS)

    def _queue_terms(self) -> tuple[dict[str, Any], int]:
        """What an update may change: AsyncInferenceConfig and the port of the first variant."""
        return self._deployment["asynchronous"], next(iter(self._fleet.ports().values()))

    def _update(self, update: dict[str, Any]) -> None:
        """Replace the servers by those of another configuration; the old answer until then."""
        deployment = update["deployment"]
        new = self._new_fleet(deployment)
        try:
            new.bring_up(self._check_for_end)
        except UnhealthyError as error:
            new.stop(0)
            new.discard()
            name = deployment["EndpointConfigName"]
            self._set("InService", reason=f"The update to {name} was rolled back. {error}")
            return
        except _DeletedError:
            new.stop(0)
            raise
        old, self._fleet, self._deployment = self._fleet, new, deployment
        self._record.discard(WEIGHTS)
        self._record.update(
            ports=new.ports(),
            # What the old configuration had and the new one has not, goes.
            **(dict.fromkeys(_OPTIONAL) | update["state"]),
        )
        # Whoever has read the old port a moment ago shall still be heard.
        time.sleep(_SWITCH_SECONDS)
        old.stop(self._settings["endpoint_grace"])
        old.discard()
        self._set("InService")

    def _new_fleet(self, deployment: dict[str, Any]) -> Fleet:
        self._generation += 1
        return Fleet(
            self._record.path / "servers" / str(self._generation),
            deployment,
            self._settings,
            self._record.log_path,
        )

    def _check_for_end(self) -> None:
        if self._record.stop_requested:
            raise _DeletedError
        if self._termination.requested:
            raise UnhealthyError(_TERMINATED)

    def _set(self, status: str, *, reason: str | None = None, **changes: Any) -> None:
        self._record.update(
            EndpointStatus=status,
            FailureReason=shorten(reason) if reason else None,
            LastModifiedTime=time.time(),
            **changes,
        )


class Fleet:
    """Brings all variants up together and takes them down together.

    Args:
        directory: where the servers' base directories are made.
        deployment: what `deployment.snapshot` made.
        settings: the session's settings.
        log_path: where all servers write.
    """

    def __init__(
        self, directory: Path, deployment: dict[str, Any], settings: dict[str, Any], log_path: Path
    ) -> None:
        self._directory = directory
        self._settings = settings
        self._variants: dict[str, dict[str, Any]] = {}
        self._servers: dict[str, ServingProcess] = {}
        for each in deployment["variants"]:
            name = each["variant"]["VariantName"]
            self._variants[name] = each["variant"]
            self._servers[name] = ServingProcess(
                directory / name,
                each["container"],
                settings["serve_command"],
                log_path,
                OFFLINE if each["isolated"] else None,
            )

    def bring_up(self, check: Callable[[], None]) -> None:
        """Start every server and wait until all are healthy.

        Args:
            check: called again and again; what it raises ends the waiting.

        Raises:
            UnhealthyError: one of them did not come up; the text names its variant.
        """
        for name, server in self._servers.items():
            own = self._variants[name].get("ContainerStartupHealthCheckTimeoutInSeconds")
            try:
                server.bring_up(float(own or self._settings["startup_timeout"]), check)
            except UnhealthyError as error:
                raise UnhealthyError(f"Variant {name}: {error}") from error

    def check(self) -> None:
        """Raise if a server has died.

        Raises:
            UnhealthyError: the text names the variant and holds its last words.
        """
        for name, server in self._servers.items():
            if (code := server.exit_code()) is not None:
                raise UnhealthyError(
                    f"Variant {name}: {server.failure(f'exited with code {code}')}"
                )

    def ports(self) -> dict[str, int]:
        """Variant to the port of its server."""
        return {name: server.port for name, server in self._servers.items()}

    def stop(self, grace: float) -> None:
        """Let all servers drain at the same time; SIGKILL after `grace` seconds."""
        with ThreadPoolExecutor(len(self._servers)) as pool:
            list(pool.map(lambda server: server.stop(grace), self._servers.values()))

    def discard(self) -> None:
        """Delete the base directories; the servers must have been stopped."""
        remove_tree(self._directory)
