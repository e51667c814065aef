"""The servers of one endpoint configuration: one for each production variant."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from sm_launch.sessions.offline import OFFLINE
from sm_launch.sessions.process.serving_process import ServingProcess, UnhealthyError
from sm_launch.sessions.process.store import remove_tree


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
