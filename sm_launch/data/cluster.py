"""The machines of a Processing job as one Ray cluster: the first leads, the others serve it."""

from __future__ import annotations

import json
import pickle
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

from sm_launch.data.host import Host
from sm_launch.errors import LaunchError
from sm_launch.job.data import DataConfig

RESOURCES = Path("/opt/ml/config/resourceconfig.json")
"""Names of the machines ("Build Your Own Processing Container", SageMaker developer guide)."""
PORT = 6379
"""Of Ray's head, as Ray has it by default."""
WAIT_SECONDS = 1800.0
"""How long machines wait for each other: each brings its own share of the data first."""
_HEAD = ("--head", "--include-dashboard=false")
_STOP_SECONDS = 30.0
_LOG_LINES = 20


@dataclass(frozen=True)
class Members:
    """The machines of a job, and which of them this is."""

    current: str
    names: tuple[str, ...]

    @classmethod
    def read(cls, path: Path = RESOURCES) -> Members:
        """From what SageMaker tells each container.

        Raises:
            LaunchError: there is no such file, so this is no container of a Processing job.
        """
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            return cls(document["current_host"], tuple(sorted(document["hosts"])))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise LaunchError(
                f"does not tell the machines of this job: {error!r}",
                field=str(path),
                fix="`sm-launch data prepare --processing-job` runs this command where it does",
            ) from error

    @property
    def leader(self) -> str:
        """The machine that decides."""
        return self.names[0]

    @property
    def leads(self) -> bool:
        """Whether it is this one."""
        return self.current == self.leader


class _Actor:
    """A `Host` that Ray calls."""

    def __init__(self, config: DataConfig, output: Path, outcome: Path) -> None:
        self._host = Host(config, output)
        self._outcome = outcome

    def call(self, method: str, *arguments: Any) -> bytes:
        # Pickled here: arrays that Ray brings are views of its store, which they would fill.
        return pickle.dumps(self._host.call(method, *arguments), pickle.HIGHEST_PROTOCOL)

    def end(self, error: str) -> None:
        """Tell the machine's own process that all is over: why, or that all went well."""
        fresh = self._outcome.with_suffix(".new")
        fresh.write_text(json.dumps({"error": error}), encoding="utf-8")
        fresh.replace(self._outcome)


class RayHosts:
    """The machines, as the first one calls them.

    Args:
        actors: one on each machine, by its name.
    """

    def __init__(self, actors: Mapping[str, Any]) -> None:
        self._actors = actors

    @property
    def names(self) -> Sequence[str]:
        return list(self._actors)

    def call(self, host: str, method: str, *arguments: Any) -> Any:
        """Call a method of a machine's `Host`.

        Raises:
            LaunchError: what the method raises, or that the machine has gone.
        """
        import ray
        from ray.exceptions import RayActorError, RayTaskError

        try:
            packed = ray.get(self._actors[host].call.remote(method, *arguments))
        except RayTaskError as error:
            if isinstance(error.cause, LaunchError):
                raise error.cause from None
            raise LaunchError(f"the machine {host} failed: {error}") from error
        except RayActorError as error:
            raise LaunchError(
                f"the machine {host} has gone before its part was done: {_first_line(error)}",
                fix="see its log; where its memory was too small choose a larger "
                "data.processing.instance_type or more of them",
            ) from error
        return pickle.loads(packed)  # noqa: S301 - `_Actor.call` wrote it, in this run

    def end(self, error: str) -> None:
        """Let the others go: with a reason, or because all went well."""
        import ray

        for actor in self._actors.values():
            with suppress(Exception):  # one that has gone needs not be told
                ray.get(actor.end.remote(error), timeout=_STOP_SECONDS)


@contextmanager
def lead(
    members: Members,
    config: DataConfig,
    output: Path,
    *,
    port: int = PORT,
    wait_seconds: float = WAIT_SECONDS,
) -> Iterator[RayHosts]:
    """Start the cluster, wait for the other machines, and let them go at the end.

    Args:
        members: the machines; this is the first.
        config: the `data` section.
        output: directory of the preparation, on every machine.
        port: where the others find this one.
        wait_seconds: how long the others may take.

    Raises:
        LaunchError: a machine did not come.
    """
    _check_installed()
    import ray

    address = socket.gethostbyname(members.current)
    with ExitStack() as stack:
        node = stack.enter_context(_node(members, [*_HEAD, f"--port={port}"]))
        _wait_for_port(node, address, port, wait_seconds)
        stack.callback(ray.shutdown)
        ray.init(
            address=f"{address}:{port}",
            _node_ip_address=address,
            log_to_driver=False,
            logging_level="error",
        )
        _wait_for_all(node, members, wait_seconds)
        remote = ray.remote(_Actor)
        actors = {
            name: remote.options(resources={name: 1}, num_cpus=0).remote(
                config, output, outcome_path(name)
            )
            for name in members.names
        }
        hosts = RayHosts(actors)
        try:
            yield hosts
        except BaseException as error:
            hosts.end(_first_line(error) or type(error).__name__)
            raise
        hosts.end("")


def serve(members: Members, *, port: int = PORT, wait_seconds: float = WAIT_SECONDS) -> None:
    """Join the first machine, do what it asks, and return when it is done.

    Raises:
        LaunchError: the preparation failed, or the first machine did not come or has gone.
    """
    _check_installed()
    outcome = outcome_path(members.current)
    outcome.unlink(missing_ok=True)
    address = _address_of(members.leader, wait_seconds)
    _wait_for_port(None, address, port, wait_seconds)
    with _node(members, [f"--address={address}:{port}"]) as node:
        while not outcome.exists():
            if node.process.poll() is not None and not outcome.exists():
                raise LaunchError(
                    f"Ray has ended before the first machine, {members.leader}, was done"
                    f"{node.tail()}",
                    fix=f"see the log of {members.leader}, which may have gone",
                )
            time.sleep(0.5)
    error = json.loads(outcome.read_text(encoding="utf-8"))["error"]
    if error:
        raise LaunchError(f"the preparation failed: {error}", fix=f"see {members.leader}'s log")


def outcome_path(host: str) -> Path:
    """Where a machine's own process reads how the preparation ended."""
    return Path(tempfile.gettempdir()) / f"sm-launch-{host}.outcome"


@dataclass(frozen=True)
class _Node:
    process: subprocess.Popen[bytes]
    log: IO[bytes]

    def tail(self) -> str:
        """The end of what Ray said."""
        self.log.seek(0)
        lines = self.log.read().decode("utf-8", "replace").splitlines()[-_LOG_LINES:]
        return "; Ray says:\n" + "\n".join(lines) if lines else ""


@contextmanager
def _node(members: Members, arguments: Sequence[str]) -> Iterator[_Node]:
    """Ray's processes of this machine, which offer its name as a resource."""
    command = [
        sys.executable,
        "-m",
        "ray.scripts.scripts",
        "start",
        "--block",
        "--num-cpus=1",  # the machine's own pool of processes does the work
        "--disable-usage-stats",
        "--include-log-monitor=false",
        f"--node-ip-address={socket.gethostbyname(members.current)}",
        f"--resources={json.dumps({members.current: 1})}",
        *arguments,
    ]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            yield _Node(process, log)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def _check_installed() -> None:
    if find_spec("ray") is None:
        raise LaunchError(
            "the image has no Ray, by which several machines prepare data",
            field="training.image",
            fix="build the training image of this version, or set data.processing.instance_count: "
            "1",
        )


def _address_of(host: str, wait_seconds: float) -> str:
    """IP address of a machine, which may get its name later than this one."""
    end = time.monotonic() + wait_seconds
    while True:
        try:
            return socket.gethostbyname(host)
        except OSError as error:
            if time.monotonic() > end:
                raise _absent([host], wait_seconds) from error
            time.sleep(1)


def _wait_for_port(node: _Node | None, address: str, port: int, wait_seconds: float) -> None:
    end = time.monotonic() + wait_seconds
    while True:
        try:
            socket.create_connection((address, port), timeout=5).close()
            return
        except OSError as error:
            if node is not None and node.process.poll() is not None:
                raise LaunchError(f"Ray cannot start{node.tail()}") from error
            if time.monotonic() > end:
                raise _absent([f"{address}:{port}"], wait_seconds) from error
            time.sleep(0.2)


def _wait_for_all(node: _Node, members: Members, wait_seconds: float) -> None:
    import ray

    end = time.monotonic() + wait_seconds
    while missing := [name for name in members.names if name not in ray.cluster_resources()]:
        if node.process.poll() is not None:
            raise LaunchError(f"Ray has ended{node.tail()}")
        if time.monotonic() > end:
            raise _absent(missing, wait_seconds)
        time.sleep(0.2)


def _absent(names: Sequence[str], wait_seconds: float) -> LaunchError:
    return LaunchError(
        f"did not come within {wait_seconds:.0f} s: {', '.join(names)}",
        fix="see the log of each machine; in a VPC the security groups must allow all traffic "
        "among their own members",
    )


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]
